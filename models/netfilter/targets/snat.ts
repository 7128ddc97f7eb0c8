// `-j SNAT`: rewrites the source of a connection.

import { TARGET } from '../action.ts';
import { type NatRange, natRangeProblem, printNatRange, takeNatRange } from './nat-range.ts';
import type { TargetKind } from './target.ts';

export interface SnatTarget extends NatRange {
  readonly target: 'SNAT';
  readonly random?: boolean;
  readonly randomFully?: boolean;
  readonly persistent?: boolean;
}

export const snat: TargetKind<SnatTarget> = {
  name: 'SNAT',
  action: TARGET,
  tables: ['nat'],
  hooks: () => ['INPUT', 'POSTROUTING'],
  needsConntrack: true,
  print: (spec, family) =>
    ` --to-source ${printNatRange(spec, family)}${spec.random ? ' --random' : ''}${spec.randomFully ? ' --random-fully' : ''}` +
    `${spec.persistent ? ' --persistent' : ''}`,
  options: {
    '--to-source': (words) => takeNatRange(words),
    '--random': () => ({ random: true }),
    '--random-fully': () => ({ randomFully: true }),
    '--persistent': () => ({ persistent: true }),
  },
  complete: (fields) =>
    fields.minIp === undefined && fields.minPort === undefined
      ? '--to-source ADDRESS[-ADDRESS][:PORT[-PORT]]'
      : { ...fields, target: 'SNAT' },
  problem: natRangeProblem,
};
