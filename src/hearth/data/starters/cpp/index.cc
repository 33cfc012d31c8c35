// Answers GET / with a greeting and everything else with what it was sent.
// Entrypoint `index.cc`; the build compiles it without commands.
#include "RuntimeContext.h"
#include "RuntimeOutput.h"

namespace runtime {

class Handler {
public:
  static RuntimeOutput main(RuntimeContext &context) {
    const RuntimeRequest &request = context.req;
    context.log(request.method + " " + request.path);
    if (request.method == "GET" && request.path == "/") {
      return context.res.text("Hello from your function. Send a POST to see what it receives.");
    }
    Json::Value seen;
    seen["method"] = request.method;
    seen["path"] = request.path;
    seen["query"] = request.query;
    seen["body"] = request.bodyText;
    return context.res.json(seen);
  }
};

} // namespace runtime
