// The argument of a handler (contract: runtime-contract 1 to 4).
#pragma once

#include "RuntimeLogger.h"
#include "RuntimeRequest.h"
#include "RuntimeResponse.h"

#include <exception>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>

namespace hearth {

// A value as compact JSON; text as it is.
std::string textOf(const Json::Value &value);

template <typename Value> std::string textOf(const Value &value) {
  if constexpr (std::is_convertible_v<const Value &, std::string>) {
    return value;
  } else if constexpr (std::is_same_v<Value, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_base_of_v<std::exception, Value>) {
    return value.what();
  } else {
    std::ostringstream text;
    text << value;
    return text.str();
  }
}

} // namespace hearth

namespace runtime {

class RuntimeContext {
public:
  RuntimeRequest req;
  RuntimeResponse res;
  std::shared_ptr<RuntimeLogger> logger;

  // Writes one line to the logs of the execution: any number of values, joined with a space. From any thread.
  template <typename... Values> void log(const Values &...values) { logger->write(line(values...), "log"); }

  // The same for its errors.
  template <typename... Values> void error(const Values &...values) { logger->write(line(values...), "error"); }

private:
  template <typename... Values> static std::string line(const Values &...values) {
    std::string joined;
    bool isFirst = true;
    ((joined += isFirst ? "" : " ", joined += hearth::textOf(values), isFirst = false), ...);
    return joined;
  }
};

} // namespace runtime
