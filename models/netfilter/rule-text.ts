// A rule as text, in the words of iptables-save 1.8.9 (legacy): the same rule always prints the same text.
//
// Reading accepts what iptables-restore accepts for the matches and targets that are modelled: options in any order, long
// names, matches implied by `-p`. Not accepted: names of hosts and ports, several addresses in one option, `-f`.

import { formatPrefix, isIpv4, type Prefix, parseIp, prefix } from '../packet/ip-address.ts';
import { type AnyMatchKind, findMatchKind, MATCH_NAMES, type MatchSpec, matchKind } from './matches/registry.ts';
import { PROTOCOL_NAMES, PROTOCOL_NUMBERS, type ProtocolName } from './protocol.ts';
import type { RuleSpec } from './rule.ts';
import { type AnyTargetKind, findTargetKind, type TargetSpec, targetKind } from './targets/registry.ts';
import { Words } from './words.ts';

/** The rule's words, without `-A CHAIN`. */
export function printRule(spec: RuleSpec): string {
  const { source, destination, inDevice, outDevice, protocol, matches = [], target } = spec;
  let text = '';
  if (source !== undefined) text += printSelection('-s', formatPrefix(source), spec.sourceNegated);
  if (destination !== undefined) text += printSelection('-d', formatPrefix(destination), spec.destinationNegated);
  if (inDevice !== undefined) text += printSelection('-i', inDevice, spec.inDeviceNegated);
  if (outDevice !== undefined) text += printSelection('-o', outDevice, spec.outDeviceNegated);
  if (protocol !== undefined) text += printSelection('-p', protocol, spec.protocolNegated);
  for (const match of matches) text += ` -m ${match.match}${matchKind(match.match).print(match)}`;
  if (target !== undefined) text += printTarget(target);
  return text.slice(1);
}

/** What selects everything is not printed. */
function printSelection(option: string, value: string, negated = false): string {
  if (negated) return ` ! ${option} ${value}`;
  return value === '0.0.0.0/0' || value === '+' ? '' : ` ${option} ${value}`;
}

function printTarget(target: TargetSpec): string {
  if (target.target === 'jump') return ` -j ${target.chain}`;
  if (target.target === 'goto') return ` -g ${target.chain}`;
  return ` -j ${target.target}${targetKind(target.target).print(target)}`;
}

/** Reads the text of one rule, without `-A CHAIN`. Throws a RuleTextError that begins with the place. */
export function parseRule(text: string, source = 'rule', line = 1): RuleSpec {
  return readRule(new Words(text, source, line));
}

/** Reads words to their end. */
export function readRule(words: Words): RuleSpec {
  const draft = new RuleDraft();
  while (!words.atEnd) {
    const negated = words.takeIf('!');
    const option = words.take('an option');
    if (!draft.readHeader(option, negated, words) && !draft.readExtension(option, negated, words)) {
      throw words.failure(
        `unknown option "${option}"; expected -s -d -i -o -p -m -j -g or an option of ${draft.extensions}`,
      );
    }
  }
  return draft.complete(words);
}

const MATCH_EXPECTED = `one of ${MATCH_NAMES.join(', ')}`;
const PROTOCOL_EXPECTED = `a protocol: all, ${PROTOCOL_NAMES.join(', ')}`;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface MatchDraft {
  readonly kind: AnyMatchKind;
  fields: object;
}

class RuleDraft {
  readonly #header: Mutable<RuleSpec> = {};
  readonly #matches: MatchDraft[] = [];
  #target: { readonly kind: AnyTargetKind; fields: object } | undefined;

  /** What the options so far have brought in, for messages. */
  get extensions(): string {
    const names = this.#matches.map(({ kind }) => `-m ${kind.name}`);
    if (this.#target !== undefined) names.push(`-j ${this.#target.kind.name}`);
    return names.join(', ') || 'a match or target named before it';
  }

  readHeader(option: string, negated: boolean, words: Words): boolean {
    const header = this.#header;
    switch (option) {
      case '-s':
      case '--source':
      case '--src':
        header.source = takePrefix(words);
        if (negated) header.sourceNegated = true;
        return true;
      case '-d':
      case '--destination':
      case '--dst':
        header.destination = takePrefix(words);
        if (negated) header.destinationNegated = true;
        return true;
      case '-i':
      case '--in-interface':
        header.inDevice = words.take('a device name');
        if (negated) header.inDeviceNegated = true;
        return true;
      case '-o':
      case '--out-interface':
        header.outDevice = words.take('a device name');
        if (negated) header.outDeviceNegated = true;
        return true;
      case '-p':
      case '--protocol':
      case '--proto': {
        const protocol = takeProtocol(words);
        if (protocol !== 'all') header.protocol = protocol;
        if (negated) header.protocolNegated = true;
        return true;
      }
      case '-m':
      case '--match':
        this.#matches.push({ kind: words.takeAs(MATCH_EXPECTED, findMatchKind), fields: {} });
        return true;
      case '-j':
      case '--jump': {
        const name = words.take('a target or chain');
        const kind = findTargetKind(name);
        if (kind === undefined) header.target = { target: 'jump', chain: name };
        else this.#target = { kind, fields: {} };
        return true;
      }
      case '-g':
      case '--goto':
        header.target = { target: 'goto', chain: words.take('a chain') };
        return true;
      default:
        return false;
    }
  }

  /** An option of the target, of the latest match that knows it, or of the match that `-p` implies. */
  readExtension(option: string, negated: boolean, words: Words): boolean {
    const ofTarget = this.#target?.kind.options?.[option];
    if (this.#target !== undefined && ofTarget !== undefined) {
      if (negated) throw words.failure(`"!" does not go with ${option}`);
      this.#target.fields = { ...this.#target.fields, ...ofTarget(words) };
      return true;
    }
    for (let i = this.#matches.length - 1; i >= 0; i--) {
      if (readMatchOption(this.#matches[i]!, option, negated, words)) return true;
    }
    const implied = findMatchKind(this.#header.protocol ?? '');
    if (implied === undefined || this.#matches.some(({ kind }) => kind === implied)) return false;
    const match = { kind: implied, fields: {} };
    if (!readMatchOption(match, option, negated, words)) return false;
    this.#matches.push(match);
    return true;
  }

  complete(words: Words): RuleSpec {
    const spec = this.#header;
    const matches: MatchSpec[] = [];
    for (const { kind, fields } of this.#matches) {
      const match = kind.complete(fields);
      if (typeof match === 'string') throw words.failure(`-m ${kind.name} is not complete; expected ${match}`);
      matches.push(match);
    }
    if (matches.length > 0) spec.matches = matches;
    if (this.#target !== undefined) {
      const { kind, fields } = this.#target;
      const target = kind.complete(fields);
      if (typeof target === 'string') throw words.failure(`-j ${kind.name} is not complete; expected ${target}`);
      spec.target = target;
    }
    return spec;
  }
}

function readMatchOption(match: MatchDraft, option: string, negated: boolean, words: Words): boolean {
  const { options, negatableOptions } = match.kind;
  const plain = options?.[option];
  const negatable = negatableOptions?.[option];
  if (plain === undefined && negatable === undefined) return false;
  if (plain !== undefined && negated) throw words.failure(`"!" does not go with ${option}`);
  const fields = plain === undefined ? negatable?.(words, negated) : plain(words);
  match.fields = { ...match.fields, ...fields };
  return true;
}

const takeProtocol = (words: Words): ProtocolName | 'all' =>
  words.takeAs(PROTOCOL_EXPECTED, (word) =>
    word === 'all' || word === '0'
      ? 'all'
      : PROTOCOL_NAMES.find((name) => name === word.toLowerCase() || `${PROTOCOL_NUMBERS[name]}` === word),
  );

/** `10.0.0.1`, `10.0.0.0/8` or `10.0.0.0/255.0.0.0`; host bits are cleared. */
const takePrefix = (words: Words): Prefix =>
  words.takeAs('an IPv4 address or ADDRESS/LENGTH', (word) => {
    const [address = '', mask = '32', ...rest] = word.split('/');
    if (!isIpv4(address) || rest.length > 0) return undefined;
    const length = isIpv4(mask) ? Math.clz32(~parseIp(mask)) : /^\d{1,2}$/.test(mask) ? Number(mask) : 33;
    if (length > 32) return undefined;
    const range = prefix(parseIp(address), length);
    return isIpv4(mask) && range.mask !== parseIp(mask) ? undefined : range;
  });
