// The table of portmap's backend nftables, one per IP family. It knows no marks: what a container sends to itself, or the
// node from 127.0.0.1, is masqueraded by its addresses.

import { formatIp, formatSocketAddress, type IpFamily } from '../../packet/ip-address.ts';
import { commentOf, hashOf } from '../chain-name.ts';
import type { MappedContainer } from './portmap.ts';
import { isOf } from './portmap-iptables.ts';

const TABLE = 'cni_hostport';

const tableOf = (family: IpFamily): 'ip' | 'ip6' => (family === 6 ? 'ip6' : 'ip');

export class NftablesPorts {
  forward(container: MappedContainer): void {
    const { nftables } = container.host.root.enableNetfilter();
    const family = tableOf(container.address.family);
    if (nftables.table(family, TABLE) === undefined) nftables.apply(emptyTable(family));
    for (const { chain, rule } of rulesOf(container))
      nftables.apply(`add rule ${family} ${TABLE} ${chain} ${rule} comment "${nameOf(container)}"`);
  }

  isForwarded(container: MappedContainer): boolean {
    const { nftables } = container.host.root.enableNetfilter();
    const chains = nftables.table(tableOf(container.address.family), TABLE)?.chains;
    const name = nameOf(container);
    const wanted = rulesOf(container);
    return ['hostip_hostports', 'hostports', 'masquerading'].every((chain) => {
      const own = chains?.get(chain)?.rules.filter(({ comment }) => comment === name) ?? [];
      return own.length === wanted.filter((rule) => rule.chain === chain).length;
    });
  }

  remove(container: Pick<MappedContainer, 'host' | 'network' | 'containerId'>): void {
    const { nftables } = container.host.root.enableNetfilter();
    const name = nameOf(container);
    for (const family of ['ip', 'ip6'] as const) {
      for (const [chain, { rules }] of nftables.table(family, TABLE)?.chains ?? []) {
        for (const { comment, handle } of rules)
          if (comment === name) nftables.apply(`delete rule ${family} ${TABLE} ${chain} handle ${handle}`);
      }
    }
  }
}

const nameOf = ({ network, containerId }: Pick<MappedContainer, 'network' | 'containerId'>): string =>
  hashOf(commentOf(network, containerId));

const emptyTable = (family: 'ip' | 'ip6'): string => `table ${family} ${TABLE} {
  chain hostip_hostports { }
  chain hostports { }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump hostip_hostports
    fib daddr type local jump hostports
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump hostip_hostports
    fib daddr type local jump hostports
  }
  chain masquerading {
    type nat hook postrouting priority srcnat; policy accept;
  }
}`;

export function rulesOf({ options, address, ports }: MappedContainer): { chain: string; rule: string }[] {
  const { family, ip } = address;
  const words = tableOf(family);
  const container = formatIp(ip, family);
  const forwarding = ports.filter(isOf(family)).map(({ protocol, hostPort, containerPort, hostIp }) => {
    const to = hostIp === undefined ? '' : `${words} daddr ${formatIp(hostIp, family)} `;
    const destination = formatSocketAddress(ip, containerPort, family);
    const chain = hostIp === undefined ? 'hostports' : 'hostip_hostports';
    return { chain, rule: `${to}${protocol} dport ${hostPort} dnat to ${destination}` };
  });
  if (!options.snat) return forwarding;
  const sources = options.masqAll ? [''] : [`saddr ${container} `, ...(family === 4 ? ['saddr 127.0.0.1 '] : [])];
  const masquerading = sources.map((source) => ({
    chain: 'masquerading',
    rule: `${source === '' ? '' : `${words} ${source}`}${words} daddr ${container} masquerade`,
  }));
  return [...forwarding, ...masquerading];
}
