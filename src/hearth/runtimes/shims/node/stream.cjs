'use strict';
// Sends a body that a handler gives piece by piece, never more than the host has asked for (docs/protocol.md).

const channel = require('./channel.cjs');
const { toBytes } = require('./context.cjs');

const PIECE_BYTES = 64 * 1024;
const SOURCES = 'an async iterable, a ReadableStream, a Node Readable, an iterable, or a generator function';

/** What a handler streams: what it gave to `res.stream`, or itself if it is an async generator; undefined otherwise. */
function sourceOf(output) {
  if (output.stream !== undefined) return output.stream;
  return output.body === undefined && typeof output[Symbol.asyncIterator] === 'function' ? output : undefined;
}

/** An iterator over `source`, with promises or without. Throws TypeError for what cannot be streamed. */
function iterate(source) {
  const given = typeof source === 'function' ? source() : source;
  if (typeof given === 'string' || ArrayBuffer.isView(given) || given instanceof ArrayBuffer) return [given].values();
  const begin = given?.[Symbol.asyncIterator] ?? given?.[Symbol.iterator];
  if (typeof begin !== 'function') throw new TypeError(`A body that is streamed must be ${SOURCES}.`);
  return begin.call(given);
}

/** The body of one execution on its way to the host. */
class Outflow {
  /** `beforePiece` is called before each piece leaves: what was logged until then leaves first. */
  constructor(id, window, iterator, beforePiece) {
    this.id = id;
    this.room = window;
    this.iterator = iterator;
    this.beforePiece = beforePiece;
    this.isOpen = true;
    this.wake = null;
  }

  /** The host has taken `size` bytes. */
  acknowledge(size) {
    this.room += size;
    this.#wakeUp();
  }

  /** Send nothing more; the source is told to stop, at the latest when it gives its next piece. */
  stop() {
    this.isOpen = false;
    this.#wakeUp();
    this.#return();
  }

  /** Send everything until the source ends or `stop` is called. Rejects with what the source throws. */
  async run() {
    for (;;) {
      const next = await this.iterator.next();
      if (next.done || !this.isOpen) break;
      const bytes = toBytes(next.value);
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        const piece = bytes.subarray(at, at + PIECE_BYTES);
        while (this.isOpen && this.room < piece.length) {
          await new Promise((resolve) => {
            this.wake = resolve;
          });
        }
        if (!this.isOpen) break;
        this.room -= piece.length;
        this.beforePiece();
        channel.send({ type: 'body', id: this.id, more: true }, piece);
      }
      if (!this.isOpen) break;
    }
    if (!this.isOpen) await this.#return();
  }

  #wakeUp() {
    if (this.wake !== null) this.wake();
    this.wake = null;
  }

  /** Let the source clean up (its `finally` blocks run); what goes wrong there concerns nobody any more. */
  async #return() {
    try {
      await this.iterator.return?.();
    } catch (_) {
      // the response is over
    }
  }
}

module.exports = { Outflow, iterate, sourceOf };
