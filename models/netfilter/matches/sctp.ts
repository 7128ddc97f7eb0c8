// `-m sctp`: ports. Not modelled: `--chunk-types`.

import type { MatchKind } from './match.ts';
import { compilePorts, PORT_OPTIONS, type PortsMatch, portsProblem, printPorts } from './ports.ts';

export interface SctpMatch extends PortsMatch {
  readonly match: 'sctp';
}

export const sctp: MatchKind<SctpMatch> = {
  name: 'sctp',
  protocols: ['sctp'],
  print: printPorts,
  negatableOptions: PORT_OPTIONS,
  complete: (fields) => ({ ...fields, match: 'sctp' }),
  problem: portsProblem,
  compile: compilePorts,
};
