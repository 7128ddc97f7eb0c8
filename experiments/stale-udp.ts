// What becomes of clients of UDP that keep their port, when endpoints of their Service go: before and after kube-proxy 1.32?
//
// Expectation (kubernetes/kubernetes#127318, #126130, #139628; pkg/proxy/conntrack/cleanup.go). To conntrack what comes from
// one port is one connection, translated once, and every packet keeps it alive: a client goes on to where it went until
// kube-proxy deletes the entry. Up to 1.31 a sync deletes those of endpoints that were ready before and are not any more,
// and of Services that get their first ready endpoint. From 1.32 on it deletes whatever leads to an endpoint that does not
// serve, if endpoints of some UDP Service have changed, but leaves Services alone that have no serving endpoint. So:
// - One of two endpoints stops: its clients, half of all, move to the other. No difference.
// - One drains: up to 1.31 its clients are moved at once, from 1.32 on they stay as long as it serves. Nobody loses.
// - All are deleted by force: up to 1.31 clients are told (refused), from 1.32 on they send into the void, until there is
//   an endpoint again.
// - All stop as they are asked to: into the void in either. Endpoints that terminate are used while there are no others, so
//   connections to them begin anew, and up to 1.31 nobody deletes them as those endpoints were not ready when they went.
// - One stops while iptables-restore fails: up to 1.31 what was to be deleted is forgotten, and half of the clients send
//   into the void for as long as they talk. From 1.32 on they do until endpoints of any UDP Service change.

import type { Cluster } from './podwire.ts';
import { atLeast, atMost, type Duration, experiment, Load, ms, near, s, shareFinding, sumOf } from './podwire.ts';
import { webPod } from './web-pod.ts';

const KUBE_PROXIES = ['up to 1.31', 'from 1.32'] as const;
const ENDINGS = ['one stops', 'one drains', 'all are deleted', 'all stop', 'one stops as sync fails'] as const;
type Ending = (typeof ENDINGS)[number];

const CLIENTS = 40;
const WINDOW = s(2);
/** Until a sync that failed is tried again: before the clients are looked at. */
const SYNC_PERIOD = s(5);

export default experiment({
  name: 'stale-udp',
  question: 'What becomes of clients of UDP that keep their port, when endpoints of their Service go?',
  factors: { kubeProxy: KUBE_PROXIES, ending: ENDINGS },
  replications: 20,
  warmUp: s(1),
  duration: s(17),

  clusterOptions: ({ kubeProxy }) => ({
    proxySync: {
      syncPeriod: SYNC_PERIOD,
      conntrackCleanup: kubeProxy === 'up to 1.31' ? 'of changes' : 'reconcile',
    },
  }),

  build({ ending }, cluster) {
    cluster.addNodes(2);
    const preStopSeconds = ending === 'one drains' ? 40 : 0;
    cluster.apply([
      webPod({ name: 'web-1', node: 'node-1' }),
      webPod({ name: LEAVING, node: 'node-2', preStopSeconds }),
    ]);
    cluster.addService({ name: 'web', port: 80, protocol: 'UDP', selects: { name: 'web' } });
    const other = cluster.addDeployment({ name: 'other', replicas: 1 });
    cluster.addService({ name: 'other', port: 80, protocol: 'UDP', selects: other });
    const to = cluster.resolve('web:80', { protocol: 'UDP' });
    const clients = Array.from({ length: CLIENTS }, (_, i) => {
      const pod = cluster.addPod({ name: `client-${i}`, node: 'node-1' });
      return cluster.closedLoop(pod, {
        ...{ to, protocol: 'udp', keepAlive: true, thinkTime: ms(100), timeout: ms(300) },
        load: new Load(),
      });
    });
    return { ending, clients, meanwhile: NOTHING_SEEN, later: NOTHING_SEEN };
  },

  *story(cluster, run) {
    const { kubeProxy } = cluster.node('node-1');
    kubeProxy.failing = run.ending === 'one stops as sync fails';
    end(cluster, run.ending);
    yield s(3);
    kubeProxy.failing = false;
    yield SYNC_PERIOD;
    run.meanwhile = yield* watch(run.clients);
    // Whatever the ending was: endpoints of a UDP Service change.
    if (run.ending.startsWith('all')) cluster.apply([webPod({ name: 'web-3', node: 'node-2' })]);
    else cluster.scale('other', 2);
    yield s(4);
    run.later = yield* watch(run.clients);
  },

  measure: ({ clients, meanwhile, later }) => ({
    clients: clients.length,
    blackHoled: meanwhile.blackHoled,
    refused: meanwhile.refused,
    atLeavingPod: meanwhile.atLeavingPod,
    blackHoledLater: later.blackHoled,
  }),

  findings: (runs) =>
    KUBE_PROXIES.flatMap((kubeProxy) =>
      ENDINGS.flatMap((ending) => {
        const cells = runs.at({ kubeProxy, ending });
        const trials = sumOf(cells, ({ clients }) => clients);
        return FATES.flatMap((fate) => {
          const range = EXPECTED[kubeProxy][ending][fate];
          if (range === undefined) return [];
          const successes = sumOf(cells, (cell) => cell[fate]);
          return shareFinding(`${kubeProxy}, ${ending}: clients ${CLAIMS[fate]}`, { successes, trials }, RANGES[range]);
        });
      }),
    ),

  charts: [
    { x: 'ending', y: 'blackHoled', by: 'kubeProxy' },
    { x: 'ending', y: 'blackHoledLater', by: 'kubeProxy' },
  ],
});

const LEAVING = 'web-2';

// ── what is expected ─────────────────────────────────────────────────────────────────────────────────────────────────

const CLAIMS = {
  blackHoled: 'that send into the void',
  refused: 'that are refused',
  atLeavingPod: 'at the pod that drains',
  blackHoledLater: 'that still send into the void after the next change',
} as const;

type Fate = keyof typeof CLAIMS;
const FATES = Object.keys(CLAIMS) as Fate[];

/** Each client has gone to either of two endpoints, by chance. */
const RANGES = { none: atMost(0.01), half: near(0.5, { within: 0.1 }), all: atLeast(0.99) } as const;

/** Fates that are left out have nothing to do with the ending. */
type Expected = Readonly<Partial<Record<Fate, keyof typeof RANGES>>>;

const EXPECTED: Readonly<Record<(typeof KUBE_PROXIES)[number], Readonly<Record<Ending, Expected>>>> = {
  'up to 1.31': {
    'one stops': { blackHoled: 'none' },
    'one drains': { blackHoled: 'none', atLeavingPod: 'none' },
    'all are deleted': { blackHoled: 'none', refused: 'all', blackHoledLater: 'none' },
    'all stop': { blackHoled: 'all', refused: 'none', blackHoledLater: 'none' },
    'one stops as sync fails': { blackHoled: 'half', blackHoledLater: 'half' },
  },
  'from 1.32': {
    'one stops': { blackHoled: 'none' },
    'one drains': { blackHoled: 'none', atLeavingPod: 'half' },
    'all are deleted': { blackHoled: 'all', refused: 'none', blackHoledLater: 'none' },
    'all stop': { blackHoled: 'all', refused: 'none', blackHoledLater: 'none' },
    'one stops as sync fails': { blackHoled: 'half', blackHoledLater: 'none' },
  },
};

// ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────────

function end({ api }: Cluster, ending: Ending): void {
  const going = ending.startsWith('all') ? ['web-1', LEAVING] : [LEAVING];
  for (const name of going) {
    // By force: the object is gone at once, and with it the endpoint, which never terminates.
    if (ending === 'all are deleted') api.remove('Pod', `default/${name}`);
    else api.delete('Pod', `default/${name}`);
  }
}

interface Fates {
  /** Clients that got no answer, and were told of no error. */
  readonly blackHoled: number;
  readonly refused: number;
  readonly atLeavingPod: number;
}

const NOTHING_SEEN: Fates = { blackHoled: 0, refused: 0, atLeavingPod: 0 };

/** How many clients meet which fate from now until the window ends. */
function* watch(clients: readonly Load[]): Generator<Duration, Fates, void> {
  const countsOf = (client: Load) => ({
    answered: client.completed,
    refused: client.failures.get('refused') ?? 0,
    atLeavingPod: client.perServer.get(`default/${LEAVING}`) ?? 0,
  });
  const before = clients.map(countsOf);
  yield WINDOW;
  const counts = clients.map((client, i) => {
    const [then, now] = [before[i]!, countsOf(client)];
    return {
      answered: now.answered > then.answered,
      refused: now.refused > then.refused,
      atLeavingPod: now.atLeavingPod > then.atLeavingPod,
    };
  });
  return {
    blackHoled: counts.filter(({ answered, refused }) => !answered && !refused).length,
    refused: counts.filter(({ refused }) => refused).length,
    atLeavingPod: counts.filter(({ atLeavingPod }) => atLeavingPod).length,
  };
}
