// The chains of portmap's backend iptables:
//
//   PREROUTING, OUTPUT ─▶ CNI-HOSTPORT-DNAT ─▶ CNI-DN-… (one per container) ─▶ CNI-HOSTPORT-SETMARK, DNAT
//   POSTROUTING (first of all) ─▶ CNI-HOSTPORT-MASQ ─▶ MASQUERADE what has the mark

import { formatIp, formatSocketAddress } from '../../packet/ip-address.ts';
import { chainNameOf, commentOf } from '../chain-name.ts';
import { IptablesCommands, quoted } from '../iptables-commands.ts';
import type { HostPort } from '../port-mapping.ts';
import type { MappedContainer, PortmapOptions } from './portmap.ts';

const DNAT_CHAIN = 'CNI-HOSTPORT-DNAT';
const SET_MARK_CHAIN = 'CNI-HOSTPORT-SETMARK';
const MASQUERADE_CHAIN = 'CNI-HOSTPORT-MASQ';

const TO_DNAT = `-m addrtype --dst-type LOCAL -j ${DNAT_CHAIN}`;
const TO_MASQUERADE = `-m comment --comment "CNI portfwd requiring masquerade" -j ${MASQUERADE_CHAIN}`;

/** Bit 13. */
const DEFAULT_MARK_BIT = 13;
/** As many as the match `multiport` takes. */
const MOST_PORTS = 15;

export class IptablesPorts {
  forward(container: MappedContainer): void {
    const { options, address } = container;
    const nat = new IptablesCommands(container.host.root, 'nat', address.family);
    const chain = containerChain(container);
    if (options.snat) setUpMasquerade(nat, options);
    nat.ensureChain(DNAT_CHAIN);
    nat.ensure('PREROUTING', TO_DNAT);
    nat.ensure('OUTPUT', TO_DNAT);
    nat.clearChain(chain);
    for (const rule of portRules(container)) nat.append(chain, rule);
    for (const rule of entryRules(container)) nat.ensure(DNAT_CHAIN, rule);
  }

  isForwarded(container: MappedContainer): boolean {
    const nat = new IptablesCommands(container.host.root, 'nat', container.address.family);
    return (
      portRules(container).every((rule) => nat.has(containerChain(container), rule)) &&
      entryRules(container).every((rule) => nat.has(DNAT_CHAIN, rule))
    );
  }

  remove(container: Pick<MappedContainer, 'host' | 'network' | 'containerId'>): void {
    const chain = containerChain(container);
    for (const family of [4, 6] as const) {
      const nat = new IptablesCommands(container.host.root, 'nat', family);
      if (!nat.hasChain(chain)) continue;
      nat.removeJumps(DNAT_CHAIN, chain);
      nat.removeChain(chain);
    }
  }
}

const containerChain = ({ network, containerId }: Pick<MappedContainer, 'network' | 'containerId'>): string =>
  chainNameOf(network, containerId, 'DN-');

/** `0x2000/0x2000` */
export function markOf({ markMasqBit = DEFAULT_MARK_BIT }: Pick<PortmapOptions, 'markMasqBit'>): string {
  const mark = `0x${(2 ** markMasqBit).toString(16)}`;
  return `${mark}/${mark}`;
}

function setUpMasquerade(nat: IptablesCommands, options: PortmapOptions): void {
  if (options.externalSetMarkChain !== undefined) return;
  const mark = markOf(options);
  nat.ensureChain(SET_MARK_CHAIN);
  nat.ensure(SET_MARK_CHAIN, `-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark ${mark}`);
  nat.ensureChain(MASQUERADE_CHAIN);
  nat.ensure(MASQUERADE_CHAIN, `-m mark --mark ${mark} -j MASQUERADE`);
  // Before the rules of the plugins bridge and ptp, which accept what stays in the container's network.
  nat.ensureFirst('POSTROUTING', TO_MASQUERADE);
}

/** Ports of both families, as the plugin has it. */
export function entryRules(container: MappedContainer): string[] {
  const { network, containerId, options, address, ports } = container;
  const comment = `-m comment --comment ${quoted(`dnat ${commentOf(network, containerId)}`)}`;
  const conditions = (address.family === 6 ? options.conditionsV6 : options.conditionsV4).map((word) => ` ${word}`);
  return (['tcp', 'udp', 'sctp'] as const).flatMap((protocol) => {
    const numbers = new Set(ports.flatMap((port) => (port.protocol === protocol ? [port.hostPort] : [])));
    return inPieces([...numbers], MOST_PORTS).map(
      (piece) =>
        `-p ${protocol} ${comment} -m multiport --dports ${piece.join(',')}${conditions.join('')} -j ${containerChain(container)}`,
    );
  });
}

/** In the container's chain. */
export function portRules({ options, address, ports }: MappedContainer): string[] {
  const { family, ip, length } = address;
  const setMark = options.externalSetMarkChain ?? SET_MARK_CHAIN;
  const sources = options.masqAll
    ? ['']
    : [`-s ${formatIp(ip, family)}/${length}`, ...(family === 4 ? ['-s 127.0.0.1'] : [])];
  return ports.filter(isOf(family)).flatMap((port) => {
    const { protocol, hostPort, containerPort, hostIp } = port;
    const to = hostIp === undefined ? '' : `-d ${formatIp(hostIp, family)} `;
    const select = `-p ${protocol} -m ${protocol} --dport ${hostPort}`;
    return [
      ...(options.snat ? sources.map((from) => `${from} ${to}${select} -j ${setMark}`) : []),
      `${to}${select} -j DNAT --to-destination ${formatSocketAddress(ip, containerPort, family)}`,
    ];
  });
}

/** Mappings for an address of this family, or for any. */
export const isOf =
  (family: 4 | 6) =>
  (port: HostPort): boolean =>
    port.family === undefined || port.family === family;

const inPieces = <T>(values: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(values.length / size) }, (_, i) => values.slice(i * size, (i + 1) * size));
