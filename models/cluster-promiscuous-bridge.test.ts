// A bridge in promiscuous mode, with br_netfilter, as seen on Linux 6.18 (two pods on cbr0, a Service by DNAT, UDP).

import { expect, test } from 'vitest';
import { ms } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import type { ProxyMode } from './kube/kube-proxy/proxy-mode.ts';
import { objectFrom } from './kube/objects.ts';

function served(endpoint: 'a' | 'b', proxy: ProxyMode = 'nftables'): { answered: number; served: number } {
  const cluster = new Cluster({ seed: 'promiscuous', proxy, cni: 'kubenet', bridge: { promiscuous: true } });
  cluster.addNodes(1);
  const containers = [{ name: 'web', ports: [{ containerPort: 8080, protocol: 'UDP' as const }] }];
  for (const name of ['a', 'b'])
    cluster.apply([objectFrom('Pod', { metadata: { name, labels: { app: name } }, spec: { containers } })]);
  cluster.addService({ name: 'svc', port: 80, protocol: 'UDP', selects: { name: endpoint } });
  const to = cluster.resolve('svc:80', { protocol: 'UDP' });
  const client = cluster.pod('default/a');
  const load = cluster.closedLoop(client, { to, protocol: 'udp', thinkTime: ms(10), requests: 1, timeout: ms(100) });
  cluster.runFor(ms(300));
  cluster.assertConserved();
  return { answered: load.completed, served: cluster.servers.get(`default/${endpoint}`)!.served };
}

test('a neighbor gets every packet of a Service twice: bridged, and routed back', () => {
  expect(served('b')).toEqual({ answered: 1, served: 2 });
});

test('the second one belongs to no connection: kube-proxy’s rule against invalid packets drops it in iptables mode', () => {
  expect(served('b', 'iptables')).toEqual({ answered: 1, served: 1 });
});

test('what would return to its sender is routed back without translation, and its sender takes it for a false one', () => {
  expect(served('a')).toEqual({ answered: 0, served: 0 });
});
