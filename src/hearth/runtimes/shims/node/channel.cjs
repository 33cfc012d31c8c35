'use strict';
// The framed protocol over descriptor 3 (docs/protocol.md): reads frames as they come, writes them at once; responses
// that become ready together leave in one write, before any other code of this process runs again.
// Writes block until the host has taken them: nothing queues up in this process, and what was written before a
// crash has left it.

// How bytes get through the descriptor is another matter in each language that shares this shim.
const language = typeof Deno !== 'undefined' ? 'deno' : typeof Bun !== 'undefined' ? 'bun' : 'node';
const descriptor = require(`../${language}/descriptor.cjs`);

const FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4;
const BODY_PIECE_BYTES = 512 * 1024;
const EMPTY = Buffer.alloc(0);

/** Responses up to this size wait for those that become ready with them. */
const GATHERED_MAX_BYTES = 16 * 1024;

let isSilent = false;
let gathered = [];

/** Do `action` with everything that is sent meanwhile thrown away. */
function silently(action) {
  isSilent = true;
  try {
    action();
  } finally {
    isSilent = false;
  }
}

function writeAll(buffer) {
  if (isSilent) return;
  flush();
  descriptor.write(buffer);
}

/** Write the responses that wait. Called before a handler begins, and before the process ends. */
function flush() {
  if (gathered.length === 0) return;
  const buffers = gathered;
  gathered = [];
  descriptor.write(buffers.length === 1 ? buffers[0] : Buffer.concat(buffers));
}

/** Let a response leave with those whose handlers have ended already: right after the microtasks that are queued now. */
function gather(buffer) {
  if (isSilent) return;
  if (gathered.push(buffer) === 1) queueMicrotask(flush);
}

/** One frame as bytes: header object, body buffer. */
function frame(header, body) {
  const head = JSON.stringify(header);
  const headBytes = Buffer.byteLength(head);
  const buffer = Buffer.allocUnsafe(8 + headBytes + body.length);
  buffer.writeUInt32BE(4 + headBytes + body.length, 0);
  buffer.writeUInt32BE(headBytes, 4);
  buffer.write(head, 8, headBytes, 'utf8');
  if (body.length > 0) body.copy(buffer, 8 + headBytes);
  return buffer;
}

function send(header, body = EMPTY) {
  writeAll(frame(header, body));
}

/** Send a response; `before` holds log frames that leave in the same write. A long body is split. */
function sendResponse(header, body, before) {
  const first = body.length > BODY_PIECE_BYTES ? body.subarray(0, BODY_PIECE_BYTES) : body;
  header.more = first.length < body.length;
  const head = frame(header, first);
  const whole = before === null ? head : Buffer.concat([before, head]);
  if (whole.length <= GATHERED_MAX_BYTES) gather(whole);
  else writeAll(whole);
  for (let at = first.length; at < body.length; at += BODY_PIECE_BYTES) {
    const end = Math.min(at + BODY_PIECE_BYTES, body.length);
    send({ type: 'body', id: header.id, more: end < body.length }, body.subarray(at, end));
  }
}

/** Call `onFrame(header, body)` for every frame that arrives, `onEnd` when the host has gone. */
function listen(onFrame, onEnd) {
  const lengthBytes = Buffer.alloc(4);
  let lengthHave = 0;
  let partial = null; // a frame that did not fit into one read, filled as the rest comes
  let partialHave = 0;

  function checked(size) {
    if (size < 4 || size > FRAME_MAX_BYTES) throw new Error(`frame of ${size} bytes`);
    return size;
  }

  function deliver(bytes, isBorrowed) {
    const headEnd = 4 + bytes.readUInt32BE(0);
    const header = JSON.parse(bytes.toString('utf8', 4, headEnd));
    let body = EMPTY;
    if (headEnd < bytes.length) body = isBorrowed ? Buffer.from(bytes.subarray(headEnd)) : bytes.subarray(headEnd);
    onFrame(header, body);
  }

  function feed(chunk) {
    let at = 0;
    while (at < chunk.length) {
      if (partial !== null) {
        const taken = Math.min(partial.length - partialHave, chunk.length - at);
        chunk.copy(partial, partialHave, at, at + taken);
        partialHave += taken;
        at += taken;
        if (partialHave === partial.length) {
          const whole = partial;
          partial = null;
          deliver(whole, false);
        }
      } else if (lengthHave === 0 && chunk.length - at >= 4) {
        const size = checked(chunk.readUInt32BE(at));
        at += 4;
        if (chunk.length - at >= size) {
          at += size;
          deliver(chunk.subarray(at - size, at), true);
        } else {
          partial = Buffer.allocUnsafeSlow(size);
          partialHave = 0;
        }
      } else {
        lengthBytes[lengthHave++] = chunk[at++];
        if (lengthHave === 4) {
          lengthHave = 0;
          partial = Buffer.allocUnsafeSlow(checked(lengthBytes.readUInt32BE(0)));
          partialHave = 0;
        }
      }
    }
  }

  descriptor.read(feed, onEnd);
}

/** Before the code is loaded; may replace this process by one that is set up for it and finds `frame` by `resumed`. */
function prepare(frame) {
  descriptor.prepare?.(frame);
}

/** The assignment that this process was started anew for, if it was. */
function resumed() {
  return descriptor.resumed?.();
}

module.exports = { flush, frame, send, sendRaw: writeAll, sendResponse, silently, listen, prepare, resumed, language };
