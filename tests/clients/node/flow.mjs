// What a user does with the official Node SDK, in any of its generations; what was seen is printed as JSON.
// `node flow.mjs REQUEST_JSON`; `request.sdk` is the alias of the SDK in package.json.
const given = JSON.parse(process.argv[2]);
const { Client, Functions, Query } = await import(given.sdk);
const { InputFile } = await import(`${given.sdk}/file`);
const WAIT_MS = 60_000;

const client = new Client().setEndpoint(given.endpoint).setProject(given.project).setKey(given.key);
const functions = new Functions(client);
const id = given.id;
const seen = { version: client.headers['x-sdk-version'], progress: [] };

// 17 takes positions only; later ones both, so positions first and the object form where there is one.
const takesObjects = given.objects;

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

seen.function = takesObjects
  ? await functions.create({ functionId: id, name: 'Flow', runtime: given.runtime, execute: ['any'], entrypoint: given.entrypoint, timeout: 20 })
  : await functions.create(id, 'Flow', given.runtime, ['any'], undefined, undefined, 20, undefined, undefined, given.entrypoint);

for (const [key, value, secret] of [['GREETING', 'hello', false], ['TOKEN', 'hidden', true]]) {
  if (takesObjects) await functions.createVariable({ functionId: id, variableId: 'unique()', key, value, secret });
  else await functions.createVariable(id, key, value, secret);
}
seen.variables = await functions.listVariables(id);

async function deploy(path) {
  const code = InputFile.fromPath(path, 'code.tar.gz');
  const onProgress = (progress) => seen.progress.push(progress);
  const deployment = takesObjects
    ? await functions.createDeployment({ functionId: id, code, activate: true, onProgress })
    : await functions.createDeployment(id, code, true, undefined, undefined, onProgress);
  const built = await wait(() => functions.getDeployment(id, deployment.$id), (d) => ['ready', 'failed'].includes(d.status), 'the build');
  await wait(() => functions.get(id), (f) => f.deploymentId === built.$id, 'the activation');
  return built;
}

seen.small = await deploy(given.small);
seen.first = takesObjects
  ? await functions.createExecution({ functionId: id, body: 'ping', xpath: '/a?b=c', method: 'PUT', headers: { 'x-extra': 'yes' } })
  : await functions.createExecution(id, 'ping', false, '/a?b=c', 'PUT', { 'x-extra': 'yes' });
seen.large = await deploy(given.large);
seen.second = await functions.createExecution(id);
seen.read = await functions.getExecution(id, seen.second.$id);
seen.started = takesObjects
  ? await functions.createExecution({ functionId: id, async: true })
  : await functions.createExecution(id, undefined, true);
seen.ended = await wait(
  () => functions.getExecution(id, seen.started.$id),
  (execution) => ['completed', 'failed'].includes(execution.status),
  'the background execution',
);
seen.executions = await functions.listExecutions(id, [Query.limit(2), Query.orderDesc('$createdAt')]);
seen.functions = await functions.list([Query.equal('name', ['Flow'])], id);
seen.downloaded = (await functions.getDeploymentDownload(id, seen.large.$id)).byteLength;
seen.runtimes = (await functions.listRuntimes()).total;
seen.specifications = (await functions.listSpecifications()).total;
seen.refusal = await refusalOf(functions.get('missing'));
await functions.deleteExecution(id, seen.second.$id);
await functions.deleteDeployment(id, seen.small.$id);
await functions.delete(id);
seen.deleted = (await refusalOf(functions.get(id))).code;
console.log(JSON.stringify(seen));
