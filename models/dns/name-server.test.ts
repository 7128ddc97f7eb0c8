import { describe, expect, test } from 'vitest';
import { RandomStream } from '../../engine/random.ts';
import { type Instant, s } from '../../engine/time.ts';
import { type Answer, emptyAnswer, type Question, type ResourceRecord } from './message.ts';
import { formatRecord } from './message-text.ts';
import { type CacheSettings, KUBEADM_CACHE, NameCache } from './name-cache.ts';
import { NameServer } from './name-server.ts';
import { StaticZone } from './static-zone.ts';
import type { Zone } from './zone.ts';

const address = (name: string, ttlSeconds: number, last = 1): ResourceRecord => ({
  name,
  ttlSeconds,
  type: 'A',
  address: `192.0.2.${last}`,
});

class Lab {
  now = 0 as Instant;
  asked: string[] = [];
  readonly server: NameServer;

  constructor({
    zones = [],
    says,
    cache,
  }: { zones?: Zone[]; says?: (question: Question) => Answer | undefined; cache?: Partial<CacheSettings> }) {
    this.server = new NameServer({
      zones,
      upstream: says && {
        ask: (question, done) => {
          this.asked.push(`${question.type} ${question.name}`);
          done(says(question));
        },
      },
      cache: cache && new NameCache({ ...KUBEADM_CACHE, ...cache }, new RandomStream('cache')),
      random: new RandomStream('order'),
      now: () => this.now,
    });
  }

  ask(name: string, type: 'A' | 'AAAA' = 'A'): string {
    let text = 'nothing';
    this.server.answer({ name, type }, ({ rcode, answers }) => {
      text = [rcode, ...answers.map(formatRecord)].join('; ');
    });
    return text;
  }
}

describe('a cache', () => {
  const world = (ttlSeconds: number) =>
    new StaticZone('.', [address('www.example.', ttlSeconds)], { negativeTtlSeconds: 300 });

  test('answers for as long as the TTL says, counting down, but not longer than it is told to', () => {
    const lab = new Lab({ says: (question) => world(300).answer(question), cache: { positiveTtlSeconds: 30 } });
    expect(lab.ask('www.example.')).toBe('NOERROR; www.example. 30 IN A 192.0.2.1');
    lab.now = s(10) as number as Instant;
    expect(lab.ask('WWW.example.')).toBe('NOERROR; www.example. 20 IN A 192.0.2.1');
    lab.now = s(30) as number as Instant;
    expect(lab.ask('www.example.')).toBe('NOERROR; www.example. 30 IN A 192.0.2.1');
    expect(lab.asked).toHaveLength(2);
  });

  test('remembers for 5 s at least', () => {
    const lab = new Lab({ says: (question) => world(0).answer(question), cache: {} });
    expect(lab.ask('www.example.')).toBe('NOERROR; www.example. 5 IN A 192.0.2.1');
  });

  test('remembers that there is nothing, and types apart', () => {
    const lab = new Lab({ says: (question) => world(300).answer(question), cache: { negativeTtlSeconds: 10 } });
    for (let i = 0; i < 3; i++) {
      expect(lab.ask('no.example.')).toBe('NXDOMAIN');
      expect(lab.ask('www.example.', 'AAAA')).toBe('NOERROR');
    }
    expect(lab.asked).toEqual(['A no.example.', 'AAAA www.example.']);
    lab.now = s(10) as number as Instant;
    lab.ask('no.example.');
    expect(lab.asked).toHaveLength(3);
  });

  test('remembers a failure for 5 s, and no truncated answer', () => {
    const failing = new Lab({ says: () => undefined, cache: {} });
    expect([failing.ask('a.'), failing.ask('a.'), failing.asked.length]).toEqual(['SERVFAIL', 'SERVFAIL', 1]);
    const cut = new Lab({
      says: () => ({ ...emptyAnswer('NOERROR'), isTruncated: true, answers: [address('a.', 9)] }),
      cache: {},
    });
    cut.ask('a.');
    cut.ask('a.');
    expect(cut.asked).toHaveLength(2);
  });

  test('makes room at random when it is full', () => {
    const lab = new Lab({
      says: ({ name }) => ({ ...emptyAnswer('NOERROR'), answers: [address(name, 300)] }),
      cache: { capacity: 10 },
    });
    for (let i = 0; i < 100; i++) lab.ask(`name-${i}.`);
    lab.asked = [];
    for (let i = 0; i < 100; i++) lab.ask(`name-${i}.`);
    expect(lab.asked.length).toBeGreaterThanOrEqual(90);
  });
});

test('addresses come in another order each time, aliases first', () => {
  const records = [1, 2, 3, 4].map((last) => address('b.', 5, last));
  const alias: ResourceRecord = { name: 'a.', ttlSeconds: 5, type: 'CNAME', target: 'b.' };
  const lab = new Lab({ zones: [new StaticZone('.', [alias, ...records])] });
  const seen = new Set(Array.from({ length: 60 }, () => lab.ask('a.')));
  expect(seen.size).toBeGreaterThan(10); // of 4! = 24 orders
  for (const text of seen) expect(text).toMatch(/^NOERROR; a\. 5 IN CNAME b\.; b\. 5 IN A /);
});

describe('aliases that lead from one zone to another', () => {
  const chain = (from: string, to: string): Zone => ({
    answer: ({ name, type }) =>
      name === from
        ? {
            ...emptyAnswer('NOERROR'),
            answers: [{ name, ttlSeconds: 5, type: 'CNAME', target: to }],
            chases: [{ question: { name: to, type }, section: 'answers' }],
          }
        : undefined,
  });

  test('are followed', () => {
    const lab = new Lab({ zones: [chain('a.x.', 'b.y.'), new StaticZone('y.', [address('b.y.', 5)])] });
    expect(lab.ask('a.x.')).toBe('NOERROR; a.x. 5 IN CNAME b.y.; b.y. 5 IN A 192.0.2.1');
  });

  test('and back again end after ten times', () => {
    const lab = new Lab({ zones: [chain('a.x.', 'b.y.'), chain('b.y.', 'a.x.')] });
    const answers = lab.ask('a.x.').split('; ');
    expect([answers[0], answers.length]).toEqual(['NOERROR', 1 + 11]); // what is asked and ten more
  });
});

test('without a zone for the name and an upstream it refuses', () => {
  expect(new Lab({}).ask('www.example.')).toBe('REFUSED');
});
