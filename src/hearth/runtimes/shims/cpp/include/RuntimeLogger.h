// Where the lines of one execution go (contract: runtime-contract 4).
#pragma once

#include <functional>
#include <string>

namespace runtime {

class RuntimeLogger {
public:
  // `sink` gets a stream (`log` or `error`) and a line without its end.
  explicit RuntimeLogger(std::function<void(const char *, const std::string &)> sink) : sink(std::move(sink)) {}

  void write(const std::string &message, const std::string &type = "log", bool = false) {
    sink(type == "error" ? "error" : "log", message);
  }

private:
  std::function<void(const char *, const std::string &)> sink;
};

} // namespace runtime
