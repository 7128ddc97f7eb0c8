// What is lost when pods share the source ports of their node, with and without --random-fully?
//
// Expectation. Flows to one address and port need a port of their own at the node's address. (a) They run out: of P ports at
// most P flows have one. The kernel looks at no more than 128 + 64 + 32 + 16 ports of the range (nf_nat_l4proto_unique_tuple),
// so a share f^240 of the flows finds none while the share f is taken: nothing is lost up to 90 %, with 1.2 P flows a sixth
// and little more, whether ports are random or not. (b) Two pods that send from one port at the same time: a port that is
// free is kept, and it is free until the first of the two packets has passed; the other is dropped when it leaves
// (insert_failed), and TCP tries again after a second. With --random-fully both draw, and collide once in tens of
// thousands (XING's report on flannel; "divides the rate by orders of magnitude").

import type { Cluster, Target } from './podwire.ts';
import { atMost, experiment, Load, ms, near, poisson, s, shareFinding, sumOf } from './podwire.ts';

const PORTS = 1_000;
const SCENARIOS = ['half of the ports', '9 of 10 ports', '12 of 10 ports', 'one port at once'] as const;
const CHOICES = ['kept if free', '--random-fully'] as const;
const PODS = 4;
const ROUNDS = 50;
const SHARED_PORT = 5_060;

const FLOWS: Readonly<Record<(typeof SCENARIOS)[number], number>> = {
  'half of the ports': 0.5 * PORTS,
  '9 of 10 ports': 0.9 * PORTS,
  '12 of 10 ports': 1.2 * PORTS,
  'one port at once': 0,
};

export default experiment({
  name: 'snat-ports',
  question: 'What is lost when pods share the source ports of their node, with and without --random-fully?',
  factors: { scenario: SCENARIOS, choice: CHOICES },
  replications: 5,
  warmUp: ms(0),
  duration: s(5),

  clusterOptions: ({ scenario, choice }) => ({
    cpusPerNode: PODS,
    egress: {
      masquerade: 'ip-masq-agent',
      randomFully: choice === '--random-fully',
      ports: scenario === 'one port at once' ? undefined : { first: 40_000, last: 40_000 + PORTS - 1 },
    },
  }),

  build({ scenario }, cluster) {
    cluster.addNodes(1);
    const pods = Array.from({ length: PODS }, (_, i) => cluster.addPod({ name: `pod-${i}`, node: 'node-1' }));
    cluster.serveOutside('UDP', 53);
    for (let round = 0; round < ROUNDS; round++) cluster.serveOutside('TCP', FIRST_ROUND_PORT + round);
    cluster.start();
    const [server] = cluster.outside.addresses;
    const load = new Load();
    const requests = FLOWS[scenario] / PODS;
    if (requests > 0)
      for (const pod of pods)
        cluster.openLoop(pod, {
          to: { ...server!, port: 53 },
          ...{ protocol: 'udp', requests, timeout: s(1), arrivals: poisson({ perSecond: 100 }), load },
        });
    const race = { started: 0, late: 0 };
    if (requests === 0)
      for (let round = 0; round < ROUNDS; round++)
        startRound(pods, { to: { ...server!, port: FIRST_ROUND_PORT + round }, round, race });
    return { load, race };
  },

  measure({ load, race }, cluster) {
    const { statistics } = cluster.node('node-1').machine.root.netfilter!.conntrack;
    const flows = load.started + race.started;
    const lost = load.failed + race.late;
    return { flows, lost, lostFraction: lost / flows, insertFailed: statistics.insert_failed };
  },

  findings: (runs) =>
    CHOICES.flatMap((choice) =>
      SCENARIOS.flatMap((scenario) => {
        const cells = runs.at({ scenario, choice });
        const trials = sumOf(cells, ({ flows }) => flows);
        const successes = sumOf(cells, ({ lost }) => lost);
        return shareFinding(
          `${scenario}, ${choice}: share of flows lost`,
          { successes, trials },
          EXPECTED[scenario][choice],
        );
      }),
    ),

  charts: [{ x: 'scenario', y: 'lostFraction', by: 'choice' }],
});

const NOTHING = atMost(0.01);
const A_SIXTH = near(1 / 6, { within: 0.03 });
const EXPECTED = {
  'half of the ports': { 'kept if free': NOTHING, '--random-fully': NOTHING },
  '9 of 10 ports': { 'kept if free': NOTHING, '--random-fully': NOTHING },
  '12 of 10 ports': { 'kept if free': A_SIXTH, '--random-fully': A_SIXTH },
  // Each pod has a CPU of its own: all look for a port before the first packet has passed, and only that one goes on.
  'one port at once': { 'kept if free': near(1 - 1 / PODS, { within: 0.06 }), '--random-fully': NOTHING },
} as const;

const FIRST_ROUND_PORT = 1_000;

/** All pods connect at the same instant, from the same port to the same server: in each round to another port of it. */
function startRound(
  pods: readonly Cluster['pods'][number][],
  { to, round, race }: { to: Target; round: number; race: { started: number; late: number } },
): void {
  for (const { place, namespace, cpu } of pods)
    place.schedule(
      ms(1 + 20 * round),
      () => {
        race.started++;
        const began = place.now;
        namespace.tcp.connect(
          { to, cpu, fromPort: SHARED_PORT },
          {
            onConnected: (connection) => {
              if (place.now - began >= ms(900)) race.late++; // the first segment was lost
              connection.close();
            },
          },
        );
      },
      undefined,
    );
}
