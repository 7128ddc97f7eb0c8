// `-m ipvs`: IPVS has translated the packet on this host, for a virtual server of that protocol, address and port. Any of
// these also asks for the translation itself, even negated (xt_ipvs.c).
//
// Not modelled: --vdir, --vmethod, --vportctl.

import {
  addressBits,
  contains,
  formatIp,
  formatPrefix,
  type IpFamily,
  type Prefix,
  parseAnyPrefix,
} from '../../packet/ip-address.ts';
import { protocolNumber, readProtocol } from '../protocol.ts';
import { readPort } from '../service-port.ts';
import type { MatchKind } from './match.ts';

export interface IpvsMatch {
  readonly match: 'ipvs';
  /** `--ipvs`; false is `!`. */
  readonly isIpvs?: boolean;
  /** By number. */
  readonly protocol?: number;
  readonly protocolNegated?: boolean;
  readonly address?: Prefix;
  readonly addressNegated?: boolean;
  readonly port?: number;
  readonly portNegated?: boolean;
}

export const ipvs: MatchKind<IpvsMatch> = {
  name: 'ipvs',
  print: ({ isIpvs, protocol, protocolNegated, address, addressNegated, port, portNegated }) =>
    (isIpvs === undefined ? '' : `${isIpvs ? '' : ' !'} --ipvs`) +
    printOption('--vproto', protocol, protocolNegated) +
    printOption('--vaddr', address && printAddress(address), addressNegated) +
    printOption('--vport', port, portNegated),
  negatableOptions: {
    '--ipvs': (_words, negated) => ({ isIpvs: !negated }),
    '--vproto': (words, negated) => ({
      protocol: protocolNumber(
        words.takeAs('a protocol', (word) => {
          const protocol = readProtocol(word);
          return protocol === 'all' ? undefined : protocol;
        }),
      ),
      ...(negated && { protocolNegated: negated }),
    }),
    '--vaddr': (words, negated) => ({
      address: words.takeAs('an address of a virtual server', (word) => readAddress(word, words.family)),
      ...(negated && { addressNegated: negated }),
    }),
    '--vport': (words, negated) => ({
      port: words.takeAs('a port', readPort),
      ...(negated && { portNegated: negated }),
    }),
  },
  complete: (fields) =>
    Object.keys(fields).length === 0 ? '--ipvs, --vproto, --vaddr or --vport' : { ...fields, match: 'ipvs' },
  compile:
    ({ isIpvs, protocol, protocolNegated, address, addressNegated, port, portNegated }) =>
    (frame, { ipvs }) => {
      const connection = ipvs?.connectionOf(frame);
      if (connection === undefined) return isIpvs === false;
      if (isIpvs === false) return false;
      const { virtual } = connection;
      if (protocol !== undefined && (virtual.protocol === protocol) === (protocolNegated ?? false)) return false;
      if (port !== undefined && (virtual.port === port) === (portNegated ?? false)) return false;
      if (address === undefined) return true;
      return contains(address, virtual.ip) !== (addressNegated ?? false);
    },
};

function readAddress(word: string, family: IpFamily): Prefix | undefined {
  try {
    const address = parseAnyPrefix(word);
    return address.family === family ? address : undefined;
  } catch {
    return undefined;
  }
}

const printAddress = (address: Prefix): string =>
  address.length === addressBits(address.family) ? formatIp(address.net, address.family) : formatPrefix(address);

const printOption = (option: string, value: string | number | undefined, negated = false): string =>
  value === undefined ? '' : `${negated ? ' !' : ''} ${option} ${value}`;
