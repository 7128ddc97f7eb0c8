// What `ipvsadm -Ln` and `ipvsadm -Lnc` print (1.31), sorted as they sort by default: by protocol, address and port. Of
// connections the kernel's order is that of its hash; here it is the order in which they were made.

import type { Instant } from '../../../engine/time.ts';
import { PROTOCOL_TCP } from '../../packet/frame.ts';
import { formatSocketAddress, type Ip, type IpFamily } from '../../packet/ip-address.ts';
import { compareIpv6 } from '../../packet/ipv6-address.ts';
import { printProtocol } from '../protocol.ts';
import { type IpvsConnection, secondsLeft } from './connection-table.ts';
import type { Ipvs } from './ipvs.ts';
import { TCP_STATE_NAMES } from './tcp-states.ts';
import type { RealServer, VirtualServer } from './virtual-server.ts';

/** CONFIG_IP_VS_TAB_BITS 12: places of the kernel's hash of connections. */
const TABLE_SIZE = 4_096;

/** `ipvsadm -Ln`: virtual servers and their real servers. */
export function listIpvs(ipvs: Ipvs): string {
  ipvs.tidy();
  const lines = [
    `IP Virtual Server version 1.2.1 (size=${TABLE_SIZE})`,
    'Prot LocalAddress:Port Scheduler Flags',
    '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
  ];
  for (const virtual of [...ipvs.virtualServers()].sort(byProtocolAndAddress)) {
    lines.push(virtualLine(virtual));
    for (const server of [...virtual.servers].sort(byAddress(virtual.family)))
      lines.push(serverLine(server, virtual.family));
  }
  return `${lines.join('\n')}\n`;
}

function virtualLine({ protocol, ip, port, family, settings }: VirtualServer): string {
  const { scheduler, persistenceSeconds, hashesPort } = settings;
  const flags = hashesPort ? ` (${scheduler}-port)` : '';
  const persistence = persistenceSeconds === undefined ? '' : ` persistent ${persistenceSeconds}`;
  return `${nameOf(protocol)}  ${formatSocketAddress(ip, port, family)} ${scheduler}${flags}${persistence}`;
}

function serverLine(
  { ip, port, weight, activeConnections, inactiveConnections }: RealServer,
  family: IpFamily,
): string {
  const address = formatSocketAddress(ip, port, family).padEnd(28);
  const counts = [activeConnections, inactiveConnections].map((count) => String(count).padEnd(10)).join(' ');
  return `  -> ${address} Masq    ${String(weight).padEnd(6)} ${counts}`;
}

/** `ipvsadm -Lnc`: connections, and the templates that bind clients to servers, which have port 0. */
export function listIpvsConnections(ipvs: Ipvs, now: Instant): string {
  const lines = [
    'IPVS connection entries',
    `pro expire ${columns('state', 'source', 'virtual', 'destination')}`,
    ...ipvs.connections().map((connection) => connectionLine(connection, now)),
  ];
  return `${lines.join('\n')}\n`;
}

function connectionLine(connection: IpvsConnection, now: Instant): string {
  const { clientIp, clientPort, virtual, server } = connection;
  const { family, protocol } = virtual;
  const left = secondsLeft(connection, now);
  const expire = `${pad(Math.floor(left / 60))}:${pad(left % 60)}`;
  const ends = [
    formatSocketAddress(clientIp, clientPort, family),
    formatSocketAddress(virtual.ip, virtual.port, family),
    formatSocketAddress(server.ip, server.port, family),
  ] as const;
  return `${nameOf(protocol).padEnd(3)} ${expire.padEnd(6)} ${columns(stateOf(connection), ...ends)}`;
}

const columns = (state: string, source: string, virtual: string, destination: string): string =>
  `${state.padEnd(11)} ${source.padEnd(18)} ${virtual.padEnd(18)} ${destination}`;

function stateOf({ virtual: { protocol }, isTemplate, state }: IpvsConnection): string {
  if (isTemplate) return 'NONE';
  return protocol === PROTOCOL_TCP || state !== 0 ? TCP_STATE_NAMES[state]! : nameOf(protocol);
}

const nameOf = (protocol: number): string => printProtocol(protocol).toUpperCase();
const pad = (number: number): string => String(number).padStart(2, '0');

const byProtocolAndAddress = (a: VirtualServer, b: VirtualServer): number =>
  a.protocol - b.protocol || a.family - b.family || byAddress(a.family)(a, b);

type At = { readonly ip: Ip; readonly port: number };

const byAddress =
  (family: IpFamily) =>
  (a: At, b: At): number =>
    (family === 6 ? compareIpv6(a.ip, b.ip) : (a.ip >>> 0) - (b.ip >>> 0)) || a.port - b.port;
