// What does a short overload of CoreDNS leave behind, when clients ask again?
//
// Expectation (KEP-1024: a CoreDNS of 50 millicores answers 860 queries per second, so one of 10 millicores 172; Zalando's
// outage of January 2019 went on for over an hour; Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021).
// Clients ask for 70 % of what CoreDNS can do, C, for 10 s three times as much, then 70 % again. What waits in its queue
// waits in order, and its clients for 5 s.
// - The burst leaves 10 s x (2.1 - 1) C = 11 s of work behind. Without another attempt that is worked off with what is
//   left: answers come in time again after (11 - 5) / 0.3 = 20 s.
// - With a second attempt, of which the server does not know that it is the same question, 70 % become 140 %: the queue grows
//   on after the cause is gone, and hardly a lookup succeeds.
// - A queue that is no longer than a second of work drops what comes too much, instead of answering too late. Who is
//   dropped asks again 5 s later, and what is served is served in time: it is well again as soon as these are through.
// - Two pods have (2.1 - 2) / 2 C x 10 s = 0.5 s of work too much, which nobody notices.

import { objectFrom } from '../models/kube/objects.ts';
import { NameLookups } from './name-lookups.ts';
import { atLeast, atMost, experiment, inSeconds, meanFinding, ms, near, poisson, s, us } from './podwire.ts';

const CURES = [
  'no second attempt',
  'two attempts',
  'two attempts and a short queue',
  'two attempts and two pods',
] as const;
type Cure = (typeof CURES)[number];

/** 10 ms of CPU time per second. */
const QUERIES_PER_SECOND = 172;
const SERVICE_TIME = us(1e6 / QUERIES_PER_SECOND);
const USUAL_SHARE = 0.7;
const BURST_FACTOR = 3;
const QUIET = s(5);
const BURST = s(10);
const AFTERMATH = s(65);
const CLIENTS = 4;
/** A window counts as well if so many of its lookups are answered before the first timeout. */
const WELL = 0.99;
const WINDOW = s(1);
const TIMEOUT = s(5);

export default experiment({
  name: 'coredns-overload',
  question: 'What does a short overload of CoreDNS leave behind, when clients ask again?',
  factors: { clients: CURES },
  replications: 3,
  warmUp: ms(0),
  duration: s(inSeconds(QUIET) + inSeconds(BURST) + inSeconds(AFTERMATH)),

  build({ clients: cure }, cluster) {
    cluster.addNodes(3);
    cluster.addDns({
      replicas: cure === 'two attempts and two pods' ? 2 : 1,
      server: {
        serviceTime: SERVICE_TIME,
        queueLimit: cure === 'two attempts and a short queue' ? QUERIES_PER_SECOND : 1_000_000,
      },
    });
    cluster.addService({ name: 'web', port: 80 });
    const windows = new Windows();
    const lookups = new NameLookups({ onEnd: (lookup) => windows.add(lookup) });
    const begin = (perSecond: number, forSeconds: number): void => {
      for (let i = 0; i < CLIENTS; i++)
        lookups.begin(cluster, cluster.pod(`default/client-${i}`), {
          name: 'web.default.svc.cluster.local.',
          families: cluster.ipFamilies.slice(0, 1),
          arrivals: poisson({ perSecond: perSecond / CLIENTS }),
          lookups: Math.round((perSecond * forSeconds) / CLIENTS),
        });
    };
    for (let i = 0; i < CLIENTS; i++) cluster.apply([clientPod(`client-${i}`, cure)]);
    begin(USUAL_SHARE * QUERIES_PER_SECOND, inSeconds(QUIET) + inSeconds(BURST) + inSeconds(AFTERMATH));
    return { lookups, windows, begin, dns: cluster.dns };
  },

  *story(_cluster, { begin }) {
    yield QUIET;
    begin((BURST_FACTOR - 1) * USUAL_SHARE * QUERIES_PER_SECOND, inSeconds(BURST));
  },

  measure: ({ lookups, windows, dns }) => ({
    lookups: lookups.started,
    queriesPerLookup: lookups.queries / (lookups.resolved + lookups.failed),
    wellBeforeFraction: windows.share(1, inSeconds(QUIET) - 1),
    wellAfterFraction: windows.share(LAST_LOOK.from, LAST_LOOK.to),
    recoverySeconds: windows.recoverySeconds(inSeconds(QUIET) + inSeconds(BURST), LAST_LOOK.to),
    longestQueue: Math.max(...[...dns.servers.values()].map(({ longestQueue }) => longestQueue)),
  }),

  findings: (runs) =>
    CURES.flatMap((cure) => {
      const cells = runs.at({ clients: cure });
      const { recovery, wellAfter } = EXPECTED[cure];
      return [
        ...meanFinding(
          `${cure}: seconds from the end of the burst until lookups are well again`,
          cells.map(({ recoverySeconds }) => recoverySeconds),
          recovery,
        ),
        ...meanFinding(
          `${cure}: share of lookups that are well 50 s later`,
          cells.map(({ wellAfterFraction }) => wellAfterFraction),
          wellAfter,
        ),
      ];
    }),

  charts: [
    { x: 'clients', y: 'recoverySeconds' },
    { x: 'clients', y: 'wellAfterFraction' },
  ],
});

/** Seconds of the run: the last of which all lookups have ended. */
const LAST_LOOK = { from: 60, to: 70 };
const NEVER = LAST_LOOK.to - inSeconds(QUIET) - inSeconds(BURST);

const EXPECTED: Readonly<Record<Cure, { recovery: ReturnType<typeof near>; wellAfter: ReturnType<typeof near> }>> = {
  'no second attempt': { recovery: near(6 / (1 - USUAL_SHARE), { within: 6 }), wellAfter: atLeast(WELL) },
  'two attempts': { recovery: atLeast(NEVER), wellAfter: atMost(0.1) },
  'two attempts and a short queue': { recovery: atMost(12), wellAfter: atLeast(WELL) },
  'two attempts and two pods': { recovery: atMost(2), wellAfter: atLeast(WELL) },
};

/** Lookups by the second in which they began. */
class Windows {
  readonly #begun: number[] = [];
  readonly #well: number[] = [];

  add({ began, ended, isResolved }: { began: number; ended: number; isResolved: boolean }): void {
    const window = Math.floor(began / WINDOW);
    this.#begun[window] = (this.#begun[window] ?? 0) + 1;
    if (isResolved && ended - began < TIMEOUT) this.#well[window] = (this.#well[window] ?? 0) + 1;
  }

  /** Of lookups that began from one second to another, those that were well. */
  share(from: number, to: number): number {
    let begun = 0;
    let well = 0;
    for (let window = from; window < to; window++) {
      begun += this.#begun[window] ?? 0;
      well += this.#well[window] ?? 0;
    }
    return begun === 0 ? 0 : well / begun;
  }

  /** After the last window that was not well. */
  recoverySeconds(from: number, to: number): number {
    for (let window = to - 1; window >= from; window--)
      if (this.share(window, window + 1) < WELL) return window + 1 - from;
    return 0;
  }
}

const clientPod = (name: string, cure: Cure) =>
  objectFrom('Pod', {
    metadata: { name },
    spec: {
      dnsConfig: { options: [{ name: 'attempts', value: cure === 'no second attempt' ? '1' : '2' }] },
      containers: [{ name: 'main' }],
    },
  });
