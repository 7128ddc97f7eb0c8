// Targets without options that end a walk (ACCEPT, DROP) or a chain (RETURN).

import { ACCEPT, DROP, RETURN } from '../action.ts';
import type { TargetKind } from './target.ts';

export interface AcceptTarget {
  readonly target: 'ACCEPT';
}
export interface DropTarget {
  readonly target: 'DROP';
}
export interface ReturnTarget {
  readonly target: 'RETURN';
}

export const accept: TargetKind<AcceptTarget> = {
  name: 'ACCEPT',
  action: ACCEPT,
  print: () => '',
  complete: () => ({ target: 'ACCEPT' }),
};

export const drop: TargetKind<DropTarget> = {
  name: 'DROP',
  action: DROP,
  print: () => '',
  complete: () => ({ target: 'DROP' }),
};

export const returnTarget: TargetKind<ReturnTarget> = {
  name: 'RETURN',
  action: RETURN,
  print: () => '',
  complete: () => ({ target: 'RETURN' }),
};
