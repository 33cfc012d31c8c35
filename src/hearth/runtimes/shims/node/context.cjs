'use strict';
// What a handler is given: `req` and `res` (contract: runtime-contract 2 and 3).

const INTERNAL = 'x-open-runtimes-';

/** The request as the handler sees it. Everything is computed when it is asked for. */
class Request {
  #frame;
  #body;
  #enforced;
  #signal;
  #headers = null;
  #address = null;

  constructor(frame, body, enforced, signal) {
    this.#frame = frame;
    this.#body = body;
    this.#enforced = enforced;
    this.#signal = signal;
  }

  /** An AbortSignal that fires when the execution is canceled or times out; undefined where Node has none. */
  get signal() {
    return this.#signal();
  }

  get bodyBinary() {
    return this.#body;
  }
  get bodyText() {
    return this.#body.toString('utf8');
  }
  get bodyJson() {
    return JSON.parse(this.bodyText);
  }
  get bodyRaw() {
    return this.bodyText;
  }
  get body() {
    const type = this.#raw('content-type') ?? 'text/plain';
    if (!type.toLowerCase().startsWith('application/json')) return this.bodyText;
    return this.#body.length > 0 ? this.bodyJson : {};
  }
  get headers() {
    if (this.#headers === null) {
      const headers = {};
      for (const [name, value] of Object.entries(this.#frame.headers)) {
        const lower = name.toLowerCase();
        if (!lower.startsWith(INTERNAL)) headers[lower] = value;
      }
      this.#headers = Object.assign(headers, this.#enforced);
    }
    return this.#headers;
  }
  get method() {
    return this.#frame.method.toUpperCase();
  }
  get scheme() {
    return this.#raw('x-forwarded-proto') ?? 'http';
  }
  get host() {
    return this.#parts().host;
  }
  get port() {
    return this.#parts().port;
  }
  get path() {
    return this.#parts().path;
  }
  get queryString() {
    return this.#parts().queryString;
  }
  get query() {
    const query = {};
    for (const pair of this.queryString.split('&')) {
      const equals = pair.indexOf('=');
      const key = equals < 0 ? pair : pair.slice(0, equals);
      if (key !== '') query[key] = equals < 0 ? '' : pair.slice(equals + 1);
    }
    return query;
  }
  get url() {
    const { host, port, path, queryString } = this.#parts();
    const scheme = this.scheme;
    const portText = port === defaultPort(scheme) ? '' : `:${port}`;
    return `${scheme}://${host}${portText}${path}${queryString === '' ? '' : `?${queryString}`}`;
  }

  toJSON() {
    const { method, scheme, host, port, path, query, queryString, url, headers, bodyRaw } = this;
    return { method, scheme, host, port, path, query, queryString, url, headers, bodyRaw };
  }

  #raw(name) {
    const headers = this.#frame.headers;
    if (headers[name] !== undefined) return headers[name];
    for (const key of Object.keys(headers)) if (key.toLowerCase() === name) return headers[key];
    return undefined;
  }

  #parts() {
    if (this.#address === null) {
      const target = this.#frame.path.split('#', 1)[0];
      const mark = target.indexOf('?');
      const hostHeader = this.#raw('host') ?? '';
      const colon = hostHeader.indexOf(':');
      this.#address = {
        path: mark < 0 ? target : target.slice(0, mark),
        queryString: mark < 0 ? '' : target.slice(mark + 1),
        host: colon < 0 ? hostHeader : hostHeader.slice(0, colon),
        port: colon < 0 ? defaultPort(this.scheme) : Number(hostHeader.slice(colon + 1)),
      };
    }
    return this.#address;
  }
}

function defaultPort(scheme) {
  return scheme === 'https' ? 443 : 80;
}

function toBytes(value) {
  if (Buffer.isBuffer(value)) return value;
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer || Array.isArray(value)) return Buffer.from(value);
  return Buffer.from(`${value ?? ''}`, 'utf8');
}

/** Builders of results; a result takes effect only if the handler returns it. */
const response = Object.freeze({
  binary: (bytes, statusCode = 200, headers = {}) => ({ body: toBytes(bytes), statusCode, headers }),
  text: (body, statusCode = 200, headers = {}) => ({ body: toBytes(body), statusCode, headers }),
  send: (body, statusCode = 200, headers = {}) => ({ body: toBytes(body), statusCode, headers }),
  json: (value, statusCode = 200, headers = {}) => ({
    body: Buffer.from(JSON.stringify(value) ?? '', 'utf8'),
    statusCode,
    headers: { ...headers, 'content-type': 'application/json' },
  }),
  stream: (source, statusCode = 200, headers = {}) => ({ stream: source, statusCode, headers }),
  empty: () => ({ body: Buffer.alloc(0), statusCode: 204, headers: {} }),
  redirect: (url, statusCode = 301, headers = {}) => ({
    body: Buffer.alloc(0),
    statusCode,
    headers: { ...headers, location: `${url}` },
  }),
});

/** Names lower-cased, internal ones dropped, content type completed (contract: runtime-contract 3). */
function responseHeaders(given) {
  const headers = {};
  for (const [name, value] of Object.entries(given ?? {})) {
    const lower = name.toLowerCase();
    if (lower.startsWith(INTERNAL) || value === undefined || value === null) continue;
    headers[lower] = Array.isArray(value) ? value.map((item) => `${item}`) : `${value}`;
  }
  const type = `${headers['content-type'] ?? 'text/plain'}`;
  const lower = type.toLowerCase();
  if (lower.startsWith('multipart/')) headers['content-type'] = type; // a boundary is case-sensitive
  else headers['content-type'] = lower.includes('charset=') ? lower : `${lower}; charset=utf-8`;
  return headers;
}

module.exports = { Request, response, responseHeaders, toBytes };
