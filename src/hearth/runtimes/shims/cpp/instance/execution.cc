#include "execution.h"

#include "json.h"
#include "stack.h"

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <thread>

namespace hearth {

namespace {

using Clock = std::chrono::steady_clock;

// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so
// does a line after a pause; a flood is gathered into larger frames.
constexpr int directLines = 32;
constexpr size_t batchBytes = 16 * 1024;
constexpr auto pause = std::chrono::milliseconds(50);
constexpr size_t logFrameBytes = 512 * 1024;
constexpr size_t pieceBytes = 64 * 1024;
constexpr size_t messageMaxChars = 8000;
constexpr const char *truncated = "... Log truncated due to size limit (8000 characters)";
constexpr const char *internalPrefix = "x-open-runtimes-";

// Sends the end of a flood while its handler does something else.
class Flusher {
public:
  void plan(std::weak_ptr<Execution> execution) {
    const std::lock_guard<std::mutex> alone(lock);
    waiting = std::move(execution);
    due = Clock::now() + pause;
    isWanted = true;
    if (!hasBegun) {
      hasBegun = true;
      std::thread([this] { run(); }).detach();
    }
    changed.notify_one();
  }

private:
  void run() {
    std::unique_lock<std::mutex> alone(lock);
    while (true) {
      changed.wait(alone, [this] { return isWanted; });
      const auto until = due;
      if (changed.wait_until(alone, until, [&] { return due != until; })) {
        continue; // another one was planned
      }
      isWanted = false;
      const auto execution = waiting.lock();
      alone.unlock();
      if (execution) {
        execution->flush();
      }
      alone.lock();
    }
  }

  std::mutex lock;
  std::condition_variable changed;
  std::weak_ptr<Execution> waiting;
  Clock::time_point due;
  bool isWanted = false, hasBegun = false;
};

// Never destroyed: its thread may outlive `main`.
Flusher &flusher() {
  static auto *made = new Flusher();
  return *made;
}

Json::Value frameOf(const char *type, const Json::Value &id) {
  Json::Value header;
  header["type"] = type;
  header["id"] = id;
  return header;
}

// Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3).
Json::Value responseHeaders(const Json::Value &given) {
  Json::Value headers(Json::objectValue);
  if (given.isObject()) {
    for (auto member = given.begin(); member != given.end(); ++member) {
      const std::string name = lowered(member.name());
      if (name.rfind(internalPrefix, 0) == 0) {
        continue;
      }
      if (member->isArray()) { // a repeated header
        headers[name] = Json::Value(Json::arrayValue);
        for (const auto &value : *member) {
          headers[name].append(textOf(value));
        }
      } else {
        headers[name] = textOf(*member);
      }
    }
  }
  std::string kind = headers["content-type"].isString() ? headers["content-type"].asString() : "text/plain";
  const std::string lower = lowered(kind);
  if (lower.find("charset=") != std::string::npos) {
    kind = lower;
  } else if (lower.rfind("multipart/", 0) != 0) { // a boundary is case-sensitive
    kind = lower + "; charset=utf-8";
  }
  headers["content-type"] = kind;
  return headers;
}

} // namespace

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char one) { return std::tolower(one); });
  return text;
}

std::string cut(const std::string &line) {
  if (line.size() <= messageMaxChars) {
    return line;
  }
  size_t count = 0;
  for (size_t at = 0; at < line.size(); at++) {
    if ((static_cast<unsigned char>(line[at]) & 0xc0) != 0x80 && count++ == messageMaxChars) {
      return line.substr(0, at) + truncated;
    }
  }
  return line;
}

Execution::Execution(const Json::Value &header) : id(header["id"]), isLogging(header["logging"].asBool()) {}

void Execution::write(const std::string &stream, std::string_view text) {
  const std::lock_guard<std::mutex> alone(lock);
  if (!isOpen || !isLogging || text.empty()) {
    return;
  }
  if (stream != name) {
    send(takePending());
    name = stream;
  }
  pending += text;
  lines++;
  if (lines <= directLines || pending.size() >= batchBytes || Clock::now() - flushedAt >= pause) {
    send(takePending());
    if (lines >= directLines) {
      flushedAt = Clock::now();
    }
  } else if (!isFlushPlanned) {
    isFlushPlanned = true;
    flusher().plan(weak_from_this());
  }
}

void Execution::flush() {
  const std::lock_guard<std::mutex> alone(lock);
  isFlushPlanned = false;
  send(takePending());
  flushedAt = Clock::now();
}

std::string Execution::takePending() {
  std::string frames;
  for (size_t at = 0; at < pending.size(); at += logFrameBytes) {
    Json::Value header = frameOf("log", id);
    header["stream"] = name;
    frames += encoded(header, std::string_view(pending).substr(at, logFrameBytes));
  }
  pending.clear();
  return frames;
}

// Sends the pieces of a streamed body. Reads what the host says meanwhile: nobody else does, because only one request
// runs at a time.
class Outflow : public runtime::RuntimeStream {
public:
  Outflow(Execution &execution, size_t window) : execution(execution), room(window) {}

  using runtime::RuntimeStream::write;

  void write(std::string_view data) override {
    const std::lock_guard<std::mutex> alone(lock);
    for (size_t at = 0; at < data.size(); at += pieceBytes) {
      const std::string_view piece = data.substr(at, pieceBytes);
      while (!isStopped && (hasArrived() || room < piece.size())) {
        hear(receive());
      }
      if (isStopped) {
        throw runtime::StreamClosed();
      }
      room -= piece.size();
      execution.flush();
      Json::Value header = frameOf("body", execution.id);
      header["more"] = true;
      send(encoded(header, piece));
    }
  }

private:
  void hear(const Frame &frame) {
    if (frame.header["id"] != execution.id) {
      return; // about one that has ended
    }
    if (frame.type() == "ack") {
      room += frame.header["size"].asUInt();
    } else if (frame.type() == "cancel") {
      isStopped = true;
    }
  }

  Execution &execution;
  size_t room;
  bool isStopped = false;
  std::mutex lock;
};

void Execution::finish(const runtime::RuntimeOutput &output, size_t window) {
  if (output.statusCode < 100 || output.statusCode > 999) {
    error("Invalid status code: " + std::to_string(output.statusCode));
    answer(500, {}, {});
  } else if (output.source) {
    stream(output, window);
  } else {
    answer(output.statusCode, output.headers, output.body);
  }
}

void Execution::fail(const std::string &why) {
  error(why);
  answer(500, {}, {});
}

void Execution::answer(int status, const Json::Value &headers, const std::vector<std::byte> &body) {
  const std::lock_guard<std::mutex> alone(lock);
  isOpen = false;
  const std::string_view all(reinterpret_cast<const char *>(body.data()), body.size());
  Json::Value header = frameOf("response", id);
  header["status"] = status;
  header["headers"] = responseHeaders(headers);
  header["more"] = all.size() > bodyPieceBytes;
  send(takePending() + encoded(header, all.substr(0, bodyPieceBytes)));
  for (size_t at = bodyPieceBytes; at < all.size(); at += bodyPieceBytes) {
    Json::Value next = frameOf("body", id);
    next["more"] = at + bodyPieceBytes < all.size();
    send(encoded(next, all.substr(at, bodyPieceBytes)));
  }
}

void Execution::stream(const runtime::RuntimeOutput &output, size_t window) {
  flush();
  Json::Value header = frameOf("response", id);
  header["status"] = output.statusCode;
  header["headers"] = responseHeaders(output.headers);
  header["more"] = header["stream"] = true;
  send(encoded(header));
  bool isBroken = false;
  try {
    Outflow outflow(*this, window);
    output.source(outflow);
  } catch (const runtime::StreamClosed &) { // the reader has left
    isBroken = true;
  } catch (...) {
    error(describe(std::current_exception()));
    isBroken = true;
  }
  const std::lock_guard<std::mutex> alone(lock);
  isOpen = false;
  Json::Value last = frameOf("body", id);
  last["more"] = last["timed_out"] = false;
  last["broken"] = isBroken;
  send(takePending() + encoded(last));
}

runtime::RuntimeRequest requestOf(const Json::Value &header, std::string body, const Json::Value &enforced) {
  runtime::RuntimeRequest request;
  Json::Value all(Json::objectValue);
  request.headers = Json::Value(Json::objectValue);
  for (auto member = header["headers"].begin(); member != header["headers"].end(); ++member) {
    const std::string name = lowered(member.name());
    all[name] = *member;
    if (name.rfind(internalPrefix, 0) != 0) {
      request.headers[name] = *member;
    }
  }
  for (auto member = enforced.begin(); member != enforced.end(); ++member) {
    request.headers[member.name()] = *member;
  }
  const std::string path = header["path"].asString();
  const std::string target = path.substr(0, path.find('#'));
  const size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  request.queryString = mark == std::string::npos ? "" : target.substr(mark + 1);
  request.method = header["method"].asString();
  std::transform(request.method.begin(), request.method.end(), request.method.begin(), ::toupper);
  request.scheme = all.get("x-forwarded-proto", "http").asString();
  const std::string host = all.get("host", "").asString();
  const int defaultPort = request.scheme == "https" ? 443 : 80;
  const size_t colon = host.find(':');
  request.host = host.substr(0, colon);
  const std::string port = colon == std::string::npos ? "" : host.substr(colon + 1);
  const bool isNumber = !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), ::isdigit);
  request.port = isNumber ? std::stoi(port) : defaultPort;
  request.url = request.scheme + "://" + request.host;
  request.url += request.port == defaultPort ? "" : ":" + std::to_string(request.port);
  request.url += request.path + (request.queryString.empty() ? "" : "?" + request.queryString);
  request.query = Json::Value(Json::objectValue);
  for (size_t at = 0; at <= request.queryString.size();) {
    const size_t end = std::min(request.queryString.find('&', at), request.queryString.size());
    const std::string pair = request.queryString.substr(at, end - at);
    const size_t equals = pair.find('=');
    if (const std::string key = pair.substr(0, equals); !key.empty()) {
      request.query[key] = equals == std::string::npos ? "" : pair.substr(equals + 1);
    }
    at = end + 1;
  }
  const auto *bytes = reinterpret_cast<const std::byte *>(body.data());
  request.bodyBinary.assign(bytes, bytes + body.size());
  if (!parse(body, request.bodyJson)) {
    request.bodyJson = Json::Value();
  }
  if (lowered(all.get("content-type", "").asString()).rfind("application/json", 0) == 0) {
    request.body = body.empty() ? Json::Value(Json::objectValue) : request.bodyJson;
  } else {
    request.body = body;
  }
  request.bodyRaw = body;
  request.bodyText = std::move(body);
  return request;
}

} // namespace hearth
