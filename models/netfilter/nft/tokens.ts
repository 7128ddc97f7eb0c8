// Text of nft as tokens. A line ends a statement, except after a backslash; words may contain what names of objects may.

import { isIpv6 } from '../../packet/ip-address.ts';
import { RuleTextError } from '../words.ts';

export interface Token {
  /** `name` also for keywords, `number` for everything that begins with a digit: 80, 0x10, 3h, 10.0.0.1. */
  readonly kind: 'name' | 'number' | 'string' | 'address6' | 'symbol' | 'end';
  readonly text: string;
  readonly line: number;
}

const NAME = /[A-Za-z_][\w./\\-]*\*?/y;
const NUMBER = /\d+\.\d+\.\d+\.\d+|0x[0-9a-fA-F]+|\d+(?:[a-zA-Z][\w]*)?/y;
const ADDRESS6 = /[0-9a-fA-F]*:[0-9a-fA-F.:]*/y;
const QUOTED = /"((?:[^"\\\n]|\\[^\n])*)"/y;
const SYMBOL = /==|!=|<=|>=|<<|>>|[{}()[\];,.:=<>/+&|^!@$*-]/y;

/** Ends with a token `end`. Line ends are symbols: `;`. */
export function tokenize(text: string, source: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(text) ?? undefined;
  };
  const push = (kind: Token['kind'], found: RegExpExecArray, value = found[0]): void => {
    tokens.push({ kind, text: value, line });
    at += found[0].length;
  };
  while (at < text.length) {
    const character = text[at]!;
    if (character === '\n') {
      tokens.push({ kind: 'symbol', text: '\n', line });
      line++;
      at++;
    } else if (character === '\\' && text[at + 1] === '\n') {
      line++;
      at += 2;
    } else if (character === ' ' || character === '\t' || character === '\r') {
      at++;
    } else if (character === '#') {
      while (at < text.length && text[at] !== '\n') at++;
    } else {
      const address = take(ADDRESS6);
      if (address !== undefined && hasTwoColons(address[0]) && isIpv6(address[0])) push('address6', address);
      else {
        const name = take(NAME);
        const number = take(NUMBER);
        const quoted = take(QUOTED);
        const symbol = take(SYMBOL);
        if (name !== undefined) push('name', name);
        else if (number !== undefined) push('number', number);
        else if (quoted !== undefined) push('string', quoted, quoted[1]!);
        else if (symbol !== undefined) push('symbol', symbol);
        else {
          const problem =
            character === '"' ? 'a quotation does not end; expected " before the end of the line' : undefined;
          throw new RuleTextError(
            `${source}:${line}: ${problem ?? `unexpected character ${JSON.stringify(character)}`}`,
          );
        }
      }
    }
  }
  tokens.push({ kind: 'end', text: 'the end', line });
  return tokens;
}

/** Cheaper than asking whether it is an address: most colons of a ruleset stand alone. */
const hasTwoColons = (text: string): boolean => text.indexOf(':') !== text.lastIndexOf(':');

/** What is not modelled, though nft knows it: lenient reading passes it by. */
export class UnmodelledError extends RuleTextError {}

/** Takes tokens one by one, and says where and what was expected when they are wrong. */
export class TokenReader {
  readonly source: string;
  readonly #tokens: Token[];
  readonly #variables = new Map<string, readonly Token[]>();
  #next = 0;

  constructor(tokens: readonly Token[], source: string) {
    this.#tokens = [...tokens];
    this.source = source;
  }

  get atEnd(): boolean {
    return this.peek.kind === 'end';
  }

  /** The next token; in place of `$NAME`, the first one of the variable's value. */
  get peek(): Token {
    const token = this.#tokens[this.#next]!;
    return token.text === '$' && token.kind === 'symbol' ? this.#expand() : token;
  }

  #expand(): Token {
    const name = this.#tokens[this.#next + 1]!;
    const value = this.#variables.get(name.text);
    if (value === undefined) {
      throw new RuleTextError(
        `${this.source}:${name.line}: variable $${name.text} is not defined; expected define before it`,
      );
    }
    this.#tokens.splice(this.#next, 2, ...value.map((token) => ({ ...token, line: name.line })));
    return this.peek;
  }

  /** A variable's value may name variables that are defined already. */
  define(name: string, value: readonly Token[]): void {
    this.#variables.set(name, value);
  }

  undefine(name: string): void {
    this.#variables.delete(name);
  }

  /** The token after `offset` others. */
  ahead(offset: number): Token {
    return this.#tokens[Math.min(this.#next + offset, this.#tokens.length - 1)]!;
  }

  get position(): number {
    return this.#next;
  }

  get line(): number {
    return this.peek.line;
  }

  take(): Token {
    const token = this.peek;
    if (token.kind !== 'end') this.#next++;
    return token;
  }

  /** Is this word or symbol next? Quoted text is neither. */
  at(text: string): boolean {
    const { kind, text: found } = this.peek;
    return found === text && kind !== 'string' && kind !== 'end';
  }

  takeIf(text: string): boolean {
    const isNext = this.at(text);
    if (isNext) this.#next++;
    return isNext;
  }

  expect(text: string): void {
    if (!this.takeIf(text)) throw this.error(text === '\n' ? 'the end of the line' : `"${text}"`);
  }

  takeName(expected: string): string {
    const { kind } = this.peek;
    if (kind !== 'name' && kind !== 'string') throw this.error(expected);
    return this.take().text;
  }

  takeOneOf<T extends string>(values: readonly T[]): T {
    const value = values.find((each) => this.at(each));
    if (value === undefined) throw this.error(`one of ${values.join(', ')}`);
    this.#next++;
    return value;
  }

  takeNumber({ first = 0, last = Number.MAX_SAFE_INTEGER }: { first?: number; last?: number } = {}): number {
    const { kind, text } = this.peek;
    const value = kind === 'number' && /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= first && value <= last)) throw this.error(`a whole number from ${first} to ${last}`);
    this.#next++;
    return value;
  }

  takeString(expected: string): string {
    const { kind } = this.peek;
    if (kind !== 'string' && kind !== 'name') throw this.error(expected);
    return this.take().text;
  }

  /** Puts tokens before the next one: the text of another file. */
  insert(tokens: readonly Token[]): void {
    this.#tokens.splice(this.#next, 0, ...tokens);
  }

  /** The text of the tokens from that position to here. */
  textFrom(position: number): string {
    return this.#tokens
      .slice(position, this.#next)
      .map(({ kind, text }) => (kind === 'string' ? `"${text}"` : text))
      .join(' ');
  }

  error(expected: string): RuleTextError {
    const before = this.#next === 0 ? '' : ` after ${shown(this.#tokens[this.#next - 1]!)}`;
    return this.failure(`found ${shown(this.peek)}${before}; expected ${expected}`);
  }

  failure(problem: string): RuleTextError {
    return new RuleTextError(`${this.source}:${this.line}: ${problem}`);
  }

  unmodelled(what: string): UnmodelledError {
    return new UnmodelledError(`${this.source}:${this.line}: ${what} is not modelled`);
  }
}

const shown = ({ kind, text }: Token): string =>
  kind === 'end' ? 'the end of the text' : text === '\n' ? 'the end of the line' : `"${text}"`;
