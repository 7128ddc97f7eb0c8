// `-j MASQUERADE`: rewrites the source of a connection to an address of the device it leaves by.

import { TARGET } from '../action.ts';
import { type NatPorts, natRangeProblem, printNatPorts, takeNatPorts } from './nat-range.ts';
import type { TargetKind } from './target.ts';

export interface MasqueradeTarget extends NatPorts {
  readonly target: 'MASQUERADE';
  readonly random?: boolean;
  readonly randomFully?: boolean;
}

export const masquerade: TargetKind<MasqueradeTarget> = {
  name: 'MASQUERADE',
  action: TARGET,
  tables: ['nat'],
  hooks: () => ['POSTROUTING'],
  needsConntrack: true,
  print: (spec) =>
    `${spec.minPort === undefined ? '' : ` --to-ports ${printNatPorts(spec)}`}${spec.random ? ' --random' : ''}` +
    `${spec.randomFully ? ' --random-fully' : ''}`,
  options: {
    '--to-ports': (words) => takeNatPorts(words),
    '--random': () => ({ random: true }),
    '--random-fully': () => ({ randomFully: true }),
  },
  complete: (fields) => ({ ...fields, target: 'MASQUERADE' }),
  problem: natRangeProblem,
};
