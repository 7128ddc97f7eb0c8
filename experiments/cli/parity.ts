// podwire parity: does the simulator do what the kernel does? Runs cases in either or both, and compares.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { RuleTextError } from '../../models/netfilter/words.ts';
import type { Outcome, ParityCase, RuleBackend } from '../../models/parity/case.ts';
import { CaseError } from '../../models/parity/case-error.ts';
import { parseCase } from '../../models/parity/case-text.ts';
import { compareWithSimulator, formatDifference } from '../../models/parity/compare.ts';
import { type Fact, tell } from '../../models/parity/facts/fact.ts';
import { FACTS } from '../../models/parity/facts/facts.ts';
import { FEWEST_SERVICES, MOST_SERVICES } from '../../models/parity/generate/service-cluster.ts';
import { backendsOf, FEATURES, type Feature } from '../../models/parity/generate.ts';
import { differencesOf, type Judge } from '../../models/parity/judge.ts';
import { KernelPool } from '../../models/parity/kernel/pool.ts';
import { KernelRefusal, KernelRunner } from '../../models/parity/kernel/runner.ts';
import { toolVersions, writeRecording } from '../../models/parity/recording.ts';
import { SERVICE_PROXIES, type ServiceProxy } from '../../models/parity/service-cases.ts';
import { runInSimulator } from '../../models/parity/simulator/runner.ts';
import { cannot, UserError } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples, oneOf, optionValue, wholeNumber } from './command-line.ts';
import { compareLatency } from './parity-latency.ts';
import { compareRandomCases } from './parity-random.ts';
import { compareServices } from './parity-services.ts';

const BACKENDS = ['legacy', 'nft', 'nftnative'] as const;
const SIDES = ['simulator', 'kernel', 'both'] as const;
/** Of two cores, with each agent waiting most of its time, these take no more than all. */
const AGENTS = 4;
type Side = (typeof SIDES)[number];

interface ParityOptions {
  readonly on: Side;
  readonly jsonl?: true;
  readonly record?: true;
  readonly random?: number;
  readonly services?: number;
  readonly packets: number;
  readonly proxy?: ServiceProxy;
  readonly seed: number;
  readonly features: readonly Feature[];
  readonly backends?: readonly RuleBackend[];
  readonly out: string;
  readonly facts?: true;
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
    .option('--random <n>', 'instead of a file: so many random cases on every backend', wholeNumber())
    .option(
      '--services <n>',
      'instead of a file: a cluster of so many Services of all kinds, and packets to them',
      wholeNumber({ from: FEWEST_SERVICES, to: MOST_SERVICES }),
    )
    .option('--packets <n>', 'with --services: so many in each mode', wholeNumber(), 2_000)
    .option(
      '--proxy <mode>',
      `with --services: ${SERVICE_PROXIES.join(' or ')}; both if not given`,
      oneOf(SERVICE_PROXIES),
    )
    .option(
      '--seed <n>',
      'with --random and --services: the same seed makes the same cases',
      wholeNumber({ from: 0 }),
      1,
    )
    .option(
      '--features <names>',
      `with --random, what cases are made of: ${FEATURES.join(', ')}`,
      optionValue((text: string) => listOf(text, FEATURES)),
      FEATURES,
    )
    .option(
      '--backends <names>',
      `with --random: ${BACKENDS.join(', ')}`,
      optionValue((text: string) => listOf(text, BACKENDS)),
    )
    .option('--out <directory>', 'with --random and --services: where reproducers of differences go', '.')
    .option('--facts', 'instead of a file: the facts about Linux that are kept with the recordings')
    .option('--latency', 'instead of cases: how long connections and round trips take on both sides')
    .option('--quick', 'with --latency: fewer rounds and rulesets')
    .option('--json', 'with --latency: as JSON')
    .addHelpText('after', examples(...EXAMPLES))
    .action(async (file: string | undefined, options: ParityOptions) => {
      if (options.latency === true) return compareLatency(options, context);
      if (options.quick === true || options.json === true) throw new UserError('--quick and --json go with --latency');
      if (options.random !== undefined) return random(options, context);
      if (options.services !== undefined) return services({ ...options, services: options.services }, context);
      if (options.facts === true) return withKernel(context, (kernel) => checkFacts(kernel, options, context));
      if (file === undefined && options.jsonl !== true)
        throw new UserError('expected a file with a case, --jsonl, --random, --services, --facts or --latency');
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

async function random(
  { random: count = 0, seed, features, backends, out }: ParityOptions,
  context: CommandContext,
): Promise<void> {
  const all = { count, seed, features, backends: backends ?? backendsOf(features), directory: out };
  await withAgents(context, (kernel) => compareRandomCases(all, kernel, context));
}

async function services(
  { services, packets, proxy, seed, out }: ParityOptions & { readonly services: number },
  context: CommandContext,
): Promise<void> {
  const modes = proxy === undefined ? SERVICE_PROXIES : [proxy];
  const all = { services, packets, seed, modes, directory: out };
  await withAgents(context, (kernel) => compareServices(all, kernel, context));
}

async function withAgents(context: CommandContext, use: (kernel: KernelPool) => Promise<void>): Promise<void> {
  if ((await askableVersion(context)) === undefined) return;
  const kernel = new KernelPool(AGENTS);
  try {
    await use(kernel);
  } finally {
    await kernel.close();
  }
}

/** Also keeps what the kernel answers, with --record. */
async function checkFacts(
  { runner, version }: AskableKernel,
  { record }: ParityOptions,
  context: CommandContext,
): Promise<void> {
  const versions = await toolVersions(version);
  let different = 0;
  for (const fact of FACTS) {
    const { outcome, complaints } = await showFact(fact, runner);
    if (record === true) writeRecording(fact.name, versions, outcome);
    if (complaints.length > 0) different++;
    const lines = complaints.map((line) => `  ${line}\n`).join('');
    context.stdout.write(`${complaints.length === 0 ? 'holds' : 'DIFFERS'}  ${fact.name}\n${lines}`);
  }
  if (different > 0) context.exitCode = 1;
  const result = different === 0 ? 'all hold' : `${different} differ`;
  context.stdout.write(`${FACTS.length} facts on ${version}: ${result}\n`);
}

/** A fact is shown again before it is doubted: ports are drawn by chance, and real sockets wait for a busy machine. */
async function showFact(fact: Fact, kernel: Judge, attempts = 3): Promise<Shown> {
  const { case: parityCase, shows, watch } = fact;
  const outcome = await kernel.run(parityCase);
  const complaints = compareWithSimulator(parityCase, outcome).map(formatDifference);
  const told = tell(parityCase, outcome, watch);
  if (told.join('\n') !== shows.join('\n')) complaints.unshift(`the kernel shows: ${told.join('; ')}`);
  if (complaints.length === 0 || attempts === 1) return { outcome, complaints };
  return showFact(fact, kernel, attempts - 1);
}

interface Shown {
  readonly outcome: Outcome;
  readonly complaints: readonly string[];
}

const EXAMPLES = [
  'podwire parity case.json --on simulator',
  'podwire parity case.json                 # differences; exit code 1 if there are any',
  'podwire parity --jsonl --on kernel < cases.jsonl',
  'podwire parity --random 300 --seed 1 --features nat,conntrack,nft',
  'podwire parity --services 200 --packets 2000 --seed 1 --proxy nftables',
  'podwire parity --facts                   # --record renews the recordings',
  'podwire parity --latency                 # exit code 1 if the simulator is more than 15 % off anywhere',
];

interface AskableKernel {
  readonly runner: KernelRunner;
  readonly version: string;
}

/** Of the kernel. Where it cannot be asked, what is missing is said, and that is all. */
async function askableVersion(context: CommandContext): Promise<string | undefined> {
  const probe = await KernelRunner.probe();
  if (probe.ok) return probe.version;
  context.stdout.write(`skipped: ${probe.missing.join('; ')}\n`);
  return undefined;
}

async function withKernel(context: CommandContext, use: (kernel: AskableKernel) => Promise<void>): Promise<void> {
  const version = await askableVersion(context);
  if (version === undefined) return;
  const runner = new KernelRunner();
  try {
    await use({ runner, version });
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

/** `nat,filter`; every word one of these. */
function listOf<T extends string>(text: string, known: readonly T[]): T[] {
  return text.split(',').map((word) => {
    const found = known.find((candidate) => candidate === word.trim());
    if (found === undefined) throw new RangeError(`Unknown "${word}"; expected some of ${known.join(', ')}.`);
    return found;
  });
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
