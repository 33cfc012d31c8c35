// The request as the handler sees it (contract: runtime-contract 2).
#pragma once

#include <any>
#include <cstddef>
#include <json/json.h>
#include <string>
#include <vector>

namespace runtime {

struct RuntimeRequest {
  std::string method;
  std::string scheme;
  std::string host;
  int port = 80;
  std::string path;
  Json::Value query;
  std::string queryString;
  Json::Value headers;
  // A Json::Value where the content type is JSON, else a std::string.
  std::any body;
  std::vector<std::byte> bodyBinary;
  std::string bodyRaw;
  std::string bodyText;
  // Null where the body is no JSON, as in the reference.
  Json::Value bodyJson;
  std::string url;
};

} // namespace runtime
