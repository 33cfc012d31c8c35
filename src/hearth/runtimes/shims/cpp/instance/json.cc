#include "json.h"

#include "RuntimeContext.h"
#include "RuntimeResponse.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>

namespace hearth {

namespace {

// How many bytes the character at `at` has, 0 if there is none that is valid UTF-8.
size_t characterAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t index) { return static_cast<unsigned char>(text[index]); };
  const unsigned char first = byte(at);
  size_t length = 0;
  unsigned low = 0x80, high = 0xbf; // bounds of the second byte (Unicode, table 3-7)
  if (first < 0x80) {
    return 1;
  } else if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    low = first == 0xe0 ? 0xa0 : 0x80;
    high = first == 0xed ? 0x9f : 0xbf;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    low = first == 0xf0 ? 0x90 : 0x80;
    high = first == 0xf4 ? 0x8f : 0xbf;
  }
  if (length == 0 || at + length > text.size() || byte(at + 1) < low || byte(at + 1) > high) {
    return 0;
  }
  for (size_t index = 2; index < length; index++) {
    if ((byte(at + index) & 0xc0) != 0x80) {
      return 0;
    }
  }
  return length;
}

void appendReal(std::string &out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[40];
#ifdef __cpp_lib_to_chars
  const auto written = std::to_chars(text, text + sizeof text, value);
  out.append(text, written.ptr);
#else
  out.append(text, static_cast<size_t>(std::snprintf(text, sizeof text, "%.17g", value)));
#endif
}

} // namespace

void appendQuoted(std::string &out, std::string_view text) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const size_t length = characterAt(text, at);
    const char first = text[at];
    if (length == 0) {
      out += "\xef\xbf\xbd";
      at++;
      continue;
    }
    if (first == '"' || first == '\\') {
      out += '\\';
      out += first;
    } else if (static_cast<unsigned char>(first) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned char>(first));
      out += first == '\n' ? "\\n" : first == '\t' ? "\\t" : first == '\r' ? "\\r" : escaped;
    } else {
      out.append(text, at, length);
    }
    at += length;
  }
  out += '"';
}

void append(std::string &out, const Json::Value &value) {
  switch (value.type()) {
  case Json::nullValue:
    out += "null";
    break;
  case Json::booleanValue:
    out += value.asBool() ? "true" : "false";
    break;
  case Json::intValue:
    out += std::to_string(value.asLargestInt());
    break;
  case Json::uintValue:
    out += std::to_string(value.asLargestUInt());
    break;
  case Json::realValue:
    appendReal(out, value.asDouble());
    break;
  case Json::stringValue: {
    const char *begin = nullptr;
    const char *end = nullptr;
    value.getString(&begin, &end); // may hold zero bytes
    appendQuoted(out, std::string_view(begin, static_cast<size_t>(end - begin)));
    break;
  }
  case Json::arrayValue: {
    out += '[';
    for (Json::ArrayIndex at = 0; at < value.size(); at++) {
      out += at == 0 ? "" : ",";
      append(out, value[at]);
    }
    out += ']';
    break;
  }
  case Json::objectValue: {
    out += '{';
    bool isFirst = true;
    for (auto member = value.begin(); member != value.end(); ++member) {
      out += isFirst ? "" : ",";
      isFirst = false;
      appendQuoted(out, member.name());
      out += ':';
      append(out, *member);
    }
    out += '}';
    break;
  }
  }
}

bool parse(std::string_view text, Json::Value &value) {
  static const Json::CharReaderBuilder &builder = [] {
    auto *made = new Json::CharReaderBuilder(); // also used when the process ends
    Json::CharReaderBuilder::strictMode(&made->settings_);
    (*made)["strictRoot"] = false; // a document may be any value
    return std::ref(*made);
  }();
  const std::unique_ptr<Json::CharReader> reader(builder.newCharReader());
  std::string problems;
  try {
    return reader->parse(text.data(), text.data() + text.size(), &value, &problems);
  } catch (const Json::Exception &) { // nested too deeply
    return false;
  }
}

std::string bodyOf(const Json::Value &value) {
  std::string out;
  append(out, value.isNull() ? Json::Value(Json::objectValue) : value);
  return out;
}

std::string textOf(const Json::Value &value) {
  if (value.isString()) {
    return value.asString();
  }
  std::string out;
  append(out, value);
  return out;
}

void copyAll(std::istream &from, runtime::RuntimeStream &to) {
  std::string piece(64 * 1024, '\0');
  do {
    from.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    to.write(std::string_view(piece.data(), static_cast<size_t>(from.gcount())));
  } while (from);
}

} // namespace hearth
