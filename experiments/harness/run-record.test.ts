import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SHIPPED_COSTS } from './given-costs.ts';
import { RunRecord } from './run-record.ts';
import dice from './testdata/dice.ts';

const path = join(mkdtempSync(join(tmpdir(), 'podwire-record-')), 'dice.run.json');
const about = {
  ...{ experiment: dice, factors: { dice: [4], kind: ['fair'] }, replications: 2, seed: '1', plannedRuns: 2 },
  costs: SHIPPED_COSTS,
};

function recordOf(fingerprints: string[]) {
  const record = new RunRecord(about);
  for (const fingerprint of fingerprints) {
    record.add({
      measures: {},
      tables: {},
      files: {},
      events: 1_000,
      fingerprint,
      frames: { sent: 100, delivered: 90, dropped: 8, inFlight: 2 },
      drops: new Map([['WIRE_LOSS', 8]]),
    });
  }
  record.write(path, { wallSeconds: 0.5, workers: 2 });
  return JSON.parse(readFileSync(path, 'utf8'));
}

test('a record sums up the runs of a sweep', () => {
  expect(recordOf(['a', 'b'])).toMatchObject({
    experiment: 'dice',
    factors: about.factors,
    replications: 2,
    seed: '1',
    warmUpNs: 1_000_000,
    durationNs: 4_000_000,
    costs: { file: 'shipped', fingerprint: expect.stringMatching(/^[0-9a-f]{16}$/) },
    runs: { planned: 2, finished: 2 },
    podwire: expect.stringMatching(/^\d+\.\d+\.\d+/),
    node: process.versions.node,
    workers: 2,
    wallSeconds: 0.5,
    events: 2_000,
    packetsPerWallSecond: 400, // 2 x 100 sent in half a second
    frames: { sent: 200, delivered: 180, dropped: 16, inFlight: 4 },
    dropsByReason: { WIRE_LOSS: 16 },
  });
});

test('its fingerprint depends on the runs and on their order', () => {
  const { fingerprint } = recordOf(['a', 'b']);
  expect(fingerprint).toMatch(/^[0-9a-f]{16}$/);
  expect(recordOf(['a', 'b']).fingerprint).toBe(fingerprint);
  expect(recordOf(['b', 'a']).fingerprint).not.toBe(fingerprint);
});
