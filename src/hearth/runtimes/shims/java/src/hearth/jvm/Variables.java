package hearth.jvm;

import java.lang.reflect.Field;
import java.util.Map;

/** The environment of this process, which System.getenv has read before anybody knew the function's. */
final class Variables {
  private Variables() {}

  /** Set variables as if they had been there from the beginning, also for child processes. */
  @SuppressWarnings("unchecked")
  static void set(Map<String, String> variables) throws ReflectiveOperationException {
    // The map that System.getenv returns is a view that cannot be changed of one that can; children get that one.
    Map<String, String> shown = System.getenv();
    Field field = shown.getClass().getDeclaredField("m");
    field.setAccessible(true);
    ((Map<String, String>) field.get(shown)).putAll(variables);
  }
}
