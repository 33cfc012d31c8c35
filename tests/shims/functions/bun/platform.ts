// What the conformance function does in another way than Deno's.
import { execFileSync } from 'node:child_process';

export const pid: number = process.pid;
export const variable = (name: string): string | undefined => process.env[name];
export const writeError = (text: string): unknown => process.stderr.write(text);
export const exit = (code: number): never => process.exit(code);
export const abort = (): never => process.abort();
export const runChild = (program: string, given: string[]): unknown => execFileSync(program, given, { stdio: 'inherit' });
