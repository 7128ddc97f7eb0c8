// IP protocols as `-p` names them: the names that iptables-save prints whatever /etc/protocols says, and their numbers.

import { PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';

export const PROTOCOL_NUMBERS = {
  tcp: PROTOCOL_TCP,
  udp: PROTOCOL_UDP,
  sctp: PROTOCOL_SCTP,
  icmp: PROTOCOL_ICMP,
  udplite: 136,
  esp: 50,
  ah: 51,
} as const;

export type ProtocolName = keyof typeof PROTOCOL_NUMBERS;

export const PROTOCOL_NAMES = Object.keys(PROTOCOL_NUMBERS) as readonly ProtocolName[];
