// `-j NFLOG` and `-j TRACE`: kept as text; nobody listens. A journey shows every rule that a frame has matched.

import { CONTINUE } from '../action.ts';
import { quote } from '../words.ts';
import type { TargetKind } from './target.ts';

export interface NflogTarget {
  readonly target: 'NFLOG';
  readonly prefix?: string;
  /** Absent: 0. */
  readonly group?: number;
  /** Bytes of each packet; absent: all. */
  readonly sizeBytes?: number;
  /** Packets that are sent to the listener together; absent: one by one. */
  readonly threshold?: number;
}

export interface TraceTarget {
  readonly target: 'TRACE';
}

/** XT_NFLOG prefix[64] with its terminating zero; what is longer is cut. */
const LONGEST_PREFIX = 63;
const U16 = { first: 0, last: 65_535 };

export const nflog: TargetKind<NflogTarget> = {
  name: 'NFLOG',
  action: CONTINUE,
  print: ({ prefix, group = 0, sizeBytes, threshold = 0 }) =>
    `${prefix === undefined ? '' : ` --nflog-prefix ${quote(prefix)}`}${group === 0 ? '' : ` --nflog-group ${group}`}` +
    `${sizeBytes === undefined ? '' : ` --nflog-size ${sizeBytes}`}${threshold === 0 ? '' : ` --nflog-threshold ${threshold}`}`,
  options: {
    '--nflog-prefix': (words) => ({ prefix: words.takeText(LONGEST_PREFIX) }),
    '--nflog-group': (words) => ({ group: words.takeInteger(U16) }),
    '--nflog-size': (words) => ({ sizeBytes: words.takeInteger({ first: 0, last: 0xffff_ffff }) }),
    '--nflog-threshold': (words) => ({ threshold: words.takeInteger(U16) }),
  },
  complete: (fields) => ({ ...fields, target: 'NFLOG' }),
};

export const trace: TargetKind<TraceTarget> = {
  name: 'TRACE',
  action: CONTINUE,
  tables: ['raw'],
  print: () => '',
  complete: () => ({ target: 'TRACE' }),
};
