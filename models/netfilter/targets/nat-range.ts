// Where NAT may map to: addresses and ports, as DNAT and SNAT write them: `10.0.0.1`, `10.0.0.1-10.0.0.9:80-90`, `:80`,
// `[fd00::1-fd00::9]:80`. Not modelled: a base port for shifted ranges (`:80-90/8080`).

import { formatIp, type Ip, type IpFamily } from '../../packet/ip-address.ts';
import type { RuleSpec } from '../rule.ts';
import { readPort } from '../service-port.ts';
import { readIp, readNumber, type Words } from '../words.ts';

export interface NatPorts {
  /** Absent: the port is kept where it can be. */
  readonly minPort?: number;
  /** Absent: equal to `minPort`. */
  readonly maxPort?: number;
}

export interface NatRange extends NatPorts {
  /** Absent: the address stays. */
  readonly minIp?: Ip;
  /** Absent: equal to `minIp`. */
  readonly maxIp?: Ip;
}

export function printNatRange({ minIp, maxIp = minIp, minPort, maxPort }: NatRange, family: IpFamily): string {
  const ports =
    minPort === undefined ? '' : `:${printNatPorts({ minPort, ...(maxPort !== undefined && { maxPort }) })}`;
  if (minIp === undefined || maxIp === undefined) return ports;
  const addresses = `${formatIp(minIp, family)}${maxIp === minIp ? '' : `-${formatIp(maxIp, family)}`}`;
  return family === 6 && ports !== '' ? `[${addresses}]${ports}` : `${addresses}${ports}`;
}

export const printNatPorts = ({ minPort, maxPort = minPort }: NatPorts): string =>
  maxPort === minPort ? `${minPort}` : `${minPort}-${maxPort}`;

export const takeNatRange = (words: Words): NatRange => {
  const { family } = words;
  const expected =
    family === 6 ? 'ADDRESS[-ADDRESS] or [ADDRESS[-ADDRESS]]:PORT[-PORT]' : 'ADDRESS[-ADDRESS][:PORT[-PORT]]';
  return words.takeAs(expected, (word) => {
    const { addresses, ports } = family === 6 ? splitIpv6(word) : splitIpv4(word);
    if (addresses === '' && ports === undefined) return undefined;
    const range = addresses === '' ? {} : readAddresses(addresses, family);
    const portRange = ports === undefined ? {} : readNatPorts(ports);
    return range === undefined || portRange === undefined ? undefined : { ...range, ...portRange };
  });
};

interface RangeText {
  readonly addresses: string;
  readonly ports: string | undefined;
}

function splitIpv4(word: string): RangeText {
  const colon = word.indexOf(':');
  return colon < 0
    ? { addresses: word, ports: undefined }
    : { addresses: word.slice(0, colon), ports: word.slice(colon + 1) };
}

/** Addresses stand in brackets where ports follow. */
function splitIpv6(word: string): RangeText {
  const [, bracketed, ports] = /^\[([^\]]+)\](?::(.*))?$/.exec(word) ?? [];
  if (bracketed !== undefined) return { addresses: bracketed, ports };
  const [, lonePorts] = /^:([^:]+)$/.exec(word) ?? [];
  return lonePorts === undefined ? { addresses: word, ports: undefined } : { addresses: '', ports: lonePorts };
}

function readAddresses(text: string, family: IpFamily): NatRange | undefined {
  const [first = '', last = first, ...rest] = text.split('-');
  const minIp = readIp(first, family);
  const maxIp = readIp(last, family);
  if (minIp === undefined || maxIp === undefined || rest.length > 0) return undefined;
  return maxIp === minIp ? { minIp } : { minIp, maxIp };
}

export const takeNatPorts = (words: Words): NatPorts => words.takeAs('PORT or PORT-PORT', readNatPorts);

/** A service's name stands for one port, never for an end of a range: names have dashes. */
function readNatPorts(text: string): NatPorts | undefined {
  const port = readPort(text);
  if (port !== undefined) return { minPort: port };
  const [first = '', last = '', ...rest] = text.split('-');
  const minPort = readNumber(first, 65_535);
  const maxPort = readNumber(last, 65_535);
  if (minPort === undefined || maxPort === undefined || minPort > maxPort || rest.length > 0) return undefined;
  return maxPort === minPort ? { minPort } : { minPort, maxPort };
}

/** What iptables would say against mapping this rule's frames to this range. */
export function natRangeProblem({ minPort, maxPort }: NatRange, rule: RuleSpec): string | undefined {
  if (minPort === undefined) return maxPort === undefined ? undefined : 'a last port without a first';
  return portsProblem({ minPort, ...(maxPort !== undefined && { maxPort }) }) ?? portedProblem(rule);
}

function portsProblem({ minPort = 0, maxPort = minPort }: NatPorts): string | undefined {
  const isRange = Number.isInteger(minPort) && Number.isInteger(maxPort) && minPort >= 0 && maxPort <= 65_535;
  return isRange && minPort <= maxPort ? undefined : `${minPort}-${maxPort} is no range of ports`;
}

/** As libxt_NAT.c has it: the protocol is asked for, its negation is not. */
const portedProblem = ({ protocol }: RuleSpec): string | undefined =>
  PORTED.some((name) => name === protocol) ? undefined : 'ports need -p tcp, udp, sctp, dccp or icmp';

const PORTED = ['tcp', 'udp', 'sctp', 'dccp', 'icmp'] as const;
