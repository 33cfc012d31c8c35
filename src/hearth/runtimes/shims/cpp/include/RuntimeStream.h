// The reader of a streamed body, as its source sees it.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace runtime {

// Thrown by a write when the reader has left: let it pass, and what the source holds is released.
class StreamClosed : public std::runtime_error {
public:
  StreamClosed() : std::runtime_error("the reader of this response has left") {}
};

class RuntimeStream {
public:
  virtual ~RuntimeStream() = default;

  // Sends a piece; waits while the reader has not taken what was sent before. Throws StreamClosed.
  virtual void write(std::string_view piece) = 0;

  void write(const std::vector<std::byte> &piece) {
    write(std::string_view(reinterpret_cast<const char *>(piece.data()), piece.size()));
  }

  RuntimeStream &operator<<(std::string_view piece) {
    write(piece);
    return *this;
  }
};

} // namespace runtime
