// `-j SET`: puts the frame's addresses, ports and devices into an ipset of its namespace, or takes them out. Not modelled:
// `--map-set`.

import { CONTINUE } from '../action.ts';
import type { SetSide } from '../ipset/ip-set.ts';
import { takeSides } from '../matches/set.ts';
import type { Words } from '../words.ts';
import type { TargetKind } from './target.ts';

export interface SetReference {
  readonly set: string;
  readonly sides: readonly SetSide[];
}

export interface SetTarget {
  readonly target: 'SET';
  readonly add?: SetReference;
  readonly del?: SetReference;
  /** Of the element that is added, in seconds; absent: the set's own. */
  readonly timeoutSeconds?: number;
  /** An element that is in the set already gets the new timeout. */
  readonly exist?: boolean;
}

const takeReference = (words: Words): SetReference => ({
  set: words.take('the name of a set'),
  sides: takeSides(words),
});

export const setTarget: TargetKind<SetTarget> = {
  name: 'SET',
  action: CONTINUE,
  print: ({ add, del, timeoutSeconds, exist }) =>
    printReference('--add-set', add) +
    `${exist ? ' --exist' : ''}${timeoutSeconds === undefined ? '' : ` --timeout ${timeoutSeconds}`}` +
    printReference('--del-set', del),
  options: {
    '--add-set': (words) => ({ add: takeReference(words) }),
    '--del-set': (words) => ({ del: takeReference(words) }),
    '--timeout': (words) => ({ timeoutSeconds: words.takeInteger({ first: 0, last: 0xffff_ffff }) }),
    '--exist': () => ({ exist: true }),
  },
  complete: (fields) =>
    fields.add === undefined && fields.del === undefined
      ? '--add-set NAME src,… or --del-set NAME src,…'
      : { ...fields, target: 'SET' },
  effect:
    ({ add, del, timeoutSeconds, exist = false }) =>
    (frame, context) => {
      if (add !== undefined) context.sets.named(add.set).addFrom(frame, add.sides, { timeoutSeconds, exist }, context);
      if (del !== undefined) context.sets.named(del.set).deleteFrom(frame, del.sides, context);
    },
};

const printReference = (option: string, reference: SetReference | undefined): string =>
  reference === undefined ? '' : ` ${option} ${reference.set} ${reference.sides.join(',')}`;
