import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';

import { abort, exit, pid, runChild, variable, writeError } from './platform.ts';

type Context = Record<string, any>;
declare global {
  var count: number | undefined;
  var closedStreams: number | undefined;
  var aborted: boolean | undefined;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const MULTIPART = '--12345\r\nContent-Disposition: form-data; name="one"\r\n\r\n1\r\n--12345--\r\n';

const actions: Record<string, (context: Context) => unknown> = {
  text: ({ res }) => res.text('Hello World 👋'),
  json: ({ res }) => res.json({ json: true, message: 'fine' }),
  charset: ({ res }) => res.text('ÅÆ', 200, { 'content-type': 'text/plain; charset=iso-8859-1' }),
  uppercaseType: ({ res }) => res.text('ÅÆ', 200, { 'Content-Type': 'TEXT/PLAIN' }),
  multipart: ({ res }) => res.text(MULTIPART, 200, { 'content-type': 'multipart/form-data; boundary=12345' }),
  redirect: ({ res }) => res.redirect('https://example.com/'),
  empty: ({ res }) => res.empty(),
  nothing: ({ res }) => {
    res.text('built, not returned');
  },
  twice: ({ res }) => {
    res.text('first');
    return res.text('second');
  },
  headers: ({ req, res }) =>
    res.text('OK', 200, {
      'first-header': 'first-value',
      'Second-Header': req.headers['x-open-runtimes-custom-in-header'] ?? 'missing',
      cookie: req.headers.cookie ?? 'missing',
      'x-open-runtimes-custom-out-header': 'third-value',
    }),
  status: ({ res }) => res.text('FAIL', 404),
  logThenThrow: ({ log }) => {
    log('before the error');
    throw new Error('Error!');
  },
  method: ({ req, res }) => res.text(req.method),
  url: ({ req, res }) =>
    res.json({
      url: req.url,
      port: req.port,
      path: req.path,
      query: req.query,
      queryString: req.queryString,
      scheme: req.scheme,
      host: req.host,
    }),
  requestHeaders: ({ req, res }) => res.json(req.headers),
  bodyText: ({ req, res }) => res.text(req.bodyText),
  bodyJson: ({ req, res }) => res.json(req.bodyJson),
  bodyBinary: ({ req, res }) => res.binary(req.bodyBinary),
  body: ({ req, res }) => (typeof req.body === 'string' ? res.text(req.body) : res.json(req.body)),
  environment: ({ res }) =>
    res.json({ set: variable('CUSTOM_ENV_VAR'), unset: variable('NOT_DEFINED_VAR') ?? null }),
  logs: ({ log, error, res }) => {
    console.log('Native log');
    writeError('Native error\n');
    log('Debug log');
    error('Error log');
    log('Log+With+Plus+Symbol');
    log(42);
    log(4.2);
    log(true);
    log({ objectKey: 'objectValue' });
    log(['arrayValue']);
    log('a'.repeat(9000));
    error('e'.repeat(9000));
    return res.text('');
  },
  spread: ({ log, error, res }) => {
    log('engine:', 'open-runtimes');
    error('engine:', 'open-runtimes');
    return res.text('OK');
  },
  sleep: async ({ req, log, res }) => {
    log('Timeout start.');
    await pause(Number(req.bodyText) * 1000);
    log('Timeout end.');
    return res.text('Successful response.');
  },
  busy: ({ log }) => {
    log('Busy start.');
    for (;;);
  },
  send: ({ req, res }) => res.send(req.bodyRaw),
  sendNumber: ({ res }) => res.send(50),
  sendBytes: ({ res }) => res.send(Buffer.from([137, 80, 78, 71, 0, 255]), 200, { 'content-type': 'image/png' }),
  binary1: ({ res }) => res.binary(Buffer.from([0, 10, 255])),
  binary2: ({ res }) => res.binary(Uint8Array.from([0, 20, 255])),
  binary3: ({ res }) => res.binary(Uint8Array.from([0, 30, 255]).buffer),
  binary4: ({ res }) => res.binary([0, 40, 255]),
  digest: ({ req, res }) => {
    const digest = createHash('md5').update(req.bodyBinary).digest('hex');
    return res.text(digest, 200, { 'x-method': req.method });
  },
  large: ({ req, res }) => res.binary(Buffer.alloc(Number(req.bodyText), 7)),
  cookies: ({ res }) => res.text('OK', 200, { 'set-cookie': ['a=1; Path=/', 'b=2'], other: 'header' }),
  badHeaders: ({ res }) => res.text('OK', 200, { 'x-split': 'a\r\nx-injected: 1', 'bad name': 'b', fine: 'c' }),
  manyHeaders: ({ res }) =>
    res.text('OK', 200, Object.fromEntries(Array.from({ length: 10000 }, (_, at: number) => [`x-${at}`, 'v']))),
  badStatus: ({ res }) => res.text('OK', 20000),
  notAResult: () => 'a string',
  interleave: async ({ req, log, res }) => {
    for (let at = 0; at < 5; at += 1) {
      console.log(`native ${req.bodyText}`);
      log(`own ${req.bodyText}`);
      await pause(1);
    }
    return res.text(req.bodyText);
  },
  exit: ({ log }) => {
    log('leaving');
    exit(3);
  },
  signal: ({ log }) => {
    log('falling');
    abort();
  },
  child: ({ res }) => {
    runChild('/bin/sh', ['-c', 'echo from the child']);
    return res.text('OK');
  },
  count: ({ res }) => res.text(`${(globalThis.count = (globalThis.count ?? 0) + 1)}`),
  flood: ({ req, log, res }) => {
    const line = 'x'.repeat(79);
    for (let at = 0; at < Number(req.bodyText); at += 1) log(line);
    return res.text('OK');
  },
  stream: ({ res, log }) => {
    async function* pieces() {
      log('streaming');
      yield 'first,';
      await pause(1);
      yield Buffer.from('second,');
      yield Uint8Array.from([226, 130, 172]);
    }
    return res.stream(pieces(), 202, { 'X-Kind': 'pieces', 'content-type': 'text/event-stream' });
  },
  streamFunction: ({ res }) =>
    res.stream(async function* () {
      yield 'called';
    }),
  streamItself: async function* () {
    yield 'it';
    yield 'self';
  },
  streamPlain: ({ res }) => res.stream(['a', 'b', 'c']),
  streamText: ({ res }) => res.stream('whole'),
  streamReadable: ({ res }) => res.stream(Readable.from(['read', 'able'])),
  streamWeb: ({ res }) =>
    res.stream(
      new ReadableStream({
        start(controller) {
          controller.enqueue('web');
          controller.close();
        },
      }),
    ),
  streamThrow: ({ res }) =>
    res.stream(
      (async function* () {
        yield 'before';
        throw new Error('midway');
      })(),
    ),
  streamNothing: ({ res }) => res.stream(5),
  streamEndless: ({ res, log }) =>
    res.stream(
      (async function* () {
        const piece = Buffer.alloc(100000, 7);
        try {
          for (;;) {
            log('piece');
            yield piece;
            await pause(0);
          }
        } finally {
          globalThis.closedStreams = (globalThis.closedStreams ?? 0) + 1;
        }
      })(),
    ),
  streamStuck: ({ res, req }) =>
    res.stream(
      (async function* () {
        yield 'begun';
        req.signal.addEventListener('abort', () => (globalThis.aborted = true));
        await new Promise(() => {});
      })(),
    ),
  closed: ({ res }) => res.text(`${globalThis.closedStreams ?? 0}`),
  streamFlood: ({ log, res }) =>
    res.stream(
      (async function* () {
        yield 'begun';
        for (let at = 0; at < 100; at += 1) log(`line ${at}`);
        await new Promise(() => {});
      })(),
    ),
  pid: ({ res }) => res.text(`${pid}`),
};

export default (context: Context): unknown => {
  const action = actions[context.req.headers['x-action']];
  if (action === undefined) throw new Error('Unknown action');
  return action(context);
};
