// `-j TCPMSS`: lowers the maximum segment size that a SYN announces (xt_TCPMSS.c): to a number, or to what fits through
// the route to the destination and the route back. A SYN without the option gets it, unless it carries data.

import { type Frame, PROTOCOL_TCP, TCP_HEADER_BYTES, TCP_SYN } from '../../packet/frame.ts';
import { CONTINUE } from '../action.ts';
import type { RuleSpec } from '../rule.ts';
import type { WalkContext } from '../walk-context.ts';
import type { TargetKind } from './target.ts';

export interface TcpmssTarget {
  readonly target: 'TCPMSS';
  readonly mss: number | 'path MTU';
}

/** 65,535 without the smallest IPv4 header. */
const MOST_BYTES = 65_515;

export const tcpmss: TargetKind<TcpmssTarget> = {
  name: 'TCPMSS',
  action: CONTINUE,
  hooks: ({ mss }) => (mss === 'path MTU' ? ['FORWARD', 'OUTPUT', 'POSTROUTING'] : undefined),
  print: ({ mss }) => (mss === 'path MTU' ? ' --clamp-mss-to-pmtu' : ` --set-mss ${mss}`),
  options: {
    '--set-mss': (words) => ({ mss: words.takeInteger({ first: 0, last: MOST_BYTES }) }),
    '--clamp-mss-to-pmtu': () => ({ mss: 'path MTU' }),
  },
  complete: ({ mss }) => (mss === undefined ? '--set-mss BYTES or --clamp-mss-to-pmtu' : { target: 'TCPMSS', mss }),
  problem: (_spec, rule) => (selectsSyn(rule) ? undefined : 'needs -p tcp --syn, or other flags with SYN'),
  effect: ({ mss }) => {
    if (mss !== 'path MTU') return (frame) => limitSegments(frame, mss);
    return (frame, context) => {
      const fitting = fittingSegment(frame, context);
      if (fitting !== undefined) limitSegments(frame, fitting);
    };
  },
};

/** The kernel refuses the rule otherwise (tcpmss_tg4_check). */
const selectsSyn = ({ protocol, protocolNegated, matches = [] }: RuleSpec): boolean =>
  protocol === 'tcp' &&
  !protocolNegated &&
  matches.some(
    (match) =>
      match.match === 'tcp' && !match.flagsNegated && match.flags !== undefined && (match.flags.set & TCP_SYN) !== 0,
  );

const headerBytes = ({ family }: Frame): number => (family === 6 ? 40 : 20) + TCP_HEADER_BYTES;
/** RFC 9293 3.7.1: what a SYN without the option means. */
const unannounced = ({ family }: Frame): number => (family === 6 ? 1_220 : 536);

/**
 * Undefined where nothing is known of the route; bridged frames need none, they go by the bridge's MTU (its fake_rtable).
 * A route that is missing on the way back does not count.
 */
function fittingSegment(frame: Frame, context: WalkContext): number | undefined {
  const bridge = frame.physOut === undefined ? undefined : context.outDevice;
  const there = bridge ? context.mtuOf(bridge) : context.routeTo(frame.dstIp, frame.family)?.mtuBytes;
  if (there === undefined) return undefined;
  const back = context.routeTo(frame.srcIp, frame.family)?.mtuBytes ?? there;
  return Math.min(there, back) - headerBytes(frame);
}

function limitSegments(frame: Frame, mss: number): void {
  if (frame.protocol !== PROTOCOL_TCP || frame.fragmentOffset > 0) return;
  if (frame.mssOption > 0) {
    frame.mssOption = Math.min(frame.mssOption, mss);
  } else if (frame.payloadBytes === 0) {
    frame.mssOption = Math.min(unannounced(frame), mss);
    frame.updateSize();
  }
}
