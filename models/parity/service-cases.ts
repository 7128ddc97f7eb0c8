// A generated cluster of Services as parity cases: one set of Services, cut into cases of some packets each, so that a case is
// quickly run again. kube-proxy's flags are drawn for every case, and are the same on its nodes.
//
// A seed decides everything: the same one makes the same cases everywhere.

import { RandomStreams } from '../../engine/random.ts';
import type { ProxyMode } from '../kube/kube-proxy/proxy-mode.ts';
import type { Service } from '../kube/objects.ts';
import type { NodeRules, ParityCase } from './case.ts';
import { Draw } from './generate/draw.ts';
import { drawFlags, iptablesRules, nftablesRules, type Snapshots, snapshotsOf } from './generate/kube-proxy-rules.ts';
import { type DrawnService, drawService } from './generate/service-cluster.ts';
import { CLUSTER_NODES, serviceTopology } from './generate/service-network.ts';
import { drawServicePacket, drawSweep, type ServicePacket } from './generate/service-packets.ts';

export interface ServiceCasesOptions {
  readonly seed: number | string;
  readonly mode: ProxyMode;
  readonly services: number;
  /** In all cases together. */
  readonly packets: number;
}

export interface ServiceCase {
  readonly parityCase: ParityCase;
  /** By packet: what it asks. */
  readonly about: readonly string[];
}

const PACKETS_PER_CASE = 100;
/** Each asks one Service at one address, some dozens of times. */
const SWEEPS = 12;

/** Cases of packets that have little to do with each other, to be compared by {@link compareManySteps}. */
export function* serviceCases(options: ServiceCasesOptions): Iterable<ServiceCase> {
  const cluster = drawCluster(options);
  for (let left = options.packets, index = 0; left > 0; left -= PACKETS_PER_CASE, index++) {
    const draw = drawOf(options, `packets ${index}`);
    const length = Math.min(PACKETS_PER_CASE, left);
    const packets = Array.from({ length }, () => drawServicePacket(draw, cluster.services));
    yield caseOf(draw, { ...options, cluster, name: `case ${index}`, packets });
  }
}

/** A case for {@link compareReach}. */
export function sweepCase(options: ServiceCasesOptions): ServiceCase {
  const cluster = drawCluster(options);
  const draw = drawOf(options, 'sweeps');
  const packets = Array.from({ length: SWEEPS }, () => drawSweep(draw, cluster.drawn)).flat();
  return caseOf(draw, { ...options, cluster, name: 'sweeps', packets });
}

const drawOf = ({ seed, mode }: ServiceCasesOptions, name: string): Draw =>
  new Draw(new RandomStreams(String(seed)).stream(`${mode}/${name}`));

interface Cluster {
  readonly drawn: readonly DrawnService[];
  readonly services: readonly Service[];
  readonly snapshots: Snapshots;
}

/** The same in both modes. */
function drawCluster({ seed, services: count }: ServiceCasesOptions): Cluster {
  const draw = new Draw(new RandomStreams(String(seed)).stream('services'));
  const drawn = Array.from({ length: count }, (_, i) => drawService(draw, i + 1));
  return { drawn, services: drawn.map(({ service }) => service), snapshots: snapshotsOf(drawn) };
}

interface CaseParts extends Pick<ServiceCasesOptions, 'seed' | 'mode'> {
  readonly cluster: Cluster;
  readonly name: string;
  readonly packets: readonly ServicePacket[];
}

function caseOf(draw: Draw, { seed, mode, cluster: { snapshots }, name, packets }: CaseParts): ServiceCase {
  return {
    parityCase: {
      name: `seed ${seed}, ${mode} ${name}`,
      topology: serviceTopology(),
      rules: drawRules(draw, { mode, snapshots, seed: `${seed}/${name}` }),
      packets: packets.map(({ step }) => step),
    },
    about: packets.map(({ about }) => about),
  };
}

function drawRules(
  draw: Draw,
  { mode, snapshots, seed }: { readonly mode: ProxyMode; readonly snapshots: Snapshots; readonly seed: string },
): Record<string, NodeRules> {
  const flags = drawFlags(draw, mode);
  const backend = draw.pick(['legacy', 'nft'] as const);
  const rulesOf = (node: (typeof CLUSTER_NODES)[number]): NodeRules =>
    mode === 'nftables'
      ? nftablesRules({ node, flags, snapshots })
      : iptablesRules({ node, flags, snapshots }, { backend, seed });
  return Object.fromEntries(CLUSTER_NODES.map((node) => [node.name, rulesOf(node)]));
}
