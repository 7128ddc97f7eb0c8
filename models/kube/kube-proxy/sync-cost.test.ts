import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { inMs } from '../../../engine/time.ts';
import { IPTABLES_NFT_RESTORE, LEGACY_RESTORE, NFT_TRANSACTION, syncDuration } from './sync-cost.ts';

const { measurements } = JSON.parse(readFileSync(new URL('../../cpu/calibration.json', import.meta.url), 'utf8')) as {
  measurements: { name: string; unit: string; best: number }[];
};

describe('the cost of a sync', () => {
  test.each([
    ['full_legacy', LEGACY_RESTORE.full],
    ['kubepartial_legacy', LEGACY_RESTORE.partial],
    ['full_nft', IPTABLES_NFT_RESTORE.full],
    ['kubepartial_nft', IPTABLES_NFT_RESTORE.partial],
    ['full_nftnative', NFT_TRANSACTION.full],
    ['incr_nftnative', NFT_TRANSACTION.partial],
  ])('is programming.%s as measured', (name, curve) => {
    const rows = measurements.filter((row) => row.name.replace(/_\d+$/, '') === `programming.${name}`);
    expect(rows.map(({ unit }) => unit)).toEqual(curve.map(() => 'ms'));
    expect(curve).toEqual(rows.map((row) => [Number(/\d+$/.exec(row.name)), Math.round(row.best * 1e6)]));
  });

  test('is that of the whole for a full sync', () => {
    const cost = syncDuration(NFT_TRANSACTION, { kind: 'full', servicePorts: 1_000, changed: 0 });
    expect(inMs(cost)).toBe(469.6);
  });

  test('grows with the services that change in a partial one', () => {
    const partial = (changed: number) =>
      inMs(syncDuration(LEGACY_RESTORE, { kind: 'partial', servicePorts: 5_000, changed }));
    expect([partial(0), partial(1)]).toEqual([473.3, 473.3]);
    expect(partial(100)).toBeCloseTo(473.3 + 19.9 - 6, 6);
  });
});
