// Compares a case of many packets whose rules toss coins. The kernel's way through it is one of many; the simulator agrees
// if its coins can fall so that it goes the same.
//
// Unlike tosses.ts, which looks for them step by step, this tosses those of all steps that differ at once, and again, until
// none does: packets to different Services have little to do with each other. A step that still differs after so many tosses,
// though all before it agree, cannot agree.

import { RandomStream } from '../../engine/random.ts';
import type { Capture, Outcome, ParityCase } from './case.ts';
import { type CaseValues, valuesOf } from './chosen-values.ts';
import { compareOutcomes, type Difference } from './compare.ts';
import { runInSimulator, type SimulatedRunOptions } from './simulator/runner.ts';

/** With five endpoints a step misses the right one so often once in 4,000 times. */
const TOSSES_OF_A_STEP = 36;
/** Of those steps whose coins nobody sees: a few in a case. */
const TOSSES_AT_THE_END = 60;
/** Runs in all before a difference is taken for one; they are most of what telling one costs. */
const RUNS = 150;

export function compareManySteps(parityCase: ParityCase, kernel: Outcome): Difference[] {
  return new Tosses(parityCase, kernel).differences();
}

class Tosses {
  readonly #case: ParityCase;
  readonly #kernel: Outcome;
  readonly #values: CaseValues;
  /** How coins fall in steps that have been tossed. */
  #seeds: readonly (string | undefined)[];
  #count = 0;
  #runs = 0;

  constructor(parityCase: ParityCase, kernel: Outcome) {
    this.#case = parityCase;
    this.#kernel = kernel;
    this.#values = valuesToldBy(parityCase);
    this.#seeds = parityCase.packets.map(() => undefined);
  }

  /** Those that no tosses were found to avoid. */
  differences(): Difference[] {
    if (!this.#tossSteps()) return this.#compare();
    let closest = this.#compare();
    // Some packets end where nobody sees them: how their coins fell, only counters and connections tell.
    const lost = [...fatesOf(this.#case, this.#kernel)].flatMap(([step, fate]) => (fate === 'lost' ? [step] : []));
    const random = new RandomStream('tosses of lost packets');
    for (let attempt = 0; closest.length > 0 && attempt < TOSSES_AT_THE_END && this.#runs < RUNS; attempt++) {
      const before = this.#seeds;
      this.#toss(lost.filter(() => random.int(2) === 0));
      const found = this.#tossSteps() ? this.#compare() : closest;
      if (found.length < closest.length) closest = found;
      else this.#seeds = before;
    }
    return closest;
  }

  /** Until steps show what the kernel's do; false if some do not come to. */
  #tossSteps(): boolean {
    for (let first = -1, since = this.#count; ; ) {
      const different = stepsOf(this.#compareSteps());
      if (different.length === 0) return true;
      if (different[0]! > first) [first, since] = [different[0]!, this.#count];
      if (this.#count - since >= TOSSES_OF_A_STEP || this.#runs >= RUNS) return false;
      this.#toss(different);
    }
  }

  #toss(steps: readonly number[]): void {
    const seeds = [...this.#seeds];
    for (const step of steps) seeds[step] = `step ${step}, toss ${this.#count}`;
    this.#seeds = seeds;
    this.#count++;
  }

  #compare(): Difference[] {
    return compareOutcomes(this.#case, { kernel: this.#kernel, simulator: this.#run({}) }, this.#values);
  }

  #compareSteps(): Difference[] {
    const kernel = { ...this.#kernel, conntrack: {}, counters: {} };
    return compareOutcomes(this.#case, { kernel, simulator: this.#run({ stepsOnly: true }) }, this.#values);
  }

  #run(options: Pick<SimulatedRunOptions, 'stepsOnly'>): Outcome {
    this.#runs++;
    return runInSimulator(this.#case, { timesOf: this.#kernel, stepSeeds: this.#seeds, ...options });
  }
}

/** In order, from 0. */
const stepsOf = (differences: readonly Difference[]): number[] =>
  [...new Set(differences.map(({ place }) => Number(/^step (\d+)/.exec(place)![1]) - 1))].sort((a, b) => a - b);

/**
 * Of ports only those that packets come from and go to, and endpoints listen at: rules name hundreds more, and now and then NAT
 * chooses one of these.
 */
function valuesToldBy(parityCase: ParityCase): CaseValues {
  const { rules = {}, ...rest } = parityCase;
  const values = valuesOf({ ...rest, rules: {} });
  const texts = Object.values(rules).flatMap(({ text, text6 = '' }) => [text, text6]);
  const ports = texts.flatMap((text) => [...text.matchAll(ENDPOINT_PORT)].map(([, port]) => Number(port)));
  return { ...values, isCrowded: true, ports: new Set([...values.ports, ...ports]) };
}

// ── what became of packets ───────────────────────────────────────────────────────────────────────────────────────────

/**
 * To a pod that is not the sender; back to the sender, who heard that it cannot be, by an ICMP error or as an error of the
 * call; or neither.
 */
export type Fate = 'delivered' | 'refused' | 'lost';

/** By step, of packets. */
export function fatesOf(parityCase: ParityCase, { steps }: Outcome): Map<number, Fate> {
  const pods = podsOf(parityCase);
  const fates = new Map<number, Fate>();
  for (const [i, step] of parityCase.packets.entries()) {
    if (!('from' in step)) continue;
    const { captures = [], socket } = steps[i]!;
    const isDelivered = captures.some(
      (frame) => isArrival(frame, pods) && frame.ns !== step.from.split('/')[0] && frame.quoted === undefined,
    );
    const isRefused = socket !== undefined || captures.some(({ quoted }) => quoted !== undefined);
    fates.set(i, isDelivered ? 'delivered' : isRefused ? 'refused' : 'lost');
  }
  return fates;
}

const podsOf = ({ topology }: ParityCase): ReadonlySet<string> =>
  new Set(topology.nodes.flatMap((node) => node.pods.map(({ name }) => name)));

const isArrival = ({ ns, dev, dir }: Capture, pods: ReadonlySet<string>): boolean =>
  dir === 'in' && dev === 'eth0' && pods.has(ns);

// ── where connections can go ─────────────────────────────────────────────────────────────────────────────────────────

/**
 * For a case whose packets ask the same again and again, until every endpoint has been met in all likelihood: which pods
 * did packets of one client to one address reach, on either side?
 */
export function compareReach(parityCase: ParityCase, kernel: Outcome): Difference[] {
  const simulator = runInSimulator(parityCase, { timesOf: kernel, stepsOnly: true });
  const [met, reached] = [kernel, simulator].map((outcome) => reachOf(parityCase, outcome)) as [Reach, Reach];
  return [...met].flatMap(([place, pods]) => {
    const [there, here] = [pods, reached.get(place)!].map((names) => [...names].sort().join(', ') || 'nobody');
    return there === here ? [] : [{ place, kernel: `reaches ${there}`, simulator: `reaches ${here}` }];
  });
}

/** By client and address: pods and the ports that they were asked at. */
type Reach = ReadonlyMap<string, ReadonlySet<string>>;

function reachOf(parityCase: ParityCase, { steps }: Outcome): Reach {
  const pods = podsOf(parityCase);
  const reach = new Map<string, Set<string>>();
  for (const [i, step] of parityCase.packets.entries()) {
    if (!('from' in step)) continue;
    const flow = `${step.from} to ${step.dst} ${step.proto} ${step.dport}`;
    const known = reach.get(flow) ?? new Set();
    reach.set(flow, known);
    for (const frame of steps[i]?.captures ?? [])
      if (isArrival(frame, pods) && frame.quoted === undefined) known.add(`${frame.ns} ${frame.dport}`);
  }
  return reach;
}

const ENDPOINT_PORT = /(?:--to-destination|dnat to) \S+:(\d+)/g;
