// Rule text as words: how iptables-restore splits a line, how iptables-save quotes a value, and a reader that takes the
// words one by one and says where and what was expected when they are wrong.

import { type Ip, type IpFamily, isIpv6, parseIpv6, readIpv4 } from '../packet/ip-address.ts';

/** Wrong text of a user: one line that names the place. */
export class RuleTextError extends Error {
  override readonly name = 'RuleTextError';
}

/** Where words stand, for messages, and what addresses among them look like. */
export interface WordsOptions {
  readonly source: string;
  readonly line: number;
  readonly family: IpFamily;
}

/** Right, as far as it was read, but not modelled. */
export class UnmodelledError extends RuleTextError {
  override readonly name = 'RuleTextError';
}

export class Words {
  readonly #words: readonly string[];
  readonly source: string;
  readonly line: number;
  readonly family: IpFamily;
  #next = 0;

  /** Error messages begin with the place, `nat.rules:12`. Throws a RuleTextError for a quotation that does not end. */
  constructor(text: string, { source, line, family }: WordsOptions) {
    this.source = source;
    this.line = line;
    this.family = family;
    const words = splitWords(text);
    if (words === undefined) throw this.failure('a quotation does not end; expected " before the end of the line');
    this.#words = words;
  }

  get atEnd(): boolean {
    return this.#next === this.#words.length;
  }

  take(expected: string): string {
    const word = this.#words[this.#next];
    if (word === undefined) throw this.error(expected);
    this.#next++;
    return word;
  }

  /** Takes a word that `read` understands; it returns undefined for one that it does not. */
  takeAs<T>(expected: string, read: (word: string) => T | undefined): T {
    const value = read(this.take(expected));
    if (value !== undefined) return value;
    this.#next--;
    throw this.error(expected);
  }

  takeOneOf<T extends string>(values: readonly T[]): T {
    const value = values.find((each) => each === this.#words[this.#next]);
    if (value === undefined) throw this.error(`one of ${values.join(', ')}`);
    this.#next++;
    return value;
  }

  takeInteger({ first, last }: { first: number; last: number }): number {
    return this.takeAs(`a whole number from ${first} to ${last}`, (word) => {
      const value = readNumber(word, last);
      return value !== undefined && value >= first ? value : undefined;
    });
  }

  /** Takes a value that is not empty; what is longer than so many bytes is cut, as the kernel's fields are. */
  takeText(longestBytes: number): string {
    const text = this.takeAs('a text', (word) => (word === '' ? undefined : word));
    return Buffer.byteLength(text) <= longestBytes ? text : Buffer.from(text).subarray(0, longestBytes).toString();
  }

  takeIp(): Ip {
    return this.takeAs(`an IPv${this.family} address`, (word) => readIp(word, this.family));
  }

  /** Takes this word if it comes next. */
  takeIf(word: string): boolean {
    if (this.#words[this.#next] !== word) return false;
    this.#next++;
    return true;
  }

  skipRest(): void {
    this.#next = this.#words.length;
  }

  /** Something else was expected than the word that comes next. */
  error(expected: string): RuleTextError {
    const before = this.#next === 0 ? '' : ` after "${this.#words[this.#next - 1]}"`;
    const found = this.atEnd ? 'the end of the line' : `"${this.#words[this.#next]}"`;
    return this.failure(`found ${found}${before}; expected ${expected}`);
  }

  /** For a match, target or option that iptables may know, and the model does not. */
  unmodelled(problem: string): UnmodelledError {
    return new UnmodelledError(`${this.source}:${this.line}: ${problem}`);
  }

  failure(problem: string): RuleTextError {
    return new RuleTextError(`${this.source}:${this.line}: ${problem}`);
  }
}

/** A whole number as C reads it: `80`, `0x50` or `0120`. Undefined for anything else, and beyond `last`. */
export function readNumber(word: string, last: number): number | undefined {
  if (!/^(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)$/i.test(word)) return undefined;
  const value = /^0\d/.test(word) ? Number.parseInt(word, 8) : Number(word);
  return value <= last ? value : undefined;
}

/** Undefined for what is no address of that family. */
export function readIp(word: string, family: IpFamily): Ip | undefined {
  if (family === 6) return isIpv6(word) ? parseIpv6(word) : undefined;
  return readIpv4(word);
}

/** A value as iptables-save prints it: bare if it has nothing but letters, digits, `_` and `-`. */
export function quote(value: string): string {
  return /^[\w-]+$/.test(value) ? value : `"${value.replace(/["\\']/g, '\\$&')}"`;
}

/**
 * Splits at blanks and after closing quotes; between quotes everything stands for itself, and after a backslash too.
 * Undefined if a quotation does not end. By hand: rulesets have hundreds of thousands of lines.
 */
function splitWords(line: string): string[] | undefined {
  const words: string[] = [];
  let at = 0;
  for (;;) {
    while (isBlank(line.charCodeAt(at))) at++;
    if (at === line.length) return words;
    const opening = endOfBareText(line, at);
    let word = line.slice(at, opening);
    at = opening;
    if (line.charCodeAt(at) === QUOTE) {
      const end = endOfQuotation(line, at);
      if (end === undefined) return undefined;
      const quoted = line.slice(at + 1, end - 1);
      word += quoted.includes('\\') ? quoted.replace(/\\(.)/g, '$1') : quoted;
      at = end;
    }
    words.push(word);
  }
}

const SPACE = 0x20;
const TAB = 0x09;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

const isBlank = (character: number): boolean => character === SPACE || character === TAB;

function endOfBareText(line: string, from: number): number {
  let end = from;
  while (end < line.length && !isBlank(line.charCodeAt(end)) && line.charCodeAt(end) !== QUOTE) end++;
  return end;
}

/** After the closing quote; undefined without one. */
function endOfQuotation(line: string, openingQuote: number): number | undefined {
  let end = openingQuote + 1;
  while (end < line.length && line.charCodeAt(end) !== QUOTE) end += line.charCodeAt(end) === BACKSLASH ? 2 : 1;
  return end < line.length ? end + 1 : undefined;
}
