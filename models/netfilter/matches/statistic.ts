// `-m statistic`: each frame with a probability, or every n-th frame. kube-proxy picks an endpoint by a list of these.

import type { FrameTest } from '../selector.ts';
import { NamespaceMemory } from '../walk-context.ts';
import type { MatchKind } from './match.ts';

export type StatisticMatch =
  | {
      readonly match: 'statistic';
      readonly mode: 'random';
      /** From 0 to 1; the kernel keeps 31 bits of it. */
      readonly probability: number;
      readonly negated?: boolean;
    }
  | {
      readonly match: 'statistic';
      readonly mode: 'nth';
      readonly every: number;
      /** Which frame of each round matches, from 0. */
      readonly packet: number;
      readonly negated?: boolean;
    };

/** Before the mode tells which of them belong together. */
export interface StatisticFields {
  readonly mode?: 'random' | 'nth';
  readonly probability?: number;
  readonly every?: number;
  readonly packet?: number;
  readonly negated?: boolean;
}

export const statistic: MatchKind<StatisticMatch, StatisticFields> = {
  name: 'statistic',
  remembers: true,
  print: (spec) => {
    const not = spec.negated ? ' !' : '';
    return spec.mode === 'random'
      ? ` --mode random${not} --probability ${printProbability(spec.probability)}`
      : ` --mode nth${not} --every ${spec.every} --packet ${spec.packet}`;
  },
  options: {
    '--mode': (words) => ({ mode: words.takeOneOf(['random', 'nth'] as const) }),
    '--packet': (words) => ({ packet: words.takeInteger({ first: 0, last: 0xffff_ffff }) }),
  },
  negatableOptions: {
    '--probability': (words, negated) => ({
      probability: words.takeAs('a probability from 0 to 1', readProbability),
      ...(negated && { negated }),
    }),
    '--every': (words, negated) => ({
      every: words.takeInteger({ first: 1, last: 0xffff_ffff }),
      ...(negated && { negated }),
    }),
  },
  complete: ({ mode, probability, every, packet, ...fields }) => {
    if (mode === 'random') {
      if (every !== undefined || packet !== undefined) return '--probability without --every and --packet';
      return probability === undefined ? '--probability' : { ...fields, match: 'statistic', mode, probability };
    }
    if (mode === undefined) return '--mode random or --mode nth';
    if (every === undefined || packet === undefined || probability !== undefined) return '--every and --packet';
    return { ...fields, match: 'statistic', mode, every, packet };
  },
  problem: (spec) => {
    if (spec.mode === 'random') {
      return spec.probability >= 0 && spec.probability <= 1
        ? undefined
        : `probability ${spec.probability} is not 0 to 1`;
    }
    return spec.packet < spec.every ? undefined : `packet ${spec.packet} of every ${spec.every} never comes`;
  },
  compile: (spec) => (spec.mode === 'random' ? testRandom(spec) : testNth(spec)),
};

/** What a probability of 1 is in the kernel, which compares it with 31 random bits. */
const CERTAIN = 0x8000_0000;

const bitsOf = (probability: number): number => Math.round(probability * CERTAIN);

/** Eleven decimals; a tie, where the twelfth and last is a 5, goes to the even digit as in C, not up. */
function printProbability(probability: number): string {
  const twelve = (bitsOf(probability) / CERTAIN).toFixed(12);
  const isTie = bitsOf(probability) % 2 ** 20 === 2 ** 19;
  return isTie && /[02468]5$/.test(twelve) ? twelve.slice(0, -1) : (bitsOf(probability) / CERTAIN).toFixed(11);
}

function testRandom({ probability, negated = false }: StatisticMatch & { mode: 'random' }): FrameTest {
  const bits = bitsOf(probability);
  return (_frame, { random }) => random.chance31(bits) !== negated;
}

function testNth({ every, packet, negated = false }: StatisticMatch & { mode: 'nth' }): FrameTest {
  const rounds = new NamespaceMemory(() => ({ count: packet, generation: -1 }));
  return (_frame, context) => {
    const round = rounds.of(context);
    if (round.generation !== context.table.generation) {
      round.generation = context.table.generation;
      round.count = packet;
    }
    const matches = round.count === 0;
    round.count = matches ? every - 1 : round.count - 1;
    return matches !== negated;
  };
}

function readProbability(word: string): number | undefined {
  const value = /^[\d.]+(e-?\d+)?$/i.test(word) ? Number(word) : Number.NaN;
  return value >= 0 && value <= 1 ? value : undefined;
}
