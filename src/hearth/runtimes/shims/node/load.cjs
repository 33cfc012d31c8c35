'use strict';
// Finds the handler of a function: CommonJS or ES module, `default` before the module itself
// (contract: runtime-contract 1 and 5).

const path = require('path');
const { pathToFileURL } = require('url');
const { textOf } = require('./logging.cjs');

const ES_MODULE_CODES = new Set(['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE']);

class LoadFailed extends Error {}

function handlerOf(loaded) {
  const candidates = [loaded?.default?.default, loaded?.default, loaded];
  const handler = candidates.find((candidate) => typeof candidate === 'function');
  if (handler === undefined) {
    throw new LoadFailed("Function signature invalid. Did you forget to export a 'main' function?");
  }
  return handler;
}

/** Load `entrypoint` (a path below the folder `code`) and return its handler. Rejects with LoadFailed. */
async function load(code, entrypoint) {
  const wanted = path.resolve(code, entrypoint);
  let file;
  try {
    file = require.resolve(wanted);
  } catch (_) {
    throw new LoadFailed(`Failed to load entrypoint, file ${entrypoint} does not exist.`);
  }
  process.argv[1] = file;
  let loaded;
  try {
    try {
      loaded = require(file);
    } catch (problem) {
      if (!ES_MODULE_CODES.has(problem?.code)) throw problem;
      loaded = await import(pathToFileURL(file).href);
    }
  } catch (problem) {
    throw new LoadFailed(`${textOf(problem)}\nFailed to load entrypoint ${entrypoint}.`);
  }
  return handlerOf(loaded);
}

module.exports = { load, LoadFailed };
