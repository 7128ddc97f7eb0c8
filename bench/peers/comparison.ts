// What is compared with what, and how: every contender is measured once a round, by turns, and its best round counts. What
// else a machine does can only slow a program: on one whose cores are shared it halves the speed for seconds, so that the
// ratio of two figures of one round tells of others as much as of the two. Lowest and highest of these are told, too.

import { messageOf } from '../../experiments/harness/user-error.ts';

/** Operations per second, by what is done. More is better. */
export type Figures = ReadonlyMap<string, number>;

export interface Contender {
  /** `ns-3 3.37`. */
  readonly name: string;
  /** A program of its own each time, which has the core to itself. */
  measure(): Promise<Figures>;
}

/** A peer that is not on this machine. */
export interface Missing {
  readonly name: string;
  /** How to get it, in one line. */
  readonly missing: string;
}

export interface Comparison {
  /** Under which conditions: `8 nodes x 16 pods`. */
  readonly case: string;
  /** What is counted: `packets/s`. */
  readonly unit: string;
  /** Where the number stands in the figures of both. */
  readonly figure: string;
  readonly podwire: Contender;
  readonly peer: Contender | Missing;
  /** The ratio that Podwire is to reach. Without: for information. */
  readonly atLeast?: number;
}

/** A file of this folder named `<subject>.peer.ts` exports a function that makes one. */
export interface Subject {
  readonly comparisons: readonly Comparison[];
  /** What a reader must know of the sides, a sentence each. */
  readonly remarks: readonly string[];
}

export interface Outcome extends Comparison {
  readonly rounds: number;
  /** Of the best rounds; undefined where nothing was measured. */
  readonly value: number | undefined;
  readonly peerValue: number | undefined;
  readonly ratio: number | undefined;
  readonly lowestRatio: number | undefined;
  readonly highestRatio: number | undefined;
  readonly isMet: boolean | undefined;
  /** Why there is no ratio. */
  readonly why: string | undefined;
}

/** Ends early, with the rounds so far, when the signal is aborted. A contender that fails is out, for that reason. */
export async function compareByTurns(
  comparisons: readonly Comparison[],
  {
    rounds,
    signal,
    onMeasured = () => {},
  }: { rounds: number; signal?: AbortSignal; onMeasured?: (contender: Contender) => void },
): Promise<Outcome[]> {
  const contenders = contendersOf(comparisons);
  const figures = new Map<Contender, Figures[]>(contenders.map((contender) => [contender, []]));
  const failures = new Map<Contender, string>();
  for (let round = 0; round < rounds; round++) {
    for (const contender of round % 2 === 0 ? contenders : contenders.toReversed()) {
      if (failures.has(contender) || signal?.aborted) continue;
      try {
        figures.get(contender)!.push(await contender.measure());
      } catch (error) {
        // Ctrl-C on a terminal ends the program that is measured, too; that is no failure.
        if (!signal?.aborted) failures.set(contender, messageOf(error));
      }
      onMeasured(contender);
    }
  }
  return comparisons.map((comparison) => outcomeOf(comparison, figures, failures));
}

/** Each once, those that are there. */
export function contendersOf(comparisons: readonly Comparison[]): Contender[] {
  const all = comparisons.flatMap(({ podwire, peer }) => ('missing' in peer ? [] : [podwire, peer]));
  return [...new Set(all)];
}

function outcomeOf(
  comparison: Comparison,
  figures: ReadonlyMap<Contender, readonly Figures[]>,
  failures: ReadonlyMap<Contender, string>,
): Outcome {
  const { podwire, peer, figure, atLeast } = comparison;
  if ('missing' in peer) return { ...comparison, ...NOTHING, why: peer.missing };
  const failed = [podwire, peer].find((contender) => failures.has(contender));
  if (failed !== undefined) return { ...comparison, ...NOTHING, why: `${failed.name}: ${failures.get(failed)}` };
  const theirs = valuesOf(figures.get(peer)!, figure);
  const ours = valuesOf(figures.get(podwire)!, figure);
  const rounds = Math.min(ours.length, theirs.length); // a run that was stopped has measured some once more than others
  if (rounds === 0) return { ...comparison, ...NOTHING, why: 'stopped before it was measured' };
  const ratios = Array.from({ length: rounds }, (_, round) => ours[round]! / theirs[round]!);
  const value = Math.max(...ours.slice(0, rounds));
  const peerValue = Math.max(...theirs.slice(0, rounds));
  const ratio = value / peerValue;
  return {
    ...comparison,
    rounds,
    value,
    peerValue,
    ratio,
    lowestRatio: Math.min(...ratios),
    highestRatio: Math.max(...ratios),
    isMet: atLeast === undefined ? undefined : ratio >= atLeast,
    why: undefined,
  };
}

const NOTHING = {
  rounds: 0,
  value: undefined,
  peerValue: undefined,
  ratio: undefined,
  lowestRatio: undefined,
  highestRatio: undefined,
  isMet: undefined,
};

function valuesOf(rounds: readonly Figures[], figure: string): number[] {
  return rounds.map((figures) => {
    const value = figures.get(figure);
    if (value === undefined) throw new Error(`no figure "${figure}"; there are ${[...figures.keys()].join(', ')}`);
    return value;
  });
}
