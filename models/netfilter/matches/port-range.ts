// Ports as tcp, udp, sctp and multiport write them: `80` or `1000:2000`, where an open end means 0 or 65535.

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
  const [, first, colon, last] = /^(\d*)(:?)(\d*)$/.exec(text) ?? [];
  if (first === undefined || (colon === '' && first === '')) return undefined;
  const range = {
    first: Number(first || 0),
    last: colon === '' ? Number(first) : Number(last || 65_535),
  };
  return portRangeProblem(range) === undefined ? range : undefined;
}

export const portRangeProblem = ({ first, last }: PortRange): string | undefined =>
  Number.isInteger(first) && Number.isInteger(last) && first >= 0 && first <= last && last <= 65_535
    ? undefined
    : `${first}:${last} is no range of ports`;

const EXPECTED = 'a port from 0 to 65535 or a range FIRST:LAST of ports';
