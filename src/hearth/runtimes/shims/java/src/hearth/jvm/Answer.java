package hearth.jvm;

import java.io.OutputStream;
import java.util.Map;

/** What a handler returned, whatever its language calls it. */
public final class Answer {
  /** Writes a body that is streamed; writing fails once the reader has left. */
  public interface Source {
    void writeTo(OutputStream out) throws Exception;
  }

  final byte[] body;
  final int status;
  final Map<?, ?> headers;
  final Source source;

  /** `source` is null for a body that is given as a whole, else `body` is not looked at. */
  public Answer(byte[] body, int status, Map<?, ?> headers, Source source) {
    this.body = body;
    this.status = status;
    this.headers = headers;
    this.source = source;
  }
}
