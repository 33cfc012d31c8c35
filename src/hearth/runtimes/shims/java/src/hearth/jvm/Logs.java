package hearth.jvm;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Collection;
import java.util.IdentityHashMap;
import java.util.Map;

/** The two logs of an execution, line by line. */
public final class Logs {
  private static final int MESSAGE_MAX_CHARS = 8000;
  private static final String TRUNCATED = "... Log truncated due to size limit (8000 characters)";

  private final Execution execution;

  Logs(Execution execution) {
    this.execution = execution;
  }

  public void log(Object... messages) {
    execution.writeLine("log", line(messages));
  }

  public void error(Object... messages) {
    execution.writeLine("error", line(messages));
  }

  private static String line(Object[] messages) {
    StringBuilder made = new StringBuilder();
    Object[] given = messages == null ? new Object[] {null} : messages;
    for (int at = 0; at < given.length; at++) {
      made.append(at == 0 ? "" : " ").append(textOf(given[at]));
    }
    String text = made.toString();
    if (text.length() <= MESSAGE_MAX_CHARS || text.codePointCount(0, text.length()) <= MESSAGE_MAX_CHARS) {
      return text;
    }
    return text.substring(0, text.offsetByCodePoints(0, MESSAGE_MAX_CHARS)) + TRUNCATED;
  }

  private static String textOf(Object message) {
    if (message instanceof Throwable) {
      return describe((Throwable) message);
    }
    if (message instanceof Map || message instanceof Collection
        || (message != null && message.getClass().isArray())) {
      try {
        return Json.write(message);
      } catch (RuntimeException none) {
        return String.valueOf(message);
      }
    }
    return String.valueOf(message);
  }

  /** A problem as its author should read it: without the frames of this program and what calls the handler for it. */
  static String describe(Throwable problem) {
    Map<Throwable, Boolean> seen = new IdentityHashMap<>();
    for (Throwable one = problem; one != null && seen.put(one, true) == null; one = one.getCause()) {
      one.setStackTrace(usersPart(one.getStackTrace()));
    }
    StringWriter text = new StringWriter();
    problem.printStackTrace(new PrintWriter(text));
    return text.toString().trim();
  }

  /** The frames above ours. */
  static StackTraceElement[] usersPart(StackTraceElement[] frames) {
    int end = 0;
    while (end < frames.length && !frames[end].getClassName().startsWith("hearth.jvm.")) {
      end++;
    }
    while (end < frames.length && end > 0 && isReflection(frames[end - 1].getClassName())) {
      end--;
    }
    return java.util.Arrays.copyOf(frames, end);
  }

  private static boolean isReflection(String name) {
    return name.startsWith("java.lang.reflect.") || name.startsWith("jdk.internal.reflect.")
        || name.startsWith("sun.reflect.") || name.startsWith("java.lang.invoke.");
  }
}
