// One set of a network namespace, as `-m set` asks it and `-j SET` and `ipset` change it (net/netfilter/ipset).
//
// Sets that many namespaces have in common share their elements until one of them changes its own.

import { after, END_OF_TIME, type Instant, s } from '../../../engine/time.ts';
import {
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from '../../packet/frame.ts';
import { ANY_IP, addressBits, type Ip, type IpFamily, maskOf } from '../../packet/ip-address.ts';
import { maskIpv6 } from '../../packet/ipv6-address.ts';
import type { CountTest } from '../matches/set.ts';
import type { WalkContext } from '../walk-context.ts';
import { type Element, ElementStore, NO_NETWORK, type Part } from './element-store.ts';
import type { IpSets } from './ip-sets.ts';
import {
  DEFAULT_LIST_SIZE,
  DEFAULT_MAX_ELEMENTS,
  type Dimension,
  dimensionsOf,
  type SetOptions,
  type SetType,
} from './set-type.ts';

export type SetSide = 'src' | 'dst';

/** What `-m set` asks. */
export interface SetQuery {
  readonly sides: readonly SetSide[];
  readonly returnNomatch: boolean;
  readonly updatesCounters: boolean;
  readonly updatesSubcounters: boolean;
  readonly packets: CountTest | undefined;
  readonly bytes: CountTest | undefined;
}

/** An element before it is in a set. */
export interface NewElement {
  readonly parts: readonly Part[];
  readonly net: number;
  readonly length: number;
  readonly nomatch?: boolean;
  readonly comment?: string;
  /** 0: never ends. Absent: the set's own. */
  readonly timeoutSeconds?: number;
  readonly packets?: number;
  readonly bytes?: number;
}

/** What went wrong with an element, in ipset's words. */
export type ElementProblem = string;

export class IpSet {
  readonly type: SetType;
  readonly options: SetOptions;
  name: string;
  readonly #sets: IpSets;
  readonly #dimensions: readonly Dimension[];
  readonly #family: IpFamily;
  #store: ElementStore;
  #isShared = false;

  constructor(sets: IpSets, name: string, type: SetType, options: SetOptions, store = new ElementStore()) {
    this.#sets = sets;
    this.name = name;
    this.type = type;
    this.options = options;
    this.#dimensions = dimensionsOf(type);
    this.#family = options.family ?? 4;
    this.#store = store;
  }

  /** The same set in another namespace; what one of the two changes, the other does not see. */
  sharedWith(sets: IpSets): IpSet {
    this.#isShared = true;
    const copy = new IpSet(sets, this.name, this.type, this.options, this.#store);
    copy.#isShared = true;
    return copy;
  }

  /** Bits that addresses are cut to. */
  get #netmask(): number {
    return this.options.netmask ?? addressBits(this.#family);
  }

  // ── for rules ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** ip_set_test: is the frame's element in the set? */
  test(frame: Frame, query: SetQuery, context: WalkContext): boolean {
    if (query.sides.length < this.#dimensions.length) return false;
    if (this.type === 'list:set') return this.#testMembers(frame, query, context);
    if (this.type !== 'bitmap:port' && frame.family !== this.#family) return false;
    const found = this.#find(frame, query.sides, context);
    if (found === undefined) return false;
    // The kernel counts before it looks whether the element is a nomatch.
    if (!this.#counts(found, frame, query, query.updatesCounters)) return false;
    return found.nomatch === (query.returnNomatch && this.#hasNetworks);
  }

  get #hasNetworks(): boolean {
    return this.#dimensions.includes('net');
  }

  #testMembers(frame: Frame, query: SetQuery, context: WalkContext): boolean {
    const now = context.cpus.instant;
    const ofMember = { ...query, updatesCounters: query.updatesCounters && query.updatesSubcounters };
    for (const member of this.#store) {
      if (member.expiresAt <= now) continue;
      if (
        !this.#sets
          .named(String(member.parts[0]))
          .test(frame, { ...ofMember, packets: undefined, bytes: undefined }, context)
      )
        continue;
      if (this.#counts(member, frame, query, query.updatesCounters)) return true;
    }
    return false;
  }

  /** ip_set_match_extensions: conditions on counters see them before the frame is counted. */
  #counts(found: Element, frame: Frame, query: SetQuery, updates: boolean): boolean {
    if (!this.options.counters) return query.packets === undefined && query.bytes === undefined;
    if (!fits(found.packets, query.packets) || !fits(found.bytes, query.bytes)) return false;
    if (!updates) return true;
    const element = this.#owned(found);
    element.packets++;
    element.bytes += frame.sizeBytes - 14;
    return true;
  }

  /** `-j SET --add-set`. */
  addFrom(
    frame: Frame,
    sides: readonly SetSide[],
    { timeoutSeconds, exist }: { readonly timeoutSeconds?: number | undefined; readonly exist: boolean },
    context: WalkContext,
  ): void {
    const element = this.#elementOf(frame, sides, context);
    if (element === undefined) return;
    const options = { exist, now: context.cpus.instant };
    this.add(timeoutSeconds === undefined ? element : { ...element, timeoutSeconds }, options);
  }

  /** `-j SET --del-set`. */
  deleteFrom(frame: Frame, sides: readonly SetSide[], context: WalkContext): void {
    const element = this.#elementOf(frame, sides, context);
    if (element !== undefined) this.delete(element, context.cpus.instant);
  }

  #find(frame: Frame, sides: readonly SetSide[], context: WalkContext): Element | undefined {
    const element = this.#elementOf(frame, sides, context);
    if (element === undefined) return undefined;
    const { parts, net } = element;
    const now = context.cpus.instant;
    for (const length of this.#store.lengths) {
      context.chargeSetLookup(this.#store.size);
      const found = this.#store.find(
        parts,
        length,
        length === NO_NETWORK ? net : masked(net as Ip, length, this.#family),
      );
      if (found !== undefined && found.expiresAt > now) return found;
    }
    return undefined;
  }

  /** The element that the frame is; undefined if it has not got all parts. */
  #elementOf(frame: Frame, sides: readonly SetSide[], context: WalkContext): NewElement | undefined {
    const parts: Part[] = [];
    let net: number = ANY_IP;
    for (let i = 0; i < this.#dimensions.length; i++) {
      const part = this.#partOf(this.#dimensions[i]!, frame, sides[i] === 'src', context);
      if (part === undefined) return undefined;
      if (this.#dimensions[i] === 'net') net = part as number;
      else parts.push(part);
    }
    if (this.#hasNetworks) return { parts, net, length: addressBits(this.#family) };
    return { parts, net: NO_NET, length: NO_NETWORK };
  }

  #partOf(dimension: Dimension, frame: Frame, isSource: boolean, context: WalkContext): Part | undefined {
    switch (dimension) {
      case 'ip': {
        const ip = masked(isSource ? frame.srcIp : frame.dstIp, this.#netmask, this.#family);
        return ip === ANY_IP && this.type === 'hash:ip' ? undefined : ip;
      }
      case 'net':
        return isSource ? frame.srcIp : frame.dstIp;
      case 'port':
        return this.type === 'bitmap:port' ? plainPortOf(frame, isSource) : portPartOf(frame, isSource);
      case 'iface':
        return (isSource ? context.inName : context.outName) || undefined;
      case 'set':
        return undefined;
    }
  }

  // ── for ipset ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The elements that have not ended, in the order in which they were added. */
  elements(now: Instant): Element[] {
    return [...this.#store].filter(({ expiresAt }) => expiresAt > now);
  }

  /** list:set: the names of its sets. */
  members(): string[] {
    return [...this.#store].map(({ parts }) => String(parts[0]));
  }

  add(
    added: NewElement,
    { exist = false, now }: { readonly exist?: boolean; readonly now: Instant },
  ): ElementProblem | undefined {
    const { parts, net, length, nomatch = false, comment, timeoutSeconds, packets = 0, bytes = 0 } = added;
    const { options } = this;
    const problem = this.#problemOf(added);
    if (problem !== undefined) return problem;
    const known = this.#store.find(parts, length, net);
    if (known !== undefined && known.expiresAt > now && !exist) return 'it is in the set already';
    if (known === undefined && this.#isFull(now)) return 'the set is full';
    const store = this.#ownStore();
    const old = known && store.find(parts, length, net);
    if (old !== undefined) store.delete(old);
    const seconds = timeoutSeconds ?? options.timeoutSeconds ?? 0;
    const expiresAt = seconds === 0 ? END_OF_TIME : after(now, s(seconds));
    store.add({ parts, net, length, nomatch, comment, expiresAt, packets, bytes });
    return undefined;
  }

  delete({ parts, net, length }: NewElement, now: Instant): ElementProblem | undefined {
    const found = this.#store.find(parts, length, net);
    if (found === undefined || found.expiresAt <= now) return 'it is not in the set';
    const store = this.#ownStore();
    const own = store.find(parts, length, net);
    if (own !== undefined) store.delete(own);
    return undefined;
  }

  flush(): void {
    this.#store = new ElementStore();
    this.#isShared = false;
  }

  #problemOf({
    length,
    comment,
    timeoutSeconds,
    nomatch,
    parts,
    packets,
    bytes,
  }: NewElement): ElementProblem | undefined {
    const { options, type } = this;
    if (timeoutSeconds !== undefined && options.timeoutSeconds === undefined) return 'the set has no timeouts';
    if (comment !== undefined && !options.comment) return 'the set has no comments';
    if ((packets !== undefined || bytes !== undefined) && !options.counters) return 'the set has no counters';
    if (nomatch && !this.#hasNetworks) return 'nomatch is for sets of networks';
    if (length === 0 && type !== 'hash:net,iface') return 'a network of length 0';
    if (type === 'hash:ip' && parts[0] === ANY_IP) return 'the address of all zeros';
    const port = Number(parts[0]);
    if (
      type === 'bitmap:port' &&
      options.range !== undefined &&
      (port < options.range.first || port > options.range.last)
    )
      return `port ${port} is outside the set's range ${options.range.first}-${options.range.last}`;
    if (type === 'list:set') {
      const member = this.#sets.find(String(parts[0]));
      if (member === undefined) return `there is no set ${parts[0]}`;
      if (member.type === 'list:set') return 'a list of sets cannot be in a list of sets';
    }
    return undefined;
  }

  #isFull(now: Instant): boolean {
    const { type, options } = this;
    if (type === 'bitmap:port') return false;
    const most =
      type === 'list:set' ? (options.size ?? DEFAULT_LIST_SIZE) : (options.maxElements ?? DEFAULT_MAX_ELEMENTS);
    if (this.#store.size < most) return false;
    const ended = [...this.#store].filter(({ expiresAt }) => expiresAt <= now);
    const store = this.#ownStore();
    for (const { parts, length, net } of ended) store.delete(store.find(parts, length, net)!);
    if (store.size < most) return false;
    if (!options.forceAdd) return true;
    for (const first of store) {
      store.delete(first);
      break;
    }
    return false;
  }

  #ownStore(): ElementStore {
    if (this.#isShared) {
      this.#store = this.#store.clone();
      this.#isShared = false;
    }
    return this.#store;
  }

  #owned(element: Element): Element {
    if (!this.#isShared) return element;
    return this.#ownStore().find(element.parts, element.length, element.net) ?? element;
  }
}

/** In place of the network of an element without one. */
export const NO_NET = 0;

/** A port as a part of an element, together with its protocol. */
export const portPart = (protocol: number, port: number): number => (protocol << 16) | port;

/** ip_set_get_ip4_port: ICMP's type and code stand for ports; other protocols have port 0. */
function portPartOf(frame: Frame, isSource: boolean): number | undefined {
  const { protocol } = frame;
  switch (protocol) {
    case PROTOCOL_TCP:
    case PROTOCOL_UDP:
    case PROTOCOL_SCTP:
    case PROTOCOL_UDPLITE:
      return frame.fragmentOffset > 0 ? undefined : portPart(protocol, isSource ? frame.srcPort : frame.dstPort);
    case PROTOCOL_ICMP:
    case PROTOCOL_ICMPV6:
      return frame.fragmentOffset > 0 ? undefined : portPart(protocol, (frame.icmpType << 8) | frame.icmpCode);
    default:
      return portPart(protocol, 0);
  }
}

const PROTOCOL_UDPLITE = 136;

/** bitmap:port knows ports of TCP and UDP alone, and does not tell them apart. */
function plainPortOf({ protocol, fragmentOffset, srcPort, dstPort }: Frame, isSource: boolean): number | undefined {
  if ((protocol !== PROTOCOL_TCP && protocol !== PROTOCOL_UDP) || fragmentOffset > 0) return undefined;
  return isSource ? srcPort : dstPort;
}

const masked = (ip: Ip, length: number, family: IpFamily): Ip => {
  if (length === addressBits(family)) return ip;
  return family === 6 ? maskIpv6(ip, length) : ((ip & maskOf(length)) as Ip);
};

function fits(count: number, test: CountTest | undefined): boolean {
  if (test === undefined) return true;
  switch (test.is) {
    case 'lt':
      return count < test.value;
    case 'gt':
      return count > test.value;
    case 'eq':
      return (count === test.value) !== (test.negated ?? false);
  }
}
