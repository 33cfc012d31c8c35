package io.openruntimes.java;

import java.util.HashMap;
import java.util.Map;

/** Answers GET / with a greeting and everything else with what it was sent. */
public class Index {
  /** The handler. Entrypoint `Index.java`; the build compiles it without commands. */
  public RuntimeOutput main(RuntimeContext context) {
    RuntimeRequest request = context.getReq();
    context.log(request.getMethod() + " " + request.getPath());
    if (request.getMethod().equals("GET") && request.getPath().equals("/")) {
      return context.getRes().text("Hello from your function. Send a POST to see what it receives.");
    }
    Map<String, Object> seen = new HashMap<>();
    seen.put("method", request.getMethod());
    seen.put("path", request.getPath());
    seen.put("query", request.getQuery());
    seen.put("body", request.getBodyText());
    return context.getRes().json(seen);
  }
}
