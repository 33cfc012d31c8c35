package hearth.jvm;

import java.lang.reflect.Array;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON as handlers and the protocol need it: compact, and every number a Double when parsed, which is what handlers of
 * the reference expect. A Double without a fraction is written without one, so what was parsed is written as it came.
 */
public final class Json {
  private static final int DEPTH_MAX = 500;

  /** What is parsed is no JSON. */
  public static final class Invalid extends IllegalArgumentException {
    private static final long serialVersionUID = 1L;

    Invalid(String problem, int at) {
      super("This is no valid JSON: " + problem + " at position " + at + ".");
    }
  }

  private final String text;
  private int at;
  private int depth;

  private Json(String text) {
    this.text = text;
  }

  /** The value of a text: Map, List, String, Double, Boolean or null. */
  public static Object parse(String text) {
    Json parser = new Json(text);
    Object value = parser.value();
    parser.skipSpace();
    if (parser.at < text.length()) {
      throw new Invalid("unexpected text", parser.at);
    }
    return value;
  }

  private void skipSpace() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private char next() {
    skipSpace();
    if (at >= text.length()) {
      throw new Invalid("unexpected end", at);
    }
    return text.charAt(at);
  }

  private Object value() {
    char first = next();
    switch (first) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      case 't':
        return word("true", Boolean.TRUE);
      case 'f':
        return word("false", Boolean.FALSE);
      case 'n':
        return word("null", null);
      default:
        return number();
    }
  }

  private Object word(String word, Object value) {
    if (!text.startsWith(word, at)) {
      throw new Invalid("unexpected text", at);
    }
    at += word.length();
    return value;
  }

  private void enter() {
    at++;
    if (++depth > DEPTH_MAX) {
      throw new Invalid("more than " + DEPTH_MAX + " levels", at);
    }
  }

  private Map<String, Object> object() {
    Map<String, Object> made = new LinkedHashMap<>();
    enter();
    if (next() != '}') {
      while (true) {
        if (next() != '"') {
          throw new Invalid("a name was expected", at);
        }
        String name = string();
        if (next() != ':') {
          throw new Invalid("a colon was expected", at);
        }
        at++;
        made.put(name, value());
        if (next() != ',') {
          break;
        }
        at++;
      }
    }
    leave('}');
    return made;
  }

  private List<Object> array() {
    List<Object> made = new ArrayList<>();
    enter();
    if (next() != ']') {
      while (true) {
        made.add(value());
        if (next() != ',') {
          break;
        }
        at++;
      }
    }
    leave(']');
    return made;
  }

  private void leave(char end) {
    if (next() != end) {
      throw new Invalid("'" + end + "' was expected", at);
    }
    at++;
    depth--;
  }

  private String string() {
    int begin = ++at;
    StringBuilder made = null;
    while (true) {
      if (at >= text.length()) {
        throw new Invalid("a text has no end", begin);
      }
      char read = text.charAt(at);
      if (read == '"') {
        String rest = text.substring(begin, at++);
        return made == null ? rest : made.append(rest).toString();
      }
      if (read < ' ') {
        throw new Invalid("a control character in a text", at);
      }
      if (read == '\\') {
        made = (made == null ? new StringBuilder() : made).append(text, begin, at);
        made.append(escaped());
        begin = at;
      } else {
        at++;
      }
    }
  }

  private char escaped() {
    if (at + 1 >= text.length()) {
      throw new Invalid("a text has no end", at);
    }
    char kind = text.charAt(at + 1);
    at += 2;
    if (kind == 'u') {
      int code = 0;
      for (int end = at + 4; at < end; at++) {
        int digit = at < text.length() ? Character.digit(text.charAt(at), 16) : -1;
        if (digit < 0) {
          throw new Invalid("a wrong escape", at);
        }
        code = code * 16 + digit;
      }
      return (char) code;
    }
    int found = "\"\\/bfnrt".indexOf(kind);
    if (found < 0) {
      throw new Invalid("a wrong escape", at - 1);
    }
    return "\"\\/\b\f\n\r\t".charAt(found);
  }

  private Double number() {
    int begin = at;
    while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
    String found = text.substring(begin, at);
    if (!found.matches("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")) {
      throw new Invalid("unexpected text", begin);
    }
    return Double.valueOf(found);
  }

  /** A value as compact JSON: what `parse` returns, any Map, Iterable, array, Enum, and the fields of other objects. */
  public static String write(Object value) {
    StringBuilder out = new StringBuilder();
    write(out, value, 0);
    return out.toString();
  }

  private static void write(StringBuilder out, Object value, int depth) {
    if (depth > DEPTH_MAX) {
      throw new IllegalArgumentException("A value of more than " + DEPTH_MAX + " levels is no JSON.");
    }
    if (value == null || value instanceof Boolean) {
      out.append(value);
    } else if (value instanceof Number) {
      writeNumber(out, (Number) value);
    } else if (value instanceof Map) {
      String separator = "{";
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
        out.append(separator);
        writeText(out, String.valueOf(entry.getKey()));
        out.append(':');
        write(out, entry.getValue(), depth + 1);
        separator = ",";
      }
      out.append(separator.equals("{") ? "{}" : "}");
    } else if (value instanceof Iterable) {
      String separator = "[";
      for (Object item : (Iterable<?>) value) {
        out.append(separator);
        write(out, item, depth + 1);
        separator = ",";
      }
      out.append(separator.equals("[") ? "[]" : "]");
    } else if (value.getClass().isArray()) {
      out.append('[');
      for (int item = 0; item < Array.getLength(value); item++) {
        out.append(item == 0 ? "" : ",");
        write(out, Array.get(value, item), depth + 1);
      }
      out.append(']');
    } else if (value instanceof Enum) {
      writeText(out, ((Enum<?>) value).name());
    } else if (value instanceof CharSequence || isOfThePlatform(value.getClass())) {
      writeText(out, value.toString());
    } else {
      write(out, fields(value), depth);
    }
  }

  private static boolean isOfThePlatform(Class<?> kind) {
    String name = kind.getName();
    return name.startsWith("java.") || name.startsWith("javax.") || name.startsWith("sun.") || name.startsWith("jdk.");
  }

  private static Map<String, Object> fields(Object value) {
    Map<String, Object> found = new LinkedHashMap<>();
    for (Class<?> kind = value.getClass(); kind != null && !isOfThePlatform(kind); kind = kind.getSuperclass()) {
      for (Field field : kind.getDeclaredFields()) {
        if (Modifier.isStatic(field.getModifiers()) || Modifier.isTransient(field.getModifiers())
            || field.isSynthetic()) {
          continue;
        }
        try {
          field.setAccessible(true);
          found.putIfAbsent(field.getName(), field.get(value));
        } catch (IllegalAccessException | RuntimeException hidden) {
          // not for us to see, so not for the reader of the response
        }
      }
    }
    return found;
  }

  private static void writeNumber(StringBuilder out, Number number) {
    if (number instanceof Double || number instanceof Float) {
      double value = number.doubleValue();
      if (Double.isNaN(value) || Double.isInfinite(value)) {
        throw new IllegalArgumentException(value + " is no number that JSON has.");
      }
      if (value == Math.rint(value) && Math.abs(value) < 1e15) {
        out.append((long) value);
        return;
      }
    }
    out.append(number instanceof BigDecimal ? ((BigDecimal) number).toPlainString() : number.toString());
  }

  private static void writeText(StringBuilder out, String text) {
    out.append('"');
    for (int index = 0; index < text.length(); index++) {
      char letter = text.charAt(index);
      int found = "\"\\\b\f\n\r\t".indexOf(letter);
      if (found >= 0) {
        out.append('\\').append("\"\\bfnrt".charAt(found));
      } else if (letter < ' ') {
        out.append(String.format("\\u%04x", (int) letter));
      } else {
        out.append(letter);
      }
    }
    out.append('"');
  }
}
