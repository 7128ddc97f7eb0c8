// Where peers are built and run: a directory for this run, the compilers of this machine, and one core.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PACKAGE_ROOT } from '../../experiments/harness/package.ts';
import { isInstalled, runCommand } from '../../models/parity/calibration/machine-commands.ts';
import type { Contender, Figures } from './comparison.ts';

/** How much is measured. Small sizes are for the test of the bench itself. */
export interface Sizes {
  readonly packets: number;
  /** Of a peer that is much slower. */
  readonly packetsOfSlowPeers: number;
  readonly clusters: readonly { readonly nodes: number; readonly podsPerNode: number }[];
  /** The largest cluster that Kubernetes supports. */
  readonly largest: { readonly nodes: number; readonly podsPerNode: number };
  readonly pending: readonly number[];
  readonly manyServices: number;
}

export const FULL: Sizes = {
  packets: 1_000_000,
  packetsOfSlowPeers: 60_000,
  clusters: [
    { nodes: 8, podsPerNode: 16 },
    { nodes: 64, podsPerNode: 16 },
  ],
  largest: { nodes: 5_000, podsPerNode: 30 },
  pending: [1_000, 10_000, 100_000],
  manyServices: 10_000,
};

export class Workbench {
  readonly directory = mkdtempSync(join(tmpdir(), 'podwire-peers-'));
  readonly sizes: Sizes;
  readonly #core = lastCore();
  readonly #podwire = new Map<string, Contender>();

  constructor(sizes: Sizes) {
    this.sizes = sizes;
  }

  /** Compiles a source of this folder. Throws a CommandError with the compiler's first complaint. */
  async compile(source: string, { flags = [] }: { flags?: readonly string[] } = {}): Promise<string> {
    const language = languageOf(source);
    const program = join(this.directory, `${source}-${this.#programs++}`);
    const compiler = language.compilers.find(isInstalled)!;
    await runCommand(compiler, [...language.flags, '-o', program, join(SOURCES, source), ...flags]);
    return program;
  }

  #programs = 0;

  /** Podwire itself, in a process that does what podwire-process.ts is told by `args`. The same one for the same name and words. */
  podwire(name: string, args: readonly (string | number)[]): Contender {
    const words = args.map(String);
    const key = [name, ...words].join(' ');
    const known = this.#podwire.get(key);
    if (known !== undefined) return known;
    const contender = { name, measure: () => this.figures(process.execPath, [PODWIRE_PROCESS, ...words]) };
    this.#podwire.set(key, contender);
    return contender;
  }

  /** Runs a program on the core that all share, and reads what it prints: a name and a number per line. */
  async figures(program: string, args: readonly (string | number)[]): Promise<Figures> {
    const words = args.map(String);
    const stdout =
      this.#core === undefined
        ? await runCommand(program, words)
        : await runCommand('taskset', ['--cpu-list', this.#core, program, ...words]);
    const lines = stdout.trim().split('\n');
    return new Map(
      lines.map((line) => {
        const [name, value] = line.split(' ') as [string, string];
        return [name, Number(value)];
      }),
    );
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Says how to get the compiler of such a source; undefined if there is one. */
export function compilerMissingFor(source: string): string | undefined {
  const { name, compilers, debianPackage } = languageOf(source);
  return compilers.some(isInstalled) ? undefined : `no ${name} compiler: apt-get install -y ${debianPackage} libc6-dev`;
}

const LANGUAGES = {
  c: { name: 'C', compilers: ['cc', 'gcc', 'clang'], flags: ['-O2'], debianPackage: 'gcc' },
  cc: { name: 'C++', compilers: ['c++', 'g++', 'clang++'], flags: ['-std=c++17', '-O3'], debianPackage: 'g++' },
} as const;

const languageOf = (source: string) => (source.endsWith('.cc') ? LANGUAGES.cc : LANGUAGES.c);

// Neither is where this module is: sources are not compiled with it, and a test runs it uncompiled.
const SOURCES = join(PACKAGE_ROOT, 'bench', 'peers');
const PODWIRE_PROCESS = join(PACKAGE_ROOT, 'dist', 'bench', 'peers', 'podwire-process.js');

/** Interrupts and other work prefer the first. Undefined where a process cannot be bound to one. */
function lastCore(): string | undefined {
  if (!isInstalled('taskset')) return undefined;
  try {
    const status = readFileSync('/proc/self/status', 'utf8');
    return /^Cpus_allowed_list:.*?(\d+)$/m.exec(status)?.[1];
  } catch {
    return undefined;
  }
}
