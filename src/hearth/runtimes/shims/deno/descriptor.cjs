'use strict';
// Descriptor 3 in Deno, which has no way to a descriptor it did not open itself: read(2) and write(2) of the C library.

const CHANNEL = 3;
const READ_BYTES = 64 * 1024;
const EINTR = 4;

const library = Deno.dlopen('libc.so.6', {
  write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  wait: { name: 'read', parameters: ['i32', 'buffer', 'usize'], result: 'isize', nonblocking: true },
  errorAt: { name: '__errno_location', parameters: [], result: 'pointer' },
}).symbols;

/** Write all of a buffer; blocks while the host is behind. */
function write(buffer) {
  let at = 0;
  while (at < buffer.length) {
    const count = Number(library.write(CHANNEL, buffer.subarray(at), BigInt(buffer.length - at)));
    if (count >= 0) at += count;
    else if (new Deno.UnsafePointerView(library.errorAt()).getInt32() !== EINTR) throw new Error('the host has gone');
  }
}

/** Call `feed(bytes)` for whatever arrives (the bytes are borrowed), `onEnd` when the host has gone. */
async function read(feed, onEnd) {
  const buffer = Buffer.alloc(READ_BYTES);
  for (;;) {
    const count = Number(await library.wait(CHANNEL, buffer, BigInt(READ_BYTES)));
    if (count <= 0) return onEnd();
    feed(buffer.subarray(0, count));
  }
}

module.exports = { write, read };
