// `-m multiport`: up to fifteen ports, a range counting as two.

import type { Words } from '../words.ts';
import type { MatchKind } from './match.ts';
import { type PortRange, portRangeProblem, printPortRange, readPortRange } from './port-range.ts';

export interface MultiportMatch {
  readonly match: 'multiport';
  /** Which of the frame's ports are looked for in the list. */
  readonly side: 'source' | 'destination' | 'either';
  readonly ports: readonly PortRange[];
  readonly negated?: boolean;
}

/** XT_MULTI_PORTS. */
const MOST_PORTS = 15;

const takePorts =
  (side: MultiportMatch['side']) =>
  (words: Words, negated: boolean): Partial<MultiportMatch> => ({
    side,
    ports: words.takeAs('ports and ranges FIRST:LAST with commas between them', readPorts),
    ...(negated && { negated }),
  });

export const multiport: MatchKind<MultiportMatch> = {
  name: 'multiport',
  isOfFlow: () => true,
  protocols: ['tcp', 'udp', 'udplite', 'sctp', 'dccp'],
  print: ({ side, ports, negated }) => `${negated ? ' !' : ''} ${OPTIONS[side]} ${ports.map(printPortRange).join(',')}`,
  negatableOptions: {
    '--sports': takePorts('source'),
    '--source-port': takePorts('source'),
    '--source-ports': takePorts('source'),
    '--dports': takePorts('destination'),
    '--destination-port': takePorts('destination'),
    '--destination-ports': takePorts('destination'),
    '--port': takePorts('either'),
    '--ports': takePorts('either'),
  },
  complete: ({ side, ports, ...fields }) =>
    side === undefined || ports === undefined
      ? '--sports, --dports or --ports'
      : { ...fields, match: 'multiport', side, ports },
  problem: ({ ports }) => {
    const places = ports.reduce((sum, { first, last }) => sum + (first === last ? 1 : 2), 0);
    if (places < 1 || places > MOST_PORTS)
      return `${places} ports, a range counting as two; expected 1 to ${MOST_PORTS}`;
    return ports.map(portRangeProblem).find((problem) => problem !== undefined);
  },
  compile: ({ side, ports, negated = false }) => {
    const isListed = (port: number): boolean => ports.some(({ first, last }) => port >= first && port <= last);
    return (frame, { srcPort, dstPort }) => {
      if (frame.fragmentOffset > 0) return false;
      const listed = (side !== 'destination' && isListed(srcPort)) || (side !== 'source' && isListed(dstPort));
      return listed !== negated;
    };
  },
};

const OPTIONS = { source: '--sports', destination: '--dports', either: '--ports' } as const;

function readPorts(word: string): PortRange[] | undefined {
  const ports: PortRange[] = [];
  for (const part of word.split(',')) {
    const range = readPortRange(part);
    // Unlike other matches, this one knows neither open ends nor ranges of one port.
    if (range === undefined || /^:|:$/.test(part) || (part.includes(':') && range.first === range.last))
      return undefined;
    ports.push(range);
  }
  return ports;
}
