// The answers of `-j REJECT`: ICMP and ICMPv6 codes by option name, and the TCP reset.

import type { RejectType } from '../netfilter/netfilter.ts';
import { type Frame, PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../packet/frame.ts';

/** Code of destination unreachable (ICMP type 3, ICMPv6 type 1) by `--reject-with` option. */
export function icmpCodeOf(rejectWith: Exclude<RejectType, 'tcp-reset'>): number {
  switch (rejectWith) {
    case 'icmp-net-unreachable':
    case 'icmp6-no-route':
      return 0;
    case 'icmp-host-unreachable':
    case 'icmp6-adm-prohibited':
      return 1;
    case 'icmp-proto-unreachable':
      return 2;
    case 'icmp-port-unreachable':
    case 'icmp6-addr-unreachable':
      return 3;
    case 'icmp6-port-unreachable':
      return 4;
    case 'icmp6-policy-fail':
      return 5;
    case 'icmp6-reject-route':
      return 6;
    case 'icmp-net-prohibited':
      return 9;
    case 'icmp-host-prohibited':
      return 10;
    case 'icmp-admin-prohibited':
      return 13;
  }
}

/** Only TCP segments are answered with a RST, and a RST never is. */
export const mayCauseReset = ({ protocol, tcpFlags }: Frame): boolean =>
  protocol === PROTOCOL_TCP && (tcpFlags & TCP_RST) === 0;

/** Fills `reset` with the RST that answers a TCP segment (RFC 9293 3.5.2). */
export function fillReset(reset: Frame, about: Frame): void {
  reset.setFamily(about.family);
  reset.protocol = PROTOCOL_TCP;
  reset.srcIp = about.dstIp;
  reset.dstIp = about.srcIp;
  reset.srcPort = about.dstPort;
  reset.dstPort = about.srcPort;
  if ((about.tcpFlags & TCP_ACK) !== 0) {
    reset.sequence = about.acknowledgment;
    reset.tcpFlags = TCP_RST;
  } else {
    const length =
      about.payloadBytes + ((about.tcpFlags & TCP_SYN) !== 0 ? 1 : 0) + ((about.tcpFlags & TCP_FIN) !== 0 ? 1 : 0);
    reset.acknowledgment = (about.sequence + length) | 0;
    reset.tcpFlags = TCP_RST | TCP_ACK;
  }
  reset.updateSize();
}
