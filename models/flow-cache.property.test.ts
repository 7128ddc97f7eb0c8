// The flow cache makes no difference: clusters with random rules, settings, loads and mishaps do the same with it and
// without, to the nanosecond and to the last counter.

import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { type Duration, ms, s, us } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import { FlowCache } from './ip/flow-cache.ts';
import { ESTABLISHED_CHOICES, type EstablishedChoice } from './kube/network-policy/policy-rules.ts';
import { objectFrom } from './kube/objects.ts';
import type { ClusterIpFamily } from './kube/ranges.ts';
import { Bridge } from './link/bridge.ts';
import { formatConntrack, formatConntrackStatistics } from './netfilter/conntrack-text.ts';
import { printIptablesSave } from './netfilter/iptables-save.ts';
import { Rule } from './netfilter/rule.ts';
import type { TableName } from './netfilter/rule-tables.ts';
import { parseRule } from './netfilter/rule-text.ts';
import { formatSocketAddress } from './packet/ip-address.ts';

const ONLY_UDP = objectFrom('NetworkPolicy', {
  metadata: { name: 'web' },
  spec: { podSelector: { matchLabels: { app: 'web' } }, ingress: [{ from: [], ports: [{ protocol: 'UDP' }] }] },
});

/** What an administrator, or bad luck, does to node-1 while traffic flows. */
const MISHAPS: Readonly<Record<string, (cluster: Cluster) => void>> = {
  'three replicas': (cluster) => cluster.scale('web', 3),
  'one replica': (cluster) => cluster.scale('web', 1),
  'another Service': (cluster) => cluster.addService({ name: `idle-${cluster.sim.now}`, port: 80, endpoints: 2 }),
  'the uplink goes down': (cluster) => setUplink(cluster, false),
  'the uplink comes up': (cluster) => setUplink(cluster, true),
  'a pod is cut off': (cluster) => {
    const { namespace } = cluster.pod('default/client');
    namespace.deviceNamed('eth0').up = !namespace.deviceNamed('eth0').up;
  },
  'a policy comes': (cluster) => {
    if (cluster.api.get('NetworkPolicy', 'default/web') === undefined) cluster.apply([ONLY_UDP]);
  },
  'it goes': (cluster) => cluster.api.delete('NetworkPolicy', 'default/web'),
  'a smaller MTU': (cluster) => {
    cluster.node('node-1').machine.root.deviceNamed('eth0').mtuBytes = 600;
  },
  'iptables skips bridged frames': (cluster) => {
    const { root } = cluster.node('node-1').machine;
    root.bridgeCalls = { ...root.bridgeCalls, iptables: !root.bridgeCalls.iptables };
  },
  'hairpin mode changes': (cluster) => {
    for (const device of cluster.node('node-1').machine.root.devices)
      if (device instanceof Bridge) for (const port of device.ports) port.hairpin = !port.hairpin;
  },
  'somebody captures': (cluster) => {
    cluster.node('node-1').machine.root.deviceNamed('eth0').tap = () => {};
  },
  'connections are deleted': (cluster) => {
    cluster.node('node-1').machine.root.netfilter!.conntrack.flush();
  },
  'neighbors forget soon': (cluster) => sysctl(cluster, 'net.ipv4.neigh.eth0.base_reachable_time_ms', 700),
  'no forwarding': (cluster) => sysctl(cluster, 'net.ipv4.conf.all.forwarding', 0),
  forwarding: (cluster) => sysctl(cluster, 'net.ipv4.conf.all.forwarding', 1),
  'short UDP connections': (cluster) => sysctl(cluster, 'net.netfilter.nf_conntrack_udp_timeout', 1),
  'a small table': (cluster) => sysctl(cluster, 'net.netfilter.nf_conntrack_max', 8),
};

/** In node-1's tables from the start, or from a mishap on. */
const RULES = [
  'filter FORWARD -m limit --limit 20/second --limit-burst 5 -j ACCEPT',
  'filter FORWARD -m statistic --mode nth --every 3 --packet 0 -j ACCEPT',
  'filter FORWARD -m statistic --mode random --probability 0.2 -j DROP',
  'filter FORWARD -m length --length 0:200 -j ACCEPT',
  'filter FORWARD -m ttl --ttl-eq 63 -j ACCEPT',
  'filter FORWARD -p tcp -m tcp --tcp-flags SYN,ACK,FIN,RST ACK -j ACCEPT',
  'filter FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
  'filter FORWARD -m conntrack --ctstatus ASSURED -j ACCEPT',
  'filter FORWARD -m addrtype --dst-type LOCAL -j DROP',
  'filter FORWARD -m recent --set --name seen --rsource',
  'filter FORWARD -m hashlimit --hashlimit-upto 50/sec --hashlimit-mode srcip --hashlimit-name h -j ACCEPT',
  'filter FORWARD -p udp -m multiport --dports 53,8080 -j ACCEPT',
  'filter FORWARD -m physdev --physdev-is-bridged -j ACCEPT',
  'filter FORWARD -s 10.244.0.0/24 ! -d 10.244.0.0/16 -j REJECT',
  'mangle FORWARD -j TOS --set-tos 0x10/0xff',
  'mangle PREROUTING -j CONNMARK --set-xmark 0x5/0xff',
  'mangle POSTROUTING -m connmark --mark 0x5/0xff',
  'mangle PREROUTING -p udp -j MARK --set-xmark 0x1/0x1',
  'raw PREROUTING -p udp -m udp --sport 8080 -j CT --notrack',
] as const;

interface Story {
  readonly nodes: number;
  readonly proxy: 'iptables' | 'nftables' | 'ipvs';
  readonly ipFamily: ClusterIpFamily;
  readonly ipMode: 'VIP' | 'Proxy';
  readonly established: EstablishedChoice;
  readonly seed: number;
  readonly rules: readonly string[];
  readonly loads: readonly {
    readonly protocol: 'tcp' | 'udp';
    readonly keepAlive: boolean;
    readonly thinkTime: Duration;
    readonly from: 'pod' | 'node' | 'outside' | 'web';
    readonly to: 'service' | 'node port' | 'load balancer';
    readonly requestBytes: number;
  }[];
  readonly steps: readonly { readonly after: Duration; readonly what: string }[];
}

const story: fc.Arbitrary<Story> = fc.record({
  nodes: fc.integer({ min: 1, max: 3 }),
  proxy: fc.constantFrom('iptables', 'iptables', 'nftables', 'ipvs'),
  ipFamily: fc.constantFrom('ipv4', 'ipv4', 'ipv4', 'dual', 'ipv6'),
  ipMode: fc.constantFrom('VIP', 'Proxy'),
  established: fc.constantFrom(...ESTABLISHED_CHOICES),
  seed: fc.nat(1_000),
  rules: fc.uniqueArray(fc.constantFrom(...RULES), { maxLength: 2 }),
  loads: fc.array(
    fc.record({
      protocol: fc.constantFrom('tcp', 'udp'),
      keepAlive: fc.boolean(),
      thinkTime: fc.constantFrom(us(20), us(300), ms(2), ms(40), s(3)),
      from: fc.constantFrom('pod', 'node', 'outside', 'web'),
      to: fc.constantFrom('service', 'node port', 'load balancer'),
      requestBytes: fc.constantFrom(20, 700, 4_000),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  steps: fc.array(
    fc.record({
      after: fc.constantFrom(ms(3), ms(40), ms(600), s(8), s(45)),
      what: fc.constantFrom(...Object.keys(MISHAPS), ...RULES),
    }),
    { maxLength: 4 },
  ),
});

test('runs with and without the flow cache are the same', { timeout: 120_000 }, () => {
  const repeat = vi.spyOn(FlowCache.prototype, 'repeat');
  let repeated = 0;
  fc.assert(
    fc.property(story, (told) => {
      const expected = tell(told, { isOff: true });
      repeat.mockClear();
      expect(tell(told, { isOff: false })).toEqual(expected);
      repeated += repeat.mock.results.filter(({ value }) => value === true).length;
    }),
    { numRuns: 60 },
  );
  expect(repeated).toBeGreaterThan(10_000);
});

/** Everything that can be seen of a run. */
function tell(
  { nodes, proxy, ipFamily, ipMode, established, seed, rules, loads, steps }: Story,
  { isOff }: { isOff: boolean },
): object {
  const options = { loadBalancer: { ipMode }, networkPolicy: { established } };
  const cluster = new Cluster({ seed: `${seed}`, proxy, ipFamily, ...options });
  cluster.frames.recorder.isOff = isOff;
  cluster.addNodes(nodes);
  const web = cluster.addDeployment({ name: 'web', replicas: 2 });
  // Only where somebody asks it is there a load balancer: a machine more.
  const type = loads.some(({ to }) => to === 'load balancer') ? 'LoadBalancer' : 'NodePort';
  for (const protocol of ['TCP', 'UDP'] as const)
    cluster.addService({ name: `web-${protocol}`.toLowerCase(), port: 80, protocol, type, selects: web });
  const client = cluster.addPod({ name: 'client', node: 'node-1' });
  cluster.start();
  for (const rule of rules) append(cluster, rule);
  const results = loads.map(({ from, to, ...settings }) => {
    const process = {
      pod: client,
      node: cluster.node('node-1').process,
      outside: cluster.outside.client,
      web: cluster.pods.find(({ name }) => name !== 'default/client')!,
    }[from];
    const service = cluster.api.get('Service', `default/web-${settings.protocol}`)!;
    const protocol = settings.protocol === 'tcp' ? 'TCP' : 'UDP';
    const node = cluster.node('node-1');
    const ingress = service.status.loadBalancer.ingress.at(-1)?.ip ?? '';
    const target =
      to === 'load balancer'
        ? cluster.resolve(ingress.includes(':') ? `[${ingress}]:80` : `${ingress}:80`)
        : to === 'service' && from !== 'outside'
          ? cluster.resolve(`web-${settings.protocol}:80`, { protocol })
          : { family: node.family, ip: node.ip, port: service.spec.ports[0]!.nodePort! };
    // Enough for every state of a connection; the sparse ones go on to the end.
    return cluster.closedLoop(process, { ...settings, to: target, timeout: ms(500), requests: 300 });
  });
  cluster.runFor(ms(30));
  const seenOnTheWay: string[] = [];
  for (const { after, what } of steps) {
    cluster.runFor(after);
    seenOnTheWay.push(rulesOf(cluster));
    if (what in MISHAPS) MISHAPS[what]!(cluster);
    else append(cluster, what);
  }
  cluster.runFor(s(40));
  cluster.assertConserved();
  const { sim, frames, machines } = cluster;
  return {
    fingerprint: sim.fingerprint,
    totals: frames.totals(),
    drops: [...frames.drops()],
    loads: results.map(({ completed, failed, latency }) => ({ completed, failed, p99: latency.quantileUs(0.99) })),
    rulesVisited: cluster.rulesVisited,
    seenOnTheWay,
    rules: rulesOf(cluster),
    machines: machines.map(({ cpus, root: { netfilter, devices, stack } }) => ({
      busy: Array.from({ length: cpus.count }, (_, cpu) => cpus.busyTime(cpu)),
      conntrack: netfilter?.conntrack.list().map((entry) => formatConntrack(entry, sim.now, { extended: true })),
      statistics: netfilter && formatConntrackStatistics([netfilter.conntrack.statistics]),
      neighbors: [...stack.neighbors].map(({ ip, state, mac }) => `${formatSocketAddress(ip, 0)} ${state} ${mac}`),
      fdb: devices.flatMap((device) => (device instanceof Bridge ? [...device.fdb.entries(sim.now)] : [])),
    })),
  };
}

const rulesOf = (cluster: Cluster): string =>
  cluster.nodes
    .map(
      ({ machine: { root } }) =>
        printIptablesSave(root.netfilter!.tables, { counters: true }) + root.netfilter!.nftables.list(),
    )
    .join('\n');

function append(cluster: Cluster, text: string): void {
  const [table, chain, ...rule] = text.split(' ');
  const { tables } = cluster.node('node-1').machine.root.netfilter!;
  tables.prependRule(table as TableName, chain!, new Rule(parseRule(rule.join(' '))));
}

function setUplink(cluster: Cluster, up: boolean): void {
  const { root } = cluster.node('node-1').machine;
  if (up) root.deviceNamed('eth0').up = true;
  else root.takeDown(root.deviceNamed('eth0'));
}

const sysctl = (cluster: Cluster, name: string, value: number): void =>
  cluster.node('node-1').machine.root.sysctl(name, value);
