// A DNS server's chain of plugins, without its sockets: cache, zones, an upstream for what no zone answers for, and a new
// order of addresses with every answer (CoreDNS's loadbalance).

import type { RandomStream } from '../../engine/random.ts';
import type { Instant } from '../../engine/time.ts';
import { isInZone } from './domain-name.ts';
import { type Answer, emptyAnswer, type Question, type ResourceRecord } from './message.ts';
import type { NameCache } from './name-cache.ts';
import type { Zone, ZoneAnswer } from './zone.ts';

/** Whoever answers for the rest of the world. Calls `done` once; without an answer if there was none. */
export interface Upstream {
  ask(question: Question, done: (answer: Answer | undefined) => void): void;
}

export interface NameServerOptions {
  readonly zones: readonly Zone[];
  readonly upstream?: Upstream | undefined;
  readonly cache?: NameCache | undefined;
  /** Names that are not remembered: those of zones whose records change. */
  readonly uncachedZones?: readonly string[];
  readonly random: RandomStream;
  readonly now: () => Instant;
}

export class NameServer {
  readonly #options: NameServerOptions;

  constructor(options: NameServerOptions) {
    this.#options = options;
  }

  /** At once, or when an upstream has answered. */
  answer(question: Question, done: (answer: Answer) => void): void {
    this.#resolve(question, 0, (answer) => done({ ...answer, answers: this.#inNewOrder(answer.answers) }));
  }

  #resolve(question: Question, depth: number, done: (answer: Answer) => void): void {
    if (depth > MOST_REENTRIES) return done(emptyAnswer('SERVFAIL'));
    const { cache, now, uncachedZones = [] } = this.#options;
    if (cache === undefined || uncachedZones.some((zone) => isInZone(question.name, zone)))
      return this.#look(question, depth, done);
    const remembered = cache.find(question, now());
    if (remembered !== undefined) return done(remembered);
    this.#look(question, depth, (answer) => done(cache.remember(question, answer, now())));
  }

  #look(question: Question, depth: number, done: (answer: Answer) => void): void {
    for (const zone of this.#options.zones) {
      const own = zone.answer(question);
      if (own !== undefined) return this.#chase(own, 0, depth, done);
    }
    // Without a plugin that answers, CoreDNS refuses.
    const { upstream } = this.#options;
    if (upstream === undefined) return done(emptyAnswer('REFUSED'));
    upstream.ask(question, (answer) => done(answer ?? emptyAnswer('SERVFAIL')));
  }

  /** Adds what others say about the names that an answer leads to, one after the other. */
  #chase(so: ZoneAnswer, next: number, depth: number, done: (answer: Answer) => void): void {
    const { chases = [], ...answer } = so;
    const chase = chases[next];
    if (chase === undefined) return done(answer);
    this.#resolve(chase.question, depth + 1, (found) => {
      const more = { ...so, [chase.section]: [...so[chase.section], ...found.answers] };
      this.#chase(more, next + 1, depth, done);
    });
  }

  /** Aliases first, then other records, then addresses, shuffled. */
  #inNewOrder(records: readonly ResourceRecord[]): readonly ResourceRecord[] {
    const isAddress = ({ type }: ResourceRecord): boolean => type === 'A' || type === 'AAAA';
    const addresses = records.filter(isAddress);
    if (addresses.length < 2) return records;
    return [...records.filter((record) => !isAddress(record)), ...this.#options.random.shuffle(addresses)];
  }
}

/** core/dnsserver: maxreentries. Aliases that lead from zone to zone and back end with SERVFAIL. */
const MOST_REENTRIES = 10;
