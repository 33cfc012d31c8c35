// Listens with the official web SDK while executions happen; what was heard is printed as JSON.
// `node realtime.mjs REQUEST_JSON`; `request.sdk` is the alias of the SDK in package.json.
import { WebSocket } from 'ws';

const given = JSON.parse(process.argv[2]);
const GIVE_UP_MS = 30_000;

// The part of a browser that the SDK touches. A page without cookies keeps its session in the local storage.
const kept = new Map([['cookieFallback', JSON.stringify({ [`a_session_${given.project}`]: given.session })]]);
const localStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, String(value)),
};
globalThis.window = { localStorage, console, setInterval, clearInterval, setTimeout, clearTimeout };
globalThis.WebSocket = WebSocket;

const { Client, Functions, Realtime } = await import(given.sdk);
const client = new Client().setEndpoint(given.endpoint).setProject(given.project);
const functions = new Functions(client);
const seen = { version: client.headers['x-sdk-version'], heard: {} };

function listener(name, done) {
  return (event) => {
    if (seen.heard[name] === undefined) {
      seen.heard[name] = { events: event.events, channels: event.channels, payload: event.payload };
      done();
    }
  };
}

const waits = [new Promise((done) => client.subscribe(['executions'], listener('client', done)))];
if (Realtime) {
  const realtime = new Realtime(client);
  let heard;
  waits.push(new Promise((done) => (heard = listener('service', done))));
  await realtime.subscribe([`functions.${given.id}`], heard);
}

// Nothing tells when the server has taken a subscription, so executions go on until each listener has heard of one.
const all = Promise.all(waits).then(() => true);
const end = Date.now() + GIVE_UP_MS;
let finished = false;
while (!finished && Date.now() < end) {
  await (given.objects
    ? functions.createExecution({ functionId: given.id })
    : functions.createExecution(given.id));
  finished = await Promise.race([all, new Promise((later) => setTimeout(later, 500, false))]);
}
console.log(JSON.stringify(seen));
process.exit(finished ? 0 : 1);
