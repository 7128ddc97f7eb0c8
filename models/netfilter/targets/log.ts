// `-j LOG`: kept as text; nothing is logged. A journey shows that the rule has matched.

import { CONTINUE } from '../action.ts';
import { quote, readNumber } from '../words.ts';
import type { TargetKind } from './target.ts';

/** In the order in which iptables-save prints them. */
const LOG_FLAGS = [
  '--log-tcp-sequence',
  '--log-tcp-options',
  '--log-ip-options',
  '--log-uid',
  '--log-macdecode',
] as const;

export interface LogTarget {
  readonly target: 'LOG';
  readonly prefix?: string;
  /** A syslog level from 0 to 7; absent: 4, warning. */
  readonly level?: number;
  readonly flags?: readonly (typeof LOG_FLAGS)[number][];
}

const DEFAULT_LEVEL = 4;
/** ipt_log_info prefix[30] with its terminating zero; what is longer is cut. */
const LONGEST_PREFIX = 29;
/** By number. */
const LEVELS: readonly string[] = ['emerg', 'alert', 'crit', 'error', 'warning', 'notice', 'info', 'debug'];

/** The flags one by one. */
export interface LogFields extends Omit<LogTarget, 'target' | 'flags'> {
  readonly '--log-tcp-sequence'?: true;
  readonly '--log-tcp-options'?: true;
  readonly '--log-ip-options'?: true;
  readonly '--log-uid'?: true;
  readonly '--log-macdecode'?: true;
}

export const log: TargetKind<LogTarget, LogFields> = {
  name: 'LOG',
  action: CONTINUE,
  print: ({ prefix = '', level = DEFAULT_LEVEL, flags = [] }) =>
    `${prefix === '' ? '' : ` --log-prefix ${quote(prefix)}`}${level === DEFAULT_LEVEL ? '' : ` --log-level ${level}`}` +
    LOG_FLAGS.filter((flag) => flags.includes(flag))
      .map((flag) => ` ${flag}`)
      .join(''),
  options: {
    '--log-prefix': (words) => ({ prefix: words.takeText(LONGEST_PREFIX) }),
    '--log-level': (words) => ({ level: words.takeAs(`a level: 0 to 7 or one of ${LEVELS.join(', ')}`, readLevel) }),
    '--log-tcp-sequence': () => ({ '--log-tcp-sequence': true }),
    '--log-tcp-options': () => ({ '--log-tcp-options': true }),
    '--log-ip-options': () => ({ '--log-ip-options': true }),
    '--log-uid': () => ({ '--log-uid': true }),
    '--log-macdecode': () => ({ '--log-macdecode': true }),
  },
  complete: ({ prefix, level, ...given }) => {
    const flags = LOG_FLAGS.filter((flag) => given[flag]);
    return {
      target: 'LOG',
      ...(prefix !== undefined && { prefix }),
      ...(level !== undefined && { level }),
      ...(flags.length > 0 && { flags }),
    };
  },
  problem: ({ prefix = '' }) =>
    Buffer.byteLength(prefix) > LONGEST_PREFIX ? `a prefix of more than ${LONGEST_PREFIX} bytes` : undefined,
};

function readLevel(word: string): number | undefined {
  const level = LEVELS.indexOf(word === 'panic' ? 'emerg' : word.toLowerCase());
  return level < 0 ? readNumber(word, LEVELS.length - 1) : level;
}
