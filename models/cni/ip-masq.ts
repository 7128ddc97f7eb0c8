// ipMasq of the plugins bridge and ptp: what a container sends to other networks leaves with the node's address. In iptables
// a chain per container, in nftables a rule per address (pkg/ip of containernetworking/plugins).

import { formatIp, formatPrefix, type IpFamily } from '../packet/ip-address.ts';
import { chainNameOf, commentOf, hashOf } from './chain-name.ts';
import type { CniHost } from './cni-host.ts';
import { IptablesCommands, quoted } from './iptables-commands.ts';
import { type ResultIp, subnetOf } from './result.ts';

export const MASQUERADE_BACKENDS = ['iptables', 'nftables'] as const;
export type MasqueradeBackend = (typeof MASQUERADE_BACKENDS)[number];

export interface MasqueradedContainer {
  readonly host: CniHost;
  readonly network: string;
  readonly containerId: string;
  readonly backend: MasqueradeBackend;
}

export function setUpMasquerade(container: MasqueradedContainer, ips: readonly ResultIp[]): void {
  for (const ip of ips) (container.backend === 'iptables' ? addChain : addRule)(container, ip);
}

/** Also what the other backend may have left. Without addresses (they are lost with the result) by the names alone. */
export function tearDownMasquerade(container: Omit<MasqueradedContainer, 'backend'>, ips: readonly ResultIp[]): void {
  const { host, network, containerId } = container;
  if (host.root.netfilter === undefined) return;
  const chain = chainNameOf(network, containerId);
  for (const family of [4, 6] as const) {
    const nat = new IptablesCommands(host.root, 'nat', family);
    if (!nat.hasChain(chain)) continue;
    nat.removeJumps('POSTROUTING', chain);
    nat.removeChain(chain);
  }
  removeRules(container, ips);
}

/** What is sent to many is sent as it is. */
const MULTICAST: Readonly<Record<IpFamily, string>> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

function addChain({ host, network, containerId }: MasqueradedContainer, ip: ResultIp): void {
  const { family } = ip;
  const nat = new IptablesCommands(host.root, 'nat', family);
  const chain = chainNameOf(network, containerId);
  const comment = `-m comment --comment ${quoted(commentOf(network, containerId))}`;
  nat.ensureChain(chain);
  nat.ensure(chain, `-d ${formatPrefix(subnetOf(ip))} ${comment} -j ACCEPT`);
  nat.ensure(chain, `! -d ${MULTICAST[family]} ${comment} -j MASQUERADE`);
  nat.ensure('POSTROUTING', `-s ${formatIp(ip.ip, family)} ${comment} -j ${chain}`);
}

// ── nftables ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const TABLE = 'inet cni_plugins_masquerade';

function addRule({ host, network, containerId }: MasqueradedContainer, ip: ResultIp): void {
  const { nftables } = host.root.enableNetfilter();
  if (nftables.table('inet', 'cni_plugins_masquerade') === undefined)
    nftables.apply(`table ${TABLE} {
      chain masq_checks { }
      chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr ${MULTICAST[4]} return
        ip6 daddr ${MULTICAST[6]} return
        goto masq_checks
      }
    }`);
  const words = ip.family === 6 ? 'ip6' : 'ip';
  const address = formatIp(ip.ip, ip.family);
  const rule = `${words} saddr ${address} ${words} daddr != ${formatPrefix(subnetOf(ip))} masquerade`;
  nftables.apply(`add rule ${TABLE} masq_checks ${rule} comment "${ruleName(network, containerId, address)}"`);
}

function removeRules(
  { host, network, containerId }: Omit<MasqueradedContainer, 'backend'>,
  ips: readonly ResultIp[],
): void {
  const { nftables } = host.root.enableNetfilter();
  const rules = nftables.table('inet', 'cni_plugins_masquerade')?.chains.get('masq_checks')?.rules ?? [];
  const names = new Set(ips.map(({ ip, family }) => ruleName(network, containerId, formatIp(ip, family))));
  for (const { comment, handle } of rules)
    if (comment !== undefined && names.has(comment))
      nftables.apply(`delete rule ${TABLE} masq_checks handle ${handle}`);
}

const ruleName = (network: string, containerId: string, address: string): string =>
  hashOf(`${network}/${containerId}/${address}`);
