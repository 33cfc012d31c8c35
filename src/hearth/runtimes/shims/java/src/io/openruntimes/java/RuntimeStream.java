package io.openruntimes.java;

import java.io.OutputStream;

/** Writes a body piece by piece; writing fails once the reader has left. */
@FunctionalInterface
public interface RuntimeStream {
  void writeTo(OutputStream out) throws Exception;
}
