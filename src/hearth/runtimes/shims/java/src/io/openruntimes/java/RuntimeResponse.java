package io.openruntimes.java;

import hearth.jvm.Json;
import hearth.jvm.Pieces;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;

/** Builds responses; one takes effect only if the handler returns it (contract: runtime-contract 3). */
public class RuntimeResponse {
  private static final Map<String, String> NONE = Collections.emptyMap();

  public RuntimeOutput binary(byte[] bytes, int statusCode, Map<String, String> headers) {
    return new RuntimeOutput(bytes, statusCode, headers);
  }

  public RuntimeOutput binary(byte[] bytes, int statusCode) {
    return binary(bytes, statusCode, new HashMap<>());
  }

  public RuntimeOutput binary(byte[] bytes) {
    return binary(bytes, 200);
  }

  public RuntimeOutput text(String body, int statusCode, Map<String, String> headers) {
    return binary(body.getBytes(StandardCharsets.UTF_8), statusCode, headers);
  }

  public RuntimeOutput text(String body, int statusCode) {
    return text(body, statusCode, new HashMap<>());
  }

  public RuntimeOutput text(String body) {
    return text(body, 200);
  }

  public RuntimeOutput send(String body, int statusCode, Map<String, String> headers) {
    return text(body, statusCode, headers);
  }

  public RuntimeOutput send(String body, int statusCode) {
    return text(body, statusCode);
  }

  public RuntimeOutput send(String body) {
    return text(body);
  }

  /** Any value: Maps, lists, arrays, texts, numbers, and the fields of other objects. */
  public RuntimeOutput json(Object json, int statusCode, Map<String, String> headers) {
    return text(Json.write(json), statusCode, with(headers, "content-type", "application/json"));
  }

  public RuntimeOutput json(Object json, int statusCode) {
    return json(json, statusCode, NONE);
  }

  public RuntimeOutput json(Object json) {
    return json(json, 200);
  }

  // As in the reference, for code that was compiled against it.
  public RuntimeOutput json(Map<String, Object> json, int statusCode, Map<String, String> headers) {
    return json((Object) json, statusCode, headers);
  }

  public RuntimeOutput json(Map<String, Object> json, int statusCode) {
    return json((Object) json, statusCode);
  }

  public RuntimeOutput json(Map<String, Object> json) {
    return json((Object) json);
  }

  public RuntimeOutput empty() {
    return text("", 204);
  }

  public RuntimeOutput redirect(String url, int statusCode, Map<String, String> headers) {
    return text("", statusCode, with(headers, "location", url));
  }

  public RuntimeOutput redirect(String url, int statusCode) {
    return redirect(url, statusCode, NONE);
  }

  public RuntimeOutput redirect(String url) {
    return redirect(url, 301);
  }

  /** A body that is sent as `source` writes it. */
  public RuntimeOutput stream(RuntimeStream source, int statusCode, Map<String, String> headers) {
    return new RuntimeOutput(new byte[0], statusCode, headers, source);
  }

  public RuntimeOutput stream(RuntimeStream source, int statusCode) {
    return stream(source, statusCode, NONE);
  }

  public RuntimeOutput stream(RuntimeStream source) {
    return stream(source, 200);
  }

  /** The same of an InputStream, or of the texts and bytes of an Iterable, an Iterator or a Stream. */
  public RuntimeOutput stream(Object source, int statusCode, Map<String, String> headers) {
    return stream(writerOf(source), statusCode, headers);
  }

  public RuntimeOutput stream(Object source, int statusCode) {
    return stream(source, statusCode, NONE);
  }

  public RuntimeOutput stream(Object source) {
    return stream(source, 200);
  }

  private static RuntimeStream writerOf(Object source) {
    if (source instanceof RuntimeStream) {
      return (RuntimeStream) source;
    }
    return Pieces.sourceOf(source)::writeTo;
  }

  private static Map<String, String> with(Map<String, String> headers, String name, String value) {
    Map<String, String> made = new HashMap<>(headers);
    made.put(name, value);
    return made;
  }
}
