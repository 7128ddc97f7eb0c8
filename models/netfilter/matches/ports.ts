// What tcp, udp and sctp have in common: `--sport` and `--dport`.

import type { FrameTest, Selector } from '../selector.ts';
import type { Words } from '../words.ts';
import { type PortRange, portRangeProblem, printPortRange, takePortRange } from './port-range.ts';

export interface PortsMatch {
  readonly srcPorts?: PortRange;
  readonly srcPortsNegated?: boolean;
  readonly dstPorts?: PortRange;
  readonly dstPortsNegated?: boolean;
}

const sport = (words: Words, negated: boolean): PortsMatch => ({
  srcPorts: takePortRange(words),
  ...(negated && { srcPortsNegated: negated }),
});
const dport = (words: Words, negated: boolean): PortsMatch => ({
  dstPorts: takePortRange(words),
  ...(negated && { dstPortsNegated: negated }),
});

export const PORT_OPTIONS = { '--sport': sport, '--source-port': sport, '--dport': dport, '--destination-port': dport };

export function printPorts({ srcPorts, srcPortsNegated, dstPorts, dstPortsNegated }: PortsMatch): string {
  return printOption('--sport', srcPorts, srcPortsNegated) + printOption('--dport', dstPorts, dstPortsNegated);
}

/** iptables-save leaves out a range of all ports. */
function printOption(option: string, ports: PortRange | undefined, negated = false): string {
  if (ports === undefined || (isEveryPort(ports) && !negated)) return '';
  return `${negated ? ' !' : ''} ${option} ${printPortRange(ports)}`;
}

export const portsProblem = ({ srcPorts = ALL, dstPorts = ALL }: PortsMatch): string | undefined =>
  portRangeProblem(srcPorts) ?? portRangeProblem(dstPorts);

/** Any frame that has ports passes a match without options; a later fragment has none and does not. */
export function compilePorts(spec: PortsMatch, selector: Selector): FrameTest | undefined {
  const { srcPorts = ALL, srcPortsNegated = false, dstPorts = ALL, dstPortsNegated = false } = spec;
  const src = srcPortsNegated ? ALL : srcPorts;
  const dst = dstPortsNegated ? ALL : dstPorts;
  selector.srcPortFirst = Math.max(selector.srcPortFirst, src.first);
  selector.srcPortLast = Math.min(selector.srcPortLast, src.last);
  selector.dstPortFirst = Math.max(selector.dstPortFirst, dst.first);
  selector.dstPortLast = Math.min(selector.dstPortLast, dst.last);
  if (!srcPortsNegated && !dstPortsNegated) return undefined;
  return (_frame, { srcPort, dstPort }) =>
    !(srcPortsNegated && isWithin(srcPort, srcPorts)) && !(dstPortsNegated && isWithin(dstPort, dstPorts));
}

const ALL: PortRange = { first: 0, last: 65_535 };
const isEveryPort = ({ first, last }: PortRange): boolean => first === 0 && last === 65_535;
const isWithin = (port: number, { first, last }: PortRange): boolean => port >= first && port <= last;
