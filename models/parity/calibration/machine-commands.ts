// Commands of the machine under measurement: run, look for, and say what went wrong in one line.

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export class CommandError extends Error {
  override readonly name = 'CommandError';
}

export interface CommandOptions {
  readonly input?: string;
  /** A terminal's Ctrl-C does not reach it: for what must be done in any case. */
  readonly shielded?: boolean;
}

/** Standard output. Throws a CommandError with the command and the first line that it complained with. */
export function runCommand(
  command: string,
  args: readonly string[],
  { input = '', shielded = false }: CommandOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: shielded });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk;
    });
    child.on('error', (error) => reject(new CommandError(`${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const complaint = stderr.trim().split('\n')[0] || (signal ?? `exit code ${code}`);
      reject(new CommandError(`${command} ${args.join(' ')}: ${complaint}`));
    });
    child.stdin.on('error', () => {}); // it has ended before it read all: its exit says why
    child.stdin.end(input);
  });
}

/** Whether the command is there, on the PATH or where administrators' commands are. */
export function isInstalled(command: string): boolean {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
