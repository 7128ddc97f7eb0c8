// `-j REDIRECT`: rewrites the destination of a connection to this namespace itself.

import { TARGET } from '../action.ts';
import { type NatPorts, natRangeProblem, printNatPorts, takeNatPorts } from './nat-range.ts';
import type { TargetKind } from './target.ts';

export interface RedirectTarget extends NatPorts {
  readonly target: 'REDIRECT';
  readonly random?: boolean;
}

export const redirect: TargetKind<RedirectTarget> = {
  name: 'REDIRECT',
  action: TARGET,
  tables: ['nat'],
  hooks: () => ['PREROUTING', 'OUTPUT'],
  needsConntrack: true,
  print: (spec) =>
    `${spec.minPort === undefined ? '' : ` --to-ports ${printNatPorts(spec)}`}${spec.random ? ' --random' : ''}`,
  options: {
    '--to-ports': (words) => takeNatPorts(words),
    '--random': () => ({ random: true }),
  },
  complete: (fields) => ({ ...fields, target: 'REDIRECT' }),
  problem: natRangeProblem,
};
