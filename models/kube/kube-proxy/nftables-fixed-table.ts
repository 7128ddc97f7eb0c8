// What table kube-proxy has whatever the Services: hooks, maps that lead to the chains of Services, masquerading. Layout of
// kube-proxy 1.35; releases up to 1.30 filter before they translate (README.md).

import { applyNftText } from '../../netfilter/nft/read-ruleset.ts';
import { EMPTY_RULESET, type NftFamily, type NftTable } from '../../netfilter/nft/syntax.ts';
import { formatPrefix, type IpFamily, type Prefix } from '../../packet/ip-address.ts';

export const NFT_TABLE_NAME = 'kube-proxy';
export const nftFamilyOf = (family: IpFamily): NftFamily => (family === 6 ? 'ip6' : 'ip');

/** Where traffic to Services is recognised: sets and maps that every Service adds elements to. */
export const SERVICE_MAPS = [
  'cluster-ips',
  'no-endpoint-services',
  'no-endpoint-nodeports',
  'firewall-ips',
  'service-ips',
  'service-nodeports',
] as const;
export type ServiceMap = (typeof SERVICE_MAPS)[number];

/** Addresses of the node that serve node ports; there is none if all of them do. */
export const NODE_PORT_IPS = 'nodeport-ips';
export const MARK_CHAIN = 'mark-for-masquerade';
export const REJECT_CHAIN = 'reject-chain';

export interface FixedTableSettings {
  readonly family: IpFamily;
  /** --iptables-masquerade-bit: the bit of the mark that asks for masquerading. */
  readonly masqueradeBit: number;
  /** The cluster's ServiceCIDRs: what goes to an address in one of the family that no Service has is dropped. */
  readonly serviceRanges: readonly Prefix[];
  /** Node ports answer on every address of the node except loopback. */
  readonly servesNodePortsEverywhere: boolean;
}

/** The table without Services, and how many commands make it. */
export function fixedTable(settings: FixedTableSettings): { readonly table: NftTable; readonly commands: number } {
  const family = nftFamilyOf(settings.family);
  const commands = fixedCommands(settings);
  const { tables } = applyNftText(EMPTY_RULESET, commands.join('\n'), { fileName: 'kube-proxy' });
  return { table: tables.get(`${family} ${NFT_TABLE_NAME}`)!, commands: commands.length };
}

function fixedCommands(settings: FixedTableSettings): string[] {
  const family = nftFamilyOf(settings.family);
  const address = settings.family === 6 ? 'ipv6_addr' : 'ipv4_addr';
  const everywhere = settings.servesNodePortsEverywhere;
  const sets = [
    ['set', 'cluster-ips', address, 'Active ClusterIPs'],
    ...(everywhere ? [] : [['set', NODE_PORT_IPS, address, 'IPs that accept NodePort traffic']]),
    ['map', 'no-endpoint-services', byAddress(address), 'vmap to drop or reject packets to services with no endpoints'],
    ['map', 'no-endpoint-nodeports', BY_PORT, 'vmap to drop or reject packets to service nodeports with no endpoints'],
    ['map', 'firewall-ips', byAddress(address), 'destinations that are subject to LoadBalancerSourceRanges'],
    ['map', 'service-ips', byAddress(address), 'ClusterIP, ExternalIP and LoadBalancer IP traffic'],
    ['map', 'service-nodeports', BY_PORT, 'NodePort traffic'],
  ];
  return [
    `add table ${family} kube-proxy { comment "rules for kube-proxy" ; }`,
    ...sets.map(
      ([kind, name, type, about]) => `add ${kind} ${family} kube-proxy ${name} { type ${type} ; comment "${about}" ; }`,
    ),
    ...BASE_CHAINS.map(([name, type, hook, priority]) => {
      return `add chain ${family} kube-proxy ${name} { type ${type} hook ${hook} priority ${priority} ; }`;
    }),
    ...CHAINS.map((name) => `add chain ${family} kube-proxy ${name}`),
    `add chain ${family} kube-proxy ${REJECT_CHAIN} { comment "helper for @no-endpoint-services / @no-endpoint-nodeports" ; }`,
    ...[...JUMPS, ...fixedRules(settings)].map(([chain, rule]) => `add rule ${family} kube-proxy ${chain} ${rule}`),
  ];
}

const byAddress = (type: string): string => `${type} . ${BY_PORT}`;
const BY_PORT = 'inet_proto . inet_service : verdict';

/** Source ranges are looked at before the address is translated, all else after. */
const BASE_CHAINS = [
  ['filter-prerouting-pre-dnat', 'filter', 'prerouting', -110],
  ['filter-output-pre-dnat', 'filter', 'output', -110],
  ['filter-input', 'filter', 'input', 0],
  ['filter-forward', 'filter', 'forward', 0],
  ['filter-output', 'filter', 'output', 0],
  ['nat-prerouting', 'nat', 'prerouting', -100],
  ['nat-output', 'nat', 'output', -100],
  ['nat-postrouting', 'nat', 'postrouting', 100],
] as const;

const CHAINS = [
  'nodeport-endpoints-check',
  'service-endpoints-check',
  'firewall-check',
  'services',
  'masquerading',
  'cluster-ips-check',
  MARK_CHAIN,
] as const;

const JUMPS = [
  ['filter-input', 'ct state new jump nodeport-endpoints-check'],
  ['filter-input', 'ct state new jump service-endpoints-check'],
  ['filter-forward', 'ct state new jump service-endpoints-check'],
  ['filter-output', 'ct state new jump service-endpoints-check'],
  ['filter-prerouting-pre-dnat', 'ct state new jump firewall-check'],
  ['filter-output-pre-dnat', 'ct state new jump firewall-check'],
  ['nat-output', 'jump services'],
  ['nat-prerouting', 'jump services'],
  ['nat-postrouting', 'jump masquerading'],
  ['filter-forward', 'ct state new jump cluster-ips-check'],
  ['filter-output', 'ct state new jump cluster-ips-check'],
] as const;

function fixedRules(settings: FixedTableSettings): [chain: string, rule: string][] {
  const ip = nftFamilyOf(settings.family);
  const mark = `0x${(1 << settings.masqueradeBit).toString(16)}`;
  const toService = `${ip} daddr . meta l4proto . th dport vmap`;
  const toPort = 'meta l4proto . th dport vmap';
  const notToLoopback = settings.family === 6 ? 'ip6 daddr != ::1' : 'ip daddr != 127.0.0.0/8';
  const everywhere = settings.servesNodePortsEverywhere;
  const toNode = everywhere ? notToLoopback : `${ip} daddr @${NODE_PORT_IPS}`;
  const ownRanges = settings.serviceRanges.filter((range) => range.family === settings.family);
  const ranges = ownRanges.map(formatPrefix).join(', ');
  return [
    [MARK_CHAIN, `mark set mark or ${mark}`],
    // Clears the mark, so that traffic that is encapsulated and comes through here again is not masqueraded twice.
    ['masquerading', `mark and ${mark} == 0 return`],
    ['masquerading', `mark set mark xor ${mark}`],
    ['masquerading', 'masquerade fully-random'],
    ['cluster-ips-check', `${ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"`],
    ...(ranges === '' ? [] : [dropUnallocated(ip, ranges)]),
    [REJECT_CHAIN, 'reject'],
    ['service-endpoints-check', `${toService} @no-endpoint-services`],
    ['nodeport-endpoints-check', `${toNode} ${toPort} @no-endpoint-nodeports`],
    ['firewall-check', `${toService} @firewall-ips`],
    ['services', `${toService} @service-ips`],
    ['services', `${everywhere ? 'fib daddr type local ' : ''}${toNode} ${toPort} @service-nodeports`],
  ];
}

const dropUnallocated = (ip: NftFamily, ranges: string): [string, string] => [
  'cluster-ips-check',
  `${ip} daddr { ${ranges} } drop comment "Drop traffic to unallocated ClusterIPs"`,
];
