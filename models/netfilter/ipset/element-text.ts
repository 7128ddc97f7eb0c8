// Elements as `ipset save` spells them: `10.0.0.0/8,tcp:80`, `10.0.0.1,icmp:echo-request`, `10.0.0.0/8,physdev:eth0`.
// Ranges and networks, where a type has plain addresses, and ranges of ports stand for several elements.
//
// Not accepted: names of hosts, ranges of networks, ranges in IPv6 (the kernel has none).

import { addressBits, formatIp, type Ip, type IpFamily, prefix } from '../../packet/ip-address.ts';
import { printProtocol, protocolNumber, readProtocol } from '../protocol.ts';
import { readPort } from '../service-port.ts';
import { readIp, readNumber } from '../words.ts';
import { NO_NETWORK, type Part } from './element-store.ts';
import { ICMP_TYPE_NAMES, ICMP6_TYPE_NAMES, type IcmpTypeNames } from './icmp-names.ts';
import { type NewElement, NO_NET, portPart } from './ip-set.ts';
import { type Dimension, dimensionsOf, type SetOptions, type SetType } from './set-type.ts';

/** Elements that one range may stand for. */
const MOST_ELEMENTS = 65_536;

const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMPV6 = 58;
const PROTOCOL_TCP = 6;
/** Protocols whose ports are ports. */
const PORTED: readonly number[] = [PROTOCOL_TCP, 17, 132, 136];

/** What one place of an element's text may stand for. */
interface Alternative {
  readonly part?: Part;
  readonly net?: number;
  readonly length?: number;
}

/** The elements that the text stands for; undefined if it is not what elements of this type look like. */
export function readElements(text: string, type: SetType, options: SetOptions): NewElement[] | undefined {
  const dimensions = dimensionsOf(type);
  const places = text.split(',');
  if (places.length !== dimensions.length) return undefined;
  let elements: NewElement[] = [{ parts: [], net: NO_NET, length: NO_NETWORK }];
  for (const [i, dimension] of dimensions.entries()) {
    const alternatives = readPlace(places[i]!, dimension, type, options);
    if (alternatives === undefined || elements.length * alternatives.length > MOST_ELEMENTS) return undefined;
    elements = elements.flatMap((element) => alternatives.map((alternative) => extended(element, alternative)));
  }
  return elements;
}

function extended({ parts, net, length }: NewElement, alternative: Alternative): NewElement {
  if (alternative.part !== undefined) return { parts: [...parts, alternative.part], net, length };
  return { parts, net: alternative.net ?? net, length: alternative.length ?? length };
}

function readPlace(
  text: string,
  dimension: Dimension,
  type: SetType,
  { family = 4, netmask }: SetOptions,
): Alternative[] | undefined {
  switch (dimension) {
    case 'ip':
      return readAddresses(text, family)?.map((ip) => ({
        part: netmask === undefined ? ip : prefix(ip, netmask, family).net,
      }));
    case 'net': {
      const [ip, length] = readNetwork(text, family) ?? [];
      return ip === undefined || length === undefined ? undefined : [{ net: prefix(ip, length, family).net, length }];
    }
    case 'port':
      return type === 'bitmap:port' ? readPlainPorts(text) : readPorts(text, family);
    case 'iface':
      return /^(physdev:)?[^\s/,]{1,15}$/.test(text) ? [{ part: text }] : undefined;
    case 'set':
      return text === '' ? undefined : [{ part: text }];
  }
}

function readAddresses(text: string, family: IpFamily): Ip[] | undefined {
  const only = readIp(text, family);
  if (only !== undefined) return [only];
  const network = readNetwork(text, family);
  if (network !== undefined) {
    const [ip, length] = network;
    if (length === addressBits(family)) return [ip];
    return family === 6 ? undefined : range(prefix(ip, length).net, 2 ** (32 - length));
  }
  const [firstText = '', lastText = ''] = text.split('-');
  const first = readIp(firstText, family);
  const last = readIp(lastText, family);
  if (first === undefined || last === undefined || family === 6) return undefined;
  return range(first, (last >>> 0) - (first >>> 0) + 1);
}

const range = (first: Ip, count: number): Ip[] | undefined =>
  count >= 1 && count <= MOST_ELEMENTS ? Array.from({ length: count }, (_, i) => ((first + i) | 0) as Ip) : undefined;

function readNetwork(text: string, family: IpFamily): readonly [Ip, number] | undefined {
  const [address = '', lengthText, ...rest] = text.split('/');
  const ip = readIp(address, family);
  const length = lengthText === undefined ? addressBits(family) : readNumber(lengthText, addressBits(family));
  return ip === undefined || length === undefined || rest.length > 0 ? undefined : [ip, length];
}

/** bitmap:port. A protocol may stand before the port, and says nothing. */
function readPlainPorts(text: string): Alternative[] | undefined {
  return readPortRange(text.replace(/^(tcp|udp):/, ''))?.map((port) => ({ part: port }));
}

/** `80`, `tcp:80-90`, `icmp:echo-request`, `gre:0`. */
function readPorts(text: string, family: IpFamily): Alternative[] | undefined {
  const colon = text.indexOf(':');
  const protocol = colon < 0 ? 'tcp' : readProtocol(text.slice(0, colon));
  if (protocol === undefined || protocol === 'all') return undefined;
  const number = protocolNumber(protocol);
  const value = text.slice(colon + 1);
  if (number === (family === 6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP)) {
    const type = readIcmp(value, family === 6 ? ICMP6_TYPE_NAMES : ICMP_TYPE_NAMES);
    return type === undefined ? undefined : [{ part: portPart(number, type) }];
  }
  if (!PORTED.includes(number)) return value === '0' ? [{ part: portPart(number, 0) }] : undefined;
  return readPortRange(value)?.map((port) => ({ part: portPart(number, port) }));
}

function readPortRange(text: string): number[] | undefined {
  const only = readPort(text);
  if (only !== undefined) return [only];
  const [firstText = '', lastText = '', ...rest] = text.split('-');
  const first = readNumber(firstText, 65_535);
  const last = readNumber(lastText, 65_535);
  if (first === undefined || last === undefined || last < first || rest.length > 0) return undefined;
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** `type << 8 | code`. */
function readIcmp(text: string, names: IcmpTypeNames): number | undefined {
  const named = names.get(text);
  if (named !== undefined) return named;
  const [typeText = '', codeText = '', ...rest] = text.split('/');
  const type = readNumber(typeText, 255);
  const code = readNumber(codeText, 255);
  return type === undefined || code === undefined || rest.length > 0 ? undefined : (type << 8) | code;
}

/** Of an element in a set of this type. */
export function printElement(
  element: Pick<NewElement, 'parts' | 'net' | 'length'>,
  type: SetType,
  { family = 4 }: SetOptions,
): string {
  const parts = element.parts.values();
  const place = (dimension: Dimension): string => {
    switch (dimension) {
      case 'ip':
        return formatIp(parts.next().value as Ip, family);
      case 'net': {
        const address = formatIp(element.net as Ip, family);
        return element.length === addressBits(family) ? address : `${address}/${element.length}`;
      }
      case 'port': {
        const port = parts.next().value as number;
        return type === 'bitmap:port' ? `${port}` : printPort(port, family);
      }
      case 'iface':
      case 'set':
        return String(parts.next().value);
    }
  };
  return dimensionsOf(type).map(place).join(',');
}

function printPort(part: number, family: IpFamily): string {
  const protocol = part >>> 16;
  const port = part & 0xffff;
  if (protocol === (family === 6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP)) {
    const names = family === 6 ? ICMP6_TYPE_NAMES : ICMP_TYPE_NAMES;
    const name = [...names].find(([, value]) => value === port)?.[0];
    return `${printProtocol(protocol)}:${name ?? `${port >> 8}/${port & 255}`}`;
  }
  return `${printProtocol(protocol)}:${port}`;
}
