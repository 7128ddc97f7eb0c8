// A set of one namespace that changes by itself: rules add elements, and elements end when their time is over
// (nft_set_hash.c, nft_dynset.c).

import { after, type Duration, type Instant, ms } from '../../../engine/time.ts';
import type { Value } from './datatype.ts';
import { orderOf } from './element-index.ts';
import type { NftSet, SetElement, SetUpdateStatement } from './syntax.ts';

export interface LiveElement {
  /** What it is listed as, without what changes. */
  readonly element: SetElement;
  /** Absent: it stays. */
  expiresAt: Instant | undefined;
  readonly timeout: Duration | undefined;
  /** What statements of the element remember: two numbers each. */
  readonly memory: Float64Array;
  readonly statements: SetUpdateStatement['statements'];
}

/** Elements of such sets belong to a namespace, not to the ruleset. */
export const isLive = ({ flags }: NftSet): boolean => flags.includes('dynamic') || flags.includes('timeout');

export class LiveSet {
  readonly set: NftSet;
  readonly #elements = new Map<string, LiveElement>();
  readonly #isRanged: boolean;

  /** Times of elements begin when the set does. */
  constructor(set: NftSet, now: Instant) {
    this.set = set;
    this.#isRanged = set.flags.includes('interval');
    for (const element of set.elements) {
      const timeoutMs = element.timeoutMs ?? set.timeoutMs;
      const restMs = element.expiresMs ?? timeoutMs;
      this.#elements.set(keyText(element.key.map(({ first }) => first)), {
        element,
        timeout: timeoutMs === undefined ? undefined : ms(timeoutMs),
        expiresAt: restMs === undefined ? undefined : after(now, ms(restMs)),
        memory: new Float64Array(2),
        statements: element.counter === undefined ? [] : [element.counter],
      });
    }
  }

  /** With elements that have ended and are not reclaimed yet. */
  get size(): number {
    return this.#elements.size;
  }

  find(key: readonly Value[], now: Instant): LiveElement | undefined {
    const text = keyText(key);
    const exact = this.#elements.get(text);
    if (exact !== undefined) {
      if (exact.expiresAt === undefined || exact.expiresAt > now) return exact;
      this.#elements.delete(text);
      return undefined;
    }
    return this.#isRanged ? this.#findRange(key, now) : undefined;
  }

  #findRange(key: readonly Value[], now: Instant): LiveElement | undefined {
    const compares = this.set.keyTypes.map(orderOf);
    for (const live of this.#elements.values()) {
      const isIn = live.element.key.every(
        ({ first, last }, i) => compares[i]!(first, key[i]!) <= 0 && compares[i]!(key[i]!, last) <= 0,
      );
      if (isIn && (live.expiresAt === undefined || live.expiresAt > now)) return live;
    }
    return undefined;
  }

  /** `add @set { ... }`, `update @set { ... }`: the element, refreshed if it is an update; undefined if the set is full. */
  touch(key: readonly Value[], update: SetUpdateStatement, now: Instant): LiveElement | undefined {
    const timeoutMs = update.timeoutMs ?? this.set.timeoutMs;
    const expiresAt = timeoutMs === undefined ? undefined : after(now, ms(timeoutMs));
    const known = this.find(key, now);
    if (known !== undefined) {
      if (update.operation === 'update' && expiresAt !== undefined) known.expiresAt = expiresAt;
      return known;
    }
    if (this.set.size !== undefined && this.#elements.size >= this.set.size) {
      this.#collect(now);
      if (this.#elements.size >= this.set.size) return undefined;
    }
    const live: LiveElement = {
      element: {
        key: key.map((value) => ({ first: value, last: value })),
        ...(update.timeoutMs !== undefined &&
          update.timeoutMs !== this.set.timeoutMs && { timeoutMs: update.timeoutMs }),
      },
      timeout: timeoutMs === undefined ? undefined : ms(timeoutMs),
      expiresAt,
      memory: new Float64Array(2 * update.statements.length),
      statements: update.statements,
    };
    this.#elements.set(keyText(key), live);
    return live;
  }

  delete(key: readonly Value[]): void {
    this.#elements.delete(keyText(key));
  }

  /** What `nft list` shows now. */
  list(now: Instant): SetElement[] {
    this.#collect(now);
    return [...this.#elements.values()].map(({ element, expiresAt, memory, statements }) => {
      const counterAt = statements.findIndex(({ kind }) => kind === 'counter');
      const counter = { kind: 'counter', packets: memory[2 * counterAt]!, bytes: memory[2 * counterAt + 1]! } as const;
      return {
        ...element,
        ...(expiresAt !== undefined && { expiresMs: Math.ceil((expiresAt - now) / 1e6) }),
        ...(counterAt !== -1 && { counter }),
      };
    });
  }

  #collect(now: Instant): void {
    for (const [key, { expiresAt }] of this.#elements) {
      if (expiresAt !== undefined && expiresAt <= now) this.#elements.delete(key);
    }
  }
}

const keyText = (key: readonly Value[]): string => key.join(' ');
