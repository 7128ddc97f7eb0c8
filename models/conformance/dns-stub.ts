// Recorded lookups of C libraries: which names they ask for, and when, with a scripted name server at the other end of a
// cable.

import { z } from 'zod';
import { type Instant, inSeconds } from '../../engine/time.ts';
import { canonical } from '../dns/domain-name.ts';
import { type Answer, emptyAnswer, type Question, type Rcode } from '../dns/message.ts';
import { addressTypeOf } from '../dns/service-records.ts';
import type { SentQuery } from '../dns/stub-exchange.ts';
import { type Script, type Seen, StubLab } from '../dns/stub-lab.ts';
import { formatIp } from '../packet/ip-address.ts';
import { compareFields, compareText, type Difference } from './suite.ts';

const remarks = {
  id: z.string(),
  topic: z.string(),
  source: z.string().optional(),
  note: z.string().optional(),
};
const libc = z.enum(['glibc', 'musl']);

export const stubWalk = z.strictObject({
  ...remarks,
  libc,
  resolvConf: z.strictObject({
    nameservers: z.array(z.string()).min(1),
    search: z.array(z.string()),
    ndots: z.int(),
    timeout: z.number(),
    attempts: z.int(),
    options: z.array(z.string()).optional(),
  }),
  name: z.string(),
  expect: z.strictObject({
    queries: z.array(z.string()),
    status: z.string(),
    addresses: z.array(z.string()).optional(),
  }),
});
export type StubWalk = z.output<typeof stubWalk>;

export const stubTiming = z.strictObject({
  ...remarks,
  libc,
  servers: z.int().min(1).max(3),
  timeout: z.number().default(5),
  attempts: z.int().default(2),
  options: z.array(z.string()).default([]),
  answer: z.string().optional(),
  expect: z.record(z.string(), z.unknown()),
});
export type StubTiming = z.output<typeof stubTiming>;

// ── walks through the search list ────────────────────────────────────────────────────────────────────────────────────

/**
 * What the server says, by name: what the recorded walks presuppose and their notes tell. Names that a walk ends with have
 * its addresses, all others do not exist.
 */
const WORLD: Readonly<Record<string, readonly string[] | Rcode | 'silence' | 'A only'>> = {
  'kubernetes.default.svc.cluster.local.': ['10.96.0.1'],
  'kube-system.svc.cluster.local.': 'NOERROR',
  'bad.svc.cluster.local.': 'SERVFAIL',
  'slow.default.svc.cluster.local.': 'silence',
  'half.default.svc.cluster.local.': 'A only',
};
const HALF_ADDRESS = '192.0.2.60';

export function differencesOfWalk(walk: StubWalk, all: readonly StubWalk[]): Difference[] {
  const { search, ndots, timeout, attempts, options = [], nameservers } = walk.resolvConf;
  const lab = new StubLab({ servers: nameservers.length, script: (question) => answerOfWorld(question, all) });
  const settings = [`ndots:${ndots}`, `timeout:${timeout}`, `attempts:${attempts}`, ...options];
  const { lookup, queries } = lab.lookup(walk.name, { libc: walk.libc, searches: search, options: settings });
  const names = queries.map(({ question }) => question.name);
  const addresses = lookup.addresses.map(({ ip, family }) => formatIp(ip, family));
  return [
    ...compareText(walk.expect.queries.join(' '), [...new Set(names)].join(' '), 'queries'),
    ...compareText(walk.expect.status, lookup.status, 'status'),
    ...compareText((walk.expect.addresses ?? []).toSorted().join(' '), addresses.toSorted().join(' '), 'addresses'),
  ];
}

function answerOfWorld({ name, type }: Question, walks: readonly StubWalk[]): Answer | undefined {
  const found = walks.find(({ expect }) => expect.status === 'ok' && expect.queries.at(-1) === name);
  const known = WORLD[canonical(name)] ?? found?.expect.addresses ?? 'NXDOMAIN';
  if (known === 'silence') return undefined;
  if (known === 'A only') return type === 'A' ? addressAnswer({ name, type }, [HALF_ADDRESS]) : no('NXDOMAIN');
  return typeof known === 'string' ? no(known) : addressAnswer({ name, type }, known);
}

/** An authoritative "no": an empty answer that is not is taken for a server that knows nothing. */
const no = (rcode: Rcode): Answer => ({ ...emptyAnswer(rcode), isAuthoritative: true });

function addressAnswer({ name, type }: Question, addresses: readonly string[]): Answer {
  const own = addresses.filter((address) => addressTypeOf(address) === type);
  const records = own.flatMap((address) => {
    const addressType = addressTypeOf(address);
    return addressType === undefined ? [] : [{ name, ttlSeconds: 30, type: addressType, address }];
  });
  return { ...no('NOERROR'), answers: records };
}

// ── timing ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** undefined: such an answer, or such an expectation, is not modelled. */
export function differencesOfTiming(timing: StubTiming): Difference[] | { readonly unmodelled: string } {
  const script = scriptOf(timing.answer);
  if (script === undefined) return { unmodelled: `answer "${timing.answer}"` };
  const lab = new StubLab({ servers: timing.servers, script });
  const options = [`timeout:${timing.timeout}`, `attempts:${timing.attempts}`, ...timing.options];
  const seen = lab.lookup('web.example.', { libc: timing.libc, searches: [], options });
  const observed = observationsOf(seen);
  const strange = Object.keys(timing.expect).find((field) => !Object.hasOwn(observed, field));
  return strange === undefined ? compareFields(timing.expect, observed) : { unmodelled: `expectation "${strange}"` };
}

const ADDRESSES = ['192.0.2.53', '2001:db8::53'];

function scriptOf(text: string | undefined): Script | undefined {
  const good: Script = (question) => addressAnswer(question, ADDRESSES);
  const single = (word: string): Script | undefined => {
    if (word === 'never' || word === 'silent') return () => undefined;
    if (word === 'ok' || word === 'answers') return good;
    return /^(NXDOMAIN|SERVFAIL|REFUSED|NOTIMP|NOERROR)$/.test(word) ? () => no(word as Rcode) : undefined;
  };
  if (text === undefined) return good;
  if (text === 'A only, AAAA lost once')
    return (question, _server, _protocol, time) =>
      question.type === 'AAAA' && time === 0 ? undefined : good(question, 0, 'UDP', time);
  if (text === 'TC bit set')
    return (question, server, protocol, time) =>
      protocol === 'UDP' ? { ...no('NOERROR'), isTruncated: true } : good(question, server, protocol, time);
  const [, first, second] = /^first server (\w+), second (?:server )?(\w+)$/.exec(text) ?? [];
  const [one, other] = [first, second].map((word) => (word === undefined ? undefined : single(word)));
  if (one !== undefined && other !== undefined)
    return (question, server, protocol, time) => (server === 0 ? one : other)(question, server, protocol, time);
  return single(text);
}

/** What may be expected of a lookup, as facts put it. Times are in whole tenths of seconds: the cable takes microseconds. */
function observationsOf({ lookup, queries, took }: Seen) {
  const seconds = (time: number): number => Math.round(inSeconds(time as Instant) * 10) / 10;
  const rounds = [...new Set(queries.map(({ sentAt, server }) => `${seconds(sentAt)} ${server.ip}`))];
  const times = [...new Set(queries.map(({ sentAt }) => seconds(sentAt)))];
  const starts = rounds.map((round) => Number(round.split(' ')[0]));
  const [first, second] = queries;
  const isAfter = (a: SentQuery | undefined, b: SentQuery | undefined): boolean =>
    a?.answeredAt !== undefined && b !== undefined && b.sentAt >= a.answeredAt;
  const repeated = queries.filter(({ sentAt }) => sentAt > 0 && seconds(sentAt) > 0);
  const isRepeatedInTurn = repeated.length === 2 && isAfter(repeated[0], repeated[1]);
  const overTcp = queries.filter(({ protocol }) => protocol === 'TCP');
  const isAtOnce = seconds(took) === 0;
  const [result] = lookup.status === 'EAI_NONAME' ? ['NXDOMAIN'] : [lookup.status];
  return {
    waits: starts.map((start, i) => (starts[i + 1] ?? seconds(took)) - start),
    seconds: seconds(took),
    sends: rounds.length,
    sendTimes: times,
    sequential: isAfter(first, second),
    sameSocket: first?.sourcePort === second?.sourcePort,
    // biome-ignore lint/suspicious/noThenProperty: the facts call it so
    then: isRepeatedInTurn ? 'repeats sequentially (single-request) after the first timeout' : 'otherwise',
    result: isAtOnce ? `${result} at once` : `${result} after ${seconds(took)} s`,
    retry:
      overTcp.length > 0 && overTcp.every(({ server }) => server === first?.server) ? 'TCP to the same server' : 'none',
  };
}
