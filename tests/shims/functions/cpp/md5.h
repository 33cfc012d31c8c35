// MD5 (RFC 1321): the standard library of C++ has no digest.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

namespace md5 {

inline std::string digest(std::string text) {
  static const std::array<int, 16> turns = {7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21};
  static const auto sines = [] {
    std::array<uint32_t, 64> made{};
    for (int at = 0; at < 64; at++) {
      made[at] = static_cast<uint32_t>(std::floor(std::fabs(std::sin(at + 1)) * 4294967296.0));
    }
    return made;
  }();
  const uint64_t bits = text.size() * 8ull;
  text += '\x80';
  text.append((120 - text.size() % 64) % 64, '\0');
  for (int shift = 0; shift < 64; shift += 8) {
    text += static_cast<char>(bits >> shift);
  }
  std::array<uint32_t, 4> sum = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (size_t block = 0; block < text.size(); block += 64) {
    auto [a, b, c, d] = sum;
    for (int at = 0; at < 64; at++) {
      uint32_t mixed = 0;
      int word = 0;
      switch (at / 16) {
      case 0: mixed = (b & c) | (~b & d), word = at; break;
      case 1: mixed = (d & b) | (~d & c), word = (5 * at + 1) % 16; break;
      case 2: mixed = b ^ c ^ d, word = (3 * at + 5) % 16; break;
      default: mixed = c ^ (b | ~d), word = 7 * at % 16;
      }
      uint32_t value = 0;
      for (int byte = 3; byte >= 0; byte--) {
        value = value << 8 | static_cast<unsigned char>(text[block + word * 4 + byte]);
      }
      const uint32_t added = a + mixed + sines[at] + value;
      const int turn = turns[at / 16 * 4 + at % 4];
      a = d, d = c, c = b, b += added << turn | added >> (32 - turn);
    }
    sum[0] += a, sum[1] += b, sum[2] += c, sum[3] += d;
  }
  std::string hex;
  for (const uint32_t part : sum) {
    for (int shift = 0; shift < 32; shift += 8) {
      char two[3];
      std::snprintf(two, sizeof two, "%02x", part >> shift & 0xff);
      hex += two;
    }
  }
  return hex;
}

} // namespace md5
