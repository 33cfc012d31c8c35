package hearth.jvm;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;

/** One request from its first frame to its response. */
final class Execution {
  private static final String TIMED_OUT = "Execution timed out.";
  private static final String RETURN_MISSING =
      "Return statement missing. return context.res.empty() if no response is expected.";
  private static final String RETURN_INVALID =
      "Return value invalid. Return the result of one of the context.res methods.";
  // The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so
  // does a line after a pause; a flood is gathered into larger frames.
  private static final int DIRECT_LINES = 32;
  private static final int BATCH_BYTES = 16 * 1024;
  private static final long PAUSE_MS = 50;
  private static final int LOG_FRAME_BYTES = 512 * 1024;
  private static final int BODY_PIECE_BYTES = 512 * 1024;
  private static final int STREAM_PIECE_BYTES = 64 * 1024;

  private final Server server;
  private final Channel.Frame frame;
  private final ByteArrayOutputStream body = new ByteArrayOutputStream();
  private ScheduledFuture<?> timer;
  private volatile Thread thread;

  private boolean isOpen = true;
  private String stream = "";
  private ByteArrayOutputStream pending = new ByteArrayOutputStream();
  private long lines;
  private long flushedAt;
  private ScheduledFuture<?> flushSoon;

  // Of a streamed response: whether it has begun, how many bytes may be sent, and whether to stop.
  private boolean isStreaming;
  private long room;
  private boolean isStopped;

  Execution(Server server, Channel.Frame frame) {
    this.server = server;
    this.frame = frame;
    this.room = server.window;
  }

  long id() {
    return frame.number("id");
  }

  /** Whether the handler of this execution runs in a thread. */
  boolean isIn(Thread asked) {
    return thread == asked;
  }

  void addBody(byte[] piece) {
    body.write(piece, 0, piece.length);
  }

  void writeLine(String name, String text) {
    byte[] data = (text + "\n").getBytes(StandardCharsets.UTF_8);
    write(name, data, 0, data.length);
  }

  /** Add whole lines, or any piece of native output, to one of the log streams. Any thread may call it. */
  synchronized void write(String name, byte[] text, int from, int length) {
    if (!isOpen || !frame.flag("logging") || length == 0) {
      return;
    }
    if (!name.equals(stream)) {
      flush();
      stream = name;
    }
    pending.write(text, from, length);
    lines++;
    if (lines <= DIRECT_LINES || pending.size() >= BATCH_BYTES || now() - flushedAt >= PAUSE_MS) {
      flush();
    } else if (flushSoon == null) {
      flushSoon = server.later(this::flush, PAUSE_MS);
    }
  }

  private static long now() {
    return System.nanoTime() / 1_000_000;
  }

  synchronized void flush() {
    byte[] data = takePending();
    if (data.length > 0) {
      server.channel.send(data);
      if (lines >= DIRECT_LINES) {
        flushedAt = now();
      }
    }
  }

  /** The frames of log text that is not sent yet, which is forgotten. */
  private byte[] takePending() {
    if (flushSoon != null) {
      flushSoon.cancel(false);
      flushSoon = null;
    }
    byte[] text = pending.toByteArray();
    if (text.length == 0) {
      return text;
    }
    pending.reset();
    ByteArrayOutputStream frames = new ByteArrayOutputStream(text.length + 64);
    for (int at = 0; at < text.length; at += LOG_FRAME_BYTES) {
      Map<String, Object> header = header("log");
      header.put("stream", stream);
      byte[] data = Channel.encode(header, text, at, Math.min(LOG_FRAME_BYTES, text.length - at));
      frames.write(data, 0, data.length);
    }
    return frames.toByteArray();
  }

  private Map<String, Object> header(String type) {
    Map<String, Object> header = new HashMap<>();
    header.put("type", type);
    header.put("id", id());
    return header;
  }

  /** Call the handler and answer. */
  void run() {
    thread = Thread.currentThread();
    NativeOutput.OWNER.set(this);
    timer = server.later(this::timeOut, Math.max(1, Math.round(frame.decimal("timeout") * 1000)));
    try {
      Map<?, ?> headers = (Map<?, ?>) frame.header.get("headers");
      Request request = new Request(frame.text("method"), frame.text("path"), headers, body.toByteArray());
      finish(server.handler.call(request, new Logs(this)));
    } catch (InvocationTargetException thrown) {
      fail(thrown.getCause());
    } catch (Throwable problem) { // also what only virtual machines throw: the next execution may do better
      fail(problem);
    } finally {
      synchronized (this) {
        thread = null;
      }
      NativeOutput.OWNER.remove();
      Thread.interrupted(); // that was meant for this execution
    }
  }

  private void fail(Throwable problem) {
    writeLine("error", Logs.describe(problem));
    failed();
  }

  private void failed() {
    answer(500, new HashMap<>(), new byte[0], false);
  }

  private void timeOut() {
    writeLine("error", TIMED_OUT);
    answer(500, new HashMap<>(), new byte[0], true);
    interrupt();
  }

  /** Tell the handler's thread to stop, unless it works for another execution by now. */
  private synchronized void interrupt() {
    if (thread != null) {
      thread.interrupt();
    }
  }

  private void finish(Object result) throws Exception {
    if (result instanceof CompletionStage) {
      result = ((CompletionStage<?>) result).toCompletableFuture().get();
    }
    Answer answer = result == null ? null : server.handler.language.answerOf(result);
    if (answer == null) {
      writeLine("error", result == null ? RETURN_MISSING : RETURN_INVALID);
      failed();
    } else if (answer.status < 100 || answer.status > 999) {
      writeLine("error", "Invalid status code: " + answer.status);
      failed();
    } else if (answer.source != null) {
      stream(answer);
    } else {
      answer(answer.status, answer.headers, answer.body, false);
    }
  }

  private Map<String, Object> responseHeader(int status, Map<?, ?> headers) {
    Map<String, Object> header = header("response");
    header.put("status", status);
    header.put("headers", Request.responseHeaders(headers));
    return header;
  }

  /** Answer, or end the stream that has begun meanwhile. */
  private void answer(int status, Map<?, ?> headers, byte[] given, boolean isTimeout) {
    Map<String, Object> header = responseHeader(status, headers);
    int first = Math.min(given.length, BODY_PIECE_BYTES);
    header.put("more", first < given.length);
    if (isTimeout) {
      header.put("timed_out", true);
    }
    byte[] before;
    synchronized (this) {
      if (isStreaming) {
        endStream(true, isTimeout);
        return;
      }
      if (!isOpen) {
        return;
      }
      isOpen = false;
      before = takePending();
    }
    close();
    byte[] response = Channel.encode(header, given, 0, first);
    byte[] together = java.util.Arrays.copyOf(before, before.length + response.length);
    System.arraycopy(response, 0, together, before.length, response.length);
    server.channel.send(together);
    for (int at = first; at < given.length; at += BODY_PIECE_BYTES) {
      int length = Math.min(BODY_PIECE_BYTES, given.length - at);
      Map<String, Object> more = header("body");
      more.put("more", at + length < given.length);
      server.channel.send(Channel.encode(more, given, at, length));
    }
  }

  /** Answer with the head, then with the pieces that the source writes. */
  private void stream(Answer answer) {
    synchronized (this) {
      if (!isOpen) {
        return;
      }
      isStreaming = true;
      flush();
      Map<String, Object> header = responseHeader(answer.status, answer.headers);
      header.put("more", true);
      header.put("stream", true);
      server.channel.send(header);
    }
    boolean isBroken = false;
    try {
      answer.source.writeTo(new Outflow());
    } catch (Throwable problem) {
      isBroken = true;
      if (!isStopped) {
        writeLine("error", Logs.describe(problem));
      }
    }
    endStream(isBroken, false);
  }

  /** What a source writes to; waits while the host has not taken what was sent before. */
  private final class Outflow extends OutputStream {
    @Override
    public void write(int data) throws IOException {
      write(new byte[] {(byte) data}, 0, 1);
    }

    @Override
    public void write(byte[] data, int from, int length) throws IOException {
      for (int at = 0; at < length; at += STREAM_PIECE_BYTES) {
        send(data, from + at, Math.min(STREAM_PIECE_BYTES, length - at));
      }
    }
  }

  private synchronized void send(byte[] data, int from, int length) throws IOException {
    try {
      while (!isStopped && room < length) {
        wait();
      }
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", stopped);
    }
    if (isStopped) {
      throw new IOException("The reader of this response has left.");
    }
    room -= length;
    flush();
    Map<String, Object> header = header("body");
    header.put("more", true);
    server.channel.send(Channel.encode(header, data, from, length));
  }

  /** Send the last frame, also of a response that was canceled: its source has stopped. */
  private synchronized void endStream(boolean isBroken, boolean isTimeout) {
    if (!isOpen) {
      return;
    }
    flush();
    isOpen = false;
    isStopped = true;
    notifyAll();
    close();
    Map<String, Object> header = header("body");
    header.put("more", false);
    header.put("broken", isBroken);
    header.put("timed_out", isTimeout);
    server.channel.send(header);
  }

  /** Nobody waits for this execution any more. */
  void cancel() {
    boolean wasStreaming;
    synchronized (this) {
      isStopped = true;
      wasStreaming = isStreaming;
      isOpen = isOpen && isStreaming;
      notifyAll();
    }
    if (!wasStreaming) {
      close();
    }
    interrupt();
  }

  synchronized void acknowledge(long size) {
    room += size;
    notifyAll();
  }

  private void close() {
    if (timer != null) {
      timer.cancel(false);
    }
    server.forget(this);
  }
}
