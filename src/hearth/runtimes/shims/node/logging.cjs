'use strict';
// How values become log lines, and how native output finds the execution it belongs to
// (contract: runtime-contract 4).

const { AsyncLocalStorage } = require('async_hooks');
const path = require('path');
const util = require('util');

const MESSAGE_MAX_CHARS = 8000;
const TRUNCATED = `... Log truncated due to size limit (${MESSAGE_MAX_CHARS} characters)`;
const SHIMS_FOLDER = path.dirname(__dirname) + path.sep; // those of Bun and Deno are beside this one
const CAUSES_MAX = 5;

const executions = new AsyncLocalStorage();

/** The stack of an error as its author should read it: without the frames of this shim. */
function stackOf(error, depth = 0) {
  const stack = typeof error.stack === 'string' && error.stack !== '' ? error.stack : `${error}`;
  const own = stack
    .split('\n')
    .filter((line) => !line.includes(SHIMS_FOLDER))
    .join('\n');
  if (error.cause === undefined || depth >= CAUSES_MAX) return own;
  const cause = error.cause instanceof Error ? stackOf(error.cause, depth + 1) : textOf(error.cause);
  return `${own}\n[cause]: ${cause}`;
}

function compactJson(value) {
  const open = [];
  const text = JSON.stringify(value, function replace(key, item) {
    if (typeof item === 'bigint') return item.toString();
    if (typeof item !== 'object' || item === null) return item;
    while (open.length > 0 && open[open.length - 1] !== this) open.pop();
    if (open.includes(item)) return '[Circular]';
    let plain = item;
    if (item instanceof Error) plain = stackOf(item);
    else if (item instanceof Set) plain = [...item];
    else if (item instanceof Map) plain = Object.fromEntries(item);
    else if (ArrayBuffer.isView(item) && !(item instanceof DataView)) plain = Array.from(item);
    if (typeof plain === 'object') open.push(plain);
    return plain;
  });
  return text === undefined ? String(value) : text;
}

function textOf(value) {
  if (typeof value === 'string') return value;
  if (value instanceof Error || util.types.isNativeError(value)) return stackOf(value);
  if (typeof value === 'object' && value !== null) {
    if (value instanceof Date || value instanceof URL) return value instanceof Date ? dateText(value) : value.href;
    try {
      return compactJson(value);
    } catch (_) {
      return util.inspect(value);
    }
  }
  return String(value);
}

function dateText(date) {
  return Number.isNaN(date.getTime()) ? String(date) : date.toISOString();
}

/** One log line (without its newline) from the arguments of one call. */
function line(values) {
  const text = values.length === 1 ? textOf(values[0]) : values.map(textOf).join(' ');
  return text.length > MESSAGE_MAX_CHARS ? text.slice(0, MESSAGE_MAX_CHARS) + TRUNCATED : text;
}

function consoleLine(values) {
  const isFormat = values.length > 1 && typeof values[0] === 'string' && values[0].includes('%');
  return line(isFormat ? [util.format(...values)] : values);
}

/**
 * Send console.* and direct writes to stdout and stderr to `sink(execution, text)`.
 * `owner()` names the execution a write belongs to: an execution, `undefined` for none (the text goes where it
 * would have gone), or `null` when its execution has ended (the text is dropped, never mixed into another's).
 */
function captureNative(owner, sink) {
  for (const name of ['log', 'info', 'debug', 'warn', 'error']) {
    const original = console[name].bind(console);
    console[name] = (...values) => {
      const execution = owner();
      if (execution === undefined) original(...values);
      else if (execution !== null) sink(execution, `${consoleLine(values)}\n`);
    };
  }
  for (const stream of [process.stdout, process.stderr]) {
    const original = stream.write.bind(stream);
    stream.write = (chunk, encoding, callback) => {
      const execution = owner();
      if (execution === undefined) return original(chunk, encoding, callback);
      const done = typeof encoding === 'function' ? encoding : callback;
      const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
      if (execution !== null) sink(execution, text);
      if (typeof done === 'function') process.nextTick(done);
      return true;
    };
  }
}

module.exports = { executions, line, stackOf, textOf, captureNative };
