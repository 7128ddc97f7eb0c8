// Experiments that are compared with published charts are too large for a test; what they rest on shows in one or two runs.

import { describe, expect, test } from 'vitest';
import type { Levels } from './harness/experiment.ts';
import { inFile, loadRegistered } from './registry.ts';

async function measured(name: string, levels: Levels) {
  const experiment = await loadRegistered(inFile(name));
  return experiment.run(levels, '1/1').measures;
}

describe('at 5,000 Services', { timeout: 120_000 }, () => {
  test('a first packet passes half of the rules of iptables, and a handful of those of nftables', async () => {
    const iptables = await measured('first-packet', { services: 5_000, proxy: 'iptables' });
    const nftables = await measured('first-packet', { services: 5_000, proxy: 'nftables' });
    expect(Math.abs(iptables.rulesPerConnection! / 2_500 - 1)).toBeLessThan(0.2);
    expect(nftables.rulesPerConnection).toBeLessThan(100);
    expect(iptables.firstPacketP50Us! - nftables.firstPacketP50Us!).toBeGreaterThan(5);
    expect(iptables.firstPacketP99Us).toBeGreaterThan(iptables.firstPacketP50Us! * 1.2);
  });

  test('kept connections make as many requests as without, short ones fewer', async () => {
    const of = (services: number, connection: string) =>
      measured('keepalive-immunity', { services, proxy: 'iptables', connection });
    const [none, many] = [await of(0, 'new per request'), await of(5_000, 'new per request')];
    expect(many.requestsPerSecond).toBeLessThan(0.8 * none.requestsPerSecond!);
    const [noneKept, manyKept] = [await of(0, 'kept alive'), await of(5_000, 'kept alive')];
    expect(manyKept.requestsPerSecond).toBeGreaterThan(0.97 * noneKept.requestsPerSecond!);
  });
});

test('a sync that writes everything makes the median of 5,000 nodes half a cycle and a sync', {
  timeout: 120_000,
}, async () => {
  const slow = await measured('programming-at-5000-nodes', { machine: '7 times slower', restore: 'everything / 10 s' });
  expect(slow.syncMeanSeconds).toBeGreaterThan(17);
  expect(Math.abs(slow.programmingP50Seconds! / slow.expectedP50Seconds! - 1)).toBeLessThan(0.15);
  const fast = await measured('programming-at-5000-nodes', { machine: '7 times slower', restore: 'changes / 10 s' });
  expect(fast.syncMeanSeconds).toBeLessThan(6);
});
