package hearth.jvm;

import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** The request as the handler sees it (contract: runtime-contract 2). */
public final class Request {
  private static final String INTERNAL_PREFIX = "x-open-runtimes-";
  private static volatile Map<String, String> enforced = new HashMap<>();

  public final String method;
  public final String scheme;
  public final String host;
  public final int port;
  public final String path;
  public final String queryString;
  public final Map<String, String> query = new LinkedHashMap<>();
  public final Map<String, String> headers = new LinkedHashMap<>();
  public final String url;
  public final byte[] body;

  Request(String method, String target, Map<?, ?> given, byte[] body) {
    Map<String, String> lowered = new HashMap<>();
    for (Map.Entry<?, ?> entry : given.entrySet()) {
      String name = String.valueOf(entry.getKey()).toLowerCase(Locale.ROOT);
      lowered.put(name, String.valueOf(entry.getValue()));
      if (!name.startsWith(INTERNAL_PREFIX)) {
        headers.put(name, String.valueOf(entry.getValue()));
      }
    }
    headers.putAll(enforced);
    this.method = method.toUpperCase(Locale.ROOT);
    this.body = body;
    String[] parts = before(target, '#').split("\\?", 2);
    path = parts[0];
    queryString = parts.length == 2 ? parts[1] : "";
    for (String pair : queryString.split("&")) {
      String[] sides = pair.split("=", 2);
      if (!sides[0].isEmpty()) {
        query.put(sides[0], sides.length == 2 ? sides[1] : "");
      }
    }
    scheme = lowered.getOrDefault("x-forwarded-proto", "http");
    int usual = scheme.equals("https") ? 443 : 80;
    String[] place = lowered.getOrDefault("host", "").split(":", 2);
    host = place[0];
    port = place.length == 2 ? number(place[1], usual) : usual;
    url = scheme + "://" + host + (port == usual ? "" : ":" + port) + path
        + (queryString.isEmpty() ? "" : "?" + queryString);
  }

  private static String before(String text, char mark) {
    int found = text.indexOf(mark);
    return found < 0 ? text : text.substring(0, found);
  }

  private static int number(String text, int fallback) {
    try {
      return Integer.parseInt(text);
    } catch (NumberFormatException none) {
      return fallback;
    }
  }

  /** Take the headers that the operator puts over those of every request; `json` may be null. */
  static void enforce(String json) {
    Map<String, String> taken = new HashMap<>();
    try {
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) Json.parse(json)).entrySet()) {
        Object value = entry.getValue();
        String text = value instanceof String ? (String) value : Json.write(value);
        taken.put(String.valueOf(entry.getKey()).toLowerCase(Locale.ROOT), text);
      }
    } catch (RuntimeException none) {
      taken.clear();
    }
    enforced = taken;
  }

  /** Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3). */
  static Map<String, Object> responseHeaders(Map<?, ?> given) {
    Map<String, Object> made = new LinkedHashMap<>();
    for (Map.Entry<?, ?> entry : given.entrySet()) {
      String name = String.valueOf(entry.getKey()).toLowerCase(Locale.ROOT);
      if (entry.getValue() != null && !name.startsWith(INTERNAL_PREFIX)) {
        made.put(name, String.valueOf(entry.getValue()));
      }
    }
    String kind = String.valueOf(made.getOrDefault("content-type", "text/plain"));
    String lower = kind.toLowerCase(Locale.ROOT);
    if (!lower.startsWith("multipart/")) { // a boundary is case-sensitive
      kind = lower.contains("charset=") ? lower : lower + "; charset=utf-8";
    }
    made.put("content-type", kind);
    return made;
  }
}
