package io.openruntimes.java;

import java.util.Map;

/** What a handler returns; made by the methods of `context.getRes()`. */
public class RuntimeOutput {
  private final byte[] body;
  private final int statusCode;
  private final Map<String, String> headers;
  final RuntimeStream source;

  public RuntimeOutput(byte[] body, int statusCode, Map<String, String> headers) {
    this(body, statusCode, headers, null);
  }

  RuntimeOutput(byte[] body, int statusCode, Map<String, String> headers, RuntimeStream source) {
    this.body = body;
    this.statusCode = statusCode;
    this.headers = headers;
    this.source = source;
  }

  public byte[] getBody() {
    return body;
  }

  public int getStatusCode() {
    return statusCode;
  }

  public Map<String, String> getHeaders() {
    return headers;
  }
}
