// What do hints that keep traffic in its zone do to the load of pods, when zones have as many clients but not as many pods?
//
// Expectation (KEP-2433 and KEP-4444, kubernetes/kubernetes#122437, #110714). Without hints every pod gets its share of all
// traffic, and of three zones two thirds cross. With trafficDistribution PreferSameZone nothing crosses, and the traffic of
// a zone is divided among the pods of that zone: a pod gets traffic of zone / pods in zone. Topology mode Auto moves pods
// to zones that have too few, or hints nothing when that would overload a pod by more than 20 %: of 1, 2 and 3 pods one of
// the last zone is hinted for the first, all get the same, and a sixth crosses; of 4, 4 and 3, where the zone with 3 would
// be 22 % above, there are no hints.

import { objectFrom } from '../models/kube/objects.ts';
import { experiment, Load, meanFinding, ms, near, s, sumOf } from './podwire.ts';
import { webPod } from './web-pod.ts';

const PROXIES = ['iptables', 'nftables'] as const;
const PODS = ['1+2+3', '4+4+3'] as const;
const HINTS = ['none', 'PreferSameZone', 'Auto'] as const;

export default experiment({
  name: 'topology-hints',
  question:
    'What do hints that keep traffic in its zone do to the load of pods, when zones have unequal numbers of them?',
  factors: { pods: PODS, hints: HINTS, proxy: PROXIES },
  replications: 5,
  warmUp: ms(100),
  duration: s(1),

  build({ pods, hints, proxy }, cluster) {
    cluster.useProxy(proxy);
    const replicas = podsPerZone(pods);
    cluster.addNodes(replicas.map((_, zone) => nodeIn(zone)));
    replicas.forEach((count, zone) => {
      for (let index = 0; index < count; index++)
        cluster.apply([webPod({ name: `web-${zone}-${index}`, node: nodeName(zone) })]);
    });
    cluster.apply([webService(hints)]);
    const loads = replicas.map((_, zone) => {
      const client = cluster.addPod({ name: `client-${zone}`, node: nodeName(zone) });
      const zoneOf = (server: string): string => server.slice('default/web-'.length).split('-')[0]!;
      return cluster.closedLoop(client, {
        to: cluster.resolve('web:80'),
        users: 10,
        thinkTime: ms(10),
        load: new Load({ groupBy: ({ server }) => (zoneOf(server) === String(zone) ? 'own zone' : 'other zone') }),
      });
    });
    return { loads, replicas };
  },

  measure({ loads, replicas }, cluster) {
    const requests = sumOf(loads, ({ completed }) => completed);
    const pods = cluster.pods.filter(({ name }) => name.startsWith('default/web-'));
    const answersOf = (server: string) => sumOf(loads, ({ perServer }) => perServer.get(server) ?? 0);
    const meanAnswers = requests / pods.length;
    /** Of a pod in the zone, over that of a pod anywhere. */
    const loadInZone = (zone: number): number => {
      const there = pods.filter(({ node }) => node === nodeName(zone));
      return sumOf(there, ({ name }) => answersOf(name)) / there.length / meanAnswers;
    };
    return {
      requests,
      failed: sumOf(loads, ({ failed }) => failed),
      crossZoneFraction: sumOf(loads, ({ groups }) => groups.get('other zone')?.latency.count ?? 0) / requests,
      smallestZoneLoadToMean: loadInZone(smallestZone(replicas)),
      busiestPodToMean: Math.max(...pods.map(({ name }) => answersOf(name))) / meanAnswers,
    };
  },

  findings: (runs) =>
    PROXIES.flatMap((proxy) =>
      PODS.flatMap((pods) =>
        HINTS.flatMap((hints) => {
          const cells = runs.at({ pods, hints, proxy });
          const expected = expectedLoad(pods, hints);
          const name = `${proxy}, ${pods} pods, hints ${hints}`;
          const crossing = cells.map(({ crossZoneFraction }) => crossZoneFraction);
          const load = cells.map(({ smallestZoneLoadToMean }) => smallestZoneLoadToMean);
          return [
            ...meanFinding(`${name}: share that crosses zones`, crossing, near(expected.crossing, { within: 0.03 })),
            ...meanFinding(
              `${name}: load of a pod in the smallest zone, to the mean`,
              load,
              near(expected.load, { within: 0.15 }),
            ),
          ];
        }),
      ),
    ),

  charts: [
    { x: 'pods', y: 'busiestPodToMean', by: 'hints' },
    { x: 'pods', y: 'crossZoneFraction', by: 'hints' },
  ],
});

const podsPerZone = (pods: string): number[] => pods.split('+').map(Number);

/** Each zone has a third of the traffic. */
function expectedLoad(pods: (typeof PODS)[number], hints: (typeof HINTS)[number]) {
  const counts = podsPerZone(pods);
  const mean = 1 / sumOf(counts, (count) => count);
  if (hints === 'PreferSameZone') return { crossing: 0, load: 1 / 3 / Math.min(...counts) / mean };
  // The first zone sends half of what it has to the pod that is hinted for it.
  return { crossing: hints === 'Auto' && pods === '1+2+3' ? 1 / 3 / 2 : 2 / 3, load: 1 };
}

const smallestZone = (counts: readonly number[]): number => counts.indexOf(Math.min(...counts));

const nodeName = (zone: number): string => `node-${zone + 1}`;

const nodeIn = (zone: number) =>
  objectFrom('Node', {
    metadata: { name: nodeName(zone), labels: { 'topology.kubernetes.io/zone': `zone-${zone + 1}` } },
    status: { allocatable: { cpu: '4' } },
  });

const webService = (hints: (typeof HINTS)[number]) =>
  objectFrom('Service', {
    apiVersion: 'v1',
    metadata: {
      name: 'web',
      annotations: hints === 'Auto' ? { 'service.kubernetes.io/topology-mode': 'Auto' } : {},
    },
    spec: {
      selector: { app: 'web' },
      ports: [{ port: 80, targetPort: 8080 }],
      ...(hints === 'PreferSameZone' && { trafficDistribution: hints }),
    },
  });
