// Finds the rules of a long chain that a frame could match, without visiting the others. Linux visits them all, so the
// walk *charges* for them all; only the computing is spared.
//
// Every rule is filed once, under the first of these keys that it has: exact destination address (KUBE-SERVICES), exact
// source address (masquerade rules of CNI plugins), protocol with exact destination port (KUBE-NODEPORTS). Rules without
// a key stay in a list of their own. Each list is linked through `next` in chain order; a walk merges at most four.
//
// Not spared: rules that share one key, and rules that differ by something else (statistic, recent, marks, prefixes).

import type { Rule } from './rule.ts';

const EXACT = -1; // the mask of a /32

export class ChainIndex {
  /** Number of rules, and the end of every list. */
  readonly end: number;
  /** The rule that follows in the same list. */
  readonly next: Int32Array;
  readonly #byDestination: FirstRules;
  readonly #bySource: FirstRules;
  readonly #byPort: FirstRules;
  readonly firstUnkeyed: number;

  constructor(rules: readonly Rule[]) {
    this.end = rules.length;
    this.next = new Int32Array(rules.length);
    const kinds = Uint8Array.from(rules, kindOf);
    const countOf = (kind: number) => kinds.reduce((count, other) => (other === kind ? count + 1 : count), 0);
    this.#byDestination = new FirstRules({ most: countOf(DESTINATION), none: this.end });
    this.#bySource = new FirstRules({ most: countOf(SOURCE), none: this.end });
    this.#byPort = new FirstRules({ most: countOf(PORT), none: this.end });
    let unkeyed = this.end;
    for (let i = this.end - 1; i >= 0; i--) {
      const rule = rules[i]!;
      if (kinds[i] === DESTINATION) this.next[i] = this.#byDestination.put(rule.dstNet, i);
      else if (kinds[i] === SOURCE) this.next[i] = this.#bySource.put(rule.srcNet, i);
      // A rule that names a port names the protocol too: iptables insists.
      else if (kinds[i] === PORT) this.next[i] = this.#byPort.put(portKey(rule.protocol, rule.dstPortFirst), i);
      else {
        this.next[i] = unkeyed;
        unkeyed = i;
      }
    }
    this.firstUnkeyed = unkeyed;
  }

  /** The first rule for exactly this destination address, or `end`. */
  firstByDestination(ip: number): number {
    return this.#byDestination.get(ip);
  }

  firstBySource(ip: number): number {
    return this.#bySource.get(ip);
  }

  firstByPort(protocol: number, port: number): number {
    return this.#byPort.get(portKey(protocol, port));
  }
}

const DESTINATION = 1;
const SOURCE = 2;
const PORT = 3;
const UNKEYED = 0;

function kindOf(rule: Rule): number {
  if (rule.dstMask === EXACT) return DESTINATION;
  if (rule.srcMask === EXACT) return SOURCE;
  return rule.dstPortFirst === rule.dstPortLast ? PORT : UNKEYED;
}

const portKey = (protocol: number, port: number): number => (protocol << 16) | port;

/**
 * The first rule of each key, in open addressing: where a Service is served by local endpoints only, each of five thousand
 * nodes has a KUBE-SERVICES and an index of its own, and a Map takes three times as much.
 */
class FirstRules {
  readonly #none: number;
  readonly #keys: Int32Array;
  /** A rule's number and 1; 0 is free. */
  readonly #rules: Int32Array;

  /** `most`: how many rules have such a key. `none`: the answer where there is none. */
  constructor({ most, none }: { readonly most: number; readonly none: number }) {
    this.#none = none;
    const capacity = most === 0 ? 0 : 2 ** Math.ceil(Math.log2(most * 1.25 + 1));
    this.#keys = new Int32Array(capacity);
    this.#rules = new Int32Array(capacity);
  }

  get(key: number): number {
    if (this.#rules.length === 0) return this.#none;
    return this.#at(this.#find(key));
  }

  /** Puts a rule before those of its key, and returns the first of them. */
  put(key: number, rule: number): number {
    const slot = this.#find(key);
    const before = this.#at(slot);
    this.#keys[slot] = key;
    this.#rules[slot] = rule + 1;
    return before;
  }

  #at(slot: number): number {
    const rule = this.#rules[slot]!;
    return rule === 0 ? this.#none : rule - 1;
  }

  /** The slot of the key, or the free one where it belongs. */
  #find(key: number): number {
    const mask = this.#rules.length - 1;
    let slot = Math.imul(key, 0x9e3779b1) >>> Math.clz32(mask); // the upper bits of the product depend on all of the key
    while (this.#rules[slot] !== 0 && this.#keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }
}
