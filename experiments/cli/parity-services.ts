// podwire parity --services: a generated cluster of Services of all kinds, its kube-proxy rules loaded into the kernel and the
// simulator, and packets to it sent through both.

import { join } from 'node:path';
import type { ProxyMode } from '../../models/kube/kube-proxy/proxy-mode.ts';
import type { Outcome } from '../../models/parity/case.ts';
import type { Difference } from '../../models/parity/compare.ts';
import { type Comparison, differencesOf, type Judge } from '../../models/parity/judge.ts';
import type { KernelPool } from '../../models/parity/kernel/pool.ts';
import { type ServiceCase, serviceCases, sweepCase } from '../../models/parity/service-cases.ts';
import { compareManySteps, compareReach, countFates, type Fates } from '../../models/parity/service-judge.ts';
import { startProgress } from '../harness/progress.ts';
import type { CommandContext } from './command-line.ts';
import { SHRUNK, shrunk, tellDifferences, writeCase } from './parity-reproducer.ts';

export interface ServicesOptions {
  readonly services: number;
  /** Per mode. */
  readonly packets: number;
  readonly seed: number;
  readonly modes: readonly ProxyMode[];
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

interface Asked {
  readonly name: string;
  readonly made: ServiceCase;
  readonly compare: Comparison;
  readonly differences: readonly Difference[];
}

class ModeRun {
  readonly #mode: ProxyMode;
  readonly #options: ServicesOptions;
  readonly #kernel: KernelPool;
  readonly #context: CommandContext;
  readonly #fates = { delivered: 0, refused: 0, lost: 0 };
  #different = 0;

  constructor(mode: ProxyMode, options: ServicesOptions, kernel: KernelPool, context: CommandContext) {
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
    const waiting: Promise<Asked>[] = [];
    const answerNext = async (): Promise<void> => {
      const asked = await waiting.shift()!;
      for (const _ of asked.made.parityCase.packets) progress.step();
      if (asked.differences.length > 0) await this.#report(asked);
    };
    for (const cases = this.#cases(); ; ) {
      const { value, done } = cases.next();
      if (done === true) break;
      waiting.push(this.#ask(value));
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

  *#cases(): Generator<Omit<Asked, 'differences'>> {
    const options = { ...this.#options, mode: this.#mode };
    let index = 0;
    for (const made of serviceCases(options)) yield { name: `${index++}`, made, compare: compareManySteps };
    yield { name: 'sweeps', made: sweepCase(options), compare: compareReach };
  }

  async #ask(asked: Omit<Asked, 'differences'>): Promise<Asked> {
    const { made, compare } = asked;
    const counting = compare === compareManySteps ? new Remembering(this.#kernel) : this.#kernel;
    const differences = await differencesOf(made.parityCase, counting, compare);
    if (counting instanceof Remembering && counting.last !== undefined)
      this.#count(countFates(made.parityCase, counting.last));
    return { ...asked, differences };
  }

  #count({ delivered, refused, lost }: Fates): void {
    this.#fates.delivered += delivered;
    this.#fates.refused += refused;
    this.#fates.lost += lost;
  }

  async #report({ name, made: { parityCase, about }, compare, differences }: Asked): Promise<void> {
    this.#context.exitCode = 1;
    this.#different++;
    const file = join(this.#options.directory, `parity-${this.#options.seed}-${this.#mode}-services-${name}.json`);
    const explain = ({ place }: Difference): string => {
      const [, step] = /^step (\d+)/.exec(place) ?? [];
      return step === undefined ? '' : ` (${about[Number(step) - 1]})`;
    };
    this.#context.stdout.write(`${parityCase.name}\n${tellDifferences(differences, explain)}`);
    const isShrunk = this.#different <= SHRUNK && compare === compareManySteps;
    const smallest = isShrunk
      ? await shrunk({ parityCase, differences }, (candidate) => differencesOf(candidate, this.#kernel, compare))
      : { parityCase, differences };
    writeCase(file, smallest.parityCase);
    this.#context.stdout.write(`  ${file}${isShrunk ? `, smaller:\n${tellDifferences(smallest.differences)}` : '\n'}`);
  }
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
