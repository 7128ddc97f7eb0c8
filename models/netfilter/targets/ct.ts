// `-j CT`: conntrack leaves the frame alone (`--notrack`, and its older spelling `-j NOTRACK`), or tracks it in a zone of
// its own. A frame that conntrack knows already (looped back) stays as it is. Unlike zones, `--notrack` does not turn
// tracking on.
//
// Not modelled: helpers, events, timeouts.

import type { Frame } from '../../packet/frame.ts';
import { CONTINUE } from '../action.ts';
import { type ZoneDirections, zoneOf } from '../connection-zone.ts';
import { CT_UNTRACKED } from '../conntrack-state.ts';
import type { Words } from '../words.ts';
import type { TargetKind } from './target.ts';

export interface CtTarget {
  readonly target: 'CT';
  readonly notrack?: boolean;
  /** A number, or the frame's mark. */
  readonly zone?: number | 'mark';
  /** Absent: both. */
  readonly zoneDirections?: ZoneDirections;
}

export interface NotrackTarget {
  readonly target: 'NOTRACK';
}

const LAST_ZONE = 65_535;

const takeZone = (words: Words, zoneDirections: ZoneDirections): Partial<CtTarget> => ({
  zone: words.takeIf('mark') ? 'mark' : words.takeInteger({ first: 0, last: LAST_ZONE }),
  ...(zoneDirections !== 'both' && { zoneDirections }),
});

export const ct: TargetKind<CtTarget> = {
  name: 'CT',
  action: CONTINUE,
  tables: ['raw'],
  tracks: ({ notrack }) => !notrack,
  print: ({ notrack, zone, zoneDirections = 'both' }) =>
    `${notrack ? ' --notrack' : ''}${zone === undefined || zone === 0 ? '' : ` ${ZONE_OPTIONS[zoneDirections]} ${zone}`}`,
  options: {
    '--notrack': () => ({ notrack: true }),
    '--zone': (words) => takeZone(words, 'both'),
    '--zone-orig': (words) => takeZone(words, 'original'),
    '--zone-reply': (words) => takeZone(words, 'reply'),
  },
  complete: (fields) => ({ ...fields, target: 'CT' }),
  effect: ({ notrack, zone = 0, zoneDirections }) => {
    if (notrack) return untrack;
    if (zone === 'mark') {
      return (frame) => {
        if (isUnmarked(frame)) frame.conntrackZone = zoneOf(frame.mark & LAST_ZONE, zoneDirections);
      };
    }
    const constant = zoneOf(zone, zoneDirections);
    return (frame) => {
      if (isUnmarked(frame)) frame.conntrackZone = constant;
    };
  },
};

/** Conntrack has not seen the frame, and no rule has said anything about it: of several CT targets the first one counts. */
const isUnmarked = ({ conntrackEntry, conntrackState, conntrackZone }: Frame): boolean =>
  conntrackEntry === 0 && conntrackState === 0 && conntrackZone === 0;

const ZONE_OPTIONS: Readonly<Record<ZoneDirections, string>> = {
  both: '--zone',
  original: '--zone-orig',
  reply: '--zone-reply',
};

export const notrack: TargetKind<NotrackTarget> = {
  name: 'NOTRACK',
  action: CONTINUE,
  tables: ['raw'],
  print: () => '',
  complete: () => ({ target: 'NOTRACK' }),
  effect: () => untrack,
};

function untrack(frame: Frame): void {
  if (isUnmarked(frame)) frame.conntrackState = CT_UNTRACKED;
}
