// `-m iprange`: addresses between two addresses, both included; none if the second comes before the first.

import { formatIp, type Ip, type IpFamily } from '../../packet/ip-address.ts';
import { compareIpv6 } from '../../packet/ipv6-address.ts';
import { readIp, type Words } from '../words.ts';
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
  isOfFlow: () => true,
  print: ({ source, sourceNegated, destination, destinationNegated }, family) =>
    printRange('--src-range', source, family, sourceNegated) +
    printRange('--dst-range', destination, family, destinationNegated),
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
  compile:
    ({ source, sourceNegated = false, destination, destinationNegated = false }, _selector, family) =>
    (frame) =>
      (source === undefined || isWithin(frame.srcIp, source, family) !== sourceNegated) &&
      (destination === undefined || isWithin(frame.dstIp, destination, family) !== destinationNegated),
};

const isWithin = (ip: Ip, { first, last }: IpRange, family: IpFamily): boolean =>
  !isAfter(first, ip, family) && !isAfter(ip, last, family);

const isAfter = (a: Ip, b: Ip, family: IpFamily): boolean => (family === 6 ? compareIpv6(a, b) > 0 : a >>> 0 > b >>> 0);

const printRange = (option: string, range: IpRange | undefined, family: IpFamily, negated = false): string => {
  if (range === undefined) return '';
  return `${negated ? ' !' : ''} ${option} ${formatIp(range.first, family)}-${formatIp(range.last, family)}`;
};

/** One address alone is a range of one. */
const takeRange = (words: Words): IpRange =>
  words.takeAs('addresses FIRST-LAST', (word) => {
    const [firstText = '', lastText = firstText, ...rest] = word.split('-');
    const first = readIp(firstText, words.family);
    const last = readIp(lastText, words.family);
    return first === undefined || last === undefined || rest.length > 0 ? undefined : { first, last };
  });
