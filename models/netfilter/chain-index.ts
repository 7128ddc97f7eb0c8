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
  readonly #byDestination = new Map<number, number>();
  readonly #bySource = new Map<number, number>();
  readonly #byPort = new Map<number, number>();
  readonly firstUnkeyed: number;

  constructor(rules: readonly Rule[]) {
    this.end = rules.length;
    this.next = new Int32Array(rules.length);
    let unkeyed = this.end;
    for (let i = this.end - 1; i >= 0; i--) {
      const rule = rules[i]!;
      if (rule.dstMask === EXACT) this.#file(this.#byDestination, rule.dstNet, i);
      else if (rule.srcMask === EXACT) this.#file(this.#bySource, rule.srcNet, i);
      else if (rule.dstPortFirst === rule.dstPortLast) {
        // A rule that names a port names the protocol too: iptables insists.
        this.#file(this.#byPort, portKey(rule.protocol, rule.dstPortFirst), i);
      } else {
        this.next[i] = unkeyed;
        unkeyed = i;
      }
    }
    this.firstUnkeyed = unkeyed;
  }

  /** The first rule for exactly this destination address, or `end`. */
  firstByDestination(ip: number): number {
    return this.#byDestination.size === 0 ? this.end : (this.#byDestination.get(ip) ?? this.end);
  }

  firstBySource(ip: number): number {
    return this.#bySource.size === 0 ? this.end : (this.#bySource.get(ip) ?? this.end);
  }

  firstByPort(protocol: number, port: number): number {
    return this.#byPort.size === 0 ? this.end : (this.#byPort.get(portKey(protocol, port)) ?? this.end);
  }

  #file(list: Map<number, number>, key: number, rule: number): void {
    this.next[rule] = list.get(key) ?? this.end;
    list.set(key, rule);
  }
}

const portKey = (protocol: number, port: number): number => (protocol << 16) | port;
