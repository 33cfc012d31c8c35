package hearth.jvm;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.UnsupportedEncodingException;

/** Standard output and error of handlers, and why a process ends: each finds its execution. */
final class NativeOutput extends OutputStream {
  /** The execution that a thread works for; threads that it starts work for the same one. */
  static final InheritableThreadLocal<Execution> OWNER = new InheritableThreadLocal<>();

  private static volatile Server serving;

  private final Server server;
  private final FileOutputStream own;

  private NativeOutput(Server server, FileDescriptor descriptor) {
    this.server = server;
    this.own = new FileOutputStream(descriptor);
  }

  /** Put ours in the place of System.out and System.err. */
  static void install(Server server) throws UnsupportedEncodingException {
    System.setOut(new PrintStream(new NativeOutput(server, FileDescriptor.out), true, "UTF-8"));
    System.setErr(new PrintStream(new NativeOutput(server, FileDescriptor.err), true, "UTF-8"));
    serving = server;
  }

  /** Hear of calls of System.exit, also while code is loaded. */
  static void listen() {
    Runtime.getRuntime().addShutdownHook(new Thread(NativeOutput::tellExit));
  }

  @Override
  public void write(int data) throws IOException {
    write(new byte[] {(byte) data}, 0, 1);
  }

  @Override
  public void write(byte[] data, int from, int length) throws IOException {
    Execution execution = server.running(OWNER.get());
    if (execution == null) {
      own.write(data, from, length); // the host adds it to the execution there is, or to the next one
    } else {
      execution.write("native", data, from, length);
    }
  }

  /** The thread that called System.exit waits in it for us: its stack says where. */
  private static void tellExit() {
    Thread.getAllStackTraces().forEach((thread, frames) -> {
      int at = 0;
      while (at < frames.length && !frames[at].getClassName().equals("java.lang.System")) {
        at++;
      }
      if (at == frames.length || !frames[at].getMethodName().equals("exit")) {
        return;
      }
      Throwable said = new Throwable();
      said.setStackTrace(java.util.Arrays.copyOfRange(frames, at, frames.length));
      String stack = Logs.describe(said);
      String text = "System.exit was called" + stack.substring("java.lang.Throwable".length());
      Execution execution = serving == null ? null : serving.running(serving.ofThread(thread));
      if (execution == null) {
        System.err.println(text);
      } else {
        execution.writeLine("error", text);
        execution.flush();
      }
    });
  }
}
