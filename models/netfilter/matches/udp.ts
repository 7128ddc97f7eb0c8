// `-m udp`: ports.

import type { MatchKind } from './match.ts';
import { compilePorts, PORT_OPTIONS, type PortsMatch, portsProblem, printPorts } from './ports.ts';

export interface UdpMatch extends PortsMatch {
  readonly match: 'udp';
}

export const udp: MatchKind<UdpMatch> = {
  name: 'udp',
  isOfFlow: () => true,
  protocols: ['udp'],
  print: printPorts,
  negatableOptions: PORT_OPTIONS,
  complete: (fields) => ({ ...fields, match: 'udp' }),
  problem: portsProblem,
  compile: compilePorts,
};
