// `-j CT --notrack`, and its older spelling `-j NOTRACK`: conntrack leaves the frame alone. Unlike all else that
// speaks of connections, it does not turn tracking on. Not modelled: zones, helpers,
// timeouts and the other options of CT.

import type { Frame } from '../../packet/frame.ts';
import { CONTINUE } from '../action.ts';
import { CT_UNTRACKED } from '../conntrack-state.ts';
import type { TargetKind } from './target.ts';

export interface CtTarget {
  readonly target: 'CT';
  readonly notrack: true;
}

export interface NotrackTarget {
  readonly target: 'NOTRACK';
}

/** A frame that conntrack knows already (looped back) stays tracked. */
const untrack = (frame: Frame): void => {
  if (frame.conntrackState === 0) frame.conntrackState = CT_UNTRACKED;
};

export const ct: TargetKind<CtTarget> = {
  name: 'CT',
  action: CONTINUE,
  tables: ['raw'],
  print: () => ' --notrack',
  options: { '--notrack': () => ({ notrack: true }) },
  complete: ({ notrack }) => (notrack === undefined ? '--notrack' : { target: 'CT', notrack }),
  effect: () => untrack,
};

export const notrack: TargetKind<NotrackTarget> = {
  name: 'NOTRACK',
  action: CONTINUE,
  tables: ['raw'],
  print: () => '',
  complete: () => ({ target: 'NOTRACK' }),
  effect: () => untrack,
};
