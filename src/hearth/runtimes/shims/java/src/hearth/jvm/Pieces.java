package hearth.jvm;

import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Iterator;
import java.util.stream.Stream;

/** What a body that is streamed may be made of, whatever the language. */
public final class Pieces {
  private static final int PIECE_BYTES = 64 * 1024;

  private Pieces() {}

  /** Writes an InputStream, a text or bytes, or the texts and bytes of an Iterable, an Iterator or a Stream. */
  public static Answer.Source sourceOf(Object given) {
    if (given instanceof InputStream) {
      return out -> copy((InputStream) given, out);
    }
    if (given instanceof CharSequence || given instanceof byte[]) {
      return out -> out.write(bytesOf(given));
    }
    if (given instanceof Iterable) {
      return out -> writeAll(((Iterable<?>) given).iterator(), out);
    }
    if (given instanceof Iterator) {
      return out -> writeAll((Iterator<?>) given, out);
    }
    if (given instanceof Stream) {
      return out -> {
        try (Stream<?> pieces = (Stream<?>) given) {
          writeAll(pieces.iterator(), out);
        }
      };
    }
    throw new IllegalArgumentException(
        "A body that is streamed must be an InputStream, an Iterable, an Iterator, a Stream or a function that writes.");
  }

  private static void writeAll(Iterator<?> pieces, OutputStream out) throws Exception {
    while (pieces.hasNext()) {
      out.write(bytesOf(pieces.next()));
    }
  }

  private static void copy(InputStream source, OutputStream out) throws Exception {
    byte[] piece = new byte[PIECE_BYTES];
    try (InputStream open = source) {
      for (int read = open.read(piece); read >= 0; read = open.read(piece)) {
        out.write(Arrays.copyOf(piece, read));
      }
    }
  }

  private static byte[] bytesOf(Object piece) {
    return piece instanceof byte[] ? (byte[]) piece : String.valueOf(piece).getBytes(StandardCharsets.UTF_8);
  }
}
