// Services of type LoadBalancer, from outside through the cloud's load balancer to the pods.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import type { BALANCING_ALGORITHMS } from './host/backend-pool.ts';
import type { Process } from './host/process.ts';
import { IPV6_MODES, PROXY_MODES } from './kube/kube-proxy/proxy-mode.ts';
import { type Manifest, objectFrom, type Service } from './kube/objects.ts';
import { formatIp } from './packet/ip-address.ts';
import type { ClientSettings } from './workload/client.ts';
import { Load } from './workload/load.ts';

/** A check per second, two of which must agree. */
const QUICK = { interval: s(1), timeout: ms(500), healthyThreshold: 2, unhealthyThreshold: 2 };

/** Three nodes, `web` with so many pods, behind a Service of type LoadBalancer. */
function balanced(
  spec: Partial<Manifest<'Service'>['spec']> = {},
  { replicas = 3, ...options }: Partial<ClusterOptions> & { replicas?: number } = {},
) {
  const loadBalancer = { healthCheck: QUICK, ...options.loadBalancer };
  const cluster = new Cluster({ seed: 'balanced', ...options, loadBalancer });
  cluster.addNodes(3);
  cluster.addDeployment({ name: 'web', replicas });
  addService(cluster, spec);
  return cluster;
}

function addService(cluster: Cluster, spec: Partial<Manifest<'Service'>['spec']> = {}, name = 'web'): void {
  const ports = [{ port: 80, targetPort: 8080 }];
  cluster.apply([
    objectFrom('Service', {
      metadata: { name },
      spec: { type: 'LoadBalancer', selector: { app: 'web' }, ports, ipFamilyPolicy: 'PreferDualStack', ...spec },
    }),
  ]);
}

const serviceOf = (cluster: Cluster): Service => cluster.api.get('Service', 'default/web')!;

/** Its addresses, to send to. */
function addressesOf(cluster: Cluster) {
  const { ingress } = serviceOf(cluster).status.loadBalancer;
  return ingress.map(({ ip }) => cluster.resolve(ip!.includes(':') ? `[${ip}]:80` : `${ip}:80`));
}

/** Asks 60 times; who answered and whom they saw: `node-1 saw 203.0.113.10`; and what failed. */
function whoAnswers(cluster: Cluster, from: Process, settings: Partial<ClientSettings> = {}): string[] {
  const seen = new Set<string>();
  const load = new Load({
    groupBy({ server, sourceSeen, sourceFamily }) {
      const { node } = cluster.pod(server);
      seen.add(`${node} saw ${formatIp(sourceSeen, sourceFamily)}`);
      return '';
    },
  });
  const [to] = addressesOf(cluster);
  cluster.closedLoop(from, { to: to!, requests: 60, thinkTime: ms(1), timeout: s(1), load, ...settings });
  cluster.runFor(s(3));
  cluster.assertConserved();
  return [...seen, ...load.failures.keys()].sort();
}

/** Nodes that the load balancer sends to, for its only or first address. */
const healthyNodes = (cluster: Cluster): readonly string[] => [...cluster.loadBalancer!.healthyNodes.values()][0]!;

const CLIENT = { ipv4: '203.0.113.10', ipv6: '2001:db8:203:113::10' } as const;
const BALANCER = { ipv4: '198.51.100.1', ipv6: '2001:db8:198:51::1' } as const;

const VARIANTS = (['ipv4', 'ipv6'] as const).flatMap((ipFamily) =>
  (ipFamily === 'ipv4' ? PROXY_MODES : IPV6_MODES).map((proxy) => ({ proxy, ipFamily })),
);

describe.each(VARIANTS)('kube-proxy in mode $proxy, $ipFamily', ({ proxy, ipFamily }) => {
  const options = (ipMode: 'VIP' | 'Proxy') => ({ proxy, ipFamily, loadBalancer: { ipMode } });
  const local = { externalTrafficPolicy: 'Local' } as const;

  test('ipMode VIP and policy Local: the client is seen, on nodes that have a pod', () => {
    const cluster = balanced(local, { ...options('VIP'), replicas: 2 });
    const { client } = cluster.outside;
    expect(whoAnswers(cluster, client)).toEqual(['node-1', 'node-2'].map((node) => `${node} saw ${CLIENT[ipFamily]}`));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2']);
  });

  test('ipMode VIP and policy Cluster: a node sends on to any pod, under its own address', () => {
    const cluster = balanced({}, options('VIP'));
    const answers = whoAnswers(cluster, cluster.outside.client);
    expect(answers).toHaveLength(9); // each node to each pod
    // The eBPF-style replacement translates the source only of what goes on to another node.
    const seesClient = answers.filter((answer) => answer.endsWith(` saw ${CLIENT[ipFamily]}`));
    expect(seesClient).toHaveLength(proxy === 'ebpf' ? 3 : 0);
  });

  test('ipMode Proxy: the load balancer is seen, or a node', () => {
    const cluster = balanced(local, { ...options('Proxy'), replicas: 2 });
    const { client } = cluster.outside;
    expect(whoAnswers(cluster, client)).toEqual(
      ['node-1', 'node-2'].map((node) => `${node} saw ${BALANCER[ipFamily]}`),
    );
  });

  test('from a pod, VIPs never leave the node, and what is proxied goes out and comes back', () => {
    const seenBy = (ipMode: 'VIP' | 'Proxy') => {
      const cluster = balanced(local, { ...options(ipMode), replicas: 3 });
      const pod = cluster.addPod({ name: 'client', node: 'node-1' });
      return {
        answers: whoAnswers(cluster, pod),
        own: formatIp(cluster.pod('default/client').ip, ipFamily === 'ipv6' ? 6 : 4),
      };
    };
    const { answers, own } = seenBy('VIP');
    // In IPVS mode policy Local makes no exception for the node's own pods.
    const serving = proxy === 'ipvs' ? ['node-1'] : ['node-1', 'node-2', 'node-3'];
    expect(answers).toEqual(serving.map((node) => `${node} saw ${own}`));
    expect(seenBy('Proxy').answers).toEqual(
      ['node-1', 'node-2', 'node-3'].map((node) => `${node} saw ${BALANCER[ipFamily]}`),
    );
  });

  test('loadBalancerSourceRanges let in whom they name', () => {
    const range = (text: string) => ({ loadBalancerSourceRanges: [text] });
    const [inside, elsewhere] =
      ipFamily === 'ipv4' ? ['203.0.113.0/28', '192.0.2.0/24'] : ['2001:db8:203::/48', '2001:db8:1::/48'];
    for (const [ipMode, refusal] of [
      ['VIP', 'timed out'],
      ['Proxy', 'reset'],
    ] as const) {
      const admitted = balanced(range(inside!), options(ipMode));
      expect(whoAnswers(admitted, admitted.outside.client).length).toBeGreaterThan(3);
      const refused = balanced(range(elsewhere!), options(ipMode));
      expect(whoAnswers(refused, refused.outside.client, { requests: 2 })).toEqual([refusal]);
    }
  });
});

test('without node ports the address is served all the same, unless traffic is proxied', () => {
  const spec = { allocateLoadBalancerNodePorts: false } as const;
  const cluster = balanced(spec);
  expect(serviceOf(cluster).spec.ports[0]!.nodePort).toBeUndefined();
  expect(whoAnswers(cluster, cluster.outside.client)).toHaveLength(9);
  const proxied = balanced(spec, { loadBalancer: { ipMode: 'Proxy' } });
  expect(whoAnswers(proxied, proxied.outside.client, { requests: 1 })).toEqual(['refused']);
});

test.each(['VIP', 'Proxy'] as const)('UDP goes the same way in ipMode %s, and over both families', (ipMode) => {
  const ports = [{ port: 80, targetPort: 8080, protocol: 'UDP' as const }];
  const cluster = balanced({ ports }, { ipFamily: 'dual', loadBalancer: { ipMode } });
  for (const to of addressesOf(cluster))
    expect(whoAnswers(cluster, cluster.outside.client, { to, protocol: 'udp' }).length).toBeGreaterThan(6);
  expect(addressesOf(cluster)).toHaveLength(2);
});

describe('connections', () => {
  /** Of 600 connections to pods of policy Local, one per node: how many each node got. */
  function perNode(algorithm: (typeof BALANCING_ALGORITHMS)[number]): number[] {
    const cluster = balanced({ externalTrafficPolicy: 'Local' }, { loadBalancer: { algorithm } });
    const [to] = addressesOf(cluster);
    const load = cluster.closedLoop(cluster.outside.client, { to: to!, requests: 600, thinkTime: ms(1), users: 4 });
    cluster.runFor(s(3));
    expect(load.failed).toBe(0);
    return [...load.perServer.values()];
  }

  test('are spread over healthy nodes in turns', () => {
    expect(perNode('round robin')).toEqual([200, 200, 200]);
  });

  test('are spread over healthy nodes by a hash', () => {
    const counts = perNode('5-tuple hash');
    expect(counts).toHaveLength(3);
    for (const count of counts) expect(Math.abs(count - 200)).toBeLessThan(46); // four standard deviations
  });
});

describe('health checks', () => {
  test('a node of policy Local that loses its endpoint gets nothing after the threshold, and again when it has one', () => {
    const cluster = balanced({ externalTrafficPolicy: 'Local' });
    cluster.start();
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2', 'node-3']);
    const lost = cluster.pods.find(({ node }) => node === 'node-2')!.name;
    cluster.runFor(s(1));
    cluster.setReady(lost, false);
    cluster.runFor(ms(200)); // kube-proxy has heard of it, the load balancer has not: what comes is dropped
    expect(healthyNodes(cluster)).toContain('node-2');
    expect(whoAnswers(cluster, cluster.outside.client)).toContain('timed out');
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-3']);
    expect(whoAnswers(cluster, cluster.outside.client)).toEqual(
      ['node-1', 'node-3'].map((node) => `${node} saw ${CLIENT.ipv4}`),
    );
    cluster.setReady(lost, true);
    cluster.runFor(s(4));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2', 'node-3']);
  });

  test('when a node fails, its clients move after the threshold, and those of others never notice', () => {
    const cluster = balanced({ externalTrafficPolicy: 'Local' });
    const [to] = addressesOf(cluster);
    const settings = { to: to!, keepAlive: true, thinkTime: ms(10), timeout: s(1) };
    const clients = Array.from({ length: 30 }, () => cluster.closedLoop(cluster.outside.client, settings));
    const nodesOf = ({ perServer }: Load) =>
      [...perServer.keys()]
        .map((server) => cluster.pod(server).node)
        .sort()
        .join();
    cluster.runFor(s(1));
    const before = clients.map(nodesOf);
    expect(new Set(before)).toEqual(new Set(['node-1', 'node-2', 'node-3']));
    cluster.failNode('node-2');
    cluster.runFor(s(4));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-3']);
    const failures = clients.map(({ failed }) => failed);
    cluster.runFor(s(2));
    expect(clients.map(({ failed }) => failed)).toEqual(failures); // it is over
    for (const [i, client] of clients.entries()) {
      if (before[i] === 'node-2') {
        expect(client.failed).toBeGreaterThan(0);
        expect(nodesOf(client)).toMatch(/^node-1,node-2$|^node-2,node-3$/);
      } else {
        expect([client.failed, nodesOf(client)]).toEqual([0, before[i]]);
      }
    }
  });

  test('of policy Cluster ask for kube-proxy: one that cannot write its rules is unhealthy after two sync periods', () => {
    const cluster = balanced({}, { proxySync: { syncPeriod: s(5) } });
    cluster.runFor(s(1));
    cluster.node('node-3').kubeProxy.failing = true;
    cluster.scale('web', 4);
    cluster.runFor(s(9));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2', 'node-3']);
    cluster.runFor(s(5));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2']);
    cluster.node('node-3').kubeProxy.failing = false;
    cluster.runFor(s(10));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2', 'node-3']);
  });

  test('without any healthy node nobody is answered', () => {
    const cluster = balanced({ externalTrafficPolicy: 'Local' }, { replicas: 0 });
    expect(whoAnswers(cluster, cluster.outside.client, { requests: 2 })).toEqual(['timed out']);
    expect(cluster.frames.drops().get('NO_BACKEND')).toBeGreaterThan(0);
  });
});

describe('the service controller', () => {
  test('there is no load balancer without a Service for it', () => {
    const cluster = balanced({ type: 'ClusterIP' });
    cluster.runFor(s(1));
    expect(cluster.loadBalancer).toBeUndefined();
    const elsewhere = balanced({ loadBalancerClass: 'example.com/other' });
    elsewhere.runFor(s(1));
    expect([elsewhere.loadBalancer, serviceOf(elsewhere).status.loadBalancer.ingress]).toEqual([undefined, []]);
  });

  test('gives each Service an address of its own, and keeps those of a snapshot', () => {
    const cluster = new Cluster({ seed: 'snapshot' });
    cluster.addNodes(1);
    cluster.addDeployment({ name: 'web', replicas: 1 });
    cluster.apply([
      objectFrom('Service', {
        metadata: { name: 'web' },
        spec: { type: 'LoadBalancer', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
        status: { loadBalancer: { ingress: [{ ip: '192.168.200.1' }] } }, // among the nodes, as of MetalLB
      }),
    ]);
    for (const name of ['second', 'third']) addService(cluster, {}, name);
    const ingress = cluster.api.list('Service').flatMap(({ status }) => status.loadBalancer.ingress);
    expect(ingress.map(({ ip }) => ip)).toEqual(['192.168.200.1', '198.51.100.2', '198.51.100.3']);
    expect(whoAnswers(cluster, cluster.outside.client)).toEqual(['node-1 saw 10.244.0.1']);
  });

  test('leaves out nodes with the label that says so', () => {
    const cluster = new Cluster({ seed: 'excluded' });
    cluster.addNodes(2);
    const node = cluster.api.get('Node', 'node-1')!;
    const labels = { ...node.metadata.labels, 'node.kubernetes.io/exclude-from-external-load-balancers': '' };
    cluster.api.update({ ...node, metadata: { ...node.metadata, labels } });
    cluster.addDeployment({ name: 'web', replicas: 2 });
    addService(cluster);
    cluster.start();
    expect(healthyNodes(cluster)).toEqual(['node-2']);
  });

  test('serves Services and nodes that come while it runs, and forgets those that go', () => {
    const cluster = balanced({ type: 'ClusterIP' });
    cluster.runFor(s(1));
    addService(cluster, {}, 'late');
    cluster.runFor(ms(100));
    const [{ ip } = { ip: '' }] = cluster.api.get('Service', 'default/late')!.status.loadBalancer.ingress;
    expect(ip).toBe('198.51.100.2');
    expect(healthyNodes(cluster)).toEqual([]); // nobody has been asked yet
    cluster.addNodes(1);
    cluster.runFor(s(4));
    expect(healthyNodes(cluster)).toEqual(['node-1', 'node-2', 'node-3', 'node-4']);
    const to = cluster.resolve(`${ip}:80`);
    const ask = () => cluster.closedLoop(cluster.outside.client, { to, requests: 10, timeout: s(1) });
    const first = ask();
    cluster.runFor(s(2));
    expect(first.completed).toBe(10);
    cluster.api.remove('Service', 'default/late');
    cluster.runFor(s(2));
    expect([...cluster.loadBalancer!.healthyNodes]).toEqual([]);
    const second = ask();
    cluster.runFor(s(20));
    expect([...second.failures.keys()]).toEqual(['refused']);
  });
});

test('the same seed takes the same course', () => {
  const course = (): unknown => {
    const cluster = balanced({ externalTrafficPolicy: 'Local' }, { ipFamily: 'dual' });
    const loads = addressesOf(cluster).map((to) => cluster.closedLoop(cluster.outside.client, { to, users: 3 }));
    cluster.runFor(s(2));
    return [cluster.sim.fingerprint, ...loads.map(({ perServer }) => [...perServer])];
  };
  expect(course()).toEqual(course());
});

describe('session affinity', () => {
  test.each(['VIP', 'Proxy'] as const)('keeps a client with one node, in ipMode %s', (ipMode) => {
    const cluster = balanced(
      { sessionAffinity: 'ClientIP', externalTrafficPolicy: 'Local' },
      { replicas: 6, loadBalancer: { healthCheck: QUICK, ipMode, algorithm: 'round robin' } },
    );
    cluster.start();
    const nodesAsked = () => new Set(whoAnswers(cluster, cluster.outside.client).map((text) => text.split(' ')[0]));
    expect(nodesAsked().size).toBe(1);
    const service = serviceOf(cluster);
    cluster.api.update({
      ...service,
      spec: { ...service.spec, sessionAffinity: 'None', sessionAffinityConfig: undefined },
    });
    cluster.runFor(s(5));
    expect(nodesAsked().size).toBe(3);
  });
});
