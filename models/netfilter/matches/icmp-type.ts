// What icmp and icmp6 have in common: a type, perhaps with a code, by number or by name.

import type { FrameTest } from '../selector.ts';
import { readNumber, type Words } from '../words.ts';

export interface IcmpType {
  /** Absent: any type (IPv4 only). */
  readonly type?: number;
  /** Absent: any code of the type. */
  readonly code?: number;
}

export interface IcmpTypeMatch extends IcmpType {
  readonly negated?: boolean;
}

export const printIcmpType = ({ type, code }: IcmpType): string =>
  `${type ?? 'any'}${code === undefined ? '' : `/${code}`}`;

export const takeIcmpType = (words: Words, names: ReadonlyMap<string, IcmpType>): IcmpType =>
  words.takeAs(
    'an ICMP type: TYPE, TYPE/CODE or a name such as echo-request',
    (word) => readNumbers(word) ?? readName(word, names),
  );

function readNumbers(word: string): IcmpType | undefined {
  const [typeText = '', codeText, ...rest] = word.split('/');
  const type = readNumber(typeText, 255);
  if (type === undefined || rest.length > 0) return undefined;
  if (codeText === undefined) return { type };
  const code = readNumber(codeText, 255);
  return code === undefined ? undefined : { type, code };
}

/** A name in any case, or the beginning of exactly one. */
function readName(word: string, names: ReadonlyMap<string, IcmpType>): IcmpType | undefined {
  const wanted = word.toLowerCase();
  const exact = names.get(wanted);
  if (exact !== undefined || wanted === '') return exact;
  const candidates = [...names.keys()].filter((name) => name.startsWith(wanted));
  return candidates.length === 1 ? names.get(candidates[0]!) : undefined;
}

export const icmpTypeProblem = ({ type = 0, code = 0 }: IcmpType): string | undefined =>
  isByte(type) && isByte(code) ? undefined : `type ${type}/${code} is outside 0 to 255`;

const isByte = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= 255;

/** A later fragment has no ICMP header: it does not match, negated or not. */
export function compileIcmpType({ type, code, negated = false }: IcmpTypeMatch): FrameTest {
  return ({ fragmentOffset, icmpType, icmpCode }) => {
    if (fragmentOffset > 0) return false;
    return ((type ?? icmpType) === icmpType && (code ?? icmpCode) === icmpCode) !== negated;
  };
}
