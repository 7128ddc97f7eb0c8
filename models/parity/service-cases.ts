// A generated cluster of Services as parity cases: one set of Services, cut into cases of some packets each, so that a case is
// quickly run again. kube-proxy's flags are drawn for every case, and are the same on its nodes.
//
// A seed decides everything: the same one makes the same cases everywhere.

import { RandomStreams } from '../../engine/random.ts';
import { ProxyCaches } from '../kube/kube-proxy/proxy-mode.ts';
import type { NodeRules, ParityCase } from './case.ts';
import { Draw } from './generate/draw.ts';
import {
  drawFlags,
  iptablesRules,
  nftablesRules,
  type ProxyFlags,
  type ServiceProxy,
  snapshotsOf,
} from './generate/kube-proxy-rules.ts';
import { type DrawnService, drawServices } from './generate/service-cluster.ts';
import { CLUSTER_NODES, serviceTopology } from './generate/service-network.ts';
import { drawServicePacket, drawSweep, type ServicePacket } from './generate/service-packets.ts';

export { SERVICE_PROXIES, type ServiceProxy } from './generate/kube-proxy-rules.ts';

export interface ServiceCasesOptions {
  readonly seed: number | string;
  readonly mode: ServiceProxy;
  readonly services: number;
  /** In all cases together. */
  readonly packets: number;
}

export interface ServiceCase {
  readonly name: string;
  readonly services: readonly DrawnService[];
  readonly packets: readonly ServicePacket[];
  readonly parityCase: ParityCase;
  /** The same network and flags with some of the Services and packets. */
  readonly with: (parts: Partial<Pick<ServiceCase, 'services' | 'packets'>>) => ServiceCase;
}

const PACKETS_PER_CASE = 250;
/** Each asks one Service at one address, some dozens of times. */
const SWEEPS = 12;

/** Cases of packets that have little to do with each other, to be compared by {@link compareManySteps}. */
export function* serviceCases(options: ServiceCasesOptions): Iterable<ServiceCase> {
  const services = clusterOf(options);
  const caches = new ProxyCaches();
  for (let left = options.packets, index = 0; left > 0; left -= PACKETS_PER_CASE, index++) {
    const draw = drawOf(options, `packets ${index}`);
    const known = services.map(({ service }) => service);
    const packets = Array.from({ length: Math.min(PACKETS_PER_CASE, left) }, () => drawServicePacket(draw, known));
    yield caseOf({ services, packets }, { name: `${index}`, ...drawSetting(draw, options), caches });
  }
}

/** A case for {@link compareReach}. */
export function sweepCase(options: ServiceCasesOptions): ServiceCase {
  const services = clusterOf(options);
  const draw = drawOf(options, 'sweeps');
  const packets = Array.from({ length: SWEEPS }, () => drawSweep(draw, services)).flat();
  return caseOf({ services, packets }, { name: 'sweeps', ...drawSetting(draw, options), caches: new ProxyCaches() });
}

/** The same in both modes. */
const clusterOf = ({ seed, services }: ServiceCasesOptions): DrawnService[] =>
  drawServices(new Draw(new RandomStreams(String(seed)).stream('services')), services);

const drawOf = ({ seed, mode }: ServiceCasesOptions, name: string): Draw =>
  new Draw(new RandomStreams(String(seed)).stream(`${mode}/${name}`));

/** What is the same however much of a case is left out. */
interface Setting extends Pick<ServiceCasesOptions, 'seed' | 'mode'> {
  readonly name: string;
  readonly flags: ProxyFlags;
  /** In iptables mode. */
  readonly backend: 'legacy' | 'nft';
  readonly caches: ProxyCaches;
}

const drawSetting = (draw: Draw, { seed, mode }: ServiceCasesOptions) => ({
  ...{ seed, mode, flags: drawFlags(draw, mode) },
  backend: draw.pick(['legacy', 'nft'] as const),
});

function caseOf(content: Pick<ServiceCase, 'services' | 'packets'>, setting: Setting): ServiceCase {
  const { seed, mode, name } = setting;
  return {
    ...content,
    name,
    parityCase: {
      name: `seed ${seed}, ${mode} case ${name}`,
      topology: serviceTopology(),
      rules: rulesOf(content.services, setting),
      packets: content.packets.map(({ step }) => step),
    },
    with: (parts) => caseOf({ ...content, ...parts }, setting),
  };
}

function rulesOf(services: readonly DrawnService[], setting: Setting): Record<string, NodeRules> {
  const { seed, mode, name, flags, backend, caches } = setting;
  const snapshots = snapshotsOf(services);
  return Object.fromEntries(
    CLUSTER_NODES.map((node) => {
      const proxied = { node, flags, snapshots, caches };
      const rules =
        mode === 'nftables' ? nftablesRules(proxied) : iptablesRules(proxied, { backend, seed: `${seed}/${name}` });
      return [node.name, rules];
    }),
  );
}
