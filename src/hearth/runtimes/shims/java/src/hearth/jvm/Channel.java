package hearth.jvm;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * The framed protocol over descriptor 3 (docs/protocol.md), blocking. Writes block until the host has taken them:
 * nothing queues up in this process, and what was written before a crash has left it.
 */
final class Channel {
  private static final int DESCRIPTOR = 3;
  private static final int FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4;

  /** One frame of the host. */
  static final class Frame {
    final Map<String, Object> header;
    final byte[] body;

    Frame(Map<String, Object> header, byte[] body) {
      this.header = header;
      this.body = body;
    }

    String type() {
      return (String) header.get("type");
    }

    String text(String name) {
      return (String) header.get(name);
    }

    long number(String name) {
      Object found = header.get(name);
      return found == null ? 0 : ((Double) found).longValue();
    }

    double decimal(String name) {
      Object found = header.get(name);
      return found == null ? 0 : (Double) found;
    }

    boolean flag(String name) {
      return Boolean.TRUE.equals(header.get(name));
    }
  }

  private final FileInputStream input;
  private final DataInputStream reader;
  private final OutputStream output;

  private Channel(FileInputStream input, OutputStream output) {
    this.input = input;
    this.reader = input == null ? null : new DataInputStream(input);
    this.output = output;
  }

  /** The channel to the host. */
  static Channel open() throws ReflectiveOperationException {
    // Java has no way to a descriptor that it did not open; this field is what such a way would set.
    FileDescriptor descriptor = new FileDescriptor();
    Field number = FileDescriptor.class.getDeclaredField("fd");
    number.setAccessible(true);
    number.setInt(descriptor, DESCRIPTOR);
    return new Channel(new FileInputStream(descriptor), new FileOutputStream(descriptor));
  }

  /** A channel that throws everything away, for the rehearsal. */
  static Channel toNowhere() {
    return new Channel(null, new OutputStream() {
      @Override
      public void write(int data) {
        // nobody listens
      }

      @Override
      public void write(byte[] data, int from, int length) {
        // nobody listens
      }
    });
  }

  /** Whether the host has written something that is not read yet. */
  boolean isWaiting() throws IOException {
    return input.available() > 0;
  }

  /** Wait for a frame; ends this process when the host has gone. */
  Frame read() throws IOException {
    try {
      int length = reader.readInt();
      if (length < 4 || length > FRAME_MAX_BYTES) {
        throw new IllegalStateException("a frame of " + length + " bytes");
      }
      byte[] rest = new byte[length];
      reader.readFully(rest);
      return frameOf(rest);
    } catch (EOFException gone) {
      Runtime.getRuntime().halt(0);
      throw gone;
    }
  }

  @SuppressWarnings("unchecked")
  private static Frame frameOf(byte[] rest) {
    int head = ByteBuffer.wrap(rest).getInt();
    byte[] body = new byte[rest.length - 4 - head];
    System.arraycopy(rest, 4 + head, body, 0, body.length);
    return new Frame((Map<String, Object>) Json.parse(new String(rest, 4, head, StandardCharsets.UTF_8)), body);
  }

  /** The bytes of one frame with a part of `body`. */
  static byte[] encode(Map<String, Object> header, byte[] body, int from, int length) {
    byte[] head = Json.write(header).getBytes(StandardCharsets.UTF_8);
    ByteBuffer data = ByteBuffer.allocate(8 + head.length + length);
    data.putInt(4 + head.length + length).putInt(head.length).put(head).put(body, from, length);
    return data.array();
  }

  /** Write whole frames. Any thread may call it. */
  synchronized void send(byte[] data) {
    try {
      output.write(data);
    } catch (IOException gone) {
      Runtime.getRuntime().halt(0);
    }
  }

  /** Write a frame without a body. */
  void send(Map<String, Object> header) {
    send(encode(header, new byte[0], 0, 0));
  }
}
