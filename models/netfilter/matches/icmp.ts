// `-m icmp`: type and code.

import type { MatchKind } from './match.ts';

export interface IcmpMatch {
  readonly match: 'icmp';
  /** Absent: any type. */
  readonly type?: number;
  /** Absent: any code of the type. */
  readonly code?: number;
  readonly negated?: boolean;
}

export const icmp: MatchKind<IcmpMatch> = {
  name: 'icmp',
  protocols: ['icmp'],
  print: ({ type, code, negated }) =>
    `${negated ? ' !' : ''} --icmp-type ${type ?? 'any'}${code === undefined ? '' : `/${code}`}`,
  negatableOptions: {
    '--icmp-type': (words, negated) => ({ ...words.takeAs(EXPECTED, readType), ...(negated && { negated }) }),
  },
  complete: (fields) => ({ ...fields, match: 'icmp' }),
  problem: ({ type = 0, code = 0 }) =>
    isByte(type) && isByte(code) ? undefined : `type ${type}/${code} is outside 0 to 255`,
  compile: ({ type, code, negated = false }) => {
    const test = (frameType: number, frameCode: number): boolean =>
      (type === undefined || type === frameType) && (code === undefined || code === frameCode);
    return (frame) => frame.fragmentOffset === 0 && test(frame.icmpType, frame.icmpCode) !== negated;
  },
};

const EXPECTED = 'an ICMP type: any, TYPE, TYPE/CODE or a name such as echo-request';

/** Names that iptables accepts; it prints numbers. */
const TYPES_BY_NAME: Readonly<Record<string, Pick<IcmpMatch, 'type' | 'code'>>> = {
  any: {},
  'echo-reply': { type: 0 },
  pong: { type: 0 },
  'destination-unreachable': { type: 3 },
  'network-unreachable': { type: 3, code: 0 },
  'host-unreachable': { type: 3, code: 1 },
  'protocol-unreachable': { type: 3, code: 2 },
  'port-unreachable': { type: 3, code: 3 },
  'fragmentation-needed': { type: 3, code: 4 },
  'communication-prohibited': { type: 3, code: 13 },
  redirect: { type: 5 },
  'echo-request': { type: 8 },
  ping: { type: 8 },
  'time-exceeded': { type: 11 },
  'ttl-exceeded': { type: 11 },
  'parameter-problem': { type: 12 },
};

function readType(word: string): Pick<IcmpMatch, 'type' | 'code'> | undefined {
  const named = TYPES_BY_NAME[word];
  if (named !== undefined) return named;
  const [, type, code] = /^(\d+)(?:\/(\d+))?$/.exec(word) ?? [];
  if (type === undefined || !isByte(Number(type)) || !isByte(Number(code ?? 0))) return undefined;
  return code === undefined ? { type: Number(type) } : { type: Number(type), code: Number(code) };
}

const isByte = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 255;
