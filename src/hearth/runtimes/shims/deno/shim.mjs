// Starts the shim that Node, Bun and Deno share. `createRequire` because older versions run no .cjs file by itself.

import { createRequire } from 'node:module';
import { Buffer } from 'node:buffer';
import process from 'node:process';

globalThis.Buffer ??= Buffer;
globalThis.process ??= process;
createRequire(import.meta.url)('../node/shim.cjs');

// Deno's own way out tells what the shared shim tells of Node's; that one ends in the real exit.
const exit = Deno.exit;
process.reallyExit = exit;
Deno.exit = (code) => process.exit(code);
