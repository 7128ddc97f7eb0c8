// Where NAT may map to: addresses and ports, as DNAT and SNAT write them: `10.0.0.1`, `10.0.0.1-10.0.0.9:80-90`, `:80`.
// Not modelled: a base port for shifted ranges (`:80-90/8080`).

import { formatIp, type Ip, isIpv4, parseIp } from '../../packet/ip-address.ts';
import type { RuleSpec } from '../rule.ts';
import type { Words } from '../words.ts';

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

export function printNatRange({ minIp, maxIp = minIp, minPort, maxPort }: NatRange): string {
  const ports =
    minPort === undefined ? '' : `:${printNatPorts({ minPort, ...(maxPort !== undefined && { maxPort }) })}`;
  if (minIp === undefined || maxIp === undefined) return ports;
  return `${formatIp(minIp)}${maxIp === minIp ? '' : `-${formatIp(maxIp)}`}${ports}`;
}

export const printNatPorts = ({ minPort, maxPort = minPort }: NatPorts): string =>
  maxPort === minPort ? `${minPort}` : `${minPort}-${maxPort}`;

export const takeNatRange = (words: Words): NatRange =>
  words.takeAs('ADDRESS[-ADDRESS][:PORT[-PORT]]', (word) => {
    const [, minIp, maxIp = minIp, portsText] = /^([\d.]+)?(?:-([\d.]+))?(?::([\d-]+))?$/.exec(word) ?? [];
    const ports = portsText === undefined ? {} : readNatPorts(portsText);
    if (ports === undefined || (minIp === undefined) !== (maxIp === undefined)) return undefined;
    if (minIp === undefined || maxIp === undefined) return portsText === undefined ? undefined : ports;
    if (!isIpv4(minIp) || !isIpv4(maxIp)) return undefined;
    return { minIp: parseIp(minIp), ...(maxIp !== minIp && { maxIp: parseIp(maxIp) }), ...ports };
  });

export const takeNatPorts = (words: Words): NatPorts => words.takeAs('PORT or PORT-PORT', readNatPorts);

function readNatPorts(text: string): NatPorts | undefined {
  const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  if (first === undefined) return undefined;
  const ports = { minPort: Number(first), ...(last !== undefined && last !== first && { maxPort: Number(last) }) };
  return portsProblem(ports) === undefined ? ports : undefined;
}

/** What iptables would say against mapping this rule's frames to this range. */
export function natRangeProblem(
  { minIp, maxIp = minIp, minPort, maxPort }: NatRange,
  rule: RuleSpec,
): string | undefined {
  if (minIp !== undefined && maxIp !== undefined && minIp >>> 0 > maxIp >>> 0) return 'addresses in falling order';
  if (minPort === undefined) return maxPort === undefined ? undefined : 'a last port without a first';
  return portsProblem({ minPort, ...(maxPort !== undefined && { maxPort }) }) ?? portedProblem(rule);
}

function portsProblem({ minPort = 0, maxPort = minPort }: NatPorts): string | undefined {
  const isRange = Number.isInteger(minPort) && Number.isInteger(maxPort) && minPort >= 0 && maxPort <= 65_535;
  return isRange && minPort <= maxPort ? undefined : `${minPort}-${maxPort} is no range of ports`;
}

const portedProblem = ({ protocol, protocolNegated }: RuleSpec): string | undefined =>
  !protocolNegated && (protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp')
    ? undefined
    : 'ports need -p tcp, udp or sctp';
