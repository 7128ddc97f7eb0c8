// Compares a case of many packets whose rules toss coins. The kernel's way through it is one of many; the simulator agrees
// if its coins can fall so that it goes the same.
//
// Unlike tosses.ts, which looks for them step by step, this tosses those of all steps that differ at once, and again, until
// none does: packets to different Services have little to do with each other. A step that still differs after so many tosses,
// though all before it agree, cannot agree.

import type { Capture, Outcome, ParityCase } from './case.ts';
import { type CaseValues, valuesOf } from './chosen-values.ts';
import { compareOutcomes, type Difference } from './compare.ts';
import { runInSimulator } from './simulator/runner.ts';

/** With five endpoints a step misses the right one so often once in 4,000 times. */
const TOSSES_OF_A_STEP = 36;

export function compareManySteps(parityCase: ParityCase, kernel: Outcome): Difference[] {
  const values = valuesToldBy(parityCase);
  const stepSeeds: (string | undefined)[] = parityCase.packets.map(() => undefined);
  const compare = (stepsOnly: boolean): Difference[] => {
    const simulator = runInSimulator(parityCase, { timesOf: kernel, stepSeeds, stepsOnly });
    const seen = stepsOnly ? { ...kernel, conntrack: {}, counters: {} } : kernel;
    return compareOutcomes(parityCase, { kernel: seen, simulator }, values);
  };
  for (let toss = 0, first = -1, since = 0; ; toss++) {
    const different = stepsOf(compare(true));
    if (different.length === 0) break;
    if (different[0]! > first) [first, since] = [different[0]!, toss];
    if (toss - since >= TOSSES_OF_A_STEP) break;
    for (const step of different) stepSeeds[step] = `step ${step}, toss ${toss}`;
  }
  return compare(false);
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

/** What became of packets, whatever was to. */
export interface Fates {
  /** To a pod that is not the sender. */
  readonly delivered: number;
  /** Their sender heard of it: an ICMP error, or an error of the call. */
  readonly refused: number;
  readonly lost: number;
}

export function countFates(parityCase: ParityCase, outcome: Outcome): Fates {
  const fates = { delivered: 0, refused: 0, lost: 0 };
  const pods = podsOf(parityCase);
  for (const [i, step] of parityCase.packets.entries()) {
    if (!('from' in step)) continue;
    const { captures = [], socket } = outcome.steps[i]!;
    const isDelivered = captures.some(
      (frame) => isArrival(frame, pods) && frame.ns !== step.from.split('/')[0] && frame.quoted === undefined,
    );
    const isRefused = socket !== undefined || captures.some(({ quoted }) => quoted !== undefined);
    fates[isDelivered ? 'delivered' : isRefused ? 'refused' : 'lost']++;
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
