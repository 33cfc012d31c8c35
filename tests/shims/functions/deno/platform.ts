// What the conformance function does in another way than Bun's.
export const pid: number = Deno.pid;
export const variable = (name: string): string | undefined => Deno.env.get(name);
export const writeError = (text: string): unknown => Deno.stderr.writeSync(new TextEncoder().encode(text));
export const exit = (code: number): never => Deno.exit(code);
export const abort = (): unknown => Deno.dlopen('libc.so.6', { abort: { parameters: [], result: 'void' } }).symbols.abort();
export const runChild = (program: string, given: string[]): unknown =>
  new Deno.Command(program, { args: given, stdout: 'inherit' }).outputSync();
