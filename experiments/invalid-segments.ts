// What does a segment outside of its connection's window do to the connection, behind a Service?
//
// Expectation (kubernetes/kubernetes#74839, #117924, #94861; kubernetes.io/blog/2019/03/29). To conntrack such a segment of a
// server is INVALID, so its source stays the pod's address; the client knows of no connection with that address, answers
// with a reset, and the pod's connection is gone. Every stray segment costs a connection. kube-proxy's rule that drops
// INVALID packets on their way through the node prevents it in iptables mode, but only on their way through: a client on
// the node itself is still reached. With the sysctl nf_conntrack_tcp_be_liberal no segment is INVALID for its window, and
// nothing happens to anybody. In nftables mode there is no such rule.
//
// Real strays are late or come from broken middleboxes; as in the regression test of Kubernetes, servers send them here
// on purpose: a byte, a megabyte ahead of what they have sent.

import { Chain } from '../models/netfilter/chain.ts';
import type { Cluster } from './podwire.ts';
import { atLeast, atMost, experiment, Load, ms, s, shareFinding, sumOf } from './podwire.ts';

const CLIENTS = ['pod', 'host network'] as const;
const PROTECTIONS = ['rule of iptables mode', 'none', 'tcp_be_liberal', 'nftables mode'] as const;

const CONNECTIONS = 20;
const ROUNDS = 5;
const AHEAD_BYTES = 1_000_000;

export default experiment({
  name: 'invalid-segments',
  question: 'What does a segment outside of its window do to a connection through a Service?',
  factors: { client: CLIENTS, protection: PROTECTIONS },
  replications: 3,
  warmUp: ms(500),
  duration: s(2),

  build({ client, protection }, cluster) {
    // Everything on one node: another node on the way would have the rule, too, and drop what is INVALID there.
    cluster.addNodes(1, { proxy: protection === 'nftables mode' ? 'nftables' : 'iptables' });
    const web = cluster.addDeployment({ name: 'web', replicas: 2 });
    cluster.addService({ name: 'web', port: 80, selects: web });
    const { machine, process } = cluster.node('node-1');
    const caller = client === 'pod' ? cluster.addPod({ name: 'client', node: 'node-1' }) : process;
    cluster.start();
    if (protection === 'none' || protection === 'tcp_be_liberal') removeInvalidRule(cluster);
    if (protection === 'tcp_be_liberal') machine.root.sysctl('net.netfilter.nf_conntrack_tcp_be_liberal', 1);
    const load = new Load();
    const to = cluster.resolve('web:80');
    cluster.closedLoop(caller, { to, users: CONNECTIONS, thinkTime: ms(20), keepAlive: true, load });
    return { load, strays: { sent: 0 } };
  },

  *story(cluster, { strays }) {
    for (let round = 0; round < ROUNDS; round++) {
      yield ms(200);
      for (const server of cluster.servers.values())
        cluster.node('node-1').machine.cpus.submit(
          0,
          () => {
            strays.sent += sendStrays(server.process.namespace.tcp.connections);
          },
          undefined,
        );
    }
  },

  measure: ({ load, strays }, { servers }) => ({
    requests: load.started,
    failed: load.failed,
    strays: strays.sent,
    connectionsReset: sumOf([...servers.values()], ({ process }) => process.namespace.tcp.counters.resetsReceived),
  }),

  findings: (runs) =>
    CLIENTS.flatMap((client) =>
      PROTECTIONS.flatMap((protection) => {
        const cells = runs.at({ client, protection });
        const successes = sumOf(cells, ({ connectionsReset }) => connectionsReset);
        const trials = sumOf(cells, ({ strays }) => strays);
        const isSafe = protection === 'tcp_be_liberal' || (protection === 'rule of iptables mode' && client === 'pod');
        // A reset that crosses with data on its way has the wrong number, and is ignored.
        const expected = isSafe ? atMost(0.02) : atLeast(0.95);
        return shareFinding(
          `client: ${client}, protection: ${protection}: resets per stray`,
          { successes, trials },
          expected,
        );
      }),
    ),

  charts: [{ x: 'protection', y: 'connectionsReset', by: 'client' }],
});

function sendStrays(connections: Cluster['pods'][number]['namespace']['tcp']['connections']): number {
  const established = connections.filter(({ state }) => state === 'ESTABLISHED');
  for (const connection of established) connection.sendStray({ aheadBytes: AHEAD_BYTES });
  return established.length;
}

/** As kube-proxy was before 1.15. */
function removeInvalidRule(cluster: Cluster): void {
  const { tables: tables4, tables6 } = cluster.node('node-1').machine.root.netfilter!;
  const tables = cluster.ipFamilies[0] === 4 ? tables4 : tables6;
  const { rules } = tables.chain('filter', 'KUBE-FORWARD')!;
  const drops = ({ spec }: (typeof rules)[number]) => spec.target?.target === 'DROP';
  tables.replaceChains('filter', [
    new Chain(
      'KUBE-FORWARD',
      rules.filter((rule) => !drops(rule)),
    ),
  ]);
}
