// podwire parity: does the simulator do what the kernel does? Runs cases in either or both, and compares.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { RuleTextError } from '../../models/netfilter/words.ts';
import type { Outcome, ParityCase } from '../../models/parity/case.ts';
import { CaseError } from '../../models/parity/case-error.ts';
import { parseCase } from '../../models/parity/case-text.ts';
import { formatDifference } from '../../models/parity/compare.ts';
import { differencesOf } from '../../models/parity/judge.ts';
import { KernelRefusal, KernelRunner } from '../../models/parity/kernel/runner.ts';
import { toolVersions, writeRecording } from '../../models/parity/recording.ts';
import { runInSimulator } from '../../models/parity/simulator/runner.ts';
import { cannot, UserError } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples, optionValue } from './command-line.ts';
import { compareLatency } from './parity-latency.ts';

const SIDES = ['simulator', 'kernel', 'both'] as const;
type Side = (typeof SIDES)[number];

interface ParityOptions {
  readonly on: Side;
  readonly jsonl?: true;
  readonly record?: true;
  readonly latency?: true;
  readonly quick?: true;
  readonly json?: true;
}

export function addParity(program: Command, context: CommandContext): void {
  program
    .command('parity')
    .description(
      'Run cases in the simulator and in the kernel of this machine, and compare what became of the packets.',
    )
    .argument('[case]', 'a file with a case; - is standard input')
    .option(
      '--on <side>',
      'simulator or kernel: print the outcome; both: print the differences',
      optionValue(readSide),
      'both',
    )
    .option(
      '--jsonl',
      'a case per line in, an outcome (or list of differences) per line out; without a file from stdin',
    )
    .option('--record', 'keep what the kernel answers under models/parity/recorded/')
    .option('--latency', 'instead of cases: how long connections and round trips take on both sides')
    .option('--quick', 'with --latency: fewer rounds and rulesets')
    .option('--json', 'with --latency: as JSON')
    .addHelpText('after', examples(...EXAMPLES))
    .action(async (file: string | undefined, options: ParityOptions) => {
      if (options.latency === true) return compareLatency(options, context);
      if (file === undefined && options.jsonl !== true) throw new UserError('expected a file with a case, or --jsonl');
      if (options.on !== 'simulator' || options.record === true) await withKernel(context, (kernel) => run(kernel));
      else await run(undefined);

      async function run(kernel: AskableKernel | undefined): Promise<void> {
        const asked = new Asked(context, options.on, kernel);
        if (options.jsonl === true) return asked.stream(linesOf(file));
        const name = file === '-' ? 'standard input' : file!;
        const parityCase = parseCase(readText(file!), name);
        if (options.record === true) await asked.record(basename(name, '.json'), parityCase);
        else await asked.one(parityCase);
      }
    });
}

const EXAMPLES = [
  'podwire parity case.json --on simulator',
  'podwire parity case.json                 # differences; exit code 1 if there are any',
  'podwire parity --jsonl --on kernel < cases.jsonl',
  'podwire parity --latency                 # exit code 1 if the simulator is more than 15 % off anywhere',
];

interface AskableKernel {
  readonly runner: KernelRunner;
  readonly version: string;
}

/** Without a kernel that can be asked: says what is missing, and that is all. */
async function withKernel(context: CommandContext, use: (kernel: AskableKernel) => Promise<void>): Promise<void> {
  const probe = await KernelRunner.probe();
  if (!probe.ok) {
    context.stdout.write(`skipped: ${probe.missing.join('; ')}\n`);
    return;
  }
  const runner = new KernelRunner();
  try {
    await use({ runner, version: probe.version });
  } finally {
    await runner.close();
  }
}

/** One or both sides, ready for cases. */
class Asked {
  readonly #context: CommandContext;
  readonly #side: Side;
  readonly #kernel: AskableKernel | undefined;

  constructor(context: CommandContext, side: Side, kernel: AskableKernel | undefined) {
    this.#context = context;
    this.#side = side;
    this.#kernel = kernel;
  }

  /** Prints the outcome, or the differences, one per line. */
  async one(parityCase: ParityCase): Promise<void> {
    if (this.#side !== 'both') {
      const outcome = await this.#outcomeOf(parityCase);
      this.#context.stdout.write(`${JSON.stringify(outcome, undefined, 1)}\n`);
      return;
    }
    const lines = await this.#differencesOf(parityCase);
    for (const line of lines) this.#context.stdout.write(`${line}\n`);
    this.#context.stdout.write(lines.length === 0 ? 'no differences\n' : `${count(lines.length, 'difference')}\n`);
  }

  /** One line per case. What is wrong with a case stands in its line, and does not end the stream. */
  async stream(lines: AsyncIterable<string>): Promise<void> {
    let number = 0;
    for await (const line of lines) {
      number++;
      if (line.trim() === '') continue;
      this.#context.stdout.write(`${JSON.stringify(await this.#answer(line, `line ${number}`))}\n`);
    }
  }

  async record(name: string, parityCase: ParityCase): Promise<void> {
    const { runner, version } = this.#askable;
    const outcome = await refusable(runner.run(parityCase));
    this.#context.stdout.write(`wrote ${writeRecording(name, await toolVersions(version), outcome)}\n`);
  }

  async #answer(line: string, name: string): Promise<object> {
    try {
      const parityCase = parseCase(line, name);
      if (this.#side !== 'both') return await this.#outcomeOf(parityCase);
      return { differences: await this.#differencesOf(parityCase) };
    } catch (error) {
      if (!isAboutTheCase(error)) throw error;
      this.#context.exitCode = 1;
      return { error: error.message };
    }
  }

  async #outcomeOf(parityCase: ParityCase): Promise<Outcome> {
    return this.#side === 'simulator' ? runInSimulator(parityCase) : refusable(this.#askable.runner.run(parityCase));
  }

  async #differencesOf(parityCase: ParityCase): Promise<string[]> {
    const differences = await differencesOf(parityCase, this.#askable.runner);
    if (differences.length > 0) this.#context.exitCode = 1;
    return differences.map(formatDifference);
  }

  get #askable(): AskableKernel {
    if (this.#kernel === undefined) throw new Error('the kernel was not started');
    return this.#kernel;
  }
}

/** What the kernel's tools say about the rules of a case is for its author. */
async function refusable(outcome: Promise<Outcome>): Promise<Outcome> {
  try {
    return await outcome;
  } catch (error) {
    throw error instanceof KernelRefusal ? new CaseError(error.message.trim().replaceAll(/\s*\n\s*/g, '; ')) : error;
  }
}

const isAboutTheCase = (error: unknown): error is Error => error instanceof CaseError || error instanceof RuleTextError;

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw cannot('read', file, error);
  }
}

/** Of standard input as they come: whoever writes cases may wait for answers. */
function linesOf(file: string | undefined): AsyncIterable<string> {
  const input = file === undefined || file === '-' ? process.stdin : Readable.from([readText(file)]);
  return createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
}

function readSide(text: string): Side {
  const side = SIDES.find((candidate) => candidate === text);
  if (side === undefined) throw new RangeError('Expected simulator, kernel or both.');
  return side;
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
