'use strict';
// Descriptor 3 in Deno, which has no way to a descriptor it did not open itself: read(2) and write(2) of the C library.
// And the restart for code with a deno.json, which Deno reads at its own start only.

const CHANNEL = 3;
const READ_BYTES = 64 * 1024;
const EINTR = 4;

const CONFIGS = ['deno.json', 'deno.jsonc'];
const RESUMED = 'HEARTH_DENO_ASSIGNMENT';

const library = Deno.dlopen('libc.so.6', {
  write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  wait: { name: 'read', parameters: ['i32', 'buffer', 'usize'], result: 'isize', nonblocking: true },
  execv: { parameters: ['buffer', 'buffer'], result: 'i32' },
  errorAt: { name: '__errno_location', parameters: [], result: 'pointer' },
}).symbols;

/** Write all of a buffer; blocks while the host is behind. */
function write(buffer) {
  let at = 0;
  while (at < buffer.length) {
    const count = Number(library.write(CHANNEL, buffer.subarray(at), BigInt(buffer.length - at)));
    if (count >= 0) at += count;
    else if (new Deno.UnsafePointerView(library.errorAt()).getInt32() !== EINTR) throw new Error('the host has gone');
  }
}

/** Call `feed(bytes)` for whatever arrives (the bytes are borrowed), `onEnd` when the host has gone. */
async function read(feed, onEnd) {
  const buffer = Buffer.alloc(READ_BYTES);
  for (;;) {
    const count = Number(await library.wait(CHANNEL, buffer, BigInt(READ_BYTES)));
    if (count <= 0) return onEnd();
    feed(buffer.subarray(0, count));
  }
}

/**
 * Bring in what the build has cached. Start anew, and do not return, where Deno has to see something at its start: the
 * configuration of the code, or npm packages in its cache.
 */
function prepare(frame) {
  const hasPackages = borrowCache(`${frame.code}/deno-cache`);
  const config = CONFIGS.map((name) => `${frame.code}/${name}`).find(isFile);
  if (config === undefined && !hasPackages) return;
  const assignment = Deno.makeTempFileSync();
  Deno.writeTextFileSync(assignment, JSON.stringify(frame), { mode: 0o600 });
  Deno.env.set(RESUMED, assignment);
  // Which package.json counts is the configuration's business now.
  Deno.env.delete('DENO_NO_PACKAGE_JSON');
  const command = Deno.readTextFileSync('/proc/self/cmdline').split('\0').slice(0, -1);
  if (config !== undefined) command.splice(2, 0, `--config=${config}`);
  exec(Deno.execPath(), command);
}

/**
 * Show the folders of downloaded modules in our own cache, which can be written: the code's cannot. Returns whether
 * there are npm packages among them.
 */
function borrowCache(cache) {
  let entries;
  try {
    entries = [...Deno.readDirSync(cache)].filter((entry) => entry.isDirectory);
  } catch (_) {
    return false; // the build has cached nothing
  }
  const own = Deno.env.get('DENO_DIR');
  Deno.mkdirSync(own, { recursive: true });
  for (const { name } of entries) {
    const ours = `${own}/${name}`;
    try {
      Deno.removeSync(ours, { recursive: true });
    } catch (_) {
      // it was not there
    }
    Deno.symlinkSync(`${cache}/${name}`, ours);
  }
  return entries.some((entry) => entry.name === 'npm');
}

function isFile(path) {
  try {
    return Deno.statSync(path).isFile;
  } catch (_) {
    return false;
  }
}

/** Become another program with the same process id, environment and descriptors. */
function exec(program, command) {
  const strings = command.map((word) => new TextEncoder().encode(`${word}\0`));
  const pointers = new BigUint64Array(strings.length + 1); // the last one stays null
  strings.forEach((string, at) => {
    pointers[at] = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(string)));
  });
  library.execv(new TextEncoder().encode(`${program}\0`), new Uint8Array(pointers.buffer));
  throw new Error(`${program} could not be started anew`);
}

/** The assignment of a process that `prepare` has started. */
function resumed() {
  const assignment = Deno.env.get(RESUMED);
  if (assignment === undefined) return undefined;
  Deno.env.delete(RESUMED);
  const frame = JSON.parse(Deno.readTextFileSync(assignment));
  Deno.removeSync(assignment);
  return frame;
}

module.exports = { write, read, prepare, resumed };
