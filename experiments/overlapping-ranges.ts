// What happens if the ranges of pods and Services overlap, and nobody refuses it?
//
// Expectation (kubernetes/kops#16340, projectcalico/calico#2720). An API server and the node IPAM do not know of each other: a
// Service can get the address of a pod. In iptables mode packets to that address and the Service's port are the Service's,
// for whoever they were meant; other ports of the pod, and pods whose address no Service has, are reached as before. In
// nftables mode kube-proxy drops what is sent to addresses of the Services' range that no Service has (cluster-ips-check), and
// looks at addresses as they are after translation: there no pod is reached at all, also by a Service. Disjoint ranges have nothing of this; Podwire refuses the others unless told `--force`.

import { type ClusterIpFamily, completeRanges } from '../models/kube/ranges.ts';
import { addressAt, formatIp, type Prefix, prefix } from '../models/packet/ip-address.ts';
import {
  atLeast,
  atMost,
  Cluster,
  type ClusterOptions,
  constantRate,
  exactly,
  experiment,
  Load,
  meanFinding,
  ms,
  objectFrom,
  s,
  shareFinding,
  sumOf,
} from './podwire.ts';
import { webPod } from './web-pod.ts';

const RANGES = ['disjoint', 'overlapping'] as const;
const PROXIES = ['iptables', 'nftables'] as const;
const TARGETS = ['the port of a Service', 'another port', 'another pod'] as const;

const REQUESTS = 100;
/** Of the addresses of Services one that no pod has. */
const FREE_INDEX = 50;

export default experiment({
  name: 'overlapping-ranges',
  question: 'What happens if the ranges of pods and Services overlap, and nobody refuses it?',
  factors: { ranges: RANGES, proxy: PROXIES, target: TARGETS },
  replications: 3,
  warmUp: ms(0),
  duration: s(2),

  clusterOptions: (levels) => ({ ...rangesOf(levels), force: true, proxy: levels.proxy }),

  build(levels, cluster) {
    const { ranges, target } = levels;
    cluster.addNodes(2);
    cluster.apply([
      podAt('meant', 'node-1', [8080, 9000]),
      podAt('other', 'node-1', [8080]),
      webPod({ name: 'web', node: 'node-1' }),
    ]);
    const meant = cluster.pod('default/meant');
    const ports = [{ port: 8080, targetPort: 8080 }];
    const { family } = cluster.ranges.service;
    const { ip } = ranges === 'overlapping' ? meant : { ip: addressAt(cluster.ranges.service, FREE_INDEX) };
    const clusterIP = formatIp(ip, family);
    cluster.apply([
      objectFrom('Service', { metadata: { name: 'web' }, spec: { clusterIP, selector: { app: 'web' }, ports } }),
    ]);
    const asked = target === 'another pod' ? cluster.pod('default/other') : meant;
    const load = cluster.openLoop(cluster.addPod({ name: 'client', node: 'node-2' }), {
      ...{ to: { family, ip: asked.ip, port: target === 'another port' ? 9000 : 8080 }, requests: REQUESTS },
      ...{ arrivals: constantRate({ perSecond: 100 }), timeout: ms(500), load: new Load() },
    });
    return { load, name: asked.name, refused: Number(isRefused(levels)) };
  },

  measure: ({ load, name, refused }) => ({
    requests: load.started,
    refusedWithoutForce: refused,
    answeredByMeant: load.perServer.get(name) ?? 0,
    answeredByAnother: load.completed - (load.perServer.get(name) ?? 0),
    unanswered: load.started - load.completed,
  }),

  findings: (runs) =>
    RANGES.flatMap((ranges) => [
      ...meanFinding(
        `${ranges} ranges: refused without --force`,
        runs.at({ ranges }).map((cell) => cell.refusedWithoutForce),
        exactly(Number(ranges === 'overlapping')),
      ),
      ...PROXIES.flatMap((proxy) =>
        TARGETS.flatMap((target) => {
          const cells = runs.at({ ranges, proxy, target });
          const trials = sumOf(cells, ({ requests }) => requests);
          return (['answeredByMeant', 'answeredByAnother', 'unanswered'] as const).flatMap((outcome) => {
            const isExpected = outcome === expectedOutcome(ranges, proxy, target);
            const share = { successes: sumOf(cells, (cell) => cell[outcome]), trials };
            return shareFinding(
              `${ranges}, ${proxy}, to ${target}: ${outcome}`,
              share,
              isExpected ? atLeast(0.98) : atMost(0.02),
            );
          });
        }),
      ),
    ]),

  charts: [{ x: 'target', y: 'answeredByMeant', by: 'ranges' }],
});

function expectedOutcome(
  ranges: (typeof RANGES)[number],
  proxy: (typeof PROXIES)[number],
  target: (typeof TARGETS)[number],
) {
  if (ranges === 'disjoint') return 'answeredByMeant';
  if (proxy === 'nftables') return 'unanswered';
  return target === 'the port of a Service' ? 'answeredByAnother' : 'answeredByMeant';
}

interface RangeLevels {
  readonly ranges: (typeof RANGES)[number];
  /** Only if it was asked for. */
  readonly ipFamily?: ClusterIpFamily;
}

function rangesOf({ ranges, ipFamily }: RangeLevels): Partial<ClusterOptions> {
  if (ranges === 'disjoint') return {};
  const { service, secondaryService } = completeRanges({}, ipFamily);
  const secondary = secondaryService && { secondaryPod: podRangeLike(secondaryService) };
  return { ranges: { pod: podRangeLike(service), ...secondary } };
}

/** So that pods of the first node have addresses of Services. In IPv6 a node has a /64, and Services have less. */
const podRangeLike = (service: Prefix): Prefix => (service.family === 4 ? service : prefix(service.net, 56, 6));

/** Without `force`. */
function isRefused(levels: RangeLevels): boolean {
  const { ipFamily } = levels;
  try {
    new Cluster({ seed: 'refused', ...rangesOf(levels), ...(ipFamily && { ipFamily }) });
    return false;
  } catch (error) {
    if (error instanceof Error && error.name === 'RangesError') return true;
    throw error;
  }
}

const podAt = (name: string, node: string, ports: readonly number[]) =>
  objectFrom('Pod', {
    metadata: { name },
    spec: { nodeName: node, containers: [{ name, ports: ports.map((containerPort) => ({ containerPort })) }] },
  });
