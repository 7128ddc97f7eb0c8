import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { objectFrom } from './kube/objects.ts';
import { formatIp } from './packet/ip-address.ts';

/** Three nodes; `web` has two pods, on node-1 and node-2, behind a balancer that asks each node every second. */
function balancedCluster(externalTrafficPolicy: 'Cluster' | 'Local') {
  const cluster = new Cluster({ seed: 'load balancer' });
  cluster.addNodes(3);
  for (const node of ['node-1', 'node-2']) {
    const spec = { nodeName: node, containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] };
    const metadata = { name: `web-on-${node}`, labels: { app: 'web' } };
    cluster.apply([objectFrom('Pod', { apiVersion: 'v1', metadata, spec })]);
  }
  const ports = [{ port: 80, targetPort: 8080 }];
  const spec = { type: 'LoadBalancer', externalTrafficPolicy, selector: { app: 'web' }, ports } as const;
  cluster.apply([objectFrom('Service', { apiVersion: 'v1', metadata: { name: 'web' }, spec })]);
  const check = { interval: s(1), timeout: ms(500), unhealthyThreshold: 3 };
  const balancer = cluster.addLoadBalancer('default/web', check);
  const healthy = () => balancer.healthyNodes.map((ip) => formatIp(ip));
  cluster.runFor(s(1));
  return { cluster, balancer, healthy };
}

const [NODE_1, NODE_2, NODE_3] = ['192.168.0.11', '192.168.0.12', '192.168.0.13'] as const;

describe('a load balancer', () => {
  test('under policy Local sends to nodes that have endpoints, and pods see the client', () => {
    const { cluster, balancer, healthy } = balancedCluster('Local');
    expect(healthy()).toEqual([NODE_1, NODE_2]);
    const load = cluster.closedLoop(cluster.outside.client, { to: balancer, requests: 400, thinkTime: ms(1) });
    cluster.runFor(s(2));
    expect([load.completed, load.failed]).toEqual([400, 0]);
    // A fair coin tossed 400 times: 200 with a standard deviation of 10.
    expect(Math.abs(load.perServer.get('default/web-on-node-1')! - 200)).toBeLessThan(40);
    expect([...load.perSource.keys()]).toEqual([cluster.outside.clientIp]);
    cluster.assertConserved();
  });

  test('under policy Cluster sends to all nodes', () => {
    const { cluster, balancer, healthy } = balancedCluster('Cluster');
    expect(healthy()).toEqual([NODE_1, NODE_2, NODE_3]);
    const load = cluster.closedLoop(cluster.outside.client, { to: balancer, requests: 100, thinkTime: ms(1) });
    cluster.runFor(s(2));
    expect([load.completed, load.failed]).toEqual([100, 0]);
  });

  test('gives up a node after three failures in a row, and takes it back after one success', () => {
    const { cluster, healthy } = balancedCluster('Local');
    cluster.failNode('node-1');
    cluster.runFor(ms(2_400)); // probes at 1 s and 2 s have failed, that at 3 s has not
    expect(healthy()).toEqual([NODE_1, NODE_2]);
    cluster.runFor(s(1));
    expect(healthy()).toEqual([NODE_2]);
    cluster.recoverNode('node-1');
    cluster.runFor(s(2));
    expect(healthy()).toEqual([NODE_1, NODE_2]);
  });

  test('hears from the node when its last endpoint is not ready any more', () => {
    const { cluster, healthy } = balancedCluster('Local');
    cluster.setReady('default/web-on-node-2', false);
    cluster.runFor(s(5));
    expect(healthy()).toEqual([NODE_1]);
  });

  test('needs a Service of its type', () => {
    const cluster = new Cluster({ seed: 'none' });
    cluster.addNodes(1);
    cluster.addService({ name: 'web', port: 80 });
    expect(() => cluster.addLoadBalancer('default/web')).toThrow('no Service default/web of type LoadBalancer');
  });
});
