'use strict';
// Descriptor 3 in Node: reads without a copy on the event loop, writes at once.

const fs = require('fs');
const net = require('net');

const CHANNEL = 3;
const READ_BYTES = 64 * 1024;
const pause = new Int32Array(new SharedArrayBuffer(4));

/** Write all of a buffer; blocks while the host is behind. */
function write(buffer) {
  let at = 0;
  while (at < buffer.length) {
    try {
      at += fs.writeSync(CHANNEL, buffer, at, buffer.length - at);
    } catch (problem) {
      if (problem.code !== 'EAGAIN') throw problem;
      Atomics.wait(pause, 0, 0, 1); // the host is behind: give it a millisecond
    }
  }
}

/** Call `feed(bytes)` for whatever arrives (the bytes are borrowed), `onEnd` when the host has gone. */
function read(feed, onEnd) {
  const socket = new net.Socket({
    fd: CHANNEL,
    readable: true,
    writable: false,
    onread: {
      buffer: Buffer.allocUnsafeSlow(READ_BYTES),
      callback(count, buffer) {
        feed(buffer.subarray(0, count));
        return true;
      },
    },
  });
  socket.on('error', onEnd);
  socket.on('end', onEnd);
  socket.read(0);
}

module.exports = { write, read };
