// What a page does with the official web SDK; what was seen is printed as JSON. `node web.mjs REQUEST_JSON`;
// `request.sdk` is the alias of the SDK in package.json, `request.session` a user's secret, or empty for a guest.
const given = JSON.parse(process.argv[2]);

// The part of a browser that the SDK touches.
const kept = new Map();
const localStorage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, String(value)),
  removeItem: (key) => kept.delete(key),
};
globalThis.window = { localStorage, console };

const { Client, Functions, Query } = await import(given.sdk);
const client = new Client().setEndpoint(given.endpoint).setProject(given.project);
if (given.session) client.setSession(given.session);
const functions = new Functions(client);
const seen = { version: client.headers['x-sdk-version'] };
const names = {
  createExecution: ['functionId', 'body', 'async', 'xpath', 'method', 'headers', 'scheduledAt'],
  listExecutions: ['functionId', 'queries', 'total'],
  getExecution: ['functionId', 'executionId'],
};

// By position up to 18, as one object since.
function call(method, named) {
  if (given.objects) return functions[method](named);
  return functions[method](...names[method].map((name) => named[name]));
}

async function refusalOf(promise) {
  try {
    return { answered: await promise };
  } catch (error) {
    return { code: error.code, type: error.type, message: error.message };
  }
}

const id = given.id;
const request = { functionId: id, body: 'ping', xpath: '/a?b=c', method: 'PUT', headers: { 'x-extra': 'yes' } };
seen.first = await call('createExecution', request);
seen.started = await call('createExecution', { functionId: id, async: true });
seen.refused = await refusalOf(call('createExecution', { functionId: given.closed }));
seen.missing = await refusalOf(call('createExecution', { functionId: 'missing' }));
seen.list = await refusalOf(call('listExecutions', { functionId: id, queries: [Query.orderDesc('$createdAt'), Query.limit(2)] }));
seen.one = await refusalOf(call('getExecution', { functionId: id, executionId: seen.first.$id }));
console.log(JSON.stringify(seen));
