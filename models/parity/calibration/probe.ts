// The program that sends and takes the time: probe.c, compiled where it runs, or probe.py where there is no compiler.
// Both read the same commands; see probe.c.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { isInstalled, runCommand } from './machine-commands.ts';

export interface ProbePath {
  readonly name: string;
  readonly kind: 'frames' | 'datagrams' | 'roundtrips' | 'requests' | 'connects' | 'exchanges' | 'idle';
  readonly namespace: string;
  /** The device for frames, else the namespace of the other end; `-` for none. */
  readonly peer: string;
  readonly options: Readonly<Record<string, string | number>>;
}

export class Probe {
  readonly language: 'C' | 'Python';
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #directory: string | undefined;
  readonly #waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  #stderr = '';

  /** `sources` is the folder with probe.c and probe.py. Throws an Error that says what is missing. */
  static async start(sources: string): Promise<Probe> {
    // The last CPU: interrupts and other work prefer the first.
    const cpu = String(availableParallelism() - 1);
    const compiler = ['cc', 'gcc', 'clang'].find(isInstalled);
    if (compiler !== undefined) {
      const directory = mkdtempSync(join(tmpdir(), 'podwire-'));
      const program = join(directory, 'probe');
      try {
        await runCommand(compiler, ['-O2', '-o', program, join(sources, 'probe.c')]);
        return new Probe('C', spawn(program, [cpu]), directory);
      } catch {
        rmSync(directory, { recursive: true }); // a compiler without headers, or a directory without execution
      }
    }
    if (!isInstalled('python3')) throw new Error('neither a C compiler that works (cc) nor python3 is installed');
    return new Probe('Python', spawn('python3', [join(sources, 'probe.py'), cpu]), undefined);
  }

  private constructor(language: 'C' | 'Python', child: ChildProcessWithoutNullStreams, directory: string | undefined) {
    this.language = language;
    this.#child = child;
    this.#directory = directory;
    createInterface({ input: child.stdout }).on('line', (line) => this.#waiting.shift()?.resolve(line));
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr += chunk;
    });
    child.stdin.on('error', () => {}); // the exit says why
    child.on('exit', (code, signal) => {
      const why = this.#stderr.trim().split('\n').at(-1) || (signal ?? `exit code ${code}`);
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(`the probe has ended: ${why}`));
    });
  }

  async open({ name, kind, namespace, peer, options }: ProbePath): Promise<void> {
    const words = Object.entries(options).map(([option, value]) => `${option}=${value}`);
    await this.#ask(['open', name, kind, namespace, peer, ...words].join(' '));
  }

  /** Nanoseconds: one or two figures, by kind of path. */
  async run(name: string, count: number): Promise<readonly number[]> {
    return (await this.#ask(`run ${name} ${count}`)).split(' ').map(Number);
  }

  stop(): void {
    this.#child.kill('SIGKILL');
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  async #ask(command: string): Promise<string> {
    const answer = await new Promise<string>((resolve, reject) => {
      if (this.#child.exitCode !== null) return reject(new Error('the probe has ended'));
      this.#waiting.push({ resolve, reject });
      this.#child.stdin.write(`${command}\n`);
    });
    if (answer.startsWith('error: ')) throw new Error(`${command}: ${answer.slice('error: '.length)}`);
    return answer;
  }
}
