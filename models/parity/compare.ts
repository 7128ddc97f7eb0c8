// Do kernel and simulator agree about a case? Compares two outcomes field by field: verdicts, the frames at every tap
// in their order, socket results, connections, rule counters.
//
// Where rules toss coins, the simulator agrees if it can toss them as the kernel did.

import type { Outcome, ParityCase } from './case.ts';
import { tossesCoins, valuesOf } from './chosen-values.ts';
import { type Observation, observationsOf } from './observations.ts';
import { runInSimulator } from './simulator/runner.ts';
import { tossUntilEqual } from './tosses.ts';

export interface Difference {
  /** `step 2, n1/eth0, frame 1: ttl`. */
  readonly place: string;
  readonly kernel: string;
  readonly simulator: string;
}

export const formatDifference = ({ place, kernel, simulator }: Difference): string =>
  `${place}: kernel ${kernel}, simulator ${simulator}`;

/** Runs the case in the simulator and compares. */
export function compareWithSimulator(parityCase: ParityCase, kernel: Outcome): Difference[] {
  const values = valuesOf(parityCase);
  const compare = (simulator: Outcome, kernel: Outcome): Difference[] =>
    compareOutcomes(parityCase, { kernel, simulator }, values);
  if (tossesCoins(parityCase)) return tossUntilEqual(parityCase, kernel, compare);
  return compare(runInSimulator(parityCase, { timesOf: kernel }), kernel);
}

/** Empty if they agree. */
export function compareOutcomes(
  parityCase: ParityCase,
  { kernel, simulator }: { kernel: Outcome; simulator: Outcome },
  values = valuesOf(parityCase),
): Difference[] {
  const [seen, simulated] = [kernel, simulator].map((outcome) => {
    const observations = observationsOf(parityCase, outcome, values);
    return new Map(observations.map((observation) => [observation.place, observation]));
  }) as [Map<string, Observation>, Map<string, Observation>];
  const places = new Set([...seen.keys(), ...simulated.keys()]);
  return [...places].flatMap((place) => compareAt(place, seen.get(place), simulated.get(place)));
}

function compareAt(place: string, kernel: Observation | undefined, simulator: Observation | undefined): Difference[] {
  if (kernel === undefined || simulator === undefined) {
    return [{ place, kernel: kernel?.summary ?? 'nothing', simulator: simulator?.summary ?? 'nothing' }];
  }
  const fields = new Set([...Object.keys(kernel.fields), ...Object.keys(simulator.fields)]);
  return [...fields].flatMap((field) => {
    const [here, there] = [kernel.fields[field] ?? 'nothing', simulator.fields[field] ?? 'nothing'];
    return agree(field, here, there) ? [] : [{ place: `${place}: ${field}`, kernel: here, simulator: there }];
  });
}

/** The kernel's clock goes on between two packets, so that a timeout may have lost a second. */
const agree = (field: string, kernel: string, simulator: string): boolean =>
  kernel === simulator || (field === 'timeout' && Math.abs(Number(kernel) - Number(simulator)) <= 1);
