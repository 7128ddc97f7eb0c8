import { expect, test } from 'vitest';
import { ms } from '../engine/time.ts';
import { flowCacheOf } from '../models/ip/flow-cache.ts';
import { buildEcho } from './end-to-end.bench.ts';

/** On each of two nodes, requests and responses. */
const FLOWS_PER_CLIENT = 4;

test('flows that go on are remembered, however many take turns', () => {
  const { cluster } = buildEcho({ nodes: 40, podsPerNode: 24 });
  const flows = flowCacheOf(cluster.frames);
  cluster.runFor(ms(3));
  const soon = flows.flows;
  cluster.runFor(ms(20));
  const clients = cluster.pods.length;
  expect(soon).toBeGreaterThan(0.5 * FLOWS_PER_CLIENT * clients);
  expect(flows.flows).toBeGreaterThan(0.98 * FLOWS_PER_CLIENT * clients);
  expect(flows.flows).toBeLessThan(1.1 * FLOWS_PER_CLIENT * clients);
});

test('a flow of one frame leaves no record behind', () => {
  const { cluster } = buildEcho({ nodes: 2, podsPerNode: 2, clients: 1 });
  const flows = flowCacheOf(cluster.frames);
  cluster.runFor(ms(20));
  const before = flows.flows;
  const [pod, peer] = cluster.pods;
  const ignore = { onDatagram: () => {} };
  for (let i = 0; i < 100; i++) {
    const socket = pod!.namespace.udp.bind({ cpu: 0 }, ignore);
    socket.send({ ip: peer!.ip, port: 9 }, { sizeBytes: 1, id: 0 });
    socket.close();
    cluster.runFor(ms(1));
  }
  expect(flows.flows).toBeLessThan(before + 10);
});
