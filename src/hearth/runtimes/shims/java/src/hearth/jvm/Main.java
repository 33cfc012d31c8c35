package hearth.jvm;

import io.openruntimes.java.JavaLanguage;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;

/**
 * The server inside an instance: says `ready`, takes the assignment, loads the handler, serves. Argument: the class of
 * the language, which may be in the code.
 */
public final class Main {
  private static final int LOAD_ERROR_MAX_CHARS = 100_000;
  private static final int REHEARSALS = 3;

  private Main() {}

  public static void main(String[] arguments) throws Exception {
    Channel channel = Channel.open();
    if (!channel.isWaiting()) {
      rehearse();
    }
    Map<String, Object> ready = new HashMap<>();
    ready.put("type", "ready");
    ready.put("pid", Long.parseLong(Files.readSymbolicLink(Paths.get("/proc/self")).toString()));
    ready.put("version", System.getProperty("java.version"));
    channel.send(ready);
    serve(channel, channel.read(), arguments[0]);
  }

  private static void serve(Channel channel, Channel.Frame assignment, String language) throws Exception {
    Map<String, String> variables = new HashMap<>();
    ((Map<?, ?>) assignment.header.get("environment"))
        .forEach((name, value) -> variables.put(String.valueOf(name), String.valueOf(value)));
    Variables.set(variables);
    Request.enforce(variables.get("OPEN_RUNTIMES_HEADERS"));
    NativeOutput.listen();
    Handler handler;
    try {
      handler = Handler.load(language, assignment.text("code"), assignment.text("entrypoint"));
    } catch (Handler.LoadFailed failed) {
      String message = failed.getMessage();
      Map<String, Object> header = new HashMap<>();
      header.put("type", "load_failed");
      header.put("error", message.substring(0, Math.min(message.length(), LOAD_ERROR_MAX_CHARS)));
      channel.send(header);
      channel.read(); // the host ends this instance
      return;
    }
    Server server = new Server(channel, handler, assignment.number("window"));
    NativeOutput.install(server);
    Map<String, Object> loaded = new HashMap<>();
    loaded.put("type", "loaded");
    loaded.put("concurrency", assignment.number("concurrency"));
    channel.send(loaded);
    server.serve();
  }

  /** Load and run a handler of ours, in Java, so that a stem cell has loaded what code and its first request need. */
  private static void rehearse() throws Exception {
    Path folder = Files.createTempDirectory("rehearsal");
    Path named = Files.createDirectory(folder.resolve(Handler.FOLDER)).resolve("handler");
    try {
      Files.write(named, Rehearsal.class.getName().getBytes(StandardCharsets.UTF_8));
      Handler handler = Handler.load(JavaLanguage.class.getName(), folder.toString(), "none");
      Variables.set(new HashMap<>());
      Request.enforce("{}");
      rehearse(new Server(Channel.toNowhere(), handler, 1 << 20));
    } finally {
      Files.delete(named);
      Files.delete(named.getParent());
      Files.delete(folder);
      Thread.currentThread().setContextClassLoader(Main.class.getClassLoader());
    }
  }

  private static void rehearse(Server server) {
    for (int round = 0; round < REHEARSALS; round++) {
      String head = "{\"type\":\"request\",\"id\":" + round + ",\"method\":\"POST\",\"path\":\"/a?b=c\","
          + "\"headers\":{\"Host\":\"a:1\",\"x-open-runtimes-a\":\"b\"},\"timeout\":15,\"logging\":true,\"more\":false}";
      @SuppressWarnings("unchecked")
      Map<String, Object> header = (Map<String, Object>) Json.parse(head);
      byte[] body = "{\"a\":[1,2.5,null,true]}".getBytes(StandardCharsets.UTF_8);
      FutureTask<?> done = new FutureTask<>(() -> server.take(new Channel.Frame(header, body), Runnable::run), null);
      server.start(done);
      try {
        done.get();
      } catch (InterruptedException | ExecutionException problem) {
        throw new IllegalStateException(problem);
      }
    }
    server.close();
  }
}
