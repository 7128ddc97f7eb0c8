// podwire parity --services: a generated cluster of Services of all kinds, its kube-proxy rules loaded into the kernel and the
// simulator, and packets to it sent through both.

import { join } from 'node:path';
import type { Outcome } from '../../models/parity/case.ts';
import type { Difference } from '../../models/parity/compare.ts';
import { type Comparison, differencesOf, type Judge } from '../../models/parity/judge.ts';
import type { KernelPool } from '../../models/parity/kernel/pool.ts';
import { type ServiceCase, type ServiceProxy, serviceCases, sweepCase } from '../../models/parity/service-cases.ts';
import { compareManySteps, compareReach, type Fate, fatesOf } from '../../models/parity/service-judge.ts';
import { reduceFully } from '../../models/parity/shrink.ts';
import { withoutChunks } from '../../models/parity/without-chunks.ts';
import { startProgress } from '../harness/progress.ts';
import type { CommandContext } from './command-line.ts';
import { SHRINK_MS, SHRUNK, tellDifferences, writeCase } from './parity-reproducer.ts';

export interface ServicesOptions {
  readonly services: number;
  /** Per mode. */
  readonly packets: number;
  readonly seed: number;
  readonly modes: readonly ServiceProxy[];
  /** Where reproducers go. */
  readonly directory: string;
}

/** Exit code 1 if there is a difference. */
export async function compareServices(
  options: ServicesOptions,
  kernel: KernelPool,
  context: CommandContext,
): Promise<void> {
  for (const mode of options.modes) await new ModeRun(mode, options, kernel, context).run();
}

interface Question {
  readonly made: ServiceCase;
  readonly compare: Comparison;
}

interface Answer extends Question {
  readonly differences: readonly Difference[];
}

class ModeRun {
  readonly #mode: ServiceProxy;
  readonly #options: ServicesOptions;
  readonly #kernel: KernelPool;
  readonly #context: CommandContext;
  readonly #fates: Record<Fate, number> = { delivered: 0, refused: 0, lost: 0 };
  #different = 0;

  constructor(mode: ServiceProxy, options: ServicesOptions, kernel: KernelPool, context: CommandContext) {
    this.#mode = mode;
    this.#options = options;
    this.#kernel = kernel;
    this.#context = context;
  }

  async run(): Promise<void> {
    const { services, packets, seed } = this.#options;
    const startedAt = performance.now();
    const isTerminal = this.#context.stderr.isTTY === true;
    const progress = startProgress('parity', { total: packets, unit: 'packets', isTerminal });
    const waiting: Promise<Answer>[] = [];
    const answerNext = async (): Promise<void> => {
      const asked = await waiting.shift()!;
      for (const _ of asked.made.packets) progress.step();
      if (asked.differences.length > 0) await this.#report(asked);
    };
    for (const question of this.#questions()) {
      waiting.push(this.#ask(question));
      if (waiting.length > this.#kernel.size) await answerNext();
    }
    while (waiting.length > 0) await answerNext();
    progress.stop();
    const { delivered, refused, lost } = this.#fates;
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
    this.#context.stdout.write(
      `${this.#mode}: ${services} services, ${packets} packets (${delivered} delivered, ${refused} refused, ${lost} lost), ` +
        `every endpoint of some looked for, seed ${seed}: ${this.#different} cases with differences, ${seconds} s\n`,
    );
  }

  *#questions(): Generator<Question> {
    const options = { ...this.#options, mode: this.#mode };
    for (const made of serviceCases(options)) yield { made, compare: compareManySteps };
    yield { made: sweepCase(options), compare: compareReach };
  }

  async #ask({ made, compare }: Question): Promise<Answer> {
    const kernel = new Remembering(this.#kernel);
    const differences = await differencesOf(made.parityCase, kernel, compare);
    if (compare === compareManySteps && kernel.last !== undefined)
      for (const fate of fatesOf(made.parityCase, kernel.last).values()) this.#fates[fate]++;
    return { made, compare, differences };
  }

  async #report({ made, compare, differences }: Answer): Promise<void> {
    this.#context.exitCode = 1;
    this.#different++;
    const tell = (of: ServiceCase, found: readonly Difference[]): void => {
      const explain = ({ place }: Difference): string => aboutStep(of, place);
      this.#context.stdout.write(tellDifferences(found, explain));
    };
    const { seed, directory } = this.#options;
    const file = join(directory, `parity-${seed}-${this.#mode}-services-${made.name}.json`);
    this.#context.stdout.write(`${made.parityCase.name}\n`);
    tell(made, differences);
    if (this.#different > SHRUNK) return writeCase(file, made.parityCase);
    const smallest = await this.#shrunk({ made, compare, differences });
    writeCase(file, smallest.made.parityCase);
    const { services, packets } = smallest.made;
    this.#context.stdout.write(`  ${file}: ${services.length} services, ${packets.length} packets\n`);
    tell(smallest.made, smallest.differences);
  }

  /** Without the packets, then without the Services, that are not needed. */
  async #shrunk(answer: Answer): Promise<Answer> {
    let last = answer;
    const until = performance.now() + SHRINK_MS;
    const differs = async (made: ServiceCase): Promise<boolean> => {
      if (performance.now() > until) return false;
      const differences = await differencesOf(made.parityCase, this.#kernel, answer.compare);
      if (differences.length > 0) last = { ...answer, made, differences };
      return differences.length > 0;
    };
    const withPackets = await reduceFully(answer.made, fewerPackets, differs);
    await reduceFully(withPackets, fewerServices, differs);
    return last;
  }
}

function* fewerPackets(made: ServiceCase): Iterable<ServiceCase> {
  for (const packets of withoutChunks(made.packets)) yield made.with({ packets });
}

function* fewerServices(made: ServiceCase): Iterable<ServiceCase> {
  for (const services of withoutChunks(made.services)) yield made.with({ services });
}

/** Of `step 3, …`: what the packet asks, in brackets. */
function aboutStep({ packets }: ServiceCase, place: string): string {
  const [, step] = /^step (\d+)/.exec(place) ?? [];
  return step === undefined ? '' : ` (${packets[Number(step) - 1]?.about})`;
}

class Remembering implements Judge {
  readonly #judge: Judge;
  last: Outcome | undefined;

  constructor(judge: Judge) {
    this.#judge = judge;
  }

  async run(...asked: Parameters<Judge['run']>): Promise<Outcome> {
    return (this.last = await this.#judge.run(...asked));
  }
}
