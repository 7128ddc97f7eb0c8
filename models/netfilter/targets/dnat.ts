// `-j DNAT`: rewrites the destination of a connection.

import { TARGET } from '../action.ts';
import { type NatRange, natRangeProblem, printNatRange, takeNatRange } from './nat-range.ts';
import type { TargetKind } from './target.ts';

export interface DnatTarget extends NatRange {
  readonly target: 'DNAT';
  readonly random?: boolean;
  readonly persistent?: boolean;
}

export const dnat: TargetKind<DnatTarget> = {
  name: 'DNAT',
  action: TARGET,
  tables: ['nat'],
  hooks: () => ['PREROUTING', 'OUTPUT'],
  needsConntrack: true,
  print: (spec, family) =>
    ` --to-destination ${printNatRange(spec, family)}${spec.random ? ' --random' : ''}${spec.persistent ? ' --persistent' : ''}`,
  options: {
    '--to-destination': (words) => takeNatRange(words),
    '--random': () => ({ random: true }),
    '--persistent': () => ({ persistent: true }),
  },
  complete: (fields) =>
    fields.minIp === undefined && fields.minPort === undefined
      ? '--to-destination ADDRESS[-ADDRESS][:PORT[-PORT]]'
      : { ...fields, target: 'DNAT' },
  problem: natRangeProblem,
};
