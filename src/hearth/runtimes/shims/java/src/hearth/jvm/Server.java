package hearth.jvm;

import java.io.IOException;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** The requests of one instance: takes frames, calls the handler in a thread for each request. */
final class Server {
  final Channel channel;
  final Handler handler;
  final long window;

  private final Map<Long, Execution> running = new ConcurrentHashMap<>();
  private final ExecutorService threads = Executors.newCachedThreadPool(action -> daemon(action, "handler"));
  private final ScheduledThreadPoolExecutor clock =
      new ScheduledThreadPoolExecutor(1, action -> daemon(action, "hearth-clock"));

  Server(Channel channel, Handler handler, long window) {
    this.channel = channel;
    this.handler = handler;
    this.window = window;
    clock.setRemoveOnCancelPolicy(true);
  }

  private static Thread daemon(Runnable action, String name) {
    Thread made = new Thread(action, name);
    made.setDaemon(true);
    made.setContextClassLoader(Thread.currentThread().getContextClassLoader());
    return made;
  }

  ScheduledFuture<?> later(Runnable action, long milliseconds) {
    return clock.schedule(action, milliseconds, TimeUnit.MILLISECONDS);
  }

  /** `execution` if it runs, else the one that runs if there is exactly one, else null. */
  Execution running(Execution execution) {
    if (execution != null && running.containsKey(execution.id())) {
      return execution;
    }
    return running.size() == 1 ? running.values().stream().findFirst().orElse(null) : null;
  }

  /** The execution whose handler runs in a thread, null if there is none. */
  Execution ofThread(Thread thread) {
    return running.values().stream().filter(one -> one.isIn(thread)).findFirst().orElse(null);
  }

  void forget(Execution execution) {
    running.remove(execution.id());
  }

  /** Run something in a thread of handlers. */
  void start(Runnable action) {
    threads.execute(action);
  }

  /** Take frames until the host has gone. */
  void serve() throws IOException {
    while (true) {
      take(channel.read(), threads);
    }
  }

  /** Act on one frame; `executor` runs handlers. */
  void take(Channel.Frame frame, Executor executor) {
    long id = frame.number("id");
    if (frame.type().equals("request")) {
      running.put(id, new Execution(this, frame));
    }
    Execution execution = running.get(id);
    if (execution == null) {
      return; // it has ended meanwhile
    }
    switch (frame.type()) {
      case "request":
      case "body":
        execution.addBody(frame.body);
        if (!frame.flag("more")) {
          executor.execute(execution::run);
        }
        break;
      case "cancel":
        execution.cancel();
        break;
      case "ack":
        execution.acknowledge(frame.number("size"));
        break;
      default:
        break;
    }
  }

  /** End the threads of a server that has served. */
  void close() {
    threads.shutdownNow();
    clock.shutdownNow();
  }
}
