// `-m tcp`: ports, flags, and whether an option is there. Frames have no other options than maximum segment size (2),
// window scale (3) and timestamps (8).

import { type Frame, TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG } from '../../packet/frame.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';
import { compilePorts, PORT_OPTIONS, type PortsMatch, portsProblem, printPorts } from './ports.ts';

export interface TcpMatch extends PortsMatch {
  readonly match: 'tcp';
  /** Of the flags in `mask`, exactly those in `set` are set (TCP_SYN and so on). `--syn` is FIN,SYN,RST,ACK SYN. */
  readonly flags?: { readonly mask: number; readonly set: number };
  readonly flagsNegated?: boolean;
  /** A TCP option by number. */
  readonly option?: number;
  readonly optionNegated?: boolean;
}

export const tcp: MatchKind<TcpMatch> = {
  name: 'tcp',
  isOfFlow: ({ flags, option }) => flags === undefined && option === undefined,
  protocols: ['tcp'],
  print: (spec) => {
    const { flags, flagsNegated, option, optionNegated } = spec;
    const printedOption = option === undefined ? '' : `${optionNegated ? ' !' : ''} --tcp-option ${option}`;
    if (flags === undefined) return `${printPorts(spec)}${printedOption}`;
    const printedFlags = `${printFlags(flags.mask)} ${printFlags(flags.set)}`;
    return `${printPorts(spec)}${printedOption}${flagsNegated ? ' !' : ''} --tcp-flags ${printedFlags}`;
  },
  negatableOptions: {
    ...PORT_OPTIONS,
    '--tcp-flags': (words, flagsNegated) => ({
      flags: { mask: takeFlags(words), set: takeFlags(words) },
      ...(flagsNegated && { flagsNegated }),
    }),
    '--tcp-option': (words, optionNegated) => ({
      option: words.takeInteger({ first: 1, last: 255 }),
      ...(optionNegated && { optionNegated }),
    }),
    '--syn': (_words, flagsNegated) => ({ flags: SYN, ...(flagsNegated && { flagsNegated }) }),
  },
  complete: (fields) => ({ ...fields, match: 'tcp' }),
  problem: portsProblem,
  compile: (spec, selector) => {
    const testPorts = compilePorts(spec, selector);
    const { flags, flagsNegated = false, option, optionNegated = false } = spec;
    if (flags === undefined && option === undefined) return testPorts;
    const { mask, set } = flags ?? { mask: 0, set: 0 };
    return (frame, context) =>
      ((frame.tcpFlags & mask) === set) !== flagsNegated &&
      (option === undefined || hasOption(frame, option) !== optionNegated) &&
      (testPorts === undefined || testPorts(frame, context));
  },
};

function hasOption({ mssOption, windowScaleOption, timestampValue }: Frame, option: number): boolean {
  switch (option) {
    case 2:
      return mssOption > 0;
    case 3:
      return windowScaleOption >= 0;
    case 8:
      return timestampValue !== 0;
    default:
      return false;
  }
}

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
  return words.takeAs('flags such as SYN,ACK, or ALL, or NONE', (given) => {
    const word = given.toUpperCase();
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
