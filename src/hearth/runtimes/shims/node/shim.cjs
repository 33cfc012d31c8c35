'use strict';
// The server inside a Node instance: takes frames from descriptor 3, calls the handler, answers.
// Many requests run at once; AsyncLocalStorage keeps the console output of each apart.

const channel = require('./channel.cjs');
const { Request, response, responseHeaders, toBytes } = require('./context.cjs');
const { load, LoadFailed } = require('./load.cjs');
const logging = require('./logging.cjs');
const { Outflow, iterate, sourceOf } = require('./stream.cjs');

const RETURN_MISSING = 'Return statement missing. return context.res.empty() if no response is expected.';
const RETURN_INVALID = 'Return value invalid. Return the result of one of the context.res methods.';
const TIMED_OUT = 'Execution timed out.';
const NO_BYTES = Buffer.alloc(0);
const EMPTY_500 = { body: NO_BYTES, statusCode: 500, headers: {} };
// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so does
// a line after a pause; a flood is gathered into larger frames.
const DIRECT_LINES = 32;
const PAUSE_MS = 50;
const BATCH_BYTES = 16 * 1024;
const LOG_FRAME_BYTES = 512 * 1024;
// The space for young objects is 1 MiB at the start; 8 bytes an item.
const NURSERY_PIECE_ITEMS = 2048;
const NURSERY_PIECES_MAX = 256;

const endProcess = process.exit.bind(process);
const exitProcess = (code) => {
  channel.flush();
  endProcess(code);
};
const running = new Map();
let handler = null;
let enforcedHeaders = {};
let streamWindow = 0;

/** One request from its first frame to its response. */
class Execution {
  constructor(frame) {
    this.frame = frame;
    this.id = frame.id;
    this.parts = [];
    this.isOpen = true;
    this.lines = 0;
    this.flushedAt = 0;
    this.outflow = null;
    this.aborter = null;
    this.pending = [];
    this.pendingBytes = 0;
    this.flushSoon = null;
    this.timer = null;
  }

  write(stream, text) {
    if (!this.isOpen || this.frame.logging === false) return;
    const last = this.pending[this.pending.length - 1];
    if (last !== undefined && last.stream === stream) last.text += text;
    else this.pending.push({ stream, text });
    this.pendingBytes += text.length;
    if (++this.lines <= DIRECT_LINES || this.pendingBytes >= BATCH_BYTES) this.flush();
    else if (Date.now() - this.flushedAt >= PAUSE_MS) this.flush();
    else if (this.flushSoon === null) this.flushSoon = setImmediate(() => this.flush());
  }

  /** Log frames not sent yet as one buffer, or null; forgets them. */
  takePending() {
    if (this.flushSoon !== null) {
      clearImmediate(this.flushSoon);
      this.flushSoon = null;
    }
    if (this.pending.length === 0) return null;
    const frames = [];
    for (const { stream, text } of this.pending) {
      const bytes = Buffer.from(text, 'utf8');
      for (let at = 0; at < bytes.length; at += LOG_FRAME_BYTES) {
        frames.push(channel.frame({ type: 'log', id: this.id, stream }, bytes.subarray(at, at + LOG_FRAME_BYTES)));
      }
    }
    this.pending = [];
    this.pendingBytes = 0;
    return frames.length === 1 ? frames[0] : Buffer.concat(frames);
  }

  flush() {
    const bytes = this.takePending();
    if (bytes === null) return;
    channel.sendRaw(bytes);
    if (this.lines > DIRECT_LINES) this.flushedAt = Date.now();
  }

  error(text) {
    this.write('error', `${text}\n`);
  }

  begin() {
    channel.flush(); // a handler may block: nobody else's response is to wait for it
    const seconds = this.frame.timeout;
    this.timer = setTimeout(() => this.timeOut(), seconds * 1000);
    const context = {
      req: new Request(this.frame, joined(this.parts), enforcedHeaders, () => this.signal()),
      res: response,
      log: (...values) => this.write('log', `${logging.line(values)}\n`),
      error: (...values) => this.write('error', `${logging.line(values)}\n`),
    };
    let output;
    try {
      output = logging.executions.run(this, handler, context);
    } catch (problem) {
      this.fail(problem);
      return;
    }
    if (typeof output?.then === 'function') {
      output.then(
        (value) => this.finish(value),
        (problem) => this.fail(problem),
      );
    } else {
      this.finish(output);
    }
  }

  fail(problem) {
    this.error(logging.textOf(problem));
    this.answer(EMPTY_500, false);
  }

  timeOut() {
    this.error(TIMED_OUT);
    this.aborter?.abort();
    if (this.outflow === null) this.answer(EMPTY_500, true);
    else this.endStream({ broken: true, timed_out: true });
  }

  /** Made only for those who ask for it. */
  signal() {
    if (this.aborter === null && typeof AbortController !== 'undefined') {
      this.aborter = new AbortController();
      if (!this.isOpen) this.aborter.abort();
    }
    return this.aborter?.signal;
  }

  /** Nobody waits for this any more. */
  cancel() {
    if (!this.isOpen) return;
    this.close();
    this.aborter?.abort();
    this.outflow?.stop();
  }

  finish(output) {
    if (!this.isOpen) return;
    if (output === undefined || output === null) {
      this.error(RETURN_MISSING);
      this.answer(EMPTY_500, false);
    } else if (typeof output !== 'object') {
      this.error(RETURN_INVALID);
      this.answer(EMPTY_500, false);
    } else {
      try {
        this.answer(output, false);
      } catch (problem) {
        this.fail(problem);
      }
    }
  }

  answer(output, isTimeout) {
    if (!this.isOpen) return;
    const status = Number(output.statusCode ?? 200);
    if (!Number.isInteger(status) || status < 100 || status > 999) {
      throw new RangeError(`Invalid status code: ${output.statusCode}`);
    }
    const headers = responseHeaders(output.headers);
    const source = sourceOf(output);
    if (source !== undefined) {
      logging.executions.run(this, () => this.beginStream(status, headers, source));
      return;
    }
    const body = toBytes(output.body);
    this.close();
    const header = { type: 'response', id: this.id, status, headers, more: false };
    if (isTimeout) header.timed_out = true;
    channel.sendResponse(header, body, this.takePending());
  }

  /** Answer with the head, then with the pieces that `source` gives. Throws if it cannot give any. */
  beginStream(status, headers, source) {
    const outflow = new Outflow(this.id, streamWindow, iterate(source), () => this.flush());
    this.outflow = outflow;
    this.flush();
    channel.send({ type: 'response', id: this.id, status, headers, more: true, stream: true });
    outflow.run().then(
      () => this.endStream({}),
      (problem) => {
        this.error(logging.textOf(problem));
        this.endStream({ broken: true });
      },
    );
  }

  /** The last frame of a streamed response, also of one that was canceled: its source has stopped. */
  endStream(how) {
    const outflow = this.outflow;
    if (outflow === null) return;
    this.outflow = null;
    if (outflow.isOpen && how.timed_out) outflow.stop();
    this.flush();
    this.close();
    channel.send({ type: 'body', id: this.id, more: false, ...how });
  }

  close() {
    this.isOpen = false;
    clearTimeout(this.timer);
    running.delete(this.id);
  }
}

function joined(parts) {
  if (parts.length === 0) return NO_BYTES;
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

/** The execution the code running now belongs to; see captureNative for `undefined` and `null`. */
function owner() {
  const execution = logging.executions.getStore();
  if (execution !== undefined) return execution.isOpen ? execution : null;
  return running.size === 1 ? running.values().next().value : undefined;
}

/** Tell whoever is concerned why this process is about to end. */
function reportFatal(text) {
  const execution = logging.executions.getStore();
  const concerned = execution === undefined ? [...running.values()] : [execution];
  let isHeard = false;
  for (const each of concerned) {
    if (!each.isOpen) continue;
    each.error(text);
    each.flush();
    isHeard = true;
  }
  if (!isHeard) {
    try {
      require('fs').writeSync(2, `${text}\n`);
    } catch (_) {
      // nobody can be told
    }
  }
}

async function assign(frame) {
  Object.assign(process.env, frame.environment);
  streamWindow = frame.window;
  try {
    const enforced = JSON.parse(process.env.OPEN_RUNTIMES_HEADERS || '{}');
    for (const [name, value] of Object.entries(enforced)) enforcedHeaders[name.toLowerCase()] = `${value}`;
    handler = await load(frame.code, frame.entrypoint);
  } catch (problem) {
    const text = problem instanceof LoadFailed ? problem.message : logging.textOf(problem);
    channel.send({ type: 'load_failed', error: text.slice(0, 100000) });
    return;
  }
  channel.send({ type: 'loaded', concurrency: frame.concurrency ?? 1 });
}

function onFrame(frame, body) {
  if (frame.type === 'request') {
    const execution = new Execution(frame);
    if (body.length > 0) execution.parts.push(body);
    running.set(frame.id, execution);
    if (!frame.more) execution.begin();
  } else if (frame.type === 'body') {
    const execution = running.get(frame.id);
    if (execution === undefined) return; // canceled meanwhile
    execution.parts.push(body);
    if (!frame.more) execution.begin();
  } else if (frame.type === 'cancel') {
    running.get(frame.id)?.cancel();
  } else if (frame.type === 'ack') {
    running.get(frame.id)?.outflow?.acknowledge(frame.size);
  } else if (frame.type === 'assign') {
    reportReady();
    channel.prepare(frame);
    assign(frame);
  }
}

let isReady = false;

function reportReady() {
  if (isReady) return;
  isReady = true;
  channel.send({ type: 'ready', pid: process.pid, version: process.versions.node });
}

/**
 * Before there is a deployment: load and run handlers of our own, so that what Node compiles and opens on first use
 * is there. Nothing of it is sent, and nothing stays but that. Once of each kind and no more: what runs often gets
 * compiled by V8, which costs 3 ms and 4 MB, here or in the first request.
 */
async function rehearse() {
  const shim = process.argv[1];
  let rehearsed;
  for (const entrypoint of ['rehearsal.cjs', 'rehearsal.mjs']) {
    rehearsed = await load(__dirname, entrypoint);
    if (isReady) return; // assigned meanwhile: everything belongs to the deployment now
  }
  process.argv[1] = shim;
  delete require.cache[require.resolve('./rehearsal.cjs')];
  const headers = { host: 'localhost', 'content-type': 'application/json' };
  const frame = { type: 'request', id: 0, method: 'POST', path: '/?a=b', headers, timeout: 1, logging: true, more: false };
  handler = rehearsed;
  channel.silently(() => onFrame(JSON.parse(JSON.stringify(frame)), Buffer.from('{}')));
  handler = null;
  if (channel.language === 'node') emptyNursery();
}

/**
 * Have V8 collect young objects now. What a start allocates nearly fills their space, and the collection that it asks
 * for then comes in the midst of the first request: 1 ms of two threads, and a wait for the second one.
 */
function emptyNursery() {
  const { getHeapSpaceStatistics } = require('v8');
  const used = () => getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_used_size;
  let before = used();
  for (let piece = 0; piece < NURSERY_PIECES_MAX; piece++) {
    new Array(NURSERY_PIECE_ITEMS).fill(piece);
    const now = used();
    if (now < before) return;
    before = now;
  }
}

/** An instance that is wanted finds its assignment waiting; a stem cell has the time to rehearse. */
function begin() {
  if (isReady) return;
  rehearse().then(reportReady, reportReady);
}

process.exit = (code) => {
  const status = code ?? process.exitCode ?? 0;
  const called = new Error(`process.exit(${status}) was called`);
  Error.captureStackTrace(called, process.exit);
  reportFatal(logging.stackOf(called));
  exitProcess(code);
};
process.on('uncaughtException', (problem) => {
  reportFatal(logging.textOf(problem));
  exitProcess(1);
});
process.on('unhandledRejection', (problem) => {
  reportFatal(`Unhandled promise rejection: ${logging.textOf(problem)}`);
  exitProcess(1);
});

logging.captureNative(owner, (execution, text) => execution.write('native', text));
channel.listen(onFrame, () => exitProcess(0));
const resumed = channel.resumed();
if (resumed === undefined) {
  setImmediate(begin); // after what has arrived was read
} else {
  isReady = true;
  assign(resumed);
}
