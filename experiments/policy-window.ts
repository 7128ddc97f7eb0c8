// How long is a new pod open to everybody, or shut for everybody, before its NetworkPolicy is enforced? And what becomes of
// connections that were made in that time?
//
// Expectation. The agent on the pod's node hears of the pod's address two watch delays after the pod was made (the kubelet
// has to hear of the pod before), and its rules are in force one enforcement delay later. Until then an open node lets
// through what the policy refuses, and a closed one drops what the policy admits. Where established connections are kept,
// one made in the window goes on for as long as both ends want; where they are cut, it ends with the window.
// (aws-network-policy-agent#271 tells of an allow-all window in one mode and of 7 to 9 s without connectivity in the other.)

import {
  type Cluster,
  constantRate,
  type Duration,
  experiment,
  inMs,
  Load,
  meanFinding,
  ms,
  near,
  objectFrom,
  openLoop,
  s,
} from './podwire.ts';

const DELAYS_MS = [10, 100, 1_000] as const;
const UNKNOWN_PODS = ['open', 'closed'] as const;
const ESTABLISHED = ['kept', 'cut'] as const;

const MEASURES = [
  ['strangerReachesMs', 'a stranger reaches'],
  ['friendFailsMs', 'a friend fails'],
  ['guestReachesMs', 'a connection lasts'],
] as const;

const PODS = 5;
/** Of each client, while a pod is asked. */
const REQUESTS_PER_SECOND = 1_000;
const REQUESTS_PER_POD = 1_500;
/** From the pod until it is asked: the kubelet has heard of it, and started it. */
const ASKED_AFTER = ms(6);
const TIMEOUT = ms(100);
const WATCH_DELAY = ms(5);
/** Two of them from the pod to the agent, less the time until it is asked. */
const HEARING_MS = inMs(WATCH_DELAY) * 2 - inMs(ASKED_AFTER);
/** One request at each end, and one that is under way. */
const MARGIN_MS = 3;

export default experiment({
  name: 'policy-window',
  question: 'How long is a new pod open or shut before its NetworkPolicy is enforced?',
  factors: { delayMs: DELAYS_MS, unknownPods: UNKNOWN_PODS, established: ESTABLISHED },
  replications: 3,
  warmUp: ms(100),
  duration: s(PODS * 2),

  clusterOptions: ({ delayMs, unknownPods, established }) => ({
    watchDelay: WATCH_DELAY,
    networkPolicy: { delay: ms(delayMs), unknownPods, established },
  }),

  build(_, cluster) {
    cluster.addNodes(3);
    cluster.apply([FRIENDS_ONLY, podOf('friend', 'node-2'), podOf('stranger', 'node-3'), podOf('guest', 'node-3')]);
    return { friend: new Load(), stranger: new Load(), guest: new Load() };
  },

  *story(cluster, loads) {
    for (let i = 1; i <= PODS; i++) {
      const name = `late-${i}`;
      cluster.apply([podOf(name, 'node-1')]);
      yield ASKED_AFTER;
      ask(cluster, name, loads);
      yield (s(2) - ASKED_AFTER) as Duration;
    }
  },

  measure: ({ friend, stranger, guest }) => ({
    strangerReachesMs: msPerPod(stranger.completed),
    friendFailsMs: msPerPod(friend.failed),
    guestReachesMs: msPerPod(guest.completed),
  }),

  findings: (runs) =>
    DELAYS_MS.flatMap((delayMs) =>
      UNKNOWN_PODS.flatMap((unknownPods) =>
        ESTABLISHED.flatMap((established) => {
          const levels = { delayMs, unknownPods, established };
          const cells = runs.at(levels);
          const expected = expectedOf(levels);
          const name = `${delayMs.toLocaleString('en-US')} ms, ${unknownPods}, ${established}`;
          return MEASURES.flatMap(([measure, what]) => {
            const measured = cells.map((cell) => cell[measure]);
            return meanFinding(`${name}: ${what} (ms)`, measured, near(expected[measure], { within: MARGIN_MS }));
          });
        }),
      ),
    ),
});

/** About every pod but the clients, which need no policy. */
const FRIENDS_ONLY = objectFrom('NetworkPolicy', {
  metadata: { name: 'friends-only' },
  spec: {
    podSelector: { matchLabels: { app: 'late' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'friend' } } }] }],
  },
});

const podOf = (name: string, nodeName: string) =>
  objectFrom('Pod', {
    metadata: { name, labels: { app: name.replace(/-\d+$/, '') } },
    spec: { nodeName, containers: [{ name: 'main', ports: [{ containerPort: 8080 }] }] },
  });

interface Loads {
  /** Admitted by the policy; each request is a connection. */
  readonly friend: Load;
  /** Not admitted; each request is a connection. */
  readonly stranger: Load;
  /** Not admitted; one connection for as long as it lasts. */
  readonly guest: Load;
}

function ask(cluster: Cluster, name: string, loads: Loads): void {
  const to = cluster.resolve(`${name}:8080`);
  const arrivals = constantRate({ perSecond: REQUESTS_PER_SECOND });
  for (const client of ['friend', 'stranger', 'guest'] as const)
    openLoop(cluster.pod(`default/${client}`), {
      ...{ to, arrivals, requests: REQUESTS_PER_POD, timeout: TIMEOUT },
      ...{ keepAlive: client === 'guest', load: loads[client] },
    });
}

const msPerPod = (requests: number): number => (requests * 1_000) / REQUESTS_PER_SECOND / PODS;

interface Variant {
  readonly delayMs: number;
  readonly unknownPods: (typeof UNKNOWN_PODS)[number];
  readonly established: (typeof ESTABLISHED)[number];
}

function expectedOf({ delayMs, unknownPods, established }: Variant) {
  const windowMs = delayMs + HEARING_MS;
  if (unknownPods === 'closed') return { strangerReachesMs: 0, friendFailsMs: windowMs, guestReachesMs: 0 };
  const allMs = (REQUESTS_PER_POD * 1_000) / REQUESTS_PER_SECOND;
  return { strangerReachesMs: windowMs, friendFailsMs: 0, guestReachesMs: established === 'kept' ? allMs : windowMs };
}
