// Builds responses; one takes effect only if the handler returns it (contract: runtime-contract 3).
#pragma once

#include "RuntimeOutput.h"
#include "RuntimeStream.h"

#include <istream>
#include <iterator>
#include <memory>
#include <type_traits>

namespace hearth {

// A value as compact JSON; null as an empty object, which is what a value nobody has filled is meant to be.
std::string bodyOf(const Json::Value &value);

// Copies what a stream of the standard library holds.
void copyAll(std::istream &from, runtime::RuntimeStream &to);

} // namespace hearth

namespace runtime {

class RuntimeResponse {
public:
  RuntimeOutput binary(std::vector<std::byte> bytes, int statusCode = 200, const Json::Value &headers = {}) const {
    RuntimeOutput output;
    output.body = std::move(bytes);
    output.statusCode = statusCode;
    output.headers = headers;
    return output;
  }

  RuntimeOutput text(const std::string &body, int statusCode = 200, const Json::Value &headers = {}) const {
    const auto *bytes = reinterpret_cast<const std::byte *>(body.data());
    return binary(std::vector<std::byte>(bytes, bytes + body.size()), statusCode, headers);
  }

  RuntimeOutput send(const std::string &body, int statusCode = 200, const Json::Value &headers = {}) const {
    return text(body, statusCode, headers);
  }

  RuntimeOutput json(const Json::Value &json, int statusCode = 200, Json::Value headers = {}) const {
    headers["content-type"] = "application/json";
    return text(hearth::bodyOf(json), statusCode, headers);
  }

  RuntimeOutput empty() const { return text("", 204); }

  RuntimeOutput redirect(const std::string &url, int statusCode = 301, Json::Value headers = {}) const {
    headers["location"] = url;
    return text("", statusCode, headers);
  }

  // Sends a body piece by piece. `source` is a function that gets a RuntimeStream and writes to it, a std::istream
  // that is moved in (or a std::shared_ptr to one), or a container of pieces.
  template <typename Source>
  RuntimeOutput stream(Source source, int statusCode = 200, const Json::Value &headers = {}) const {
    RuntimeOutput output = text("", statusCode, headers);
    if constexpr (std::is_invocable_v<Source &, RuntimeStream &>) {
      output.source = std::move(source);
    } else if constexpr (std::is_base_of_v<std::istream, Source>) {
      auto held = std::make_shared<Source>(std::move(source));
      output.source = [held](RuntimeStream &out) { hearth::copyAll(*held, out); };
    } else if constexpr (std::is_convertible_v<Source, std::shared_ptr<std::istream>>) {
      output.source = [held = std::shared_ptr<std::istream>(source)](RuntimeStream &out) { hearth::copyAll(*held, out); };
    } else {
      output.source = [pieces = std::move(source)](RuntimeStream &out) {
        for (const auto &piece : pieces) {
          out.write(piece);
        }
      };
    }
    return output;
  }
};

} // namespace runtime
