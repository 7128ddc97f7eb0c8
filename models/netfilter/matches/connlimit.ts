// `-m connlimit`: how many connections there are from an address or network, the frame's own included. As in
// nf_conncount.c, a rule knows the connections that it has seen, not all that conntrack knows; those that have ended or
// are closing are forgotten when a new one is counted. (Linux forgets at most once per jiffy.)

import { addressBits, type Ip, type IpFamily, maskOf } from '../../packet/ip-address.ts';
import { maskIpv6 } from '../../packet/ipv6-address.ts';
import type { ConnectionQuery } from '../connection-query.ts';
import type { FrameTest, Selector } from '../selector.ts';
import { NamespaceMemory } from '../walk-context.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface ConnlimitMatch {
  readonly match: 'connlimit';
  readonly limit: 'upto' | 'above';
  readonly connections: number;
  /** Bits of the address that count; absent: all. */
  readonly maskLength?: number;
  /** Absent: source. */
  readonly side?: 'source' | 'destination';
}

const U32 = { first: 0, last: 0xffff_ffff };

const takeLimit = (words: Words, limit: ConnlimitMatch['limit']): Partial<ConnlimitMatch> => ({
  limit,
  connections: words.takeInteger(U32),
});

export const connlimit: MatchKind<ConnlimitMatch> = {
  name: 'connlimit',
  remembers: true,
  needsConntrack: true,
  print: ({ limit, connections, maskLength, side = 'source' }, family) =>
    ` --connlimit-${limit} ${connections} --connlimit-mask ${maskLength ?? addressBits(family)}` +
    (side === 'source' ? ' --connlimit-saddr' : ' --connlimit-daddr'),
  options: {
    // Longer masks are cut to the whole address.
    '--connlimit-mask': (words) => ({
      maskLength: Math.min(words.takeInteger({ first: 0, last: 128 }), addressBits(words.family)),
    }),
    '--connlimit-saddr': () => ({ side: 'source' }),
    '--connlimit-daddr': () => ({ side: 'destination' }),
  },
  negatableOptions: {
    '--connlimit-upto': (words, negated) => takeLimit(words, negated ? 'above' : 'upto'),
    '--connlimit-above': (words, negated) => takeLimit(words, negated ? 'upto' : 'above'),
  },
  complete: ({ limit, connections, ...fields }) =>
    limit === undefined || connections === undefined
      ? '--connlimit-upto COUNT or --connlimit-above COUNT'
      : { ...fields, match: 'connlimit', limit, connections },
  compile: compileConnlimit,
};

/** Handles of connections by masked address and zone. */
interface Known {
  byKey: Map<string, number[]>;
  generation: number;
}

function compileConnlimit(spec: ConnlimitMatch, _selector: Selector, family: IpFamily): FrameTest {
  const { limit, connections: most, maskLength = addressBits(family), side = 'source' } = spec;
  const memory = new NamespaceMemory<Known>(() => ({ byKey: new Map(), generation: -1 }));
  return (frame, context) => {
    const known = memory.of(context);
    if (known.generation !== context.table.generation) {
      known.generation = context.table.generation;
      known.byKey = new Map();
    }
    const { connections } = context;
    const ip = masked(side === 'source' ? frame.srcIp : frame.dstIp, maskLength, family);
    const key = `${ip} ${frame.conntrackEntry === 0 ? 0 : connections.zone(frame, 0)}`;
    const own = frame.conntrackEntry;
    const handles = withoutEnded(known.byKey.get(key) ?? [], own, connections);
    known.byKey.set(key, handles);
    if (own !== 0 && !handles.includes(own)) handles.push(own);
    // A frame without a connection counts for itself, and is forgotten.
    const count = handles.length + (own === 0 ? 1 : 0);
    return count > most === (limit === 'above');
  };
}

/** Looks at the older ones only: what follows the frame's own connection stays, ended or not (__nf_conncount_add). */
function withoutEnded(handles: readonly number[], own: number, connections: ConnectionQuery): number[] {
  const end = handles.indexOf(own);
  return handles.filter((handle, i) => (end >= 0 && i >= end) || connections.isOpen(handle));
}

const masked = (ip: Ip, length: number, family: IpFamily): number =>
  family === 6 ? maskIpv6(ip, length) : ip & maskOf(length);
