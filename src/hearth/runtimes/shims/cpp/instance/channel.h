// The framed protocol over descriptor 3 (docs/protocol.md), blocking. Writes block until the host has taken them:
// nothing queues up in this process, and what was written before a crash has left it.
#pragma once

#include <json/json.h>
#include <string>
#include <string_view>

namespace hearth {

constexpr int channelDescriptor = 3;
constexpr size_t bodyPieceBytes = 512 * 1024;

struct Frame {
  Json::Value header;
  std::string body;

  std::string type() const { return header["type"].asString(); }
  bool more() const { return header["more"].asBool(); }
};

// One frame, ready to be sent. Keeps the header's bytes of text as they are where they are valid UTF-8.
std::string encoded(const Json::Value &header, std::string_view body = {});

// Writes whole frames, those of one call together. Any thread may call it.
void send(std::string_view frames);

// Waits for a frame. Ends this process when the host has gone.
Frame receive();

// Whether something was sent that was not read yet.
bool hasArrived();

// Ends this process without a word.
[[noreturn]] void leave();

} // namespace hearth
