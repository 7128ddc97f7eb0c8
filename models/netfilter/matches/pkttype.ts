// `-m pkttype`: whom the frame was sent to on its link. Frames that the node sends itself are unicast until they are on a
// link (xt_pkttype.c sees PACKET_HOST).
//
// Not modelled: POSTROUTING, where a frame no longer shows whether it came by a link.

import type { Frame } from '../../packet/frame.ts';
import { BROADCAST_MAC, ZERO_MAC } from '../../packet/mac.ts';
import type { MatchKind } from './match.ts';

const TYPES = ['unicast', 'broadcast', 'multicast'] as const;
export type PacketType = (typeof TYPES)[number];

export interface PkttypeMatch {
  readonly match: 'pkttype';
  readonly type: PacketType;
  readonly negated?: boolean;
}

/** Other names that iptables accepts. */
const ALIASES: ReadonlyMap<string, PacketType> = new Map([
  ...TYPES.map((name): [string, PacketType] => [name, name]),
  ['host', 'unicast'],
  ['bcast', 'broadcast'],
  ['mcast', 'multicast'],
]);

export const pkttype: MatchKind<PkttypeMatch> = {
  name: 'pkttype',
  hooks: () => ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT'],
  print: ({ type, negated }) => `${negated ? ' !' : ''} --pkt-type ${type}`,
  negatableOptions: {
    '--pkt-type': (words, negated) => ({
      type: words.takeAs('unicast, broadcast or multicast', (word) => ALIASES.get(word.toLowerCase())),
      ...(negated && { negated }),
    }),
  },
  complete: ({ type, ...fields }) => (type === undefined ? '--pkt-type TYPE' : { ...fields, match: 'pkttype', type }),
  compile: ({ type, negated = false }) => {
    return (frame) => (typeOf(frame) === type) !== negated;
  },
};

const typeOf = ({ group }: Frame): PacketType =>
  group === ZERO_MAC ? 'unicast' : group === BROADCAST_MAC ? 'broadcast' : 'multicast';
