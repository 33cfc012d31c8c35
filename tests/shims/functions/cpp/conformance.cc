#include "RuntimeContext.h"
#include "RuntimeOutput.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>

#include "md5.h"

namespace runtime {

class Handler {
  using Context = RuntimeContext &;

  static inline std::atomic<int> counted{0}, closed{0};

  // Says that a source has ended, however it did.
  struct Closing {
    ~Closing() { closed++; }
  };

  static Json::Value typed(const std::string &kind) {
    Json::Value headers;
    headers["Content-Type"] = kind;
    return headers;
  }

  static std::vector<std::byte> bytes(const std::string &text) {
    const auto *first = reinterpret_cast<const std::byte *>(text.data());
    return {first, first + text.size()};
  }

  static std::string header(Context c, const std::string &name) {
    return c.req.headers.get(name, "missing").asString();
  }

  static Json::Value variable(const char *name) {
    const char *value = std::getenv(name);
    return value == nullptr ? Json::Value() : Json::Value(value);
  }

  static void rest(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

  static RuntimeOutput logs(Context c) {
    std::cout << "Native log" << std::endl;
    std::fprintf(stderr, "Native error\n");
    c.log("Debug log");
    c.error("Error log");
    c.log("Log+With+Plus+Symbol");
    c.log(42);
    c.log(4.2);
    c.log(true);
    Json::Value object, list;
    object["objectKey"] = "objectValue";
    list.append("arrayValue");
    c.log(object);
    c.log(list);
    c.log(std::string(9000, 'a'));
    c.error(std::string(9000, 'e'));
    return c.res.text("");
  }

  static RuntimeOutput url(Context c) {
    Json::Value json;
    json["url"] = c.req.url;
    json["port"] = c.req.port;
    json["path"] = c.req.path;
    json["query"] = c.req.query;
    json["queryString"] = c.req.queryString;
    json["scheme"] = c.req.scheme;
    json["host"] = c.req.host;
    return c.res.json(json);
  }

  static RuntimeOutput interleave(Context c) {
    std::thread([&c] { // whatever a handler starts works for the same execution
      for (int at = 0; at < 5; at++) {
        std::cout << "native " + c.req.bodyText + "\n";
        c.log("own " + c.req.bodyText);
        rest(0.001);
      }
    }).join();
    return c.res.text(c.req.bodyText);
  }

  static RuntimeOutput bodyJson(Context c) {
    if (c.req.bodyJson.isNull()) { // a field of a struct cannot throw
      throw std::invalid_argument("Invalid JSON");
    }
    return c.res.json(c.req.bodyJson);
  }

  static RuntimeOutput body(Context c) {
    if (const auto *text = std::any_cast<std::string>(&c.req.body)) {
      return c.res.text(*text);
    }
    return c.res.json(std::any_cast<Json::Value>(c.req.body));
  }

  static RuntimeOutput stream(Context c) {
    Json::Value headers = typed("text/event-stream");
    headers["X-Kind"] = "pieces";
    return c.res.stream(
        [c](RuntimeStream &out) mutable {
          c.log("streaming");
          out << "first,";
          rest(0.001);
          out << "second,";
          out.write(bytes("\xe2\x82\xac"));
        },
        202, headers);
  }

  static RuntimeOutput streamEndless(Context c) {
    return c.res.stream([c](RuntimeStream &out) mutable {
      const Closing closing;
      const std::string piece(100000, '\x07');
      while (true) {
        c.log("piece");
        out << piece;
      }
    });
  }

  static RuntimeOutput streamFlood(Context c) {
    return c.res.stream([c](RuntimeStream &out) mutable {
      out << "begun";
      for (int at = 0; at < 100; at++) {
        c.log("line", at);
      }
      rest(60);
    });
  }

  static RuntimeOutput manyHeaders(Context c) {
    Json::Value headers;
    for (int at = 0; at < 10000; at++) {
      headers["x-" + std::to_string(at)] = "v";
    }
    return c.res.text("OK", 200, headers);
  }

  static RuntimeOutput flood(Context c) {
    const std::string line(79, 'x');
    for (int at = std::stoi(c.req.bodyText); at > 0; at--) {
      c.log(line);
    }
    return c.res.text("OK");
  }

  static const std::map<std::string, std::function<RuntimeOutput(Context)>> &actions() {
    static const std::map<std::string, std::function<RuntimeOutput(Context)>> all = {
        {"text", [](Context c) { return c.res.text("Hello World 👋"); }},
        {"json",
         [](Context c) {
           Json::Value json;
           json["json"] = true;
           json["message"] = "fine";
           return c.res.json(json);
         }},
        {"charset", [](Context c) { return c.res.text("ÅÆ", 200, typed("text/plain; charset=iso-8859-1")); }},
        {"uppercaseType", [](Context c) { return c.res.text("ÅÆ", 200, typed("TEXT/PLAIN")); }},
        {"multipart",
         [](Context c) {
           return c.res.text("--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n", 200,
                             typed("multipart/form-data; boundary=12345"));
         }},
        {"redirect", [](Context c) { return c.res.redirect("https://example.com/"); }},
        {"empty", [](Context c) { return c.res.empty(); }},
        {"twice",
         [](Context c) {
           c.res.text("first");
           return c.res.text("second");
         }},
        {"headers",
         [](Context c) {
           Json::Value headers;
           headers["first-header"] = "first-value";
           headers["Second-Header"] = header(c, "x-open-runtimes-custom-in-header");
           headers["cookie"] = header(c, "cookie");
           headers["x-open-runtimes-custom-out-header"] = "third-value";
           return c.res.text("OK", 200, headers);
         }},
        {"status", [](Context c) { return c.res.text("FAIL", 404); }},
        {"logThenThrow",
         [](Context c) -> RuntimeOutput {
           c.log("before the error");
           throw std::runtime_error("Error!");
         }},
        {"method", [](Context c) { return c.res.text(c.req.method); }},
        {"url", url},
        {"requestHeaders", [](Context c) { return c.res.json(c.req.headers); }},
        {"bodyText", [](Context c) { return c.res.text(c.req.bodyText); }},
        {"bodyJson", bodyJson},
        {"bodyBinary", [](Context c) { return c.res.binary(c.req.bodyBinary); }},
        {"body", body},
        {"environment",
         [](Context c) {
           Json::Value json;
           json["set"] = variable("CUSTOM_ENV_VAR");
           json["unset"] = variable("NOT_DEFINED_VAR");
           return c.res.json(json);
         }},
        {"logs", logs},
        {"spread",
         [](Context c) {
           c.log("engine:", "open-runtimes");
           c.error("engine:", "open-runtimes");
           return c.res.text("OK");
         }},
        {"sleep",
         [](Context c) {
           c.log("Timeout start.");
           rest(std::stod(c.req.bodyText));
           c.log("Timeout end.");
           return c.res.text("Successful response.");
         }},
        {"interleave", interleave},
        {"busy",
         [](Context c) {
           c.log("Busy start.");
           while (counted >= 0) {
           }
           return c.res.empty();
         }},
        {"send", [](Context c) { return c.res.send(c.req.bodyRaw); }},
        {"sendNumber", [](Context c) { return c.res.send("50"); }},
        {"sendBytes",
         [](Context c) { return c.res.binary(bytes(std::string("\x89PNG\x00\xff", 6)), 200, typed("image/png")); }},
        {"binary1", [](Context c) { return c.res.binary({std::byte{0}, std::byte{10}, std::byte{255}}); }},
        {"binary2", [](Context c) { return c.res.binary(bytes(std::string("\x00\x14\xff", 3)), 200); }},
        {"binary3", [](Context c) { return c.res.text(std::string("\x00\x1e\xff", 3)); }},
        {"binary4",
         [](Context) {
           RuntimeOutput output;
           output.body = bytes(std::string("\x00\x28\xff", 3));
           return output;
         }},
        {"digest",
         [](Context c) {
           Json::Value headers;
           headers["x-method"] = c.req.method;
           return c.res.text(md5::digest(c.req.bodyRaw), 200, headers);
         }},
        {"large", [](Context c) { return c.res.text(std::string(std::stoul(c.req.bodyText), '\x07')); }},
        {"badHeaders",
         [](Context c) {
           Json::Value headers;
           headers["x-split"] = "a\r\nx-injected: 1";
           headers["bad name"] = "b";
           headers["fine"] = "c";
           return c.res.text("OK", 200, headers);
         }},
        {"manyHeaders", manyHeaders},
        {"badStatus", [](Context c) { return c.res.text("OK", 20000); }},
        {"cookies",
         [](Context c) {
           Json::Value headers;
           headers["Set-Cookie"].append("a=1; Path=/");
           headers["Set-Cookie"].append("b=2");
           headers["other"] = "header";
           return c.res.text("OK", 200, headers);
         }},
        {"exit",
         [](Context c) {
           c.log("leaving");
           std::exit(3);
           return c.res.empty();
         }},
        {"signal",
         [](Context c) {
           c.log("falling");
           return c.res.text(*std::launder(reinterpret_cast<std::string *>(counted - counted)));
         }},
        {"child",
         [](Context c) {
           if (std::system("echo from the child") != 0) {
             throw std::runtime_error("no child");
           }
           return c.res.text("OK");
         }},
        {"count", [](Context c) { return c.res.text(std::to_string(++counted)); }},
        {"flood", flood},
        {"pid", [](Context c) { return c.res.text(std::to_string(getpid())); }},
        {"stream", stream},
        {"streamFunction", [](Context c) { return c.res.stream([](RuntimeStream &out) { out << "called"; }); }},
        {"streamPlain", [](Context c) { return c.res.stream(std::vector<std::string>{"a", "b", "c"}); }},
        {"streamText", [](Context c) { return c.res.stream(std::istringstream("whole")); }},
        {"streamThrow",
         [](Context c) {
           return c.res.stream([](RuntimeStream &out) {
             out << "before";
             throw std::runtime_error("midway");
           });
         }},
        {"streamEndless", streamEndless},
        {"streamStuck",
         [](Context c) {
           return c.res.stream([](RuntimeStream &out) {
             out << "begun";
             rest(60);
           });
         }},
        {"closed", [](Context c) { return c.res.text(std::to_string(closed.load())); }},
        {"streamFlood", streamFlood},
    };
    return all;
  }

public:
  static RuntimeOutput main(RuntimeContext &context) {
    const auto found = actions().find(context.req.headers["x-action"].asString());
    if (found == actions().end()) {
      throw std::invalid_argument("Unknown action");
    }
    return found->second(context);
  }
};

} // namespace runtime
