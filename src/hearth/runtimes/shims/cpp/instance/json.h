// JSON as the protocol and responses have it: compact, UTF-8 as it is, numbers as short as they can be read back.
#pragma once

#include <json/json.h>
#include <string>
#include <string_view>

namespace hearth {

// Adds a value to `out`. What is no valid UTF-8 is replaced.
void append(std::string &out, const Json::Value &value);

// Adds text in quotation marks.
void appendQuoted(std::string &out, std::string_view text);

// Parses; whether that was possible.
bool parse(std::string_view text, Json::Value &value);

} // namespace hearth
