// kube-proxy as a program on the nodes of a cluster: what it asks of them, and what becomes of its rules without it.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { parseAddress } from './packet/ip-address.ts';

/** A Service of two pods, on node-1 and node-2, that answers on node ports. */
function webCluster(options: Partial<ClusterOptions> = {}) {
  const cluster = new Cluster({ seed: 'kube-proxy', ...options });
  cluster.addNodes(2);
  cluster.addDeployment({ name: 'web', replicas: 2 });
  cluster.addService({ name: 'web', port: 80, type: 'NodePort', selects: { name: 'web' } });
  return cluster;
}

describe('a node port on loopback', () => {
  /** How many of ten requests of a program on node-1 to 127.0.0.1 are answered. */
  function answeredOnLoopback(options: Partial<ClusterOptions>) {
    const cluster = webCluster(options);
    const [{ nodePort = 0 } = {}] = cluster.api.get('Service', 'default/web')!.spec.ports;
    const node = cluster.node('node-1');
    const to = { ...parseAddress('127.0.0.1'), port: nodePort };
    const load = cluster.closedLoop(node.process, { to, requests: 10, thinkTime: ms(1), timeout: ms(100) });
    cluster.runFor(s(3));
    return { answered: load.completed, node };
  }

  test('answers in iptables mode, which has the node send from loopback to pods', () => {
    const { answered, node } = answeredOnLoopback({ proxy: 'iptables' });
    expect(answered).toBe(10);
    expect(node.kubeProxy.accountMetric('kubeproxy_iptables_localhost_nodeports_accepted_packets_total')).toBe(0);
  });

  test('counts connections, not packets, in the account that the kernel has for it', () => {
    const { node } = answeredOnLoopback({
      proxyFlags: { iptables: { accounts: ['localhost_nps_accepted_pkts'] } },
    });
    // Table nat sees the first packet of each of the ten connections.
    expect(node.kubeProxy.accountMetric('kubeproxy_iptables_localhost_nodeports_accepted_packets_total')).toBe(10);
  });

  test.each([
    { proxy: 'iptables', proxyFlags: { iptables: { localhostNodePorts: false } } },
    { proxy: 'iptables', proxyFlags: { iptables: { nodePortAddresses: 'primary' } } },
    { proxy: 'nftables' },
    { proxy: 'ipvs' },
  ] as const)('does not answer with %j', (options) => {
    expect(answeredOnLoopback(options).answered).toBe(0);
  });
});
