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
  ms,
  objectFrom,
  openLoop,
  s,
} from './podwire.ts';

const PODS = 5;
/** Of each client, while a pod is asked. */
const REQUESTS_PER_SECOND = 1_000;
const REQUESTS_PER_POD = 1_500;
/** From the pod until it is asked: the kubelet has heard of it, and started it. */
const ASKED_AFTER = ms(6);
const TIMEOUT = ms(100);
/** Two watch delays from the pod to the agent, less the time until it is asked. */
const HEARING_MS = 2 * 5 - inMs(ASKED_AFTER);
/** One request at each end, and one that is under way. */
const MARGIN_MS = 3;

export default experiment({
  name: 'policy-window',
  question: 'How long is a new pod open or shut before its NetworkPolicy is enforced?',
  factors: {
    delayMs: [10, 100, 1_000],
    unknownPods: ['open', 'closed'],
    established: ['kept', 'cut'],
  },
  replications: 3,
  warmUp: ms(100),
  duration: s(PODS * 2),

  build(levels, cluster) {
    const { delayMs, unknownPods, established } = levels;
    cluster.enforcePolicies({ delay: ms(delayMs), unknownPods, established });
    cluster.addNodes(3);
    cluster.apply([FRIENDS_ONLY, podOf('friend', 'node-2'), podOf('stranger', 'node-3'), podOf('guest', 'node-3')]);
    return { ...levels, friend: new Load(), stranger: new Load(), guest: new Load() };
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

  measure({ friend, stranger, guest, ...levels }) {
    const window = { strangerReachesMs: msPerPod(stranger.completed), friendFailsMs: msPerPod(friend.failed) };
    const guestReachesMs = msPerPod(guest.completed);
    const expected = expectedOf(levels);
    const isNear = (measured: number, expectedMs: number): boolean => Math.abs(measured - expectedMs) <= MARGIN_MS;
    return {
      ...window,
      guestReachesMs,
      expectedStrangerMs: expected.strangerMs,
      expectedFriendMs: expected.friendMs,
      expectedGuestMs: expected.guestMs,
      asExpected:
        isNear(window.strangerReachesMs, expected.strangerMs) &&
        isNear(window.friendFailsMs, expected.friendMs) &&
        isNear(guestReachesMs, expected.guestMs)
          ? 1
          : 0,
    };
  },
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

function expectedOf({
  delayMs,
  unknownPods,
  established,
}: {
  readonly delayMs: number;
  readonly unknownPods: string;
  readonly established: string;
}) {
  const windowMs = delayMs + HEARING_MS;
  if (unknownPods === 'closed') return { strangerMs: 0, friendMs: windowMs, guestMs: 0 };
  const allMs = (REQUESTS_PER_POD * 1_000) / REQUESTS_PER_SECOND;
  return { strangerMs: windowMs, friendMs: 0, guestMs: established === 'kept' ? allMs : windowMs };
}
