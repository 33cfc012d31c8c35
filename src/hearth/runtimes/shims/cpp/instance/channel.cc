#include "channel.h"

#include "json.h"

#include <cerrno>
#include <cstdint>
#include <mutex>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

namespace hearth {

namespace {

constexpr size_t frameMaxBytes = 2 * 1024 * 1024 + 4;

std::mutex writing;

void appendSize(std::string &out, size_t size) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out += static_cast<char>(size >> shift & 0xff);
  }
}

uint32_t sizeIn(const char *data) {
  uint32_t size = 0;
  for (int at = 0; at < 4; at++) {
    size = size << 8 | static_cast<unsigned char>(data[at]);
  }
  return size;
}

void readExactly(char *data, size_t length) {
  while (length > 0) {
    const ssize_t count = ::read(channelDescriptor, data, length);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      leave();
    }
    data += count;
    length -= static_cast<size_t>(count);
  }
}

} // namespace

void leave() { ::_exit(0); }

std::string encoded(const Json::Value &header, std::string_view body) {
  std::string head;
  append(head, header);
  std::string frame;
  frame.reserve(8 + head.size() + body.size());
  appendSize(frame, 4 + head.size() + body.size());
  appendSize(frame, head.size());
  frame += head;
  frame += body;
  return frame;
}

void send(std::string_view frames) {
  const std::lock_guard<std::mutex> alone(writing);
  while (!frames.empty()) {
    const ssize_t count = ::send(channelDescriptor, frames.data(), frames.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      leave();
    }
    frames.remove_prefix(static_cast<size_t>(count));
  }
}

Frame receive() {
  char size[4];
  readExactly(size, sizeof size);
  const size_t length = sizeIn(size);
  if (length < 4 || length > frameMaxBytes) {
    throw std::runtime_error("a frame of a wrong length");
  }
  std::string rest(length, '\0');
  readExactly(rest.data(), length);
  const size_t headBytes = sizeIn(rest.data());
  Frame frame;
  if (headBytes > length - 4 || !parse(std::string_view(rest).substr(4, headBytes), frame.header)) {
    throw std::runtime_error("a frame without a header");
  }
  frame.body = rest.substr(4 + headBytes);
  return frame;
}

bool hasArrived() {
  pollfd wanted{channelDescriptor, POLLIN, 0};
  return ::poll(&wanted, 1, 0) > 0;
}

} // namespace hearth
