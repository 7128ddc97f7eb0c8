// Clusters with random rules, settings, loads and mishaps, and everything that can be seen of them: for tests that say that
// how a run is computed makes no difference. What random stories are made of stands in cluster-random-story.fixture.ts.

import type { Part } from '../engine/parallel/part.ts';
import { type Duration, ms, s } from '../engine/time.ts';
import { Cluster } from './cluster.ts';
import type { NetworkChoice } from './cni/networks/registry.ts';
import type { Machine } from './host/machine.ts';
import type { EstablishedChoice } from './kube/network-policy/policy-rules.ts';
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
export const MISHAPS: Readonly<Record<string, (cluster: Cluster) => void>> = {
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
export const RULES = [
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

export interface Story {
  readonly nodes: number;
  readonly proxy: 'iptables' | 'nftables' | 'ipvs';
  readonly ipFamily: ClusterIpFamily;
  /** Default: the cluster's. */
  readonly cni?: NetworkChoice;
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

/**
 * Everything that can be seen of a run; undefined where that is another worker's to tell. `hasNoFlowCache`: every frame takes
 * the long way.
 */
export function tell(
  { nodes, proxy, ipFamily, cni = 'bridge', ipMode, established, seed, rules, loads, steps }: Story,
  { hasNoFlowCache = false, part }: { hasNoFlowCache?: boolean; part?: Part } = {},
): object | undefined {
  const options = { cni, loadBalancer: { ipMode }, networkPolicy: { established }, ...(part && { part }) };
  const cluster = new Cluster({ seed: `${seed}`, proxy, ipFamily, ...options });
  cluster.frames.recorder.isOff = hasNoFlowCache;
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
  const seenOnTheWay: object[] = [];
  for (const { after, what } of steps) {
    cluster.runFor(after);
    seenOnTheWay.push({ totals: cluster.frames.totals(), rules: gathered(rulesOf(cluster), part) });
    if (what in MISHAPS) MISHAPS[what]!(cluster);
    else append(cluster, what);
  }
  cluster.runFor(s(40));
  const machines = gathered(cluster.machines.filter(isHere).map(stateOf), part);
  if (!cluster.gather()) return undefined;
  cluster.assertConserved();
  const { sim, frames } = cluster;
  return {
    fingerprint: sim.fingerprint,
    events: sim.executedEvents,
    totals: frames.totals(),
    drops: [...frames.drops()],
    loads: results.map((load) => [
      load.completed,
      load.failed,
      [...load.failures],
      [...load.perServer],
      load.snapshot().all,
    ]),
    rulesVisited: cluster.rulesVisited,
    seenOnTheWay,
    machines,
  };
}

const isHere = ({ place }: Machine): boolean => place.isHere;

/** What all workers have seen of machines of theirs, by name; only the first one gets it. */
const gathered = <Seen extends { readonly name: string }>(
  own: readonly Seen[],
  part: Part | undefined,
): readonly Seen[] => [...own, ...(part?.gather(own).flat() ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));

function stateOf({ name, place, cpus, root: { netfilter, devices, stack } }: Machine) {
  const { now } = place;
  return {
    name,
    rules: netfilter && printIptablesSave(netfilter.tables, { counters: true }) + netfilter.nftables.list(),
    busy: Array.from({ length: cpus.count }, (_, cpu) => cpus.busyTime(cpu)),
    conntrack: netfilter?.conntrack.list().map((entry) => formatConntrack(entry, now, { extended: true })),
    statistics: netfilter && formatConntrackStatistics([netfilter.conntrack.statistics]),
    neighbors: [...stack.neighbors].map(({ ip, state, mac }) => `${formatSocketAddress(ip, 0)} ${state} ${mac}`),
    fdb: devices.flatMap((device) => (device instanceof Bridge ? [...device.fdb.entries()] : [])),
  };
}

const rulesOf = (cluster: Cluster) =>
  cluster.nodes
    .filter(({ machine }) => isHere(machine))
    .map(({ name, machine: { root } }) => ({
      name,
      rules: printIptablesSave(root.netfilter!.tables, { counters: true }) + root.netfilter!.nftables.list(),
    }));

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
