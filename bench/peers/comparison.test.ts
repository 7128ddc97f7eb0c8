import { describe, expect, test } from 'vitest';
import { type Comparison, type Contender, compareByTurns } from './comparison.ts';

/** Gives the figures one after the other, and writes its name down each time. */
function contender(name: string, values: readonly number[], turns: string[] = []): Contender {
  const left = [...values];
  return {
    name,
    async measure() {
      turns.push(name);
      return new Map([['packets', left.shift()!]]);
    },
  };
}

const compared = (podwire: Contender, peer: Comparison['peer'], atLeast?: number): Comparison => ({
  case: '8 nodes x 16 pods',
  unit: 'packets/s',
  figure: 'packets',
  podwire,
  peer,
  ...(atLeast !== undefined && { atLeast }),
});

describe('compareByTurns', () => {
  test('takes the ratio of the best rounds: what else the machine does can only slow a program', async () => {
    const podwire = contender('Podwire', [400, 40, 390]);
    const peer = contender('ns-3', [100, 10, 150]); // ratios 4, 4, 2.6
    const [outcome] = await compareByTurns([compared(podwire, peer, 2.5)], { rounds: 3 });
    expect(outcome).toMatchObject({ value: 400, peerValue: 150, ratio: 400 / 150, lowestRatio: 2.6, highestRatio: 4 });
    expect(outcome).toMatchObject({ rounds: 3, isMet: true });
  });

  test('measures each contender once a round, however many rows it is in, and in alternating order', async () => {
    const turns: string[] = [];
    const podwire = contender('Podwire', [1, 1], turns);
    const rows = ['ns-3', 'kernel'].map((name) => compared(podwire, contender(name, [1, 1], turns)));
    await compareByTurns(rows, { rounds: 2 });
    expect(turns).toEqual(['Podwire', 'ns-3', 'kernel', 'kernel', 'ns-3', 'Podwire']);
  });

  test('a peer that is missing or fails says so in its row, and the others are measured', async () => {
    const broken = { name: 'kernel', measure: () => Promise.reject(new Error('kernel-path: no packet gets through')) };
    const outcomes = await compareByTurns(
      [
        compared(contender('Podwire', []), { name: 'ns-3', missing: 'apt-get install libns3-dev' }, 15),
        compared(contender('Podwire', [1, 1]), broken, 3),
        compared(contender('Podwire', [1, 1]), contender('heap-js', [2, 2]), 4),
      ],
      { rounds: 2 },
    );
    expect(outcomes.map(({ ratio, why, isMet }) => ({ ratio, why, isMet }))).toEqual([
      { ratio: undefined, why: 'apt-get install libns3-dev', isMet: undefined },
      { ratio: undefined, why: 'kernel: kernel-path: no packet gets through', isMet: undefined },
      { ratio: 0.5, why: undefined, isMet: false },
    ]);
  });

  test('stopped early, keeps the rounds that are complete', async () => {
    const controller = new AbortController();
    const peer = contender('ns-3', [1, 1, 1]);
    let measured = 0;
    const [outcome] = await compareByTurns([compared(contender('Podwire', [5, 9, 9]), peer)], {
      rounds: 3,
      signal: controller.signal,
      onMeasured: () => {
        if (++measured === 2) controller.abort(); // after the first round
      },
    });
    expect(outcome).toMatchObject({ rounds: 1, ratio: 5 });
  });
});
