// `-m iprange`: addresses between two addresses, both included.

import { formatIp, type Ip, isIpv4, parseIp } from '../../packet/ip-address.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface IpRange {
  readonly first: Ip;
  readonly last: Ip;
}

export interface IprangeMatch {
  readonly match: 'iprange';
  readonly source?: IpRange;
  readonly sourceNegated?: boolean;
  readonly destination?: IpRange;
  readonly destinationNegated?: boolean;
}

export const iprange: MatchKind<IprangeMatch> = {
  name: 'iprange',
  print: ({ source, sourceNegated, destination, destinationNegated }) =>
    printRange('--src-range', source, sourceNegated) + printRange('--dst-range', destination, destinationNegated),
  negatableOptions: {
    '--src-range': (words, negated) => ({ source: takeRange(words), ...(negated && { sourceNegated: negated }) }),
    '--dst-range': (words, negated) => ({
      destination: takeRange(words),
      ...(negated && { destinationNegated: negated }),
    }),
  },
  complete: (fields) =>
    fields.source === undefined && fields.destination === undefined
      ? '--src-range FIRST-LAST or --dst-range FIRST-LAST'
      : { ...fields, match: 'iprange' },
  problem: ({ source, destination }) =>
    [source, destination].some((range) => range !== undefined && range.first >>> 0 > range.last >>> 0)
      ? 'a range that ends before it begins'
      : undefined,
  compile:
    ({ source, sourceNegated = false, destination, destinationNegated = false }) =>
    (frame) =>
      (source === undefined || isWithin(frame.srcIp, source) !== sourceNegated) &&
      (destination === undefined || isWithin(frame.dstIp, destination) !== destinationNegated),
};

const isWithin = (ip: Ip, { first, last }: IpRange): boolean => ip >>> 0 >= first >>> 0 && ip >>> 0 <= last >>> 0;

const printRange = (option: string, range: IpRange | undefined, negated = false): string =>
  range === undefined ? '' : `${negated ? ' !' : ''} ${option} ${formatIp(range.first)}-${formatIp(range.last)}`;

/** One address alone is a range of one. */
const takeRange = (words: Words): IpRange =>
  words.takeAs('addresses FIRST-LAST', (word) => {
    const [first = '', last = first, ...rest] = word.split('-');
    return isIpv4(first) && isIpv4(last) && rest.length === 0
      ? { first: parseIp(first), last: parseIp(last) }
      : undefined;
  });
