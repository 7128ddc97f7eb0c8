// Who suffers when a node's conntrack table is full?
//
// Expectation (Linux 6.18, measured in network namespaces: "nf_conntrack: table full, dropping packet"; kubernetes#71261,
// #72472). Connections that are known go on. A new one needs a place: the kernel looks for an entry without an answer to
// evict, but in 8 buckets only. If the table is full of connections that are answered, nobody new gets in. If it is full
// of unanswered ones, everybody new gets in as long as there are about as many entries as buckets; with many buckets and
// few entries those 8 are mostly empty (512 tuples in 262,144 buckets: 98 % of the time), and a new connection is dropped all
// the same.

import { OUTSIDE_IPV6_RANGE, OUTSIDE_RANGE } from '../models/host/outside-world.ts';
import { addressAt } from '../models/packet/ip-address.ts';
import { atLeast, atMost, experiment, Load, ms, s, shareFinding, sumOf } from './podwire.ts';

const MOST_ENTRIES = 256;
const FILLS = ['answered', 'unanswered'] as const;
const BUCKETS = [256, 262_144] as const;
const KNOWN = 20;
const NEWCOMERS = 100;

export default experiment({
  name: 'conntrack-full',
  question: 'Who suffers when the conntrack table of a node is full?',
  factors: { tableFullOf: FILLS, buckets: BUCKETS },
  replications: 5,
  warmUp: ms(0),
  duration: s(3),

  build({ tableFullOf, buckets }, cluster) {
    cluster.addNodes(1);
    const [known, filler, newcomer] = ['known', 'filler', 'newcomer'].map((name) =>
      cluster.addPod({ name, node: 'node-1' }),
    );
    cluster.serveOutside('TCP', 80);
    cluster.start();
    const { root } = cluster.node('node-1').machine;
    root.sysctl('net.netfilter.nf_conntrack_buckets', buckets);
    root.sysctl('net.netfilter.nf_conntrack_max', MOST_ENTRIES);
    const { family, ip } = cluster.outside.addresses[0]!;
    const server = { family, ip, port: 80 };
    const kept = cluster.closedLoop(known!, { to: server, users: KNOWN, thinkTime: ms(20), keepAlive: true });
    cluster.runFor(ms(200));
    const rest = 2 * MOST_ENTRIES;
    if (tableFullOf === 'answered')
      cluster.closedLoop(filler!, { to: server, users: rest, thinkTime: ms(500), keepAlive: true, timeout: s(10) });
    else
      cluster.closedLoop(filler!, {
        to: { family, ip: addressAt(family === 4 ? OUTSIDE_RANGE : OUTSIDE_IPV6_RANGE, NOBODY_INDEX), port: 9 },
        protocol: 'udp',
        users: rest,
        requests: rest,
        thinkTime: ms(100),
        timeout: s(20),
      });
    cluster.runFor(s(1));
    const load = new Load();
    // Spread over a second, each on a connection of its own, and no longer than until the first retransmission.
    const arriving = { to: server, users: NEWCOMERS, requests: NEWCOMERS, thinkTime: s(1), timeout: ms(900), load };
    cluster.closedLoop(newcomer!, arriving);
    return { kept, newcomers: load };
  },

  measure: ({ kept, newcomers }, cluster) => {
    const { conntrack } = cluster.node('node-1').machine.root.netfilter!;
    const { drop, early_drop } = conntrack.statistics;
    return {
      entries: conntrack.count,
      knownRequests: kept.completed,
      knownFailed: kept.failed,
      newcomers: newcomers.started,
      newcomersFailed: newcomers.failed,
      dropped: drop,
      evicted: early_drop,
    };
  },

  findings: (runs) =>
    FILLS.flatMap((tableFullOf) =>
      BUCKETS.flatMap((buckets) => {
        const cells = runs.at({ tableFullOf, buckets });
        const trials = sumOf(cells, ({ newcomers }) => newcomers);
        const successes = sumOf(cells, ({ newcomersFailed }) => newcomersFailed);
        const known = {
          successes: sumOf(cells, ({ knownFailed }) => knownFailed),
          trials: sumOf(cells, ({ knownRequests }) => knownRequests),
        };
        const where = `${tableFullOf} entries, ${buckets.toLocaleString('en-US')} buckets`;
        const getsIn = tableFullOf === 'unanswered' && buckets === MOST_ENTRIES;
        return [
          ...shareFinding(
            `${where}: new connections that fail`,
            { successes, trials },
            getsIn ? atMost(0.05) : atLeast(0.95),
          ),
          ...shareFinding(`${where}: requests on known connections that fail`, known, atMost(0.01)),
        ];
      }),
    ),

  charts: [{ x: 'tableFullOf', y: 'newcomersFailed', by: 'buckets' }],
});

/** Of the addresses outside one where nobody is. */
const NOBODY_INDEX = 99;
