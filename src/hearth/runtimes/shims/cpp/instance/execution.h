// One request from its first frame to its response.
#pragma once

#include "RuntimeContext.h"
#include "channel.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

namespace hearth {

class Execution : public std::enable_shared_from_this<Execution> {
public:
  explicit Execution(const Json::Value &header);

  // Adds whole lines, or any piece of native output, to one of the log streams. From any thread.
  void write(const std::string &stream, std::string_view text);

  void error(const std::string &text) { write("error", text + "\n"); }

  // Sends what is gathered of the log.
  void flush();

  // Answers with what the handler returned; `window`: see `assign` in the protocol.
  void finish(const runtime::RuntimeOutput &output, size_t window);

  // Answers for a handler that threw.
  void fail(const std::string &why);

private:
  friend class Outflow;

  void answer(int status, const Json::Value &headers, const std::vector<std::byte> &body);
  void stream(const runtime::RuntimeOutput &output, size_t window);
  std::string takePending();

  const Json::Value id;
  const bool isLogging;
  std::mutex lock;
  bool isOpen = true;
  std::string name; // of the log stream that `pending` is for
  std::string pending;
  int lines = 0;
  bool isFlushPlanned = false;
  std::chrono::steady_clock::time_point flushedAt;
};

// The request as the handler sees it (contract: runtime-contract 2). `enforced`: headers that win.
runtime::RuntimeRequest requestOf(const Json::Value &header, std::string body, const Json::Value &enforced);

std::string lowered(std::string text);

// A log message of at most 8,000 characters, with a word about it where it was longer (contract: runtime-contract 4).
std::string cut(const std::string &line);

} // namespace hearth
