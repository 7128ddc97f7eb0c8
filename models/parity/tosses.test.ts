import { expect, test } from 'vitest';
import type { ParityCase } from './case.ts';
import { compareOutcomes } from './compare.ts';
import { TWO_NODES, udp } from './facts/fact.ts';
import { runInSimulator } from './simulator/runner.ts';
import { tossUntilEqual } from './tosses.ts';

/** By the rules' text for n1, ten packets whose sizes tell them apart by pairs. */
const caseOf = (text: string): ParityCase => ({
  topology: TWO_NODES,
  rules: { n1: { backend: 'nftnative', text } },
  packets: Array.from({ length: 10 }, (_, i) => ({ ...udp, sport: 40_000 + i, pad: 2 ** Math.floor(i / 2) })),
});

const leftOver = (parityCase: ParityCase, seed: string): number =>
  tossUntilEqual(parityCase, runInSimulator(parityCase, { seed }), (simulator, kernel) =>
    compareOutcomes(parityCase, { simulator, kernel }),
  ).length;

test('tosses are found that only counters tell of, each by itself', () => {
  const parityCase = caseOf(`table ip t {
    chain prerouting {
      type filter hook prerouting priority 0; policy accept;
      numgen random mod 2 == 0 counter
    }
  }`);
  expect(leftOver(parityCase, 'a')).toBe(0);
});

test('so are tosses on which depends what later ones count', () => {
  const parityCase = caseOf(`table ip t {
    chain second {
      counter
    }
    chain prerouting {
      type filter hook prerouting priority 0; policy accept;
      numgen random mod 2 == 0 counter numgen inc mod 2 vmap { 0 : continue, 1 : jump second }
    }
  }`);
  for (const seed of ['a', 'b']) expect(leftOver(parityCase, seed)).toBe(0);
});
