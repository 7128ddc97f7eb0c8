// Clients of UDP that keep their port, while the endpoints of their Service change.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { CONNTRACK_CLEANUPS, type ConntrackCleanup } from './kube/kube-proxy/conntrack-cleanup.ts';
import { INSTANT_SYNC } from './kube/kube-proxy/kube-proxy.ts';
import { PROXY_MODES, type ProxyMode } from './kube/kube-proxy/proxy-mode.ts';
import { objectFrom } from './kube/objects.ts';
import { PROTOCOL_UDP } from './packet/frame.ts';
import { formatIp } from './packet/ip-address.ts';

const CLIENTS = 8;

const labels = { app: 'dns' };
/** Its pods go on for ten seconds after they were deleted. */
const DNS = objectFrom('Deployment', {
  metadata: { name: 'dns' },
  spec: {
    replicas: 2,
    selector: { matchLabels: labels },
    template: {
      metadata: { labels },
      spec: {
        containers: [
          {
            name: 'dns',
            ports: [{ containerPort: 8080, protocol: 'UDP' }],
            lifecycle: { preStop: { sleep: { seconds: 10 } } },
          },
        ],
      },
    },
  },
});

/** Service `dns` of two pods, and clients on node-1 that ask it every 10 ms, each from a port of its own. */
function dnsCluster(conntrackCleanup: ConntrackCleanup, proxy: ProxyMode = 'iptables') {
  const cluster = new Cluster({ seed: 'stale', proxy, proxySync: { ...INSTANT_SYNC, conntrackCleanup } });
  cluster.addNodes(2);
  cluster.apply([DNS]);
  cluster.addService({ name: 'dns', port: 53, protocol: 'UDP', selects: { name: 'dns' } });
  const to = cluster.resolve('dns:53', { protocol: 'UDP' });
  for (let i = 0; i < CLIENTS; i++) {
    const client = cluster.addPod({ name: `client-${i}`, node: 'node-1' });
    cluster.closedLoop(client, { to, protocol: 'udp', keepAlive: true, thinkTime: ms(10) });
  }
  cluster.runFor(s(1));
  return cluster;
}

/** Where the clients' connections lead, each place once. */
const endpointsInUse = (cluster: Cluster): string[] => {
  const entries = cluster.node('node-1').machine.root.netfilter!.conntrack.list();
  const udp = entries.filter(({ original, dstNat }) => original.protocol === PROTOCOL_UDP && dstNat);
  return [...new Set(udp.map(({ reply }) => formatIp(reply.srcIp)))].sort();
};

const dnsPods = (cluster: Cluster) => cluster.pods.filter(({ name }) => name.includes('dns'));

describe.for(PROXY_MODES)('in %s mode', (mode) => {
  test.for(CONNTRACK_CLEANUPS)('clients leave an endpoint that is not ready any more (cleanup: %s)', (cleanup) => {
    const cluster = dnsCluster(cleanup, mode);
    expect(endpointsInUse(cluster)).toHaveLength(2);
    cluster.setReady(dnsPods(cluster)[0]!.name, false);
    cluster.runFor(s(1));
    expect(endpointsInUse(cluster)).toHaveLength(1);
  });

  test('they stay where kube-proxy cannot write its rules', () => {
    const cluster = dnsCluster('reconcile', mode);
    cluster.node('node-1').kubeProxy.failing = true;
    cluster.setReady(dnsPods(cluster)[0]!.name, false);
    cluster.runFor(s(1));
    expect(endpointsInUse(cluster)).toHaveLength(2);
  });
});

test('while an endpoint drains they stay from 1.32 on, and leave up to 1.31', () => {
  const [upTo131, from132] = CONNTRACK_CLEANUPS.map((cleanup) => {
    const cluster = dnsCluster(cleanup);
    cluster.scale('dns', 1);
    cluster.runFor(s(1));
    return endpointsInUse(cluster);
  });
  expect(upTo131).toHaveLength(1);
  expect(from132).toHaveLength(2);
});
