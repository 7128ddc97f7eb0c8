// A rule as text, in the words of iptables-save 1.8.9: the same rule always prints the same text.
//
// Reading accepts what iptables-restore accepts for the matches and targets that are modelled: options in any order, long
// names and their beginnings, matches implied by `-p`, several addresses in one option. Not accepted: names of hosts, and
// masks that are no prefix.

import { formatPrefix, type IpFamily, type Prefix } from '../packet/ip-address.ts';
import { type AnyMatchKind, findMatchKind, type MatchSpec, matchKind, matchNames } from './matches/registry.ts';
import { readPrefix } from './prefix-text.ts';
import { type Protocol, readProtocol } from './protocol.ts';
import type { RuleSpec } from './rule.ts';
import { type AnyTargetKind, findTargetKind, type TargetSpec, targetKind } from './targets/registry.ts';
import { Words, type WordsOptions } from './words.ts';

/** The rule's words, without `-A CHAIN`. */
export function printRule(spec: RuleSpec): string {
  const {
    family = 4,
    unmodelled,
    source,
    destination,
    inDevice,
    outDevice,
    protocol,
    fragment,
    matches = [],
    target,
  } = spec;
  if (unmodelled !== undefined) return unmodelled;
  let text = '';
  if (source !== undefined) text += printSelection('-s', formatPrefix(source), spec.sourceNegated);
  if (destination !== undefined) text += printSelection('-d', formatPrefix(destination), spec.destinationNegated);
  if (inDevice !== undefined) text += printSelection('-i', inDevice, spec.inDeviceNegated);
  if (outDevice !== undefined) text += printSelection('-o', outDevice, spec.outDeviceNegated);
  if (protocol !== undefined) text += printSelection('-p', `${protocol}`, spec.protocolNegated);
  if (fragment !== undefined) text += fragment === 'later' ? ' -f' : ' ! -f';
  for (const match of matches) text += ` -m ${match.match}${matchKind(match.match).print(match, family)}`;
  if (target !== undefined) text += printTarget(target, family);
  return text.slice(1);
}

/** What selects everything is not printed. */
function printSelection(option: string, value: string, negated = false): string {
  if (negated) return ` ! ${option} ${value}`;
  return value === '0.0.0.0/0' || value === '::/0' || value === '+' ? '' : ` ${option} ${value}`;
}

function printTarget(target: TargetSpec, family: IpFamily): string {
  if (target.target === 'jump') return ` -j ${target.chain}`;
  if (target.target === 'goto') return ` -g ${target.chain}`;
  return ` -j ${target.target}${targetKind(target.target).print(target, family)}`;
}

/** Reads the text of one rule, without `-A CHAIN`. Throws a RuleTextError that begins with the place. */
export function parseRule(
  text: string,
  { source = 'rule', line = 1, family = 4 }: Partial<WordsOptions> = {},
): RuleSpec {
  const words = new Words(text, { source, line, family });
  const { specs } = readRules(words);
  if (specs.length !== 1) throw words.failure(`these are ${specs.length} rules, one per address; expected one`);
  return specs[0]!;
}

/** What a line of rule text says: rules that differ in their addresses, and where their counters stand (`-c`). */
export interface ReadRules {
  readonly specs: readonly RuleSpec[];
  readonly counts?: { readonly packets: number; readonly bytes: number };
}

/** Reads words to their end. */
export function readRules(words: Words): ReadRules {
  const draft = new RuleDraft(words);
  while (!words.atEnd) {
    const negated = words.takeIf('!');
    if (negated && words.takeIf('!')) throw words.failure('"!" twice; expected it once before an option');
    draft.readOption(words.take(negated ? 'an option after "!"' : 'an option'), negated);
  }
  return draft.complete();
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Draft<Kind> {
  readonly kind: Kind;
  readonly fields: Record<string, unknown>;
}

/** A rule while its words are read. */
class RuleDraft {
  readonly #words: Words;
  readonly #header: Mutable<RuleSpec>;
  #sources: readonly Prefix[] = [];
  #destinations: readonly Prefix[] = [];
  readonly #matches: Draft<AnyMatchKind>[] = [];
  #target: Draft<AnyTargetKind> | undefined;
  #counts: ReadRules['counts'];
  #isForOtherFamily = false;

  constructor(words: Words) {
    this.#words = words;
    this.#header = words.family === 6 ? { family: 6 } : {};
  }

  readOption(option: string, negated: boolean): void {
    if (this.#readHeader(option, negated) || this.#readExtension(option, negated)) return;
    const whole = this.#wholeOptions(option);
    if (whole.length === 1) return this.readOption(whole[0]!, negated);
    const extensions = this.#extensionNames().join(', ') || 'a match or target named before it';
    if (whole.length > 0)
      throw this.#words.failure(`ambiguous option "${option}"; expected one of ${whole.join(', ')}`);
    throw this.#words.unmodelled(
      `unknown option "${option}"; expected -s -d -i -o -p -f -m -j -g or an option of ${extensions}`,
    );
  }

  #readHeader(option: string, negated: boolean): boolean {
    const words = this.#words;
    const header = this.#header;
    switch (option) {
      case '-s':
      case '--source':
      case '--src':
        this.#once(this.#sources.length > 0, option);
        this.#sources = takePrefixes(words, negated);
        if (negated) header.sourceNegated = true;
        return true;
      case '-d':
      case '--destination':
      case '--dst':
        this.#once(this.#destinations.length > 0, option);
        this.#destinations = takePrefixes(words, negated);
        if (negated) header.destinationNegated = true;
        return true;
      case '-i':
      case '--in-interface':
        this.#once(header.inDevice !== undefined, option);
        header.inDevice = words.take('a device name');
        if (negated) header.inDeviceNegated = true;
        return true;
      case '-o':
      case '--out-interface':
        this.#once(header.outDevice !== undefined, option);
        header.outDevice = words.take('a device name');
        if (negated) header.outDeviceNegated = true;
        return true;
      case '-p':
      case '--protocol': {
        this.#once(header.protocol !== undefined, option);
        const protocol = takeProtocol(words);
        if (protocol !== 'all') header.protocol = protocol;
        else if (negated) throw words.failure('"! -p all" can match no frame');
        if (negated) header.protocolNegated = true;
        return true;
      }
      case '-f':
      case '--fragment':
      case '--fragments':
        if (words.family === 6) return false;
        this.#once(header.fragment !== undefined, option);
        header.fragment = negated ? 'first' : 'later';
        return true;
      case '-m':
      case '--match':
        this.#plain(negated, option);
        this.#matches.push({ kind: takeMatch(words), fields: {} });
        return true;
      case '-j':
      case '--jump':
      case '-g':
      case '--goto':
        this.#plain(negated, option);
        this.#once(header.target !== undefined || this.#target !== undefined, option);
        this.#readTarget(option === '-g' || option === '--goto');
        return true;
      case '-c':
      case '--set-counters':
        this.#plain(negated, option);
        this.#once(this.#counts !== undefined, option);
        this.#counts = { packets: words.takeInteger(COUNTER_RANGE), bytes: words.takeInteger(COUNTER_RANGE) };
        return true;
      case '-4':
      case '--ipv4':
        if (words.family === 6) this.#skip();
        return true;
      case '-6':
      case '--ipv6':
        if (words.family === 4) this.#skip();
        return true;
      default:
        return false;
    }
  }

  #readTarget(isGoto: boolean): void {
    const name = this.#words.take(isGoto ? 'a chain' : 'a target or chain');
    const kind = findTargetKind(name, this.#words.family);
    if (isGoto) {
      if (kind !== undefined) throw this.#words.failure(`-g ${name}, which is a target; expected a chain`);
      this.#header.target = { target: 'goto', chain: name };
    } else if (kind === undefined) {
      this.#header.target = { target: 'jump', chain: name };
    } else {
      this.#target = { kind, fields: {} };
    }
  }

  /** An option of the target, of the latest match that knows it, or of the match that `-p` implies. */
  #readExtension(option: string, negated: boolean): boolean {
    const target = this.#target;
    const ofTarget = target?.kind.options?.[option];
    if (target !== undefined && ofTarget !== undefined) {
      this.#plain(negated, option);
      this.#merge(target.fields, ofTarget(this.#words), option);
      return true;
    }
    for (let i = this.#matches.length - 1; i >= 0; i--) {
      if (this.#readMatchOption(this.#matches[i]!, option, negated)) return true;
    }
    const implied = this.#impliedKind();
    if (implied === undefined) return false;
    const match = { kind: implied, fields: {} };
    if (!this.#readMatchOption(match, option, negated)) return false;
    this.#matches.push(match);
    return true;
  }

  #readMatchOption({ kind, fields }: Draft<AnyMatchKind>, option: string, negated: boolean): boolean {
    const plain = kind.options?.[option];
    const read = plain ?? kind.negatableOptions?.[option];
    if (read === undefined) return false;
    if (plain !== undefined) this.#plain(negated, option);
    this.#merge(fields, read(this.#words, negated), option);
    return true;
  }

  /** The match of the rule's protocol, unless it was named. */
  #impliedKind(): AnyMatchKind | undefined {
    const { protocol } = this.#header;
    if (typeof protocol !== 'string') return undefined;
    const implied = findMatchKind(protocol, this.#words.family);
    return implied === undefined || this.#matches.some(({ kind }) => kind === implied) ? undefined : implied;
  }

  /** `-4` in IPv6 and `-6` in IPv4: the line is for the other family, whose words mean nothing here. */
  #skip(): void {
    this.#isForOtherFamily = true;
    this.#words.skipRest();
  }

  #plain(negated: boolean, option: string): void {
    if (negated) throw this.#words.failure(`"!" does not go with ${option}`);
  }

  #once(isGiven: boolean, option: string): void {
    if (isGiven) throw this.#words.failure(`${option} is given twice`);
  }

  #merge(fields: Record<string, unknown>, added: object, option: string): void {
    for (const name of Object.keys(added)) {
      if (name in fields) throw this.#words.failure(`${option} is given twice, or with an option that it excludes`);
    }
    Object.assign(fields, added);
  }

  /** The long options that begin with this one, as getopt_long completes them. */
  #wholeOptions(beginning: string): string[] {
    if (!/^--\w/.test(beginning)) return [];
    const known = new Set(HEADER_OPTIONS);
    const kinds = [...this.#matches.map(({ kind }) => kind), this.#impliedKind(), this.#target?.kind];
    for (const kind of kinds) {
      for (const option of Object.keys(kind?.options ?? {})) known.add(option);
      if (kind !== undefined && 'negatableOptions' in kind) {
        for (const option of Object.keys(kind.negatableOptions ?? {})) known.add(option);
      }
    }
    return [...known].filter((option) => option.startsWith(beginning));
  }

  #extensionNames(): string[] {
    const names = this.#matches.map(({ kind }) => `-m ${kind.name}`);
    if (this.#target !== undefined) names.push(`-j ${this.#target.kind.name}`);
    return names;
  }

  complete(): ReadRules {
    if (this.#isForOtherFamily) return { specs: [] };
    const spec = this.#header;
    if (this.#matches.length > 0) spec.matches = this.#matches.map((match) => this.#completeMatch(match));
    if (this.#target !== undefined) {
      const { kind, fields } = this.#target;
      const target = kind.complete(fields);
      if (typeof target === 'string') throw this.#words.failure(`-j ${kind.name} is not complete; expected ${target}`);
      spec.target = target;
    }
    const specs = this.#expand(spec);
    return this.#counts === undefined ? { specs } : { specs, counts: this.#counts };
  }

  #completeMatch({ kind, fields }: Draft<AnyMatchKind>): MatchSpec {
    const match = kind.complete(fields);
    if (typeof match === 'string') throw this.#words.failure(`-m ${kind.name} is not complete; expected ${match}`);
    return match;
  }

  /** One rule for each pair of a source and a destination. */
  #expand(spec: Mutable<RuleSpec>): RuleSpec[] {
    if (this.#sources.length <= 1 && this.#destinations.length <= 1) {
      const [source] = this.#sources;
      const [destination] = this.#destinations;
      if (source !== undefined) spec.source = source;
      if (destination !== undefined) spec.destination = destination;
      return [spec];
    }
    const withSource = this.#sources.length === 0 ? [spec] : this.#sources.map((source) => ({ ...spec, source }));
    if (this.#destinations.length === 0) return withSource;
    return withSource.flatMap((rule) => this.#destinations.map((destination) => ({ ...rule, destination })));
  }
}

const HEADER_OPTIONS: readonly string[] = [
  '--source',
  '--destination',
  '--in-interface',
  '--out-interface',
  '--protocol',
  '--fragments',
  '--match',
  '--jump',
  '--goto',
  '--set-counters',
];
const COUNTER_RANGE = { first: 0, last: Number.MAX_SAFE_INTEGER };

const takeMatch = (words: Words): AnyMatchKind => {
  const { family } = words;
  const name = words.take('a match');
  const kind = findMatchKind(name, family);
  if (kind !== undefined) return kind;
  throw words.unmodelled(`match ${name} is not modelled; expected one of ${matchNames(family).join(', ')}`);
};

const takeProtocol = (words: Words): Protocol | 'all' =>
  words.takeAs('a protocol: all, a number up to 255, or a name such as tcp', readProtocol);

const takePrefixes = (words: Words, negated: boolean): Prefix[] => {
  const { family } = words;
  const prefixes = words.takeAs(
    `an IPv${family} address or ADDRESS/LENGTH, or some with commas between them`,
    (word) => (word.includes(',') ? readPrefixes(word.split(','), family) : readPrefixes([word], family)),
  );
  if (negated && prefixes.length > 1) throw words.failure('"!" does not go with several addresses');
  return prefixes;
};

function readPrefixes(words: readonly string[], family: IpFamily): Prefix[] | undefined {
  const prefixes: Prefix[] = [];
  for (const word of words) {
    const range = readPrefix(word, family);
    if (range === undefined) return undefined;
    prefixes.push(range);
  }
  return prefixes;
}
