// `-m addrtype`: how this namespace's routing sees the source or destination address. Not modelled: several types in one
// option, `--limit-iface-in` and `--limit-iface-out`.

import { ADDRESS_TYPES, type AddressType } from '../walk-context.ts';
import type { MatchKind } from './match.ts';

export interface AddrtypeMatch {
  readonly match: 'addrtype';
  readonly srcType?: AddressType;
  readonly srcTypeNegated?: boolean;
  readonly dstType?: AddressType;
  readonly dstTypeNegated?: boolean;
}

export const addrtype: MatchKind<AddrtypeMatch> = {
  name: 'addrtype',
  print: ({ srcType, srcTypeNegated, dstType, dstTypeNegated }) =>
    printOption('--src-type', srcType, srcTypeNegated) + printOption('--dst-type', dstType, dstTypeNegated),
  negatableOptions: {
    '--src-type': (words, negated) => ({
      srcType: words.takeOneOf(ADDRESS_TYPES),
      ...(negated && { srcTypeNegated: negated }),
    }),
    '--dst-type': (words, negated) => ({
      dstType: words.takeOneOf(ADDRESS_TYPES),
      ...(negated && { dstTypeNegated: negated }),
    }),
  },
  complete: (fields) =>
    fields.srcType === undefined && fields.dstType === undefined
      ? '--src-type TYPE or --dst-type TYPE'
      : { ...fields, match: 'addrtype' },
  compile:
    ({ srcType, srcTypeNegated = false, dstType, dstTypeNegated = false }) =>
    (frame, context) =>
      (srcType === undefined || (context.addressType(frame.srcIp) === srcType) !== srcTypeNegated) &&
      (dstType === undefined || (context.addressType(frame.dstIp) === dstType) !== dstTypeNegated),
};

function printOption(option: string, type: AddressType | undefined, negated = false): string {
  return type === undefined ? '' : `${negated ? ' !' : ''} ${option} ${type}`;
}
