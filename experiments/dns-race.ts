// Why do some lookups take five seconds, and what helps?
//
// Expectation (kubernetes/kubernetes#56903, weaveworks/weave#3287; M. Pumputis, "Racy conntrack and DNS lookup timeouts";
// KEP-1024). glibc sends A and AAAA from one socket. If the thread is moved to another CPU in between, both packets may look
// for their connection before either has confirmed one. kube-proxy's coin chooses an endpoint for each, one entry is
// inserted, and the other packet is dropped (insert_failed): glibc waits 5 s, and asks again, one after the other.
// - Before Linux 5.0 the loser was dropped whatever the coins said: every race costs 5 s.
// - From 5.0 to 5.6 it goes on if both were sent to the same of n endpoints: n - 1 of n races cost 5 s.
// - From 5.7 on it gets an entry of its own (clash_resolve): none does.
// - single-request, single-request-reopen and use-vc do not send two datagrams from one port at a time: none.
// - NodeLocal DNSCache is not tracked, and asks CoreDNS over TCP: none.
// - Lookups of 5 s are as many as entries that could not be inserted.
//
// How often threads are moved is not the question here: all are. Whether the packets meet depends on what else the two
// CPUs have to do, which is other traffic of the node.

import { objectFrom } from '../models/kube/objects.ts';
import type { ConntrackSettings } from '../models/netfilter/conntrack.ts';
import { NameLookups } from './name-lookups.ts';
import {
  atLeast,
  exactly,
  experiment,
  Load,
  meanFinding,
  ms,
  near,
  poisson,
  s,
  shareFinding,
  sumOf,
} from './podwire.ts';

const CASES = {
  'Linux before 5.0': { clashResolution: 'untranslated' },
  'Linux 5.0 to 5.6': { clashResolution: 'identical' },
  'Linux from 5.7': { clashResolution: 'always' },
  'single-request': { clashResolution: 'untranslated', option: 'single-request' },
  'single-request-reopen': { clashResolution: 'untranslated', option: 'single-request-reopen' },
  'use-vc': { clashResolution: 'untranslated', option: 'use-vc' },
  'NodeLocal DNSCache': { clashResolution: 'untranslated', isCached: true },
} as const satisfies Readonly<Record<string, Case>>;

interface Case {
  readonly clashResolution: ConntrackSettings['clashResolution'];
  /** Of resolv.conf. */
  readonly option?: string;
  readonly isCached?: boolean;
}

type CaseName = keyof typeof CASES;
const CASE_NAMES = Object.keys(CASES) as CaseName[];
const RACY: readonly CaseName[] = ['Linux before 5.0', 'Linux 5.0 to 5.6'];
const ENDPOINTS = [2, 10] as const;

const CLIENTS = 10;
const LOOKUPS_PER_CLIENT = 100;
const SLOW = s(5);

export default experiment({
  name: 'dns-race',
  question: 'Why do some lookups take five seconds, and what helps?',
  factors: { case: CASE_NAMES, coreDnsPods: ENDPOINTS },
  replications: 3,
  warmUp: ms(0),
  duration: s(12),

  build({ case: name, coreDnsPods }, cluster) {
    const { clashResolution, option, isCached = false }: Case = CASES[name];
    cluster.addNodes(3);
    cluster.addDns({ replicas: coreDnsPods, nodeLocal: isCached });
    const web = cluster.addDeployment({ name: 'web', replicas: 2 });
    cluster.addService({ name: 'web', port: 80, protocol: 'UDP', selects: web });
    for (const { machine } of cluster.nodes) machine.root.enableNetfilter().conntrack.configure({ clashResolution });
    let slow = 0;
    const lookups = new NameLookups({
      onEnd: ({ began, ended }) => {
        if (ended - began >= SLOW) slow++;
      },
    });
    for (let i = 0; i < CLIENTS; i++) {
      cluster.apply([clientPod(`client-${i}`, option)]);
      lookups.begin(cluster, cluster.pod(`default/client-${i}`), {
        name: 'web.default.svc.cluster.local.',
        arrivals: poisson({ perSecond: 20 }),
        lookups: LOOKUPS_PER_CLIENT,
        migrates: true,
      });
    }
    const traffic = new Load();
    for (let i = 0; i < 4; i++)
      cluster.openLoop(cluster.addPod({ name: `traffic-${i}`, node: 'node-1' }), {
        to: cluster.resolve('web:80', { protocol: 'UDP' }),
        ...{ protocol: 'udp', keepAlive: true, arrivals: poisson({ perSecond: 5_000 }), load: traffic },
        requests: 30_000, // until the last lookup has begun
      });
    const { conntrack } = cluster.node('node-1').machine.root.enableNetfilter();
    return { lookups, conntrack, slowLookups: () => slow };
  },

  measure: ({ lookups, conntrack, slowLookups }) => ({
    lookups: lookups.started,
    unresolved: lookups.started - lookups.resolved,
    slowLookups: slowLookups(),
    slowFraction: slowLookups() / lookups.started,
    insertFailed: conntrack.statistics.insert_failed,
    clashesResolved: conntrack.statistics.clash_resolve,
    latencyP50Us: lookups.latency.quantileUs(0.5),
    latencyP99Ms: lookups.latency.quantileUs(0.99) / 1e3,
  }),

  findings: (runs) =>
    ENDPOINTS.flatMap((coreDnsPods) => {
      const at = (name: CaseName) => runs.at({ case: name, coreDnsPods });
      const slowShare = (name: CaseName, expected: ReturnType<typeof exactly>, claim: string) =>
        shareFinding(
          `${coreDnsPods} pods of CoreDNS, ${name}: ${claim}`,
          { successes: sumOf(at(name), (cell) => cell.slowLookups), trials: sumOf(at(name), (cell) => cell.lookups) },
          expected,
        );
      const before = sumOf(at('Linux before 5.0'), (cell) => cell.slowLookups);
      const between = sumOf(at('Linux 5.0 to 5.6'), (cell) => cell.slowLookups);
      return [
        ...RACY.flatMap((name) => slowShare(name, atLeast(0.01), 'share of lookups that take 5 s')),
        ...RACY.flatMap((name) =>
          meanFinding(
            `${coreDnsPods} pods of CoreDNS, ${name}: lookups of 5 s less entries that could not be inserted`,
            at(name).map(({ slowLookups, insertFailed }) => slowLookups - insertFailed),
            exactly(0),
          ),
        ),
        // The same races, as the runs have the same seeds.
        ...shareFinding(
          `${coreDnsPods} pods of CoreDNS: races that cost 5 s from 5.0 to 5.6`,
          { successes: between, trials: before },
          near(1 - 1 / coreDnsPods, { within: 0.1 }),
        ),
        ...CASE_NAMES.filter((name) => !RACY.includes(name)).flatMap((name) =>
          slowShare(name, { from: 0, to: 0.005 }, 'share of lookups that take 5 s'),
        ),
      ];
    }),

  charts: [{ x: 'case', y: 'slowFraction', by: 'coreDnsPods' }],
});

const clientPod = (name: string, option: string | undefined) =>
  objectFrom('Pod', {
    metadata: { name },
    spec: {
      nodeName: 'node-1',
      ...(option === undefined ? {} : { dnsConfig: { options: [{ name: option }] } }),
      containers: [{ name: 'main' }],
    },
  });
