// When does VXLAN swallow what is larger than the tunnel, and who notices?
//
// Expectation (projectcalico/calico#8953, #12432, flannel-io/flannel#1614). The tunnel takes 50 bytes. If pods know (MTU
// 1450), everything passes. If they do not, connections are made all the same, and small answers come, but full-size
// segments meet a device that is too small: the node says so by ICMP, and the sender cuts smaller ones. Where a firewall
// drops that ICMP, large answers never come, from pods on other nodes only: within a node there is no tunnel.
//
// Over IPv6 (`--set ipFamily=ipv6`) the tunnel takes 70 bytes, and flannel gives pods 1450 all the same (encapOverhead;
// flannel-io/flannel#1781): there ICMPv6 is needed with the MTU that it comes with. In dual-stack clusters pods meet over IPv4
// here.

import { VxlanDevice } from '../models/link/vxlan.ts';
import { Rule } from '../models/netfilter/rule.ts';
import { parseRule } from '../models/netfilter/rule-text.ts';
import type { IpFamily } from '../models/packet/ip-address.ts';
import { atLeast, atMost, type Cluster, experiment, ms, s, shareFinding, sumOf } from './podwire.ts';
import { webPod } from './web-pod.ts';

const MTUS = ['1450', '1450, ICMP dropped', '1500', '1500, ICMP dropped'] as const;
const ANSWERS = [500, 20_000] as const;
const SERVERS = ['same node', 'another node'] as const;

export default experiment({
  name: 'vxlan-mtu',
  question: 'When does VXLAN swallow what is larger than the tunnel, and who notices?',
  factors: { mtu: MTUS, responseBytes: ANSWERS, server: SERVERS },
  replications: 3,
  warmUp: ms(0),
  duration: s(4),

  clusterOptions: ({ mtu }) => ({
    cni: 'flannel-vxlan',
    ...(mtu.startsWith('1500') && { bridge: { mtuBytes: 1500 } }),
  }),

  build({ mtu, responseBytes, server }, cluster) {
    cluster.addNodes(2);
    if (mtu.endsWith('dropped')) dropTooBig(cluster);
    cluster.apply([webPod({ name: 'web', node: server === 'same node' ? 'node-1' : 'node-2' })]);
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const to = { ...cluster.pod('default/web'), port: 8080 };
    const load = cluster.closedLoop(client, {
      to,
      responseBytes,
      users: 20,
      thinkTime: ms(50),
      keepAlive: false,
      timeout: ms(900),
    });
    return { load, tunnelMtuBytes: tunnelMtu(cluster, to.family) };
  },

  measure: ({ load, tunnelMtuBytes }) => ({
    tunnelMtuBytes,
    requests: load.started,
    ended: load.completed + load.failed,
    answered: load.completed,
    connected: load.connect.count,
    answeredFraction: load.completed / (load.completed + load.failed),
  }),

  findings: (runs) =>
    MTUS.flatMap((mtu) =>
      ANSWERS.flatMap((responseBytes) =>
        SERVERS.flatMap((server) => {
          const cells = runs.at({ mtu, responseBytes, server });
          return [...new Set(cells.map(({ tunnelMtuBytes }) => tunnelMtuBytes))].flatMap((tunnelMtuBytes) => {
            const same = cells.filter((cell) => cell.tunnelMtuBytes === tunnelMtuBytes);
            const isTooBig = Number.parseInt(mtu, 10) > tunnelMtuBytes && responseBytes > 1_400;
            const isLost = isTooBig && mtu.endsWith('dropped') && server === 'another node';
            const where = `MTU ${mtu}, tunnel ${tunnelMtuBytes}, answers of ${responseBytes} bytes from ${server}`;
            const trials = sumOf(same, ({ ended }) => ended);
            const answered = { successes: sumOf(same, (cell) => cell.answered), trials };
            return shareFinding(`${where}: answered`, answered, isLost ? atMost(0.03) : atLeast(0.97));
          });
        }),
      ),
    ),

  charts: [{ x: 'mtu', y: 'answeredFraction', by: 'responseBytes' }],
});

/** What goes through the tunnel over that family; without a tunnel, what leaves a node. */
function tunnelMtu(cluster: Cluster, family: IpFamily): number {
  const { root } = cluster.node('node-1').machine;
  const tunnel = root.devices.find((device) => device instanceof VxlanDevice && device.family === family);
  return (tunnel ?? root.deviceNamed('eth0')).mtuBytes;
}

/** A firewall on every node that means well. */
function dropTooBig(cluster: Cluster): void {
  for (const { machine } of cluster.nodes) {
    const { tables, tables6 } = machine.root.enableNetfilter();
    tables.appendRule('filter', 'OUTPUT', new Rule(parseRule(FRAGMENTATION_NEEDED)));
    tables6.appendRule('filter', 'OUTPUT', new Rule(parseRule(PACKET_TOO_BIG, { family: 6 })));
  }
}

const FRAGMENTATION_NEEDED = '-p icmp -m icmp --icmp-type fragmentation-needed -j DROP';
const PACKET_TOO_BIG = '-p ipv6-icmp -m icmp6 --icmpv6-type packet-too-big -j DROP';
