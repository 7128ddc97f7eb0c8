// When does VXLAN swallow what is larger than the tunnel, and who notices?
//
// Expectation (projectcalico/calico#8953, #12432, flannel-io/flannel#1614). The tunnel takes 50 bytes. If pods know (MTU
// 1450), everything passes. If they do not, connections are made all the same, and small answers come, but full-size
// segments meet a device that is too small: the node says so by ICMP, and the sender cuts smaller ones. Where a firewall
// drops that ICMP, large answers never come, from pods on other nodes only: within a node there is no tunnel.

import { Rule } from '../models/netfilter/rule.ts';
import { parseRule } from '../models/netfilter/rule-text.ts';
import { atLeast, atMost, type Cluster, experiment, ms, s, shareFinding, sumOf } from './podwire.ts';
import { webPod } from './web-pod.ts';

const MTUS = ['1450', '1500', '1500, ICMP dropped'] as const;
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
    ...(mtu !== '1450' && { bridge: { mtuBytes: 1500 } }),
  }),

  build({ mtu, responseBytes, server }, cluster) {
    cluster.addNodes(2);
    if (mtu.endsWith('dropped')) dropFragmentationNeeded(cluster);
    cluster.apply([webPod({ name: 'web', node: server === 'same node' ? 'node-1' : 'node-2' })]);
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const to = { ...cluster.pod('default/web'), port: 8080 };
    return cluster.closedLoop(client, {
      to,
      responseBytes,
      users: 20,
      thinkTime: ms(50),
      keepAlive: false,
      timeout: ms(900),
    });
  },

  measure: (load) => ({
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
          const trials = sumOf(cells, ({ ended }) => ended);
          const isLost = mtu.endsWith('dropped') && responseBytes > 1_400 && server === 'another node';
          const where = `MTU ${mtu}, answers of ${responseBytes} bytes from ${server}`;
          const answered = { successes: sumOf(cells, (cell) => cell.answered), trials };
          return shareFinding(`${where}: answered`, answered, isLost ? atMost(0.03) : atLeast(0.97));
        }),
      ),
    ),

  charts: [{ x: 'mtu', y: 'answeredFraction', by: 'responseBytes' }],
});

/** A firewall on every node that means well. */
function dropFragmentationNeeded(cluster: Cluster): void {
  for (const { machine } of cluster.nodes)
    machine.root
      .enableNetfilter()
      .tables.appendRule(
        'filter',
        'OUTPUT',
        new Rule(parseRule('-p icmp -m icmp --icmp-type fragmentation-needed -j DROP')),
      );
}
