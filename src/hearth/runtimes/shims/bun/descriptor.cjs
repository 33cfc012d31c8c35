'use strict';
// Descriptor 3 in Bun, whose `net.Socket` takes no descriptors: blocking reads on a thread of Bun's own.

const fs = require('fs');

const CHANNEL = 3;
const READ_BYTES = 64 * 1024;

/** Write all of a buffer; blocks while the host is behind. */
function write(buffer) {
  let at = 0;
  while (at < buffer.length) at += fs.writeSync(CHANNEL, buffer, at, buffer.length - at);
}

/** Call `feed(bytes)` for whatever arrives (the bytes are borrowed), `onEnd` when the host has gone. */
function read(feed, onEnd) {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const next = () => {
    fs.read(CHANNEL, buffer, 0, READ_BYTES, null, (problem, count) => {
      if (problem || count === 0) return onEnd();
      feed(buffer.subarray(0, count));
      next();
    });
  };
  next();
}

module.exports = { write, read };
