import { expect, test } from 'vitest';
import { checkMemory, estimatedBytes } from './cluster-memory.ts';
import { growthCurves } from './harness/growth.ts';
import scale, { sizeOf } from './scale.ts';

test('a run tells how long building took, what it left on the heap, and how fast packets go', {
  timeout: 60_000,
}, () => {
  const { measures, frames, fingerprint } = scale.run({ nodes: 3, services: 100 }, '1/1');
  expect(measures).toMatchObject({ pods: 90, failed: 0 });
  for (const column of ['buildWallSeconds', 'packetsPerWallSecond', 'endpointChangeWallMs'] as const)
    expect(measures[column]).toBeGreaterThan(0);
  expect(frames.delivered).toBeGreaterThan(1_000);
  expect(scale.run({ nodes: 3, services: 100 }, '1/1').fingerprint).toBe(fingerprint); // wall time is only looked at
});

test('nodes hold conntrack entries in proportion to the pods of the cluster, more than a million in the largest one', () => {
  const entriesPerPod = [3, 6].map((nodes) => {
    const { pods, conntrackEntries } = scale.run({ nodes, services: 10 }, '1/1').measures;
    return conntrackEntries! / pods!;
  });
  // 8 datagrams; an entry or two of each of 300 flows count more in a small cluster, and less where a port comes again.
  for (const entries of entriesPerPod) expect(entries).toBeGreaterThan(8);
  const reportsOfLargest = (150_000 * 8) / 300;
  const ports = 60_999 - 32_768 + 1;
  const apart = ports * (1 - (1 - 1 / ports) ** reportsOfLargest);
  expect(300 * apart).toBeGreaterThan(1_100_000);
});

test('a changed endpoint is in the rules of all nodes after a watch delay or three, and a sync that takes longer with more Services', () => {
  const changeMs = (levels: { nodes: number; services: number }) => scale.run(levels, '1/1').measures.endpointChangeMs!;
  const [few, many] = [10, 1_000].map((services) => changeMs({ nodes: 3, services }));
  expect(changeMs({ nodes: 6, services: 10 })).toBe(few);
  expect(few).toBeGreaterThan(10);
  expect(few).toBeLessThan(50);
  expect(many).toBeGreaterThan(2 * few!);
});

test('Services beyond the pods have endpoints where nobody is', () => {
  expect(sizeOf({ nodes: 10, services: 1_000 })).toEqual({
    nodes: 10,
    pods: 300,
    services: 1_000,
    endpoints: 300 + 2 * 700,
    ipFamily: 'ipv4',
  });
});

test('addresses of IPv6, and of both families, need more memory', () => {
  const bytes = (['ipv4', 'ipv6', 'dual'] as const).map((ipFamily) =>
    estimatedBytes(sizeOf({ nodes: 100, services: 100, ipFamily })),
  );
  expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
  const { measures } = scale.run({ nodes: 3, services: 10, ipFamily: 'dual' }, '1/1');
  expect(measures).toMatchObject({ pods: 90, failed: 0 });
});

test('a cluster that is too large for the memory given is refused with an estimate', () => {
  const size = sizeOf({ nodes: 5_000, services: 10_000 });
  expect(() => checkMemory(size, estimatedBytes(size))).not.toThrow();
  expect(() => checkMemory(size, 1e9)).toThrow(
    /^5,000 nodes, 150,000 pods and 10,000 Services with 150,000 endpoints take about \d\.\d GB of memory, and 1\.0 GB are left; expected a smaller cluster/,
  );
});

test('the exponent of a power law is found, and of a constant with a power law its last step comes close', () => {
  const rows = [10, 100, 1_000].flatMap((nodes) =>
    [1, 10].map((services) => ({
      nodes: `${nodes}`,
      services: `${services}`,
      square: `${nodes ** 2}`,
      late: `${100 + nodes}`,
    })),
  );
  const curves = growthCurves(
    { file: '', columns: [], rows },
    { factors: ['nodes', 'services'], measures: ['square', 'late'] },
  );
  expect(curves.map(({ measure, growsWith, at }) => `${measure} with ${growsWith} at ${at}`).slice(0, 3)).toEqual([
    'square with nodes at services=1',
    'square with nodes at services=10',
    'square with services at nodes=10',
  ]);
  expect(curves[0]!.exponent).toBeCloseTo(2);
  const late = curves.find(({ measure }) => measure === 'late')!;
  expect(late.exponent).toBeCloseTo(0.5, 0);
  expect(late.lastExponent).toBeCloseTo(Math.log10(1_100 / 200));
});
