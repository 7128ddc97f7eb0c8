// The flow cache makes no difference: clusters with random rules, settings, loads and mishaps do the same with it and
// without, to the nanosecond and to the last counter.

import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { ms, us } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { anyStory } from './cluster-random-story.fixture.ts';
import { type Story, tell } from './cluster-story.fixture.ts';
import { FlowCache } from './ip/flow-cache.ts';

test('runs with and without the flow cache are the same', { timeout: 120_000 }, () => {
  const repeat = vi.spyOn(FlowCache.prototype, 'repeat');
  let repeated = 0;
  fc.assert(
    fc.property(anyStory, (told) => {
      const expected = tell(told, { hasNoFlowCache: true });
      repeat.mockClear();
      expect(tell(told)).toEqual(expected);
      repeated += repeat.mock.results.filter(({ value }) => value === true).length;
    }),
    { numRuns: 60 },
  );
  expect(repeated).toBeGreaterThan(10_000);
});

test('so they are through tunnels, which are no way that is remembered', { timeout: 120_000 }, () => {
  const anyNetwork = fc.constantFrom('flannel-vxlan', 'calico-ipip');
  fc.assert(
    fc.property(anyStory, anyNetwork, (told, cni) => {
      const story: Story = cni === 'calico-ipip' ? { ...told, ipFamily: 'ipv4', cni } : { ...told, cni };
      expect(tell(story)).toEqual(tell(story, { hasNoFlowCache: true }));
    }),
    { numRuns: 20 },
  );
});

test('answers find the socket that asked, whatever has been forgotten of other flows meanwhile', () => {
  const cluster = new Cluster({ seed: 'many flows' });
  cluster.addNodes(2);
  const web = cluster.addDeployment({ name: 'web', replicas: 1, port: 8080, node: 'node-2' });
  cluster.addService({ name: 'web', port: 80, targetPort: 8080, protocol: 'UDP', selects: web });
  const { namespace, place, cpu } = cluster.addPod({ name: 'client', node: 'node-1' });
  cluster.start();
  const [server] = cluster.pods;
  cluster.servers.get(server!.name)!.close();
  server!.namespace.udp.bind(
    { port: 8080, cpu: server!.cpu },
    { onDatagram: (message, from, socket) => socket.send(from, message) },
  );
  const to = cluster.resolve('web:80', { protocol: 'UDP' });
  const repeat = vi.spyOn(FlowCache.prototype, 'repeat');
  // Each flow has four records, so that the table grows again and again while the first flows go on.
  const answered = Array.from({ length: 1_500 }, (_, i) => {
    const answers: number[] = [];
    const socket = namespace.udp.bind({ cpu }, { onDatagram: ({ id }) => answers.push(id) });
    for (let round = 0; round < 5; round++)
      place.schedule(us(40 * i + 15_000 * round), () => socket.send(to, { id: i, sizeBytes: 100 }), undefined);
    return answers;
  });
  cluster.runFor(ms(200));
  expect(answered).toEqual(answered.map((_, i) => [i, i, i, i, i]));
  expect(repeat.mock.results.filter(({ value }) => value === true).length).toBeGreaterThan(10_000);
  cluster.assertConserved();
});

test.each(['node-1', 'node-2'])(
  'what comes for a closed socket on %s is refused, until another has its port',
  (node) => {
    const cluster = new Cluster({ seed: 'closed' });
    cluster.addNodes(2);
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const server = cluster.addPod({ name: 'server', node });
    cluster.start();
    const bind = (name: string) =>
      server.namespace.udp.bind({ port: 9, cpu: server.cpu }, { onDatagram: ({ id }) => heard.push(`${name} ${id}`) });
    const heard: string[] = [];
    const errors: unknown[] = [];
    const asker = client.namespace.udp.bind(
      { cpu: client.cpu },
      { onDatagram: () => {}, onError: (error) => errors.push(error) },
    );
    const sockets = { first: bind('first') };
    const to = { ip: server.ip, port: 9 };
    for (let id = 0; id < 14; id++)
      client.place.schedule(ms(id), () => asker.send(to, { id, sizeBytes: 10 }), undefined);
    const repeat = vi.spyOn(FlowCache.prototype, 'repeat');
    server.place.schedule(us(5_500), () => sockets.first.close(), undefined);
    server.place.schedule(us(9_500), () => bind('second'), undefined);
    cluster.runFor(ms(20));
    const ids = (name: string) => heard.filter((text) => text.startsWith(name)).map((text) => text.split(' ')[1]);
    expect(ids('first')).toEqual(['0', '1', '2', '3', '4', '5']);
    expect(ids('second')).toEqual(['10', '11', '12', '13']);
    expect(errors).toHaveLength(4);
    expect(repeat.mock.results.filter(({ value }) => value === true).length).toBeGreaterThan(10);
    cluster.assertConserved();
  },
);
