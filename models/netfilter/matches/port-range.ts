// Ports as tcp, udp, sctp and multiport write them: `80` or `1000:2000`, where an open end means 0 or 65535.

import { readPort } from '../service-port.ts';
import type { Words } from '../words.ts';

export interface PortRange {
  readonly first: number;
  /** Equal to `first` for a single port. */
  readonly last: number;
}

export const port = (number: number): PortRange => ({ first: number, last: number });

export const printPortRange = ({ first, last }: PortRange): string =>
  first === last ? `${first}` : `${first}:${last}`;

export const takePortRange = (words: Words): PortRange => words.takeAs(EXPECTED, readPortRange);

/** Undefined unless the text is a port or a range of ports in rising order. */
export function readPortRange(text: string): PortRange | undefined {
  const colon = text.indexOf(':');
  if (colon < 0) {
    const only = readPort(text);
    return only === undefined ? undefined : port(only);
  }
  const first = colon === 0 ? 0 : readPort(text.slice(0, colon));
  const last = colon === text.length - 1 ? 65_535 : readPort(text.slice(colon + 1));
  return first === undefined || last === undefined || first > last ? undefined : { first, last };
}

export const portRangeProblem = ({ first, last }: PortRange): string | undefined =>
  Number.isInteger(first) && Number.isInteger(last) && first >= 0 && first <= last && last <= 65_535
    ? undefined
    : `${first}:${last} is no range of ports`;

const EXPECTED = 'a port from 0 to 65535 or a range FIRST:LAST of ports';
