// Every built-in experiment still runs, at its smallest, and the same run gives the same result.

import { describe, expect, test } from 'vitest';
import { CNI_NETWORKS } from '../models/cni/networks/registry.ts';
import { PROXY_MODES } from '../models/kube/kube-proxy/proxy-mode.ts';
import { TWO_NODES } from './cli/podwire.fixture.ts';
import type { Experiment, Levels } from './harness/experiment.ts';
import { planRuns } from './harness/plan.ts';
import loadDistribution from './load-distribution.ts';
import { loadRegistered, REGISTRY } from './registry.ts';
import services from './services.ts';

/** The first level of each factor: experiments list the smallest first. */
const smallest = ({ factors }: Experiment): Levels => planRuns({ factors, replications: 1, seed: '1' })[0]!.levels;

/** Too large to run three times, even at their smallest: other tests ask the same. */
const LARGE = ['coredns-overload', 'endpoint-split', 'first-packet', 'programming-at-5000-nodes'];

const files = REGISTRY.flatMap((registered) =>
  'module' in registered && !LARGE.includes(registered.name) ? [registered] : [],
);

describe('the experiment', () => {
  test.each(files)('$name runs and repeats', { timeout: 120_000 }, async (registered) => {
    const experiment = await loadRegistered(registered);
    expect(experiment.question).toMatch(/\?$/);
    const first = experiment.run(smallest(experiment), '1/1');
    if (first.frames.sent > 0) expect(first.frames.delivered).toBeGreaterThan(500);
    if (first.measures.latencyP99Us !== undefined) {
      expect(first.measures.failed).toBe(0);
      expect(first.measures.latencyP99Us).toBeGreaterThan(50); // the service time
      expect(first.measures.latencyP99Us).toBeLessThan(500);
    }
    expect(experiment.run(smallest(experiment), '1/1')).toEqual(first);
    expect(experiment.run(smallest(experiment), '1/2').fingerprint).not.toBe(first.fingerprint);
  });

  test('services runs and repeats', () => {
    const options = { nodes: 3, ranges: {}, perSecond: 50, durationMs: 300, pcap: undefined };
    const experiment = services({ files: [{ name: 'two-nodes.yaml', text: TWO_NODES }], ...options });
    const first = experiment.run({}, '1/1');
    const { measures, tables, frames } = first;
    expect(measures.requests).toBeGreaterThan(50);
    expect(frames.sent).toBe(frames.delivered + frames.dropped + frames.inFlight);
    expect(new Set(tables.latency?.map(({ path }) => path))).toEqual(new Set(['same node', 'other node', 'outside']));
    const answered = tables.latency?.reduce((sum, { requests }) => sum + Number(requests), 0);
    expect(answered).toBe(measures.requests! - measures.failed! - measures.unanswered!);
    expect(experiment.run({}, '1/1')).toEqual(first);
    expect(experiment.heldFactors).toEqual({
      proxy: PROXY_MODES,
      ipFamily: ['ipv4', 'ipv6', 'dual'],
      cni: CNI_NETWORKS,
    });
    expect(experiment.run({ proxy: 'iptables', ipFamily: 'ipv4' }, '1/1')).toEqual(first);
    const nftables = experiment.run({ proxy: 'nftables' }, '1/1').measures;
    expect(nftables.rulesVisitedPerRequest).toBeLessThan(measures.rulesVisitedPerRequest!);
  });

  test('load-distribution spreads load as evenly over IPv6, and in IPv4 as before', () => {
    const levels = { connections: 100, connection: 'new per request' };
    const ipv4 = loadDistribution.run(levels, '1/1');
    expect(loadDistribution.run({ ...levels, ipFamily: 'ipv4' }, '1/1')).toEqual(ipv4);
    const ipv6 = loadDistribution.run({ ...levels, ipFamily: 'ipv6' }, '1/1').measures;
    expect(ipv6.failed).toBe(0);
    expect(ipv6.requests).toBeGreaterThan(900);
    expect(ipv6.chiSquareP).toBeGreaterThan(0.001);
  });
});
