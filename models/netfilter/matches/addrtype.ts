// `-m addrtype`: how this namespace's routing sees the source or destination address.
//
// In IPv4 an address has one type, of which the option names several; in IPv6 it must be of all the kinds that are named,
// but of only one of LOCAL, ANYCAST and UNREACHABLE (xt_addrtype.c). Not modelled: anycast and rejecting routes.

import { ANY_IP, type Ip, type IpFamily, isIpv6Multicast } from '../../packet/ip-address.ts';
import { ADDRESS_TYPES, type AddressType, type WalkContext } from '../walk-context.ts';
import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';

export interface AddrtypeMatch {
  readonly match: 'addrtype';
  readonly srcTypes?: readonly AddressType[];
  readonly srcTypesNegated?: boolean;
  readonly dstTypes?: readonly AddressType[];
  readonly dstTypesNegated?: boolean;
  /** Only addresses and routes of the device that the frame came in by, or goes out by, count. */
  readonly limitInterface?: 'in' | 'out';
}

export const addrtype: MatchKind<AddrtypeMatch> = {
  name: 'addrtype',
  isOfFlow: () => true,
  hooks: ({ limitInterface }) => {
    if (limitInterface === 'in') return ['PREROUTING', 'INPUT', 'FORWARD'];
    return limitInterface === 'out' ? ['FORWARD', 'OUTPUT', 'POSTROUTING'] : undefined;
  },
  print: ({ srcTypes, srcTypesNegated, dstTypes, dstTypesNegated, limitInterface }) =>
    printOption('--src-type', srcTypes, srcTypesNegated) +
    printOption('--dst-type', dstTypes, dstTypesNegated) +
    (limitInterface === undefined ? '' : ` --limit-iface-${limitInterface}`),
  options: {
    '--limit-iface-in': () => ({ limitInterface: 'in' }),
    '--limit-iface-out': () => ({ limitInterface: 'out' }),
  },
  negatableOptions: {
    '--src-type': (words, negated) => ({ srcTypes: takeTypes(words), ...(negated && { srcTypesNegated: negated }) }),
    '--dst-type': (words, negated) => ({ dstTypes: takeTypes(words), ...(negated && { dstTypesNegated: negated }) }),
  },
  complete: (fields) =>
    fields.srcTypes === undefined && fields.dstTypes === undefined
      ? '--src-type TYPES or --dst-type TYPES'
      : { ...fields, match: 'addrtype' },
  problem: ({ srcTypes = [], dstTypes = [] }, { family }) => {
    if (family !== 6) return undefined;
    const unknown = [...srcTypes, ...dstTypes].find((type) => NOT_IN_IPV6.has(type));
    return unknown === undefined ? undefined : `IPv6 has no type ${unknown}`;
  },
  compile: (
    { srcTypes, srcTypesNegated = false, dstTypes, dstTypesNegated = false, limitInterface },
    _selector,
    family,
  ) => {
    const isSource = srcTypes && typeTest(srcTypes, limitInterface, family);
    const isDestination = dstTypes && typeTest(dstTypes, limitInterface, family);
    return (frame, context) =>
      (isSource === undefined || isSource(frame.srcIp, context) !== srcTypesNegated) &&
      (isDestination === undefined || isDestination(frame.dstIp, context) !== dstTypesNegated);
  },
};

const NOT_IN_IPV6: ReadonlySet<AddressType> = new Set([
  'BROADCAST',
  'BLACKHOLE',
  'PROHIBIT',
  'THROW',
  'NAT',
  'XRESOLVE',
]);

type AddressTest = (ip: Ip, context: WalkContext) => boolean;

function typeTest(
  types: readonly AddressType[],
  limitInterface: AddrtypeMatch['limitInterface'],
  family: IpFamily,
): AddressTest {
  const ask: (ip: Ip, context: WalkContext) => AddressType = (ip, context) => {
    const device =
      limitInterface === 'in' ? context.inDevice : limitInterface === 'out' ? context.outDevice : undefined;
    return context.addressType(ip, family, device);
  };
  const [only, ...others] = types;
  if (family === 6) return ipv6Test(types, ask);
  if (others.length === 0) return (ip, context) => ask(ip, context) === only;
  return (ip, context) => types.includes(ask(ip, context));
}

function ipv6Test(types: readonly AddressType[], ask: (ip: Ip, context: WalkContext) => AddressType): AddressTest {
  const isKind = (type: AddressType): boolean => type === 'UNSPEC' || type === 'UNICAST' || type === 'MULTICAST';
  const kinds = types.filter(isKind);
  const routes = types.filter((type) => !isKind(type));
  return (ip, context) => {
    const kind = ip === ANY_IP ? 'UNSPEC' : isIpv6Multicast(ip) ? 'MULTICAST' : 'UNICAST';
    return kinds.every((type) => type === kind) && (routes.length === 0 || routes.includes(ask(ip, context)));
  };
}

function printOption(option: string, types: readonly AddressType[] | undefined, negated = false): string {
  if (types === undefined) return '';
  return `${negated ? ' !' : ''} ${option} ${ADDRESS_TYPES.filter((type) => types.includes(type)).join(',')}`;
}

/** Names in any case, or their beginnings: the first that fits, in the kernel's order. */
const takeTypes = (words: Words): AddressType[] =>
  words.takeAs(`types of ${ADDRESS_TYPES.join(', ')}`, (word) => {
    const types: AddressType[] = [];
    for (const part of word.split(',')) {
      const type = part === '' ? undefined : ADDRESS_TYPES.find((name) => name.startsWith(part.toUpperCase()));
      if (type === undefined) return undefined;
      types.push(type);
    }
    return types;
  });
