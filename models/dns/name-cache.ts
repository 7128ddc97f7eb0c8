// What a DNS server remembers of answers: CoreDNS's cache plugin. Negative answers count apart (RFC 2308), and TTLs run
// down while an answer is remembered.
//
// Not modelled: shards (CoreDNS makes room at random within one of 256 shards; here within all), prefetch, serve_stale,
// and DO and CD bits in the key.

import type { RandomStream } from '../../engine/random.ts';
import { type Instant, s } from '../../engine/time.ts';
import { canonical } from './domain-name.ts';
import type { Answer, Question, ResourceRecord } from './message.ts';

export interface CacheSettings {
  /** Longest TTLs of answers, and of answers that there is nothing. */
  readonly positiveTtlSeconds: number;
  readonly negativeTtlSeconds: number;
  /** Answers of each kind. */
  readonly capacity: number;
}

/** `cache 30`, as kubeadm writes it; 9984 answers is CoreDNS's default. */
export const KUBEADM_CACHE: CacheSettings = { positiveTtlSeconds: 30, negativeTtlSeconds: 30, capacity: 9984 };

interface Entry {
  readonly answer: Answer;
  readonly expires: Instant;
}

type Kind = 'positive' | 'negative';

export class NameCache {
  readonly #settings: CacheSettings;
  readonly #random: RandomStream;
  readonly #entries = { positive: new Map<string, Entry>(), negative: new Map<string, Entry>() };

  constructor(settings: CacheSettings, random: RandomStream) {
    this.#settings = settings;
    this.#random = random;
  }

  /** With the TTLs that are left. */
  find(question: Question, now: Instant): Answer | undefined {
    const key = keyOf(question);
    const entry = this.#entries.positive.get(key) ?? this.#entries.negative.get(key);
    if (entry === undefined || entry.expires <= now) return undefined;
    return withTtl(entry.answer, Math.floor((entry.expires - now) / 1e9));
  }

  /** Remembers an answer, if it may be, and hands it on with the TTL for which it is remembered. */
  remember(question: Question, answer: Answer, now: Instant): Answer {
    const kind = kindOf(answer);
    if (kind === undefined) return answer;
    const ttlSeconds = this.#ttlOf(answer, kind);
    const capped = withTtl(answer, ttlSeconds);
    const entries = this.#entries[kind];
    const key = keyOf(question);
    // What was negative may be positive now, and the other way round.
    this.#entries[kind === 'positive' ? 'negative' : 'positive'].delete(key);
    if (entries.size >= this.#settings.capacity && !entries.has(key)) this.#evict(entries);
    entries.set(key, { answer: capped, expires: (now + s(ttlSeconds)) as Instant });
    return capped;
  }

  #ttlOf({ rcode, answers, authority, additional }: Answer, kind: Kind): number {
    if (rcode === 'SERVFAIL') return SERVFAIL_TTL_SECONDS;
    const { positiveTtlSeconds, negativeTtlSeconds } = this.#settings;
    const own = Math.min(...[...answers, ...authority, ...additional].map(({ ttlSeconds }) => ttlSeconds));
    return Math.max(Math.min(own, kind === 'positive' ? positiveTtlSeconds : negativeTtlSeconds), LEAST_TTL_SECONDS);
  }

  #evict(entries: Map<string, Entry>): void {
    let skip = this.#random.int(entries.size);
    for (const key of entries.keys()) if (skip-- === 0) return void entries.delete(key);
  }
}

/** plugin/cache: dnsutil.MinimalDefaultTTL, and failttl. */
const LEAST_TTL_SECONDS = 5;
const SERVFAIL_TTL_SECONDS = 5;

/** undefined: not to be remembered. A "no" without a start of authority does not say for how long it holds. */
function kindOf({ rcode, answers, authority, isTruncated }: Answer): Kind | undefined {
  if (isTruncated) return undefined;
  if (rcode === 'SERVFAIL') return 'negative';
  if (rcode === 'NOERROR' && answers.length > 0) return 'positive';
  const isNo = rcode === 'NOERROR' || rcode === 'NXDOMAIN';
  return isNo && authority.some(({ type }) => type === 'SOA') ? 'negative' : undefined;
}

const keyOf = ({ name, type }: Question): string => `${type} ${canonical(name)}`;

function withTtl(answer: Answer, ttlSeconds: number): Answer {
  const change = (records: readonly ResourceRecord[]): ResourceRecord[] =>
    records.map((record) => ({ ...record, ttlSeconds }));
  return {
    ...answer,
    answers: change(answer.answers),
    authority: change(answer.authority),
    additional: change(answer.additional),
  };
}
