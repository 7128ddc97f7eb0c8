// What one service port adds to table kube-proxy: chains, and elements of the maps that lead to them. Content and order of
// kube-proxy 1.35, rules in the words that it gives to nft.
//
//   service-x, local-x   pick an endpoint: of the whole cluster, of this node
//   external-x           traffic from outside: marks it for masquerading, or knows who may skip policy Local
//   firewall-x           drops what comes from outside loadBalancerSourceRanges
//   endpoint-x           translates to one endpoint

import { INET_PROTO } from '../../netfilter/nft/datatype.ts';
import type { NftVerdict, SetElement } from '../../netfilter/nft/syntax.ts';
import { formatIp, formatPrefix, type Ip } from '../../packet/ip-address.ts';
import type { LocalDetector } from './local-detector.ts';
import { MARK_CHAIN, nftFamilyOf, REJECT_CHAIN, type ServiceMap } from './nftables-fixed-table.ts';
import { nftEndpointNames, nftServiceNames } from './nftables-names.ts';
import type { PortOnNode } from './port-on-node.ts';
import type { Endpoint, ServicePort } from './service-ports.ts';

/** Settings of kube-proxy that change a service port's chains. */
export interface NftServiceOptions {
  /** Masquerade all traffic to cluster IPs, as if it could have come from anywhere. */
  readonly masqueradeAll: boolean;
  readonly localDetector: LocalDetector;
}

export interface NftChainText {
  readonly name: string;
  readonly rules: readonly string[];
}

export interface MapEntry {
  readonly map: ServiceMap;
  readonly element: SetElement;
}

export const serviceChains = (on: PortOnNode, options: NftServiceOptions): NftChainText[] => [
  ...on.usable.reachable.map((endpoint) => endpointChain(on.port, endpoint)),
  ...balancingChains(on, options),
  ...externalChain(on, options),
  ...firewallChain(on),
];

function balancingChains({ port, usable, servesInternal }: PortOnNode, options: NftServiceOptions): NftChainText[] {
  const { cluster, local } = nftServiceNames(port);
  const masquerade = servesInternal ? masqueradeToClusterIp(port, options) : [];
  const [ofCluster, ofNode] = port.internalPolicyLocal ? [[], masquerade] : [masquerade, []];
  return [
    ...(usable.cluster.length === 0
      ? []
      : [{ name: cluster, rules: [...ofCluster, ...balance(port, usable.cluster)] }]),
    ...(usable.local.length === 0 ? [] : [{ name: local, rules: [...ofNode, ...balance(port, usable.local)] }]),
  ];
}

/** Who reaches a cluster IP from elsewhere would not recognise an answer that comes straight from a pod. */
function masqueradeToClusterIp(port: ServicePort, { masqueradeAll, localDetector }: NftServiceOptions): string[] {
  const from = masqueradeAll ? '' : fromPods(localDetector, '!= ');
  if (from === undefined) return [];
  return [`${ipOf(port)} daddr ${formatIp(port.clusterIp, port.family)} ${from}jump ${MARK_CHAIN}`];
}

function balance(port: ServicePort, endpoints: readonly Endpoint[]): string[] {
  const names = endpoints.map((endpoint) => nftEndpointNames(port, endpoint));
  const remembered = port.affinityTimeoutSeconds === undefined ? [] : names;
  const choices = names.map(({ chain }, i) => `${i} : goto ${chain}`);
  return [
    ...remembered.map(({ chain, affinity }) => `${ipOf(port)} saddr @${affinity} goto ${chain}`),
    `numgen random mod ${names.length} vmap { ${choices.join(' , ')} }`,
  ];
}

function endpointChain(port: ServicePort, endpoint: Endpoint): NftChainText {
  const { chain, affinity } = nftEndpointNames(port, endpoint);
  const ip = ipOf(port);
  return {
    name: chain,
    rules: [
      // A pod that reaches itself through the service has to see another source, or it would answer itself directly.
      `${ip} saddr ${formatIp(endpoint.ip, port.family)} jump ${MARK_CHAIN}`,
      ...(port.affinityTimeoutSeconds === undefined ? [] : [`update @${affinity} { ${ip} saddr }`]),
      `meta l4proto ${port.protocol} dnat to ${endpoint.address}`,
    ],
  };
}

function externalChain(
  { port, usable, entersExternally }: PortOnNode,
  { localDetector }: NftServiceOptions,
): NftChainText[] {
  if (!entersExternally) return [];
  const { cluster, local, external } = nftServiceNames(port);
  // Policy Cluster: the endpoint may be on another node, so the answer has to come back through this one.
  if (!port.externalPolicyLocal) return [{ name: external, rules: [`jump ${MARK_CHAIN}`, `goto ${cluster}`] }];
  // Pods and processes of this node do not depend on which node a load balancer would have picked.
  const pods = fromPods(localDetector, '');
  return [
    {
      name: external,
      rules: [
        ...(pods === undefined ? [] : [`${pods}goto ${cluster} comment "short-circuit pod traffic"`]),
        `fib saddr type local jump ${MARK_CHAIN} comment "masquerade local traffic"`,
        `fib saddr type local goto ${cluster} comment "short-circuit local traffic"`,
        ...(usable.local.length === 0 ? [] : [`goto ${local}`]),
      ],
    },
  ];
}

function firewallChain({ port, nodeIsInSourceRanges }: PortOnNode): NftChainText[] {
  if (!hasFirewall(port)) return [];
  // A node that calls the load balancer's address may have that very address as its source: its traffic loops back.
  const own = nodeIsInSourceRanges ? port.loadBalancerVips.map((ip) => formatIp(ip, port.family)) : [];
  const sources = [...port.loadBalancerSourceRanges.map(formatPrefix), ...own].join(' , ');
  return [{ name: nftServiceNames(port).firewall, rules: [`${ipOf(port)} saddr != { ${sources} } drop`] }];
}

/** Unlike in iptables mode, with and without endpoints: it comes before all else. */
const hasFirewall = ({ loadBalancerVips, loadBalancerSourceRanges }: ServicePort): boolean =>
  loadBalancerVips.length > 0 && loadBalancerSourceRanges.length > 0;

/** What a rule selects local pods' traffic by, or with `!= ` all other; undefined if kube-proxy cannot tell. */
function fromPods(detector: LocalDetector, not: '' | '!= '): string | undefined {
  switch (detector.mode) {
    case 'ClusterCIDR':
    case 'NodeCIDR':
      return `${nftFamilyOf(detector.cidr.family)} saddr ${not}${formatPrefix(detector.cidr)} `;
    case 'BridgeInterface':
      return `iif ${not}"${detector.device}" `;
    case 'InterfaceNamePrefix':
      // `iif` wants the name of one device that is there.
      return `iifname ${not}"${detector.prefix}*" `;
    case 'None':
      return undefined;
  }
}

const ipOf = ({ family }: ServicePort): string => nftFamilyOf(family);

// ── elements ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export function mapEntries(on: PortOnNode): MapEntry[] {
  const { port, hasEndpoints, servesInternal, servesExternal, entersExternally } = on;
  const { cluster, local, external, firewall } = nftServiceNames(port);
  const entries: MapEntry[] = [{ map: 'cluster-ips', element: { key: [single(port.clusterIp)] } }];
  const add = (map: ServiceMap, key: Key, verdict: NftVerdict): void => {
    const comment = map.startsWith('no-endpoint') ? { comment: port.name } : {};
    entries.push({ map, element: { key, ...comment, data: { kind: 'verdict', verdict } } });
  };
  // Without any endpoint a client should hear so; without a local one, a load balancer should try another node.
  const unserved: NftVerdict = hasEndpoints ? { code: 'drop' } : goto(REJECT_CHAIN);
  if (servesInternal)
    add('service-ips', serviceKey(port, port.clusterIp), goto(port.internalPolicyLocal ? local : cluster));
  else add('no-endpoint-services', serviceKey(port, port.clusterIp), unserved);
  for (const ip of [...port.externalIps, ...port.loadBalancerVips]) {
    if (entersExternally) add('service-ips', serviceKey(port, ip), goto(external));
    // With policy Local both: what is let through by `external` ends there, and the rest is dropped.
    if (!servesExternal) add('no-endpoint-services', serviceKey(port, ip), unserved);
  }
  if (hasFirewall(port)) {
    for (const ip of port.loadBalancerVips) add('firewall-ips', serviceKey(port, ip), goto(firewall));
  }
  if (port.nodePort !== undefined) {
    const key = [protocolPart(port), single(port.nodePort)];
    // Whatever its source: loadBalancerSourceRanges guard the load balancer's addresses only.
    if (entersExternally) add('service-nodeports', key, goto(external));
    if (!servesExternal) add('no-endpoint-nodeports', key, unserved);
  }
  return entries;
}

type Key = SetElement['key'];

const single = (value: number): Key[number] => ({ first: value, last: value });

const protocolPart = ({ protocol }: ServicePort): Key[number] => single(Number(INET_PROTO.read(protocol)));

const serviceKey = (port: ServicePort, ip: Ip): Key => [single(ip), protocolPart(port), single(port.port)];

const goto = (chain: string): NftVerdict => ({ code: 'goto', chain });
