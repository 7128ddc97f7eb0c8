import { describe, expect, test } from 'vitest';
import { type Instant, ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import type { Process } from './host/process.ts';
import { PROXY_MODES } from './kube/kube-proxy/proxy-mode.ts';
import { readManifests } from './kube/manifests.ts';
import { objectFrom } from './kube/objects.ts';
import { ANY_IP, formatIp, parseIp, parseIpv6Prefix, parsePrefix } from './packet/ip-address.ts';
import { PcapngWriter } from './packet/pcapng.ts';
import { Load } from './workload/load.ts';
import { echo, Server } from './workload/server.ts';

/** Three nodes, `web` with a pod on each, behind a Service on ClusterIP and node port; a client pod on node-1. */
function webCluster(options: Partial<ClusterOptions> = {}) {
  const cluster = new Cluster({ seed: 'cluster', ...options });
  cluster.addNodes(3);
  const web = cluster.addDeployment({ name: 'web', replicas: 3 });
  cluster.addService({ name: 'web', port: 80, type: 'NodePort', selects: web });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  return { cluster, client };
}

/** Asks until every endpoint has had its chance; who answered, and whom they saw: `web on node-2 saw 10.244.0.3`. */
function whoAnswers(
  cluster: Cluster,
  from: Process,
  to: { ip: ReturnType<typeof parseIp>; port: number },
  { requests = 40, protocol = 'tcp' as 'tcp' | 'udp' } = {},
): string[] {
  const seen = new Set<string>();
  const load = new Load({
    groupBy: ({ server, sourceSeen }) => {
      const node = cluster.pods.find(({ name }) => name === server)?.node;
      seen.add(`${node === undefined ? server : `pod on ${node}`} saw ${formatIp(sourceSeen)}`);
      return '';
    },
  });
  cluster.closedLoop(from, { to, protocol, requests, thinkTime: ms(1), load });
  cluster.runFor(s(20));
  cluster.assertConserved();
  return [...seen, ...load.failures.keys()].sort();
}

const nodePortOf = (cluster: Cluster): number => cluster.api.get('Service', 'default/web')!.spec.ports[0]!.nodePort!;

describe.each(PROXY_MODES)('who answers, and whom the server sees, with kube-proxy in mode %s', (proxy) => {
  test('a pod reaches every endpoint of a ClusterIP with its own address', () => {
    const { cluster, client } = webCluster({ proxy });
    const own = formatIp(cluster.pod('default/client').ip);
    expect(whoAnswers(cluster, client, cluster.resolve('web:80'))).toEqual([
      `pod on node-1 saw ${own}`,
      `pod on node-2 saw ${own}`,
      `pod on node-3 saw ${own}`,
    ]);
  });

  test('UDP goes the same way', () => {
    const cluster = new Cluster({ seed: 'udp', proxy });
    cluster.addNodes(2);
    const dns = cluster.addDeployment({ name: 'dns', replicas: 2 });
    cluster.addService({ name: 'dns', port: 53, protocol: 'UDP', selects: dns });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const to = cluster.resolve('dns:53', { protocol: 'UDP' });
    const own = formatIp(cluster.pod('default/client').ip);
    expect(whoAnswers(cluster, client, to, { protocol: 'udp' })).toEqual([
      `pod on node-1 saw ${own}`,
      `pod on node-2 saw ${own}`,
    ]);
  });

  test('a pod reaches another pod directly, on its node and on another', () => {
    const { cluster, client } = webCluster({ proxy });
    const own = formatIp(cluster.pod('default/client').ip);
    for (const { name, ip, node } of cluster.pods.filter((pod) => pod.name !== 'default/client')) {
      expect([name, ...whoAnswers(cluster, client, { ip, port: 8080 }, { requests: 1 })]).toEqual([
        name,
        `pod on ${node} saw ${own}`,
      ]);
    }
  });

  test('containers of one pod reach each other on localhost', () => {
    const { cluster } = webCluster({ proxy });
    const web = cluster.pods[0]!;
    expect(whoAnswers(cluster, web, { ip: parseIp('127.0.0.1'), port: 8080 }, { requests: 1 })).toEqual([
      `pod on ${web.node} saw 127.0.0.1`,
    ]);
  });

  test('from outside, a node port masquerades: the endpoint sees the node, by the device towards it', () => {
    const { cluster } = webCluster({ proxy });
    const to = { ip: cluster.node('node-1').ip, port: nodePortOf(cluster) };
    expect(whoAnswers(cluster, cluster.outside.client, to)).toEqual([
      // cbr0; a program at the device need not see the answer of an endpoint behind it before it leaves.
      `pod on node-1 saw ${proxy === 'ebpf' ? '203.0.113.10' : '10.244.0.1'}`,
      'pod on node-2 saw 192.168.0.11', // eth0
      'pod on node-3 saw 192.168.0.11',
    ]);
  });

  test('a program on a node reaches a ClusterIP through OUTPUT, from the address of its first route', () => {
    const { cluster } = webCluster({ proxy });
    const answers = whoAnswers(cluster, cluster.node('node-2').process, cluster.resolve('web:80'));
    expect(answers).toEqual([
      'pod on node-1 saw 192.168.0.12',
      'pod on node-2 saw 10.244.1.1',
      'pod on node-3 saw 192.168.0.12',
    ]);
  });

  test('a node agent reaches the pods of its node', () => {
    const { cluster } = webCluster({ proxy });
    const local = cluster.pods.find(({ node }) => node === 'node-2')!;
    expect(whoAnswers(cluster, cluster.node('node-2').process, { ip: local.ip, port: 8080 }, { requests: 1 })).toEqual([
      'pod on node-2 saw 10.244.1.1',
    ]);
  });

  test('what leaves the cluster leaves with the address of its node', () => {
    const { cluster, client } = webCluster({ proxy });
    const { outside } = cluster;
    new Server(outside.client, echo()).listen('TCP', 443);
    cluster.start();
    const to = { ip: outside.machine.root.stack.addresses.at(-1)!.ip, port: 443 };
    expect(to.ip).not.toBe(ANY_IP);
    expect(whoAnswers(cluster, client, to, { requests: 1 })).toEqual(['outside saw 192.168.0.11']);
  });

  test('a Service without endpoints refuses; an address that is no Service is unreachable, or silent', () => {
    const { cluster, client } = webCluster({ proxy });
    cluster.addService({ name: 'nobody', port: 80 });
    // A socket that asks before it connects fails with EHOSTUNREACH.
    const refused = proxy === 'ebpf' ? 'host unreachable' : 'refused';
    expect(whoAnswers(cluster, client, cluster.resolve('nobody:80'), { requests: 1 })).toEqual([refused]);
    // Mode nftables knows the range of ClusterIPs, and drops what no Service has.
    expect(whoAnswers(cluster, client, { ip: parseIp('10.96.99.99'), port: 80 }, { requests: 1 })).toEqual([
      proxy === 'nftables' ? 'timed out' : 'network unreachable',
    ]);
  });

  test('with session affinity a client keeps its endpoint, until it has not come for a while', () => {
    const { cluster, client } = webCluster({ proxy });
    const { spec } = cluster.api.get('Service', 'default/web')!;
    const sticky = {
      sessionAffinity: 'ClientIP' as const,
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 30 } },
      ports: [{ port: 80, targetPort: 8080 }],
    };
    cluster.apply([
      objectFrom('Service', {
        apiVersion: 'v1',
        metadata: { name: 'sticky' },
        spec: { ...sticky, selector: spec.selector },
      }),
    ]);
    const to = cluster.resolve('sticky:80');
    const answers: string[] = [];
    for (let visit = 0; visit < 8; visit++) {
      // Connections follow each other within the timeout, and it is 20 s until the next visit.
      answers.push(...whoAnswers(cluster, client, to, { requests: 5 }));
    }
    expect(answers).toHaveLength(8);
    expect(new Set(answers).size).toBe(1);
    // IPVS also keeps a client as long as it remembers a connection of it: 120 s after its end, looked at each minute.
    const pause = proxy === 'ipvs' ? s(200) : s(20);
    for (let visit = 0; visit < 8; visit++) {
      cluster.runFor(pause);
      answers.push(...whoAnswers(cluster, client, to, { requests: 1 }));
    }
    expect(new Set(answers).size).toBeGreaterThan(1);
  });
});

describe('a pod calls a Service whose only endpoint is itself', () => {
  const onlyItself = (bridge: ClusterOptions['bridge']) => {
    const cluster = new Cluster({ seed: 'hairpin', bridge: bridge! });
    cluster.addNodes(1);
    const web = cluster.addDeployment({ name: 'web', replicas: 1 });
    cluster.addService({ name: 'web', port: 80, selects: web });
    return whoAnswers(cluster, cluster.pods[0]!, cluster.resolve('web:80'), { requests: 1 });
  };

  // Observed on Linux 6.18.
  test('bridge-nf-call-iptables 1, hairpin mode off: no answer', () => {
    expect(onlyItself({ bridgeNfCallIptables: true, hairpinMode: false })).toEqual(['timed out']);
  });

  test('bridge-nf-call-iptables 1, hairpin mode on: answered, and the server sees the address of the bridge', () => {
    expect(onlyItself({ bridgeNfCallIptables: true, hairpinMode: true })).toEqual(['pod on node-1 saw 10.244.0.1']);
  });

  test('bridge-nf-call-iptables 0: routed back, answered, and the server sees the address of the bridge', () => {
    expect(onlyItself({ bridgeNfCallIptables: false, hairpinMode: false })).toEqual(['pod on node-1 saw 10.244.0.1']);
  });
});

describe('the same seed', () => {
  function run({ seed = 'same', observed = false } = {}) {
    const { cluster, client } = webCluster({ seed });
    if (observed) {
      const capture = new PcapngWriter();
      cluster.frames.followAll();
      for (const machine of cluster.machines)
        for (const { devices } of machine.namespaces) for (const device of devices) device.tap = capture.addTap(device);
    }
    const load = cluster.closedLoop(client, { to: cluster.resolve('web:80'), users: 5, thinkTime: ms(1) });
    cluster.runFor(ms(200));
    return { fingerprint: cluster.sim.fingerprint, completed: load.completed, p99: load.latency.quantile(0.99) };
  }

  test('gives the same trajectory, with journeys and captures or without', () => {
    const plain = run();
    expect(run()).toEqual(plain);
    expect(run({ observed: true })).toEqual(plain);
    expect(run({ seed: 'other' }).fingerprint).not.toBe(plain.fingerprint);
  });
});

describe('changes during a run', () => {
  test('a pod that is replaced comes back with another address, and the Service follows', () => {
    const { cluster, client } = webCluster();
    cluster.run(ms(1) as number as Instant);
    const before = new Set(cluster.pods.map(({ name }) => name));
    const gone = cluster.pods.find(({ node }) => node === 'node-3')!;
    cluster.api.delete('Pod', gone.name);
    cluster.runFor(s(1));
    const replaced = cluster.pods.find(({ name }) => !before.has(name))!;
    expect(cluster.pods.map(({ name }) => name)).not.toContain(gone.name);
    expect(replaced.ip).not.toBe(gone.ip);
    const nodes = cluster.pods.filter(({ name }) => name !== 'default/client').map(({ node }) => `pod on ${node}`);
    const answers = whoAnswers(cluster, client, cluster.resolve('web:80')).map((answer) => answer.slice(0, 13));
    expect(answers).toEqual([...new Set(nodes)].sort());
  });

  test('a Service scaled to nothing refuses, one watch delay after the other', () => {
    const { cluster, client } = webCluster();
    cluster.run(ms(1) as number as Instant);
    cluster.scale('web', 0);
    cluster.runFor(s(1));
    expect(whoAnswers(cluster, client, cluster.resolve('web:80'), { requests: 1 })).toEqual(['refused']);
  });
});

describe('from manifests', () => {
  const clusterOf = (text: string) =>
    Cluster.fromManifests(readManifests([{ name: 'test.yaml', text }]), { seed: 'manifests', nodes: 3 });
  const podsOf = (cluster: Cluster) =>
    cluster.pods.map(({ name, node }) => `${name.replace(/-\w{5}$/, '')} on ${node}`);
  const daemonSet = (name: string, spec = '') => `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ${name}}
spec:
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}}}
    spec: {${spec} containers: [{name: main, ports: [{containerPort: 9100}]}]}
`;

  test('a DaemonSet runs on every node, those that stand beside it in the file included', () => {
    expect(podsOf(clusterOf(daemonSet('agent')))).toEqual([
      ...['default/agent on node-1', 'default/agent on node-2', 'default/agent on node-3'],
    ]);
  });

  test('a DaemonSet of a snapshot has the pods that it has', () => {
    const owned = (node: string, podIP: string) => `
apiVersion: v1
kind: Pod
metadata: {name: agent-on-${node}, labels: {app: agent}, ownerReferences: [{kind: DaemonSet, name: agent, controller: true}]}
spec: {nodeName: ${node}, containers: [{name: main}]}
status: {podIP: ${podIP}}
`;
    const cluster = clusterOf([daemonSet('agent'), owned('a', '10.244.0.7'), owned('b', '10.244.1.7')].join('---'));
    expect(cluster.pods.map(({ name, node, ip }) => `${name} ${node} ${formatIp(ip)}`)).toEqual([
      ...['default/agent-on-a a 10.244.0.7', 'default/agent-on-b b 10.244.1.7'],
    ]);
  });

  test('pods without an address leave alone those that others have, whatever their order', () => {
    const pod = (name: string, rest: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}}
spec: {nodeName: node-1, containers: [{name: main}]}
${rest}`;
    const node = '{apiVersion: v1, kind: Node, metadata: {name: node-1}}';
    const first = 'status: {podIP: 10.244.0.1}'; // where other clusters have a gateway
    const cluster = clusterOf(
      [node, pod('new', ''), pod('a', first), pod('b', 'status: {podIP: 10.244.0.3}')].join('\n---'),
    );
    expect(cluster.pods.map(({ name, ip }) => `${name} ${formatIp(ip)}`).sort()).toEqual([
      ...['default/a 10.244.0.1', 'default/b 10.244.0.3', 'default/new 10.244.0.4'],
    ]);
  });

  test('two programs on the network of a node cannot have one port', () => {
    const cluster = clusterOf(`${daemonSet('one', 'hostNetwork: true,')}---${daemonSet('two', 'hostNetwork: true,')}`);
    expect(cluster.notes).toHaveLength(3);
    expect(cluster.notes[0]).toMatch(
      /^Pod default\/two-\w{5}: cannot listen on TCP port 9100: node-1 gave it to Pod default\/one-\w{5}$/,
    );
    const [pod] = cluster.pods;
    const answers = whoAnswers(cluster, cluster.outside.client, { ip: pod!.ip, port: 9100 }, { requests: 1 });
    expect(answers).toEqual(['pod on node-1 saw 203.0.113.10']);
  });

  test('a pod on a node that is not there is noted', () => {
    const cluster = clusterOf(
      daemonSet('agent').replace('DaemonSet', 'Deployment').replace('spec: {', 'spec: {nodeName: moon,'),
    );
    expect(cluster.pods).toEqual([]);
    expect(cluster.schedulingNotes).toEqual([
      expect.stringMatching(/^Pod default\/agent-\w+-\w{5}: spec.nodeName: there is no node moon$/),
    ]);
  });
});

test('a pod of a snapshot keeps its node and address, even outside the range of its node', () => {
  const cluster = new Cluster({ seed: 'snapshot' });
  cluster.addNodes(2);
  const pod = (name: string, nodeName: string, podIP: string) =>
    objectFrom('Pod', {
      apiVersion: 'v1',
      metadata: { name, labels: { app: 'web' } },
      spec: { nodeName, containers: [{ name: 'web', ports: [{ containerPort: 8080 }] }] },
      status: { podIP },
    });
  cluster.apply([pod('stray', 'node-2', '10.244.200.7')]);
  cluster.addService({ name: 'web', port: 80, selects: { name: 'web' } });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  expect(whoAnswers(cluster, client, cluster.resolve('web:80'), { requests: 1 })).toEqual([
    `pod on node-2 saw ${formatIp(cluster.pod('default/client').ip)}`,
  ]);
});

describe('connect() takes what it took on Linux 6.18, within 5 %', () => {
  // Both pods on one node, one core each measured; medians of 300 connects (models/cpu/calibration.json).
  const connectP50Us = (bridgeNfCallIptables: boolean, target: 'pod' | 'service'): number => {
    const cluster = new Cluster({ seed: 'connect', bridge: { bridgeNfCallIptables } });
    cluster.addNodes(1);
    const web = cluster.addDeployment({ name: 'web', replicas: 1 });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const [server] = cluster.pods;
    const client = cluster.addPod({ name: 'client' });
    const to = target === 'pod' ? { ip: server!.ip, port: 8080 } : cluster.resolve('web:80');
    const load = cluster.closedLoop(client, { to, thinkTime: ms(1), requests: 300 });
    cluster.runFor(s(1));
    return load.connect.quantileUs(0.5);
  };

  test('from pod to pod without netfilter: 16.1 us', () => {
    expect(Math.abs(connectP50Us(false, 'pod') / 16.1 - 1)).toBeLessThan(0.05);
  });

  test('through a Service, with br_netfilter: 21.8 us', () => {
    expect(Math.abs(connectP50Us(true, 'service') / 21.8 - 1)).toBeLessThan(0.05);
  });
});

describe("kube-proxy's mode", () => {
  test('nodes of one cluster may run different ones', () => {
    const cluster = new Cluster({ seed: 'mixed' });
    cluster.addNodes(1);
    cluster.addNodes(1, { proxy: 'nftables' });
    const web = cluster.addDeployment({ name: 'web', replicas: 2 });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const clients = cluster.nodes.map(({ name }) => cluster.addPod({ name: `client-of-${name}`, node: name }));
    cluster.start();
    const modes = cluster.nodes.map(({ machine }) => {
      const { tables, nftables } = machine.root.netfilter!;
      return [tables.chain('nat', 'KUBE-SERVICES') !== undefined, nftables.table('ip', 'kube-proxy') !== undefined];
    });
    expect(modes).toEqual([
      [true, false],
      [false, true],
    ]);
    for (const client of clients) {
      expect(whoAnswers(cluster, client, cluster.resolve('web:80'))).toHaveLength(2);
    }
  });

  test('a node guards the service range of its family, whichever is the first', () => {
    const ranges = { service: parseIpv6Prefix('fd00:96::/112'), secondaryService: parsePrefix('10.96.0.0/12') };
    const cluster = new Cluster({ seed: 'dual stack', ranges, proxy: 'nftables' });
    cluster.addNodes(1);
    cluster.start();
    const table = cluster.node('node-1').machine.root.netfilter!.nftables.list();
    expect(table).toContain('ip daddr 10.96.0.0/12 drop comment');
  });

  test('cannot change once there are rules', () => {
    const { cluster } = webCluster();
    cluster.useProxy('nftables');
    cluster.start();
    expect(() => cluster.useProxy('iptables')).toThrow('node node-1 has rules already');
  });

  test('an endpoint that comes during the run is served after the watch delay', () => {
    const { cluster, client } = webCluster({ proxy: 'nftables' });
    cluster.start();
    cluster.scale('web', 4);
    cluster.runFor(ms(100));
    const pods = new Set(whoAnswers(cluster, client, cluster.resolve('web:80'), { requests: 80 }));
    expect(pods.size).toBe(3); // four pods on three nodes
    const table = cluster.node('node-1').machine.root.netfilter!.nftables.list();
    expect(table.match(/chain endpoint-/g)).toHaveLength(4);
  });
});
