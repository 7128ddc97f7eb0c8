// A packet in one line, as people write it: `tcp 10.244.1.5:4000 > 10.96.0.10:53`, `udp [fd00::5]:4000 > [fd00::a]:53`,
// `icmp 10.244.1.5 > 10.244.2.7`. TCP packets are SYNs unless tcpdump's letters say otherwise: `tcp … > … [S.]`.

import {
  ETHERTYPE_IPV6,
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
} from '../../packet/frame.ts';
import { ICMP_ECHO_REQUEST } from '../../packet/icmp.ts';
import { type IpAddress, parseAddress } from '../../packet/ip-address.ts';

const PROTOCOLS = new Map([
  ['tcp', PROTOCOL_TCP],
  ['udp', PROTOCOL_UDP],
  ['sctp', PROTOCOL_SCTP],
  ['icmp', PROTOCOL_ICMP],
  ['icmpv6', PROTOCOL_ICMPV6],
]);

const FLAGS = new Map([
  ['F', TCP_FIN],
  ['S', TCP_SYN],
  ['R', TCP_RST],
  ['P', TCP_PSH],
  ['.', TCP_ACK],
  ['U', TCP_URG],
]);

/** ICMPv6 echo request (RFC 4443). */
const ICMPV6_ECHO_REQUEST = 128;

const EXPECTED = 'expected PROTOCOL ADDRESS:PORT > ADDRESS:PORT with tcp, udp, sctp, icmp or icmpv6';

interface End extends IpAddress {
  readonly port: number;
}

/** Fills a blank frame. Throws a RangeError that quotes the text and says what is wrong. */
export function fillFromText(frame: Frame, text: string): void {
  const [, protocolName = '', srcText = '', dstText = '', flags = 'S'] =
    /^\s*(\w+)\s+(\S+)\s*>\s*(\S+)(?:\s+\[([FSRP.U]*)\])?\s*$/.exec(text) ?? [];
  const protocol = PROTOCOLS.get(protocolName);
  if (protocol === undefined) throw new RangeError(`packet "${text}": ${EXPECTED}`);
  const hasPorts = protocol !== PROTOCOL_ICMP && protocol !== PROTOCOL_ICMPV6;
  const src = readEnd(srcText, hasPorts, text);
  const dst = readEnd(dstText, hasPorts, text);
  if (src.family !== dst.family) throw new RangeError(`packet "${text}": addresses of two families`);
  if (!hasPorts && (protocol === PROTOCOL_ICMPV6) !== (src.family === 6)) {
    throw new RangeError(`packet "${text}": expected icmp with IPv4 addresses, icmpv6 with IPv6 addresses`);
  }
  frame.family = src.family;
  if (src.family === 6) frame.etherType = ETHERTYPE_IPV6;
  frame.protocol = protocol;
  [frame.srcIp, frame.srcPort] = [src.ip, src.port];
  [frame.dstIp, frame.dstPort] = [dst.ip, dst.port];
  if (protocol === PROTOCOL_TCP) frame.tcpFlags = [...flags].reduce((bits, letter) => bits | FLAGS.get(letter)!, 0);
  if (protocol === PROTOCOL_ICMP) frame.icmpType = ICMP_ECHO_REQUEST;
  if (protocol === PROTOCOL_ICMPV6) frame.icmpType = ICMPV6_ECHO_REQUEST;
  frame.updateSize();
}

function readEnd(end: string, hasPorts: boolean, text: string): End {
  const [, address = '', portText] = (hasPorts ? /^\[?([^[\]]*?)\]?:(\d+)$/ : /^\[?([^[\]]*?)\]?$/).exec(end) ?? [];
  const port = Number(portText ?? 0);
  if (address === '' || port > 65_535) {
    throw new RangeError(
      `packet "${text}": "${end}"; expected ${hasPorts ? 'ADDRESS:PORT, [ADDRESS]:PORT' : 'ADDRESS'}`,
    );
  }
  try {
    return { ...parseAddress(address), port };
  } catch (error) {
    if (error instanceof RangeError) throw new RangeError(`packet "${text}": ${error.message}`);
    throw error;
  }
}
