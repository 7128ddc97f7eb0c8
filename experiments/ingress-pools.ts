// What do the connection pools of an ingress proxy do to the imbalance of long-lived connections?
//
// Expectation (kubernetes/kubernetes#38456, kubernetes/ingress-nginx#4054, learnk8s on persistent connections). Behind a
// node port a kept connection is balanced once: with C connections over n pods the standard deviation of loads over their
// mean is sqrt((n - 1) / C), and pods that come later get nothing. A proxy balances each request, over kept connections of
// its own: in turn, nearly evenly; at random, as that many coins. New pods get their share as soon as it hears of them.
// Each request pays with a second connection, of which it waits for no handshake.

import { objectFrom } from '../models/kube/objects.ts';
import type { ProxyBalancing } from '../models/workload/proxy/upstream.ts';
import {
  atMost,
  DEFAULT_POOL,
  echo,
  exactly,
  experiment,
  httpRequest,
  Load,
  meanFinding,
  ms,
  near,
  s,
  sumOf,
  targetAt,
  us,
} from './podwire.ts';

const CONNECTIONS = 20;
const BEFORE = 4;
const AFTER = 8;
const WAYS = ['node port', 'Ingress in turn', 'Ingress by requests under way', 'Ingress at random'] as const;
const PODS = ['as many as before', 'twice as many'] as const;
const HOST = 'web.example.com';

type Way = (typeof WAYS)[number];

const BALANCING: Readonly<Record<Way, ProxyBalancing>> = {
  'node port': 'round robin', // no proxy is asked
  'Ingress in turn': 'round robin',
  'Ingress by requests under way': 'least request',
  'Ingress at random': 'random',
};

export default experiment({
  name: 'ingress-pools',
  question: 'What do the connection pools of an ingress proxy do to the imbalance of long-lived connections?',
  factors: { way: WAYS, pods: PODS },
  replications: 10,
  warmUp: ms(200),
  duration: s(2),

  clusterOptions: ({ way }) => ({ httpProxy: { pool: { ...DEFAULT_POOL, balancing: BALANCING[way] } } }),

  build({ way, pods }, cluster) {
    cluster.addNodes(3);
    const web = cluster.addDeployment({ name: 'web', replicas: BEFORE, server: echo({ serviceTime: us(200) }) });
    cluster.addService({ name: 'web', port: 80, type: 'NodePort', selects: web });
    if (way !== 'node port') cluster.apply([ingressFor(HOST)]);
    const known = new Set(cluster.pods.map(({ name }) => name));
    const [{ nodePort } = {}] = cluster.api.get('Service', 'default/web')!.spec.ports;
    const [{ ip } = {}] = cluster.api.get('Ingress', 'default/web')?.status.loadBalancer.ingress ?? [];
    const load = new Load();
    cluster.closedLoop(cluster.outside.client, {
      to: way === 'node port' ? cluster.resolve(`node-1:${nodePort}`) : targetAt(ip!, 80),
      ...{ users: CONNECTIONS, thinkTime: ms(5), keepAlive: true, http: httpRequest(`http://${HOST}/`), load },
    });
    cluster.runFor(s(1));
    if (pods === 'twice as many') {
      cluster.scale('web', AFTER);
      cluster.runFor(s(10)); // they are scheduled, start, and are heard of
    }
    return { load, known };
  },

  measure({ load, known }, cluster) {
    const counts = cluster.pods
      .filter(({ name }) => name.startsWith('default/web-'))
      .map(({ name }) => ({ name, answers: load.perServer.get(name) ?? 0 }));
    const mean = load.completed / counts.length;
    const squares = sumOf(counts, ({ answers }) => (answers - mean) ** 2);
    const isNew = ({ name }: { readonly name: string }) => !known.has(name);
    return {
      requests: load.completed,
      failed: load.failed,
      newPodsFraction: sumOf(counts.filter(isNew), ({ answers }) => answers) / load.completed,
      /** Standard deviation over mean: 0 is perfectly even. */
      variationCoefficient: Math.sqrt(squares / counts.length) / mean,
      latencyP50Us: load.latency.quantileUs(0.5),
      latencyP99Us: load.latency.quantileUs(0.99),
      upstreamConnections: sumOf([...cluster.httpProxies.values()], ({ upstreamConnections }) => upstreamConnections),
    };
  },

  findings: (runs) =>
    WAYS.flatMap((way) => {
      const [same, more] = PODS.map((pods) => runs.at({ way, pods }));
      const spread = expectedSpread(way, same?.[0]?.requests ?? 1);
      return [
        ...meanFinding(
          `${way}: standard deviation of loads over their mean`,
          (same ?? []).map(({ variationCoefficient }) => variationCoefficient),
          spread,
        ),
        ...meanFinding(
          `${way}: share of pods that came later`,
          (more ?? []).map(({ newPodsFraction }) => newPodsFraction),
          way === 'node port' ? exactly(0) : near(0.5, { within: 0.03 }),
        ),
      ];
    }),

  charts: [
    { x: 'way', y: 'variationCoefficient', by: 'pods' },
    { x: 'way', y: 'newPodsFraction', by: 'pods' },
  ],
});

function expectedSpread(way: Way, requests: number) {
  const coins = (count: number) => Math.sqrt((BEFORE - 1) / count);
  switch (way) {
    case 'node port':
      return near(coins(CONNECTIONS), { within: 0.35 * coins(CONNECTIONS) });
    case 'Ingress at random':
      return near(coins(requests), { within: 0.5 * coins(requests) });
    default:
      return atMost(coins(requests)); // more even than coins
  }
}

export const ingressFor = (host: string) =>
  objectFrom('Ingress', {
    metadata: { name: 'web' },
    spec: {
      rules: [
        {
          host,
          http: {
            paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 'web', port: { number: 80 } } } }],
          },
        },
      ],
    },
  });
