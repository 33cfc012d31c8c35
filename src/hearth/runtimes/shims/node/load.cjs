'use strict';
// Finds the handler of a function: CommonJS or ES module, `default` before the module itself
// (contract: runtime-contract 1 and 5).

const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const { language } = require('./channel.cjs');
const { textOf } = require('./logging.cjs');

const ES_MODULE_CODES = new Set(['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE']);

class LoadFailed extends Error {}

/** Whether Node takes a file for an ES module; asked first because `require` of one warns or fails by version. */
function isEsModule(file) {
  if (!file.endsWith('.js')) return file.endsWith('.mjs');
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    // Not by `path.join`: here it gets hot enough for V8 to compile it, which is 3 ms and 4 MB in the first request.
    const described = `${folder === '/' ? '' : folder}/package.json`;
    // Looked for first: an error that is thrown and caught costs as much as all of this in its first time.
    if (fs.statSync(described, { throwIfNoEntry: false }) !== undefined) {
      try {
        return JSON.parse(fs.readFileSync(described, 'utf8')).type === 'module';
      } catch (_) {
        return false; // `require` will say what is wrong
      }
    }
    if (folder === path.dirname(folder)) return false;
  }
}

function handlerOf(loaded) {
  const candidates = [loaded?.default?.default, loaded?.default, loaded];
  const handler = candidates.find((candidate) => typeof candidate === 'function');
  if (handler === undefined) {
    throw new LoadFailed("Function signature invalid. Did you forget to export a 'main' function?");
  }
  return handler;
}

/** The file Node takes for a path that may lack its ending; `undefined` if there is none. */
function resolved(wanted) {
  try {
    return require.resolve(wanted);
  } catch (_) {
    return undefined;
  }
}

async function requireOrImport(file) {
  try {
    return require(file);
  } catch (problem) {
    if (!ES_MODULE_CODES.has(problem?.code)) throw problem;
    return import(pathToFileURL(file).href);
  }
}

/** Load `entrypoint` (a path below the folder `code`) and return its handler. Rejects with LoadFailed. */
async function load(code, entrypoint) {
  const wanted = path.resolve(code, entrypoint);
  const file = language === 'node' ? resolved(wanted) : fs.existsSync(wanted) && wanted;
  if (!file) throw new LoadFailed(`Failed to load entrypoint, file ${entrypoint} does not exist.`);
  // Not by assignment: in Deno before 2.5 the element has a getter only.
  Object.defineProperty(process.argv, 1, { value: file, writable: true, enumerable: true, configurable: true });
  let loaded;
  try {
    // Bun and Deno import whatever it is, TypeScript too.
    if (language !== 'node' || isEsModule(file)) loaded = await import(pathToFileURL(file).href);
    else loaded = await requireOrImport(file);
  } catch (problem) {
    throw new LoadFailed(`${textOf(problem)}\nFailed to load entrypoint ${entrypoint}.`);
  }
  return handlerOf(loaded);
}

module.exports = { load, LoadFailed };
