package io.openruntimes.java;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;

public class Conformance {
  private interface Action {
    Object run(RuntimeContext context) throws Exception;
  }

  private static final String MULTIPART =
      "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n";
  private static final AtomicInteger counted = new AtomicInteger();
  private static final AtomicInteger closed = new AtomicInteger();

  private final Map<String, Action> actions = new HashMap<>();

  public Conformance() {
    actions.put("text", c -> c.getRes().text("Hello World 👋"));
    actions.put("json", c -> {
      Map<String, Object> json = new LinkedHashMap<>();
      json.put("json", true);
      json.put("message", "fine");
      return c.getRes().json(json);
    });
    actions.put("charset", c -> typed(c, "ÅÆ", "text/plain; charset=iso-8859-1"));
    actions.put("uppercaseType", c -> typed(c, "ÅÆ", "TEXT/PLAIN"));
    actions.put("multipart", c -> typed(c, MULTIPART, "multipart/form-data; boundary=12345"));
    actions.put("redirect", c -> c.getRes().redirect("https://example.com/"));
    actions.put("empty", c -> c.getRes().empty());
    actions.put("nothing", c -> {
      c.getRes().text("built, not returned");
      return null;
    });
    actions.put("twice", c -> {
      c.getRes().text("first");
      return c.getRes().text("second");
    });
    actions.put("headers", c -> {
      Map<String, String> headers = new HashMap<>();
      headers.put("first-header", "first-value");
      headers.put("Second-Header", header(c, "x-open-runtimes-custom-in-header"));
      headers.put("cookie", header(c, "cookie"));
      headers.put("x-open-runtimes-custom-out-header", "third-value");
      return c.getRes().text("OK", 200, headers);
    });
    actions.put("status", c -> c.getRes().text("FAIL", 404));
    actions.put("logThenThrow", c -> {
      c.log("before the error");
      throw new IllegalStateException("Error!");
    });
    actions.put("method", c -> c.getRes().text(c.getReq().getMethod()));
    actions.put("url", Conformance::url);
    actions.put("requestHeaders", c -> c.getRes().json(c.getReq().getHeaders()));
    actions.put("bodyText", c -> c.getRes().text(c.getReq().getBodyText()));
    actions.put("bodyJson", c -> c.getRes().json(c.getReq().getBodyJson()));
    actions.put("bodyBinary", c -> c.getRes().binary(c.getReq().getBodyBinary()));
    actions.put("body", c -> {
      Object body = c.getReq().getBody();
      return body instanceof String ? c.getRes().text((String) body) : c.getRes().json(body);
    });
    actions.put("environment", c -> {
      Map<String, Object> json = new HashMap<>();
      json.put("set", System.getenv("CUSTOM_ENV_VAR"));
      json.put("unset", System.getenv().getOrDefault("NOT_DEFINED_VAR", null));
      return c.getRes().json(json);
    });
    actions.put("logs", Conformance::logs);
    actions.put("spread", c -> {
      c.log("engine:", "open-runtimes");
      c.error("engine:", "open-runtimes");
      return c.getRes().text("OK");
    });
    actions.put("sleep", c -> {
      c.log("Timeout start.");
      Thread.sleep((long) (Double.parseDouble(c.getReq().getBodyText()) * 1000));
      c.log("Timeout end.");
      return c.getRes().text("Successful response.");
    });
    actions.put("busy", c -> {
      c.log("Busy start.");
      while (counted.get() >= 0) {
        Thread.yield();
      }
      return null;
    });
    actions.put("send", c -> c.getRes().send(c.getReq().getBodyRaw()));
    actions.put("sendNumber", c -> c.getRes().send("50"));
    actions.put("sendBytes", c -> c.getRes().binary(bytes(137, 80, 78, 71, 0, 255), 200, type("image/png")));
    actions.put("binary1", c -> c.getRes().binary(bytes(0, 10, 255)));
    actions.put("binary2", c -> c.getRes().binary(bytes(0, 20, 255), 200));
    actions.put("binary3", c -> c.getRes().binary(bytes(0, 30, 255), 200, type("a/b")));
    actions.put("binary4", c -> new RuntimeOutput(bytes(0, 40, 255), 200, type("a/b")));
    actions.put("digest", c -> {
      StringBuilder hex = new StringBuilder();
      for (byte one : MessageDigest.getInstance("MD5").digest(c.getReq().getBodyBinary())) {
        hex.append(String.format("%02x", one));
      }
      return c.getRes().text(hex.toString(), 200, Collections.singletonMap("x-method", c.getReq().getMethod()));
    });
    actions.put("large", c -> {
      byte[] body = new byte[number(c)];
      Arrays.fill(body, (byte) 7);
      return c.getRes().binary(body);
    });
    actions.put("badHeaders", c -> {
      Map<String, String> headers = new HashMap<>();
      headers.put("x-split", "a\r\nx-injected: 1");
      headers.put("bad name", "b");
      headers.put("fine", "c");
      return c.getRes().text("OK", 200, headers);
    });
    actions.put("manyHeaders", c -> {
      Map<String, String> headers = new HashMap<>();
      for (int at = 0; at < 10000; at++) {
        headers.put("x-" + at, "v");
      }
      return c.getRes().text("OK", 200, headers);
    });
    actions.put("badStatus", c -> c.getRes().text("OK", 20000));
    actions.put("notAResult", c -> "a string");
    actions.put("interleave", Conformance::interleave);
    actions.put("exit", c -> {
      c.log("leaving");
      System.exit(3);
      return null;
    });
    actions.put("signal", c -> {
      c.log("falling");
      Class<?> unsafe = Class.forName("sun.misc.Unsafe");
      java.lang.reflect.Field field = unsafe.getDeclaredField("theUnsafe");
      field.setAccessible(true);
      unsafe.getMethod("putAddress", long.class, long.class).invoke(field.get(null), 0L, 0L);
      return null;
    });
    actions.put("child", c -> {
      new ProcessBuilder("/bin/sh", "-c", "echo from the child").inheritIO().start().waitFor();
      return c.getRes().text("OK");
    });
    actions.put("count", c -> c.getRes().text("" + counted.incrementAndGet()));
    actions.put("flood", c -> {
      String line = String.join("", Collections.nCopies(79, "x"));
      for (int at = 0; at < number(c); at++) {
        c.log(line);
      }
      return c.getRes().text("OK");
    });
    actions.put("pid", c -> c.getRes().text(Files.readSymbolicLink(Paths.get("/proc/self")).toString()));

    actions.put("stream", c -> {
      Map<String, String> headers = type("text/event-stream");
      headers.put("X-Kind", "pieces");
      return c.getRes().stream(out -> {
        c.log("streaming");
        out.write("first,".getBytes());
        Thread.sleep(1);
        out.write("second,".getBytes());
        out.write(bytes(226, 130, 172));
      }, 202, headers);
    });
    actions.put("streamFunction", c -> c.getRes().stream(Stream.of("cal", "led")));
    actions.put("streamPlain", c -> c.getRes().stream(Arrays.asList("a", "b", "c")));
    actions.put("streamText", c -> c.getRes().stream(new ByteArrayInputStream("whole".getBytes())));
    actions.put("streamThrow", c -> c.getRes().stream(out -> {
      out.write("before".getBytes());
      throw new IOException("midway");
    }));
    actions.put("streamNothing", c -> c.getRes().stream(5));
    actions.put("streamEndless", c -> c.getRes().stream(out -> {
      byte[] piece = new byte[100000];
      Arrays.fill(piece, (byte) 7);
      try {
        while (true) {
          c.log("piece");
          out.write(piece);
        }
      } finally {
        closed.incrementAndGet();
      }
    }));
    actions.put("streamStuck", c -> c.getRes().stream(out -> {
      out.write("begun".getBytes());
      while (closed.get() >= 0) {
        try {
          Thread.sleep(60000);
        } catch (InterruptedException unheard) {
          c.log("unheard");
        }
      }
    }));
    actions.put("streamFlood", c -> c.getRes().stream(out -> {
      out.write("begun".getBytes());
      for (int at = 0; at < 100; at++) {
        c.log("line " + at);
      }
      Thread.sleep(60000);
    }));
    actions.put("closed", c -> c.getRes().text("" + closed.get()));
  }

  private static byte[] bytes(int... numbers) {
    byte[] made = new byte[numbers.length];
    for (int at = 0; at < numbers.length; at++) {
      made[at] = (byte) numbers[at];
    }
    return made;
  }

  private static Map<String, String> type(String kind) {
    Map<String, String> headers = new HashMap<>();
    headers.put("Content-Type", kind);
    return headers;
  }

  private static RuntimeOutput typed(RuntimeContext c, String text, String kind) {
    return c.getRes().text(text, 200, type(kind));
  }

  private static String header(RuntimeContext c, String name) {
    return c.getReq().getHeaders().getOrDefault(name, "missing");
  }

  private static int number(RuntimeContext c) {
    return Integer.parseInt(c.getReq().getBodyText());
  }

  private static RuntimeOutput url(RuntimeContext c) {
    RuntimeRequest req = c.getReq();
    Map<String, Object> json = new HashMap<>();
    json.put("url", req.getUrl());
    json.put("port", req.getPort());
    json.put("path", req.getPath());
    json.put("query", req.getQuery());
    json.put("queryString", req.getQueryString());
    json.put("scheme", req.getScheme());
    json.put("host", req.getHost());
    return c.getRes().json(json);
  }

  private static RuntimeOutput logs(RuntimeContext c) {
    System.out.println("Native log");
    System.err.println("Native error");
    c.log("Debug log");
    c.error("Error log");
    c.log("Log+With+Plus+Symbol");
    c.log(42);
    c.log(4.2);
    c.log(true);
    c.log(Collections.singletonMap("objectKey", "objectValue"));
    c.log(Collections.singletonList("arrayValue"));
    c.log(String.join("", Collections.nCopies(9000, "a")));
    c.error(String.join("", Collections.nCopies(9000, "e")));
    return c.getRes().text("");
  }

  private static RuntimeOutput interleave(RuntimeContext c) throws Exception {
    String text = c.getReq().getBodyText();
    Thread thread = new Thread(() -> { // whatever a handler starts works for the same execution
      for (int at = 0; at < 5; at++) {
        System.out.println("native " + text);
        c.log("own " + text);
        try {
          Thread.sleep(1);
        } catch (InterruptedException stopped) {
          return;
        }
      }
    });
    thread.start();
    thread.join();
    return c.getRes().text(text);
  }

  public Object main(RuntimeContext context) throws Exception {
    Action action = actions.get(context.getReq().getHeaders().get("x-action"));
    if (action == null) {
      throw new IllegalArgumentException("Unknown action");
    }
    return action.run(context);
  }
}
