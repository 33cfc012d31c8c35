// What a user does with the official Node SDK, in any of its generations; what was seen is printed as JSON.
// `node flow.mjs REQUEST_JSON`; `request.sdk` is the alias of the SDK in package.json.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const given = JSON.parse(process.argv[2]);
const { Client, Functions, Query } = await import(given.sdk);
const { InputFile } = await import(`${given.sdk}/file`);
const WAIT_MS = 60_000;

const client = new Client().setEndpoint(given.endpoint).setProject(given.project).setKey(given.key);
const service = new Functions(client);
const id = given.id;
const seen = { version: client.headers['x-sdk-version'], progress: [] };

// The names and order of each method's parameters, as the SDK declares them by position.
const types = join(dirname(createRequire(import.meta.url).resolve(given.sdk)), 'services', 'functions.d.ts');
const signatures = {};
const declarations = readFileSync(types, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
for (const [, name, parameters] of declarations.matchAll(/^\s+(\w+)(?:<[^>]*>)?\((?!params)(.*)\): Promise/gm)) {
  signatures[name] = [...parameters.matchAll(/(?:^|, )(\w+)\??: /g)].map((match) => match[1]);
}
seen.methods = Object.keys(signatures).sort();
const called = new Set();

// Calls a method by the names of its parameters; those that this generation does not have are left out.
function call(method, named) {
  const names = signatures[method];
  called.add(method);
  if (given.objects) {
    if (!names.length) return service[method]();
    return service[method](Object.fromEntries(names.filter((name) => name in named).map((name) => [name, named[name]])));
  }
  const values = names.map((name) => named[name]);
  while (values.length && values.at(-1) === undefined) values.pop();
  return service[method](...values);
}
// The method under its present or its former name.
const either = (now, before) => (now in signatures ? now : before);

async function wait(read, done, what) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const value = await read();
    if (done(value)) return value;
    if (Date.now() > deadline) throw new Error(`${what}: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function refusalOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { code: error.code, type: error.type, message: error.message };
  }
}

const settings = { functionId: id, runtime: given.runtime, execute: ['any'], entrypoint: given.entrypoint, timeout: 20 };
await call('create', { ...settings, name: 'Before' });
await call('update', { ...settings, name: 'Flow' });
seen.function = await call('get', { functionId: id });

for (const [key, value, secret] of [['GREETING', 'before', false], ['TOKEN', 'hidden', true], ['GONE', 'x', false]]) {
  const made = await call('createVariable', { functionId: id, variableId: 'unique()', key, value, secret });
  if (key === 'GREETING') await call('updateVariable', { functionId: id, variableId: made.$id, key, value: 'hello' });
  if (key === 'GREETING') seen.variable = await call('getVariable', { functionId: id, variableId: made.$id });
  if (key === 'GONE') await call('deleteVariable', { functionId: id, variableId: made.$id });
}
seen.variables = await call('listVariables', { functionId: id });

const active = (f) => f.deploymentId ?? f.deployment;
const built = (deployment) =>
  wait(
    () => call('getDeployment', { functionId: id, deploymentId: deployment.$id }),
    (d) => ['ready', 'failed'].includes(d.status),
    'the build',
  );
async function activated(deployment) {
  if (deployment.status !== 'ready') throw new Error(`the build failed: ${deployment.buildLogs}`);
  await wait(() => call('get', { functionId: id }), (f) => active(f) === deployment.$id, 'the activation');
  return deployment;
}
async function deploy(path) {
  const code = InputFile.fromPath(path, 'code.tar.gz');
  const onProgress = (progress) => seen.progress.push(progress);
  const deployment = given.objects
    ? await service.createDeployment({ functionId: id, code, activate: true, onProgress })
    : await call('createDeployment', { functionId: id, code, activate: true, onProgress });
  called.add('createDeployment');
  return activated(await built(deployment));
}
const rebuild = (deployment) =>
  call(either('createDuplicateDeployment', 'createBuild'), { functionId: id, deploymentId: deployment.$id });

seen.small = await deploy(given.small);
const request = { functionId: id, body: 'ping', xpath: '/a?b=c', method: 'PUT', headers: { 'x-extra': 'yes' } };
seen.first = await call('createExecution', request);
seen.large = await deploy(given.large);
seen.second = await call('createExecution', { functionId: id });
seen.read = await call('getExecution', { functionId: id, executionId: seen.second.$id });
seen.started = await call('createExecution', { functionId: id, async: true });
seen.ended = await wait(
  () => call('getExecution', { functionId: id, executionId: seen.started.$id }),
  (execution) => ['completed', 'failed'].includes(execution.status),
  'the background execution',
);
seen.scheduled = await call('createExecution', { functionId: id, async: true, scheduledAt: given.scheduledAt });

// An earlier deployment made active again, by hand and by building it anew.
const activate = either('updateFunctionDeployment', 'updateDeployment');
seen.activated = active(await call(activate, { functionId: id, deploymentId: seen.small.$id }));
seen.again = await call('createExecution', request);
seen.duplicate = await activated(await built(await rebuild(seen.small)));

// A build that does not end by itself is canceled.
await call('update', { ...settings, name: 'Flow', commands: 'sleep 60' });
const endless = await rebuild(seen.small);
const cancel = either('updateDeploymentStatus', 'updateDeploymentBuild');
seen.canceled = await call(cancel, { functionId: id, deploymentId: endless.$id });
seen.afterCancel = active(await call('get', { functionId: id }));

// Queries. Page sizes, cursors and logic over four deployments and four executions.
const ids = (list, key) => list[key].map((item) => item.$id);
const deployments = async (...queries) =>
  ids(await call('listDeployments', { functionId: id, queries }), 'deployments');
seen.deployments = await deployments(Query.orderAsc('$createdAt'));
seen.page = await deployments(Query.orderAsc('$createdAt'), Query.limit(2), Query.offset(1));
seen.after = await deployments(Query.orderAsc('$createdAt'), Query.cursorAfter(seen.deployments[1]));
seen.before = await deployments(Query.orderAsc('$createdAt'), Query.cursorBefore(seen.deployments[1]));
seen.either = await deployments(
  Query.or([Query.equal('status', ['canceled']), Query.and([Query.equal('type', 'manual'), Query.equal('$id', seen.large.$id)])]),
);
const chosen = await call('listDeployments', { functionId: id, queries: [Query.select(['status']), Query.limit(1)] });
seen.selected = Object.keys(chosen.deployments[0]).sort();
const uncounted = { functionId: id, queries: [Query.limit(1)], total: false };
seen.uncounted = signatures.listExecutions.includes('total') ? (await call('listExecutions', uncounted)).total : 0;
seen.executions = await call('listExecutions', { functionId: id, queries: [Query.limit(2), Query.orderDesc('$createdAt')] });
seen.completed = (await call('listExecutions', { functionId: id, queries: [Query.equal('status', 'completed')] })).total;
seen.functions = await call('list', { queries: [Query.equal('name', ['Flow'])], search: id });

const download = { functionId: id, deploymentId: seen.large.$id };
seen.downloaded = (await call('getDeploymentDownload', download)).byteLength;
if (signatures.getDeploymentDownload.includes('type')) {
  seen.output = (await call('getDeploymentDownload', { ...download, type: 'output' })).byteLength;
}
seen.runtimes = (await call('listRuntimes', {})).total;
seen.specifications = (await call('listSpecifications', {})).total;
seen.refusal = await refusalOf(call('get', { functionId: 'missing' }));
if ('createTemplateDeployment' in signatures) {
  const template = { functionId: 'missing', repository: 'templates', owner: 'appwrite', rootDirectory: 'node/starter' };
  const version = { version: '0.3.*', type: 'tag', reference: '0.3.*' };
  seen.template = await refusalOf(call('createTemplateDeployment', { ...template, ...version }));
  seen.vcs = await refusalOf(call('createVcsDeployment', { functionId: id, type: 'branch', reference: 'main' }));
  const starter = { owner: 'hearth', repository: 'starters', rootDirectory: 'node', version: '1.0.0' };
  const made = { ...starter, type: 'tag', reference: '1.0.0', activate: true };
  seen.fromTemplate = await call('createTemplateDeployment', { functionId: id, ...made });
  seen.fromBranch = await call('createVcsDeployment', {
    functionId: given.connected,
    type: 'branch',
    reference: 'main',
    activate: true,
  });
}
await call('deleteExecution', { functionId: id, executionId: seen.second.$id });
await call('deleteExecution', { functionId: id, executionId: seen.scheduled.$id });
await call('deleteDeployment', { functionId: id, deploymentId: seen.small.$id });
seen.left = (await call('listExecutions', { functionId: id })).total;
await call('delete', { functionId: id });
seen.deleted = (await refusalOf(call('get', { functionId: id }))).code;
seen.called = [...called].sort();
console.log(JSON.stringify(seen));
