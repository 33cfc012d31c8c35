package io.openruntimes.java;

import hearth.jvm.Json;
import hearth.jvm.Request;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** The request (contract: runtime-contract 2). */
public class RuntimeRequest {
  private final Request request;

  RuntimeRequest(Request request) {
    this.request = request;
  }

  public String getMethod() {
    return request.method;
  }

  public String getScheme() {
    return request.scheme;
  }

  public String getHost() {
    return request.host;
  }

  public int getPort() {
    return request.port;
  }

  public String getPath() {
    return request.path;
  }

  public Map<String, String> getQuery() {
    return request.query;
  }

  public String getQueryString() {
    return request.queryString;
  }

  public Map<String, String> getHeaders() {
    return request.headers;
  }

  public String getUrl() {
    return request.url;
  }

  public byte[] getBodyBinary() {
    return request.body;
  }

  public String getBodyText() {
    return new String(request.body, StandardCharsets.UTF_8);
  }

  public String getBodyRaw() {
    return getBodyText();
  }

  /** The parsed body; its numbers are Doubles. */
  @SuppressWarnings("unchecked")
  public Map<String, Object> getBodyJson() {
    Object parsed = Json.parse(getBodyText());
    if (!(parsed instanceof Map)) {
      throw new IllegalArgumentException("The body is JSON, but no object. Use getBody() for other values.");
    }
    return (Map<String, Object>) parsed;
  }

  /** The parsed body of a JSON content type (an empty Map if there is none), else the text. */
  public Object getBody() {
    String kind = request.headers.getOrDefault("content-type", "").toLowerCase(Locale.ROOT);
    if (!kind.startsWith("application/json")) {
      return getBodyText();
    }
    return request.body.length == 0 ? new HashMap<String, Object>() : Json.parse(getBodyText());
  }
}
