// Sets as text: what `ipset save` prints and `ipset restore` reads, and what `ipset list` prints (7.17).
//
// Hash sets print their elements in the order in which they were added, where the real tool has the order of its hash.
// Seed and bucket size are printed where they were given; the kernel would draw a seed.

import type { Instant } from '../../../engine/time.ts';
import { END_OF_TIME, inSeconds, START } from '../../../engine/time.ts';
import { readNumber, Words } from '../words.ts';
import type { Element } from './element-store.ts';
import { printElement, readElements } from './element-text.ts';
import type { IpSet, NewElement } from './ip-set.ts';
import { type IpSets, LONGEST_SET_NAME } from './ip-sets.ts';
import {
  DEFAULT_HASH_SIZE,
  DEFAULT_LIST_SIZE,
  DEFAULT_MAX_ELEMENTS,
  SET_TYPES,
  type SetOptions,
  type SetType,
} from './set-type.ts';

// ── print ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `ipset save`: lists of sets last, for their members must exist. */
export function printIpsets(sets: IpSets, { now = START }: { now?: Instant } = {}): string {
  const lines: string[] = [];
  for (const set of inSavingOrder(sets)) {
    lines.push(`create ${set.name} ${set.type} ${printHeader(set)}`);
    for (const element of set.elements(now)) lines.push(`add ${set.name} ${printMember(set, element, now)}`);
  }
  return lines.map((line) => `${line}\n`).join('');
}

/** `ipset list`, without what depends on the kernel's memory: size and references. */
export function listIpsets(sets: IpSets, { now = START }: { now?: Instant } = {}): string {
  return [...inSavingOrder(sets)]
    .map((set) => {
      const members = set.elements(now).map((element) => printMember(set, element, now));
      const head = [`Name: ${set.name}`, `Type: ${set.type}`, `Header: ${printHeader(set)}`];
      return [...head, `Number of entries: ${members.length}`, 'Members:', ...members]
        .map((line) => `${line}\n`)
        .join('');
    })
    .join('\n');
}

const inSavingOrder = (sets: IpSets): IpSet[] => {
  const all = [...sets];
  return [...all.filter(({ type }) => type !== 'list:set'), ...all.filter(({ type }) => type === 'list:set')];
};

function printHeader({ type, options }: IpSet): string {
  const {
    family = 4,
    hashSize = DEFAULT_HASH_SIZE,
    maxElements = DEFAULT_MAX_ELEMENTS,
    netmask,
    range,
    size,
  } = options;
  const { timeoutSeconds, counters, comment, forceAdd, bucketSize, seed } = options;
  const isHash = type.startsWith('hash:');
  return [
    isHash && `family ${family === 6 ? 'inet6' : 'inet'} hashsize ${hashSize} maxelem ${maxElements}`,
    type === 'list:set' && `size ${size ?? DEFAULT_LIST_SIZE}`,
    range !== undefined && `range ${range.first}-${range.last}`,
    netmask !== undefined && `netmask ${netmask}`,
    timeoutSeconds !== undefined && `timeout ${timeoutSeconds}`,
    counters && 'counters',
    comment && 'comment',
    forceAdd && 'forceadd',
    bucketSize !== undefined && `bucketsize ${bucketSize}`,
    seed !== undefined && `initval 0x${seed.toString(16).padStart(8, '0')}`,
  ]
    .filter((part) => typeof part === 'string')
    .join(' ');
}

function printMember({ type, options }: IpSet, element: Element, now: Instant): string {
  const { expiresAt, nomatch, packets, bytes, comment } = element;
  const secondsLeft = expiresAt === END_OF_TIME ? 0 : Math.floor(inSeconds((expiresAt - now) as Instant));
  return [
    printElement(element, type, options),
    options.timeoutSeconds !== undefined && `timeout ${secondsLeft}`,
    nomatch && 'nomatch',
    options.counters && `packets ${packets} bytes ${bytes}`,
    comment !== undefined && `comment "${comment}"`,
  ]
    .filter((part) => typeof part === 'string')
    .join(' ');
}

// ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

export interface RestoreOptions {
  /** For messages. */
  readonly fileName?: string;
  /** When elements are added. */
  readonly now?: Instant;
  /** `-exist`: what exists already is no mistake. */
  readonly exist?: boolean;
}

/** `ipset restore`. Throws a RuleTextError that names file and line; what stands before it has been done. */
export function restoreIpsets(
  sets: IpSets,
  text: string,
  { fileName = 'ipset', now = START, exist = false }: RestoreOptions = {},
): void {
  let line = 0;
  for (const content of text.split('\n')) {
    line++;
    if (content.trim() === '' || content.startsWith('#') || content.trim() === 'COMMIT') continue;
    const words = new Words(content, { source: fileName, line, family: 4 });
    new Command(sets, words, now, exist || hasWord(content, '-exist') || hasWord(content, '-!')).run();
  }
}

const hasWord = (text: string, word: string): boolean => text.split(/\s+/).includes(word);

/** One line of commands. */
class Command {
  readonly #sets: IpSets;
  readonly #words: Words;
  readonly #now: Instant;
  readonly #exist: boolean;

  constructor(sets: IpSets, words: Words, now: Instant, exist: boolean) {
    this.#sets = sets;
    this.#words = words;
    this.#now = now;
    this.#exist = exist;
  }

  run(): void {
    const words = this.#words;
    this.#skipFlags();
    const command = words.takeAs('create, add, del, flush, destroy, rename or swap', (word) => COMMANDS.get(word));
    this.#skipFlags();
    try {
      this[command]();
    } catch (error) {
      if (error instanceof RangeError) throw words.failure(error.message);
      throw error;
    }
    this.#skipFlags();
    if (!words.atEnd) throw words.error('the end of the line');
  }

  create(): void {
    const words = this.#words;
    const name = words.takeAs(`a name of up to ${LONGEST_SET_NAME} characters`, (word) =>
      word !== '' && word.length <= LONGEST_SET_NAME ? word : undefined,
    );
    const type = words.takeOneOf(SET_TYPES);
    const options = readOptions(words, type, () => this.#skipFlags());
    const known = this.#sets.find(name);
    if (known === undefined) this.#sets.create(name, type, options);
    else if (!this.#exist || known.type !== type) throw words.failure(`set ${name} exists already`);
  }

  add(): void {
    const { set, elements } = this.#takeElements();
    const details = this.#takeDetails();
    for (const element of elements) {
      const problem = set.add({ ...element, ...details }, { exist: this.#exist, now: this.#now });
      if (problem !== undefined) throw this.#words.failure(`cannot add to set ${set.name}: ${problem}`);
    }
  }

  del(): void {
    const { set, elements } = this.#takeElements();
    for (const element of elements) {
      const problem = set.delete(element, this.#now);
      if (problem !== undefined && !this.#exist)
        throw this.#words.failure(`cannot delete from set ${set.name}: ${problem}`);
    }
  }

  flush(): void {
    if (this.#words.atEnd) for (const set of this.#sets) set.flush();
    else this.#takeSet().flush();
  }

  destroy(): void {
    if (!this.#words.atEnd) return this.#sets.destroy(this.#takeSet().name);
    for (const { name } of inSavingOrder(this.#sets).reverse()) this.#sets.destroy(name);
  }

  rename(): void {
    const { name } = this.#takeSet();
    this.#sets.rename(name, this.#words.take('a name'));
  }

  swap(): void {
    const { name } = this.#takeSet();
    this.#sets.swap(name, this.#takeSet().name);
  }

  #takeSet(): IpSet {
    return this.#words.takeAs('the name of a set', (name) => this.#sets.find(name));
  }

  #takeElements(): { set: IpSet; elements: NewElement[] } {
    const set = this.#takeSet();
    const expected = `an element of a ${set.type}${set.options.family === 6 ? ' of IPv6' : ''}`;
    return { set, elements: this.#words.takeAs(expected, (word) => readElements(word, set.type, set.options)) };
  }

  #takeDetails(): Partial<NewElement> {
    const words = this.#words;
    const details: { -readonly [K in keyof NewElement]?: NewElement[K] } = {};
    for (;;) {
      this.#skipFlags();
      if (words.atEnd) return details;
      switch (words.takeOneOf(['timeout', 'nomatch', 'packets', 'bytes', 'comment'] as const)) {
        case 'timeout':
          details.timeoutSeconds = words.takeInteger(TIMEOUT_RANGE);
          break;
        case 'nomatch':
          details.nomatch = true;
          break;
        case 'packets':
          details.packets = words.takeInteger(COUNT_RANGE);
          break;
        case 'bytes':
          details.bytes = words.takeInteger(COUNT_RANGE);
          break;
        case 'comment':
          details.comment = words.takeAs(
            `a comment of up to ${LONGEST_COMMENT} bytes, without quotation marks`,
            (word) => (Buffer.byteLength(word) <= LONGEST_COMMENT && !word.includes('"') ? word : undefined),
          );
          break;
      }
    }
  }

  #skipFlags(): void {
    while (this.#words.takeIf('-exist') || this.#words.takeIf('-!'));
  }
}

type CommandName = 'create' | 'add' | 'del' | 'flush' | 'destroy' | 'rename' | 'swap';

const COMMANDS: ReadonlyMap<string, CommandName> = new Map<string, CommandName>([
  ['create', 'create'],
  ['-N', 'create'],
  ['add', 'add'],
  ['-A', 'add'],
  ['del', 'del'],
  ['-D', 'del'],
  ['flush', 'flush'],
  ['-F', 'flush'],
  ['destroy', 'destroy'],
  ['-X', 'destroy'],
  ['rename', 'rename'],
  ['-E', 'rename'],
  ['swap', 'swap'],
  ['-W', 'swap'],
]);

/** Of an element or a set, in seconds: UINT_MAX milliseconds, halved (IPSET_MAX_TIMEOUT). */
const TIMEOUT_RANGE = { first: 0, last: 2_147_483 };
const COUNT_RANGE = { first: 0, last: Number.MAX_SAFE_INTEGER };
const U32_RANGE = { first: 0, last: 0xffff_ffff };
/** IPSET_MAX_COMMENT_SIZE. */
const LONGEST_COMMENT = 255;

function readOptions(words: Words, type: SetType, skipFlags: () => void): SetOptions {
  const options: { -readonly [K in keyof SetOptions]: SetOptions[K] } = {};
  const known = optionsOf(type);
  for (;;) {
    skipFlags();
    if (words.atEnd) break;
    switch (words.takeOneOf(known)) {
      case 'family':
        options.family = words.takeAs('inet or inet6', (word) => FAMILIES.get(word));
        break;
      case 'hashsize':
        options.hashSize = words.takeInteger(U32_RANGE);
        break;
      case 'maxelem':
        options.maxElements = words.takeInteger(U32_RANGE);
        break;
      case 'bucketsize':
        options.bucketSize = words.takeInteger({ first: 0, last: 255 });
        break;
      case 'initval':
        options.seed = words.takeInteger(U32_RANGE);
        break;
      case 'netmask':
        options.netmask = words.takeInteger({ first: 1, last: 128 });
        break;
      case 'range':
        options.range = words.takeAs('a range of ports FIRST-LAST', readRange);
        break;
      case 'size':
        options.size = words.takeInteger({ first: 1, last: 65_535 });
        break;
      case 'timeout':
        options.timeoutSeconds = words.takeInteger(TIMEOUT_RANGE);
        break;
      case 'counters':
        options.counters = true;
        break;
      case 'comment':
        options.comment = true;
        break;
      case 'forceadd':
        options.forceAdd = true;
        break;
    }
  }
  if (type === 'bitmap:port' && options.range === undefined) throw words.failure('bitmap:port needs range FIRST-LAST');
  return options;
}

const FAMILIES: ReadonlyMap<string, 4 | 6> = new Map<string, 4 | 6>([
  ['inet', 4],
  ['ipv4', 4],
  ['inet6', 6],
  ['ipv6', 6],
]);

const COMMON_OPTIONS = ['timeout', 'counters', 'comment'] as const;
const HASH_OPTIONS = ['family', 'hashsize', 'maxelem', 'forceadd', 'bucketsize', 'initval', ...COMMON_OPTIONS] as const;
type OptionName = (typeof HASH_OPTIONS)[number] | 'netmask' | 'range' | 'size';

function optionsOf(type: SetType): readonly OptionName[] {
  if (type === 'bitmap:port') return ['range', ...COMMON_OPTIONS];
  if (type === 'list:set') return ['size', ...COMMON_OPTIONS];
  return type === 'hash:ip' ? ['netmask', ...HASH_OPTIONS] : HASH_OPTIONS;
}

function readRange(word: string): { first: number; last: number } | undefined {
  const [firstText = '', lastText = '', ...rest] = word.split('-');
  const first = readNumber(firstText, 65_535);
  const last = readNumber(lastText, 65_535);
  return first === undefined || last === undefined || first > last || rest.length > 0 ? undefined : { first, last };
}
