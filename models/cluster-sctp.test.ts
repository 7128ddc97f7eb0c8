// SCTP between pods, and through Services: what conntrack and NAT see of it.

import { expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { IPV6_MODES } from './kube/kube-proxy/proxy-mode.ts';
import { objectFrom } from './kube/objects.ts';
import { PROTOCOL_SCTP } from './packet/frame.ts';
import { formatIp } from './packet/ip-address.ts';

/** Two pods behind a Service of SCTP, and a client beside the first. */
function sctpCluster(proxy: (typeof IPV6_MODES)[number], ipFamily: 'ipv4' | 'ipv6') {
  const cluster = new Cluster({ seed: 'sctp', proxy, ipFamily });
  cluster.addNodes(2);
  const ports = [{ containerPort: 8082, protocol: 'SCTP' as const }];
  for (const node of ['node-1', 'node-2'])
    cluster.apply([
      objectFrom('Pod', {
        metadata: { name: `on-${node}`, labels: { app: 'sctp' } },
        spec: { nodeName: node, containers: [{ name: 'main', ports }] },
      }),
    ]);
  cluster.apply([
    objectFrom('Service', {
      metadata: { name: 'sctp' },
      spec: { type: 'NodePort', selector: { app: 'sctp' }, ports: [{ port: 95, targetPort: 8082, protocol: 'SCTP' }] },
    }),
  ]);
  return { cluster, client: cluster.addPod({ name: 'client', node: 'node-1' }) };
}

const VARIANTS = IPV6_MODES.flatMap((proxy) => (['ipv4', 'ipv6'] as const).map((ipFamily) => ({ proxy, ipFamily })));

test.each(VARIANTS)('reaches pods, cluster IP and node port, in mode $proxy, $ipFamily', ({ proxy, ipFamily }) => {
  const { cluster, client } = sctpCluster(proxy, ipFamily);
  const { ports, clusterIP } = cluster.api.get('Service', 'default/sctp')!.spec;
  const { family, ip } = cluster.resolve(ipFamily === 'ipv6' ? `[${clusterIP}]:95` : `${clusterIP}:95`);
  const pod = cluster.pod('default/on-node-2');
  const node = cluster.node('node-2');
  const targets = [
    { family: pod.family, ip: pod.ip, port: 8082 },
    { ...(family !== undefined && { family }), ip, port: 95 },
    { family: node.family, ip: node.ip, port: ports[0]!.nodePort! },
  ];
  const loads = targets.map((to) =>
    cluster.closedLoop(client, { to, protocol: 'sctp', requests: 40, thinkTime: ms(1), timeout: s(1) }),
  );
  cluster.runFor(s(3));
  cluster.assertConserved();
  expect(loads.map(({ completed, failed }) => [completed, failed])).toEqual([
    [40, 0],
    [40, 0],
    [40, 0],
  ]);
  expect(loads.map(({ perServer }) => perServer.size)).toEqual([1, 2, 2]);
});

test('is a connection of its own to conntrack, translated by its ports', () => {
  const { cluster, client } = sctpCluster('iptables', 'ipv4');
  const [{ nodePort = 0 } = {}] = cluster.api.get('Service', 'default/sctp')!.spec.ports;
  const node = cluster.node('node-2');
  cluster.closedLoop(client, { to: { ip: node.ip, port: nodePort }, protocol: 'sctp', requests: 1 });
  cluster.runFor(s(1));
  const [entry, ...others] = node.machine.root
    .netfilter!.conntrack.list()
    .filter(({ original }) => original.protocol === PROTOCOL_SCTP && original.dstPort === nodePort);
  expect(others).toEqual([]);
  expect(entry).toMatchObject({ dstNat: true, original: { dstPort: nodePort }, reply: { srcPort: 8082 } });
  const pods = cluster.pods.filter(({ name }) => name.includes('/on-')).map((pod) => formatIp(pod.ip));
  expect(pods).toContain(formatIp(entry!.reply.srcIp));
});

test('to a pod without a socket of it is answered as an unknown protocol, and times out', () => {
  const { cluster, client } = sctpCluster('iptables', 'ipv4');
  const other = cluster.addPod({ name: 'other', node: 'node-2' });
  const to = { ip: other.ip, port: 8082 };
  const load = cluster.closedLoop(client, { to, protocol: 'sctp', requests: 1, timeout: s(1) });
  cluster.runFor(s(3));
  expect(load.failures).toEqual(new Map([['timed out', 1]]));
  expect(cluster.frames.drops().get('UNHANDLED_PROTO')).toBe(1);
});
