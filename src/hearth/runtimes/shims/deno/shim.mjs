// Starts the shim that Node, Bun and Deno share. `createRequire` because older versions run no .cjs file by itself.

import { createRequire } from 'node:module';
import { Buffer } from 'node:buffer';
import process from 'node:process';

globalThis.Buffer ??= Buffer;
globalThis.process ??= process;
createRequire(import.meta.url)('../node/shim.cjs');

// The way out that the shared shim has not seen.
const exit = Deno.exit;
let isLeaving = false;
Deno.exit = (code) => {
  if (isLeaving) exit(code);
  isLeaving = true;
  process.exit(code);
};
