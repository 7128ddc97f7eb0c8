// `-m tcp`: ports and flags. Not modelled: `--tcp-option`.

import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG } from '../../packet/frame.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';
import { compilePorts, PORT_OPTIONS, type PortsMatch, portsProblem, printPorts } from './ports.ts';

export interface TcpMatch extends PortsMatch {
  readonly match: 'tcp';
  /** Of the flags in `mask`, exactly those in `set` are set (TCP_SYN and so on). `--syn` is FIN,SYN,RST,ACK SYN. */
  readonly flags?: { readonly mask: number; readonly set: number };
  readonly flagsNegated?: boolean;
}

export const tcp: MatchKind<TcpMatch> = {
  name: 'tcp',
  protocols: ['tcp'],
  print: (spec) => {
    const { flags, flagsNegated } = spec;
    if (flags === undefined) return printPorts(spec);
    return `${printPorts(spec)}${flagsNegated ? ' !' : ''} --tcp-flags ${printFlags(flags.mask)} ${printFlags(flags.set)}`;
  },
  negatableOptions: {
    ...PORT_OPTIONS,
    '--tcp-flags': (words, flagsNegated) => ({
      flags: { mask: takeFlags(words), set: takeFlags(words) },
      ...(flagsNegated && { flagsNegated }),
    }),
    '--syn': (_words, flagsNegated) => ({ flags: SYN, ...(flagsNegated && { flagsNegated }) }),
  },
  complete: (fields) => ({ ...fields, match: 'tcp' }),
  problem: portsProblem,
  compile: (spec, selector) => {
    const testPorts = compilePorts(spec, selector);
    const { flags, flagsNegated = false } = spec;
    if (flags === undefined) return testPorts;
    const { mask, set } = flags;
    return (frame, context) =>
      ((frame.tcpFlags & mask) === set) !== flagsNegated && (testPorts === undefined || testPorts(frame, context));
  },
};

/** In the order in which iptables-save lists them. */
const FLAG_NAMES: readonly (readonly [name: string, bit: number])[] = [
  ['FIN', TCP_FIN],
  ['SYN', TCP_SYN],
  ['RST', TCP_RST],
  ['PSH', TCP_PSH],
  ['ACK', TCP_ACK],
  ['URG', TCP_URG],
];
const ALL_FLAGS = FLAG_NAMES.reduce((bits, [, bit]) => bits | bit, 0);
const SYN = { mask: TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK, set: TCP_SYN };

const printFlags = (flags: number): string =>
  FLAG_NAMES.filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name)
    .join(',') || 'NONE';

function takeFlags(words: Words): number {
  return words.takeAs('flags such as SYN,ACK, or ALL, or NONE', (word) => {
    if (word === 'ALL') return ALL_FLAGS;
    if (word === 'NONE') return 0;
    let flags = 0;
    for (const part of word.split(',')) {
      const bit = FLAG_NAMES.find(([name]) => name === part)?.[1];
      if (bit === undefined) return undefined;
      flags |= bit;
    }
    return flags;
  });
}
