// Every way that a request can take in, through and out of a cluster, walked by one request each: where its first packet
// has been, and what was done to its addresses there. Read from the journeys of frames, so that nothing here can differ from
// what `podwire trace` shows.

import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from '../models/cluster.ts';
import type { ManifestFile } from '../models/kube/manifests.ts';
import { readManifests } from '../models/kube/manifests.ts';
import type { IpFamily } from '../models/packet/ip-address.ts';
import type { Journey, JourneyStep } from '../models/packet/journey.ts';
import { requestIn } from './cli/request-options.ts';

/** As `podwire trace` is told of it. */
export interface TransportPath {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

/** Between the objects of manifests/ways.yaml. */
export const TRANSPORT_PATHS: readonly TransportPath[] = [
  { name: 'container to container', from: 'default/client', to: 'localhost:9000' },
  { name: 'pod to pod, same node', from: 'default/client', to: 'default/near:8080' },
  { name: 'pod to pod, other node', from: 'default/client', to: 'default/far:8080' },
  { name: 'pod to Service', from: 'default/client', to: 'default/far-service:80' },
  { name: 'node to pod', from: 'node-1', to: 'default/far:8080' },
  { name: 'outside to NodePort', from: 'outside', to: 'node-3:30080' },
  { name: 'outside to LoadBalancer', from: 'outside', to: 'http://load-balancer/' },
  { name: 'outside to Ingress', from: 'outside', to: 'http://ways.example.com/' },
  { name: 'outside to Gateway', from: 'outside', to: 'http://gateway.example.com/' },
  { name: 'pod to outside', from: 'default/client', to: 'outside:443' },
];

/** Stay of a packet in one network namespace. */
export interface Stop {
  /** `node-3`, `default/far`, `gateway`. */
  readonly place: string;
  readonly kind: 'pod' | 'proxy' | 'node' | 'outside' | 'network';
  /** What was done to the packet's addresses. */
  readonly changes: readonly ('DNAT' | 'SNAT')[];
}

export interface WalkedPath extends TransportPath {
  readonly family: IpFamily;
  /** Of the first packet of each connection that carries the request: two, if a proxy takes it and makes it again. */
  readonly stops: readonly Stop[];
  /** Who answered, and whom that saw. */
  readonly server: string;
  readonly sourceSeen: string;
  readonly forwardedFor: string | undefined;
  readonly latencyUs: number;
}

/** Walks all paths, each in a cluster of its own. */
export function walkPaths(
  file: ManifestFile,
  { family, ...options }: Omit<ClusterOptions, 'seed'> & { readonly family: IpFamily },
): WalkedPath[] {
  return TRANSPORT_PATHS.map((path) => {
    const cluster = Cluster.fromManifests(readManifests([file]), { ...options, ipFamily: 'dual', seed: path.name });
    return walk(cluster, path, family);
  });
}

function walk(cluster: Cluster, path: TransportPath, family: IpFamily): WalkedPath {
  const to = path.to === 'http://load-balancer/' ? loadBalancerOf(cluster, family) : path.to;
  const { sender, target, http } = requestIn(cluster, { from: path.from, to, protocol: 'tcp', family });
  cluster.start();
  cluster.frames.followAll();
  const load = cluster.closedLoop(sender, { to: target, requests: 1, thinkTime: ms(0), ...(http && { http }) });
  cluster.runFor(s(2));
  cluster.assertConserved();
  const senders = [path.from, ...cluster.httpProxies.keys()];
  const syns = cluster.frames.journeys.filter(
    ({ title, steps: [first] }) =>
      title.endsWith('tcp [S]') && first !== undefined && senders.includes(first.namespace),
  );
  const stops = syns.flatMap((journey, i) => stopsOf(cluster, journey).slice(i === 0 ? 0 : 1));
  const [[server = 'nobody'] = []] = load.perServer;
  const [[sourceSeen = '-'] = []] = load.perSource;
  const [[forwardedFor] = []] = load.perForwardedFor;
  return { ...path, to, family, stops, server, sourceSeen, forwardedFor, latencyUs: load.latency.quantileUs(0.5) };
}

function loadBalancerOf(cluster: Cluster, family: IpFamily): string {
  const { ingress } = cluster.api.get('Service', 'default/far-load-balancer')!.status.loadBalancer;
  const ip = ingress.map((entry) => entry.ip!).find((text) => text.includes(':') === (family === 6))!;
  return family === 6 ? `[${ip}]:80` : `${ip}:80`;
}

function stopsOf(cluster: Cluster, { steps }: Journey): Stop[] {
  const stops: { place: string; kind: Stop['kind']; changes: Stop['changes'][number][] }[] = [];
  for (const step of steps) {
    if (stops.at(-1)?.place !== step.namespace)
      stops.push({ place: step.namespace, kind: kindOf(cluster, step.namespace), changes: [] });
    const { changes } = stops.at(-1)!;
    for (const change of changesIn(step)) if (!changes.includes(change)) changes.push(change);
  }
  return stops;
}

function kindOf(cluster: Cluster, place: string): Stop['kind'] {
  if (cluster.httpProxies.has(place)) return 'proxy';
  if (place.includes('/')) return 'pod';
  if (place === 'outside') return 'outside';
  return cluster.nodes.some(({ name }) => name === place) ? 'node' : 'network';
}

/** `A > B becomes C > D`: what of it is another. */
function changesIn({ stage, text }: JourneyStep): Stop['changes'] {
  if (stage !== 'nat' && stage !== 'ipvs' && stage !== 'ebpf') return [];
  const [, source, destination, newSource, newDestination] = /(\S+) > (\S+) becomes (\S+) > (\S+)/.exec(text) ?? [];
  return [
    ...(destination === newDestination ? [] : (['DNAT'] as const)),
    ...(source === newSource ? [] : (['SNAT'] as const)),
  ];
}
