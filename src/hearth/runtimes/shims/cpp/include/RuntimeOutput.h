// What a handler returns; built by the methods of RuntimeResponse (contract: runtime-contract 3).
#pragma once

#include <cstddef>
#include <functional>
#include <json/json.h>
#include <string>
#include <vector>

namespace runtime {

class RuntimeStream;

struct RuntimeOutput {
  std::vector<std::byte> body;
  int statusCode = 200;
  Json::Value headers;
  // What writes a streamed body, empty for any other response.
  std::function<void(RuntimeStream &)> source;
};

} // namespace runtime
