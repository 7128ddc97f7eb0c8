import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatIp, ipOfBytes, ipv6OfBytes } from '../packet/ip-address.ts';
import { DomainNameError, decodeLabel, encodeLabels, labelsOf } from './domain-name.ts';
import type { DnsMessage, RecordData, ResourceRecord } from './message.ts';
import { formatMessage } from './message-text.ts';
import { DnsFormatError, decodeMessage, encodeMessage } from './wire-format.ts';

const uint = (bits: number) => fc.integer({ min: 0, max: 2 ** bits - 1 });
const bytesOf = (constraints: { minLength?: number; maxLength: number }) => fc.uint8Array(constraints);

/** Labels of any bytes, most of them from a few words, so that names share endings. */
const label = fc.oneof(
  fc.constantFrom('svc', 'cluster', 'local', 'web', 'Web', 'x'),
  bytesOf({ minLength: 1, maxLength: 20 }).map(decodeLabel),
);
const name = fc.array(label, { maxLength: 6 }).map((labels) => `${labels.join('.')}.`);
const ipv4 = bytesOf({ minLength: 4, maxLength: 4 }).map((bytes) => formatIp(ipOfBytes(bytes, 0)));
const ipv6 = bytesOf({ minLength: 16, maxLength: 16 }).map((bytes) => formatIp(ipv6OfBytes(bytes, 0), 6));
const latin1 = bytesOf({ maxLength: 255 }).map((bytes) => String.fromCharCode(...bytes));

const data: fc.Arbitrary<RecordData> = fc.oneof(
  ipv4.map((address) => ({ type: 'A' as const, address })),
  ipv6.map((address) => ({ type: 'AAAA' as const, address })),
  fc.record({ type: fc.constantFrom('CNAME' as const, 'NS' as const, 'PTR' as const), target: name }),
  fc.record({
    type: fc.constant('SRV' as const),
    priority: uint(16),
    weight: uint(16),
    port: uint(16),
    target: name,
  }),
  fc.record({ type: fc.constant('MX' as const), preference: uint(16), exchange: name }),
  fc.record({ type: fc.constant('TXT' as const), texts: fc.array(latin1, { maxLength: 3 }) }),
  fc.record({
    type: fc.constant('SOA' as const),
    primary: name,
    mailbox: name,
    serial: uint(32),
    refreshSeconds: uint(32),
    retrySeconds: uint(32),
    expireSeconds: uint(32),
    minimumSeconds: uint(32),
  }),
  fc.record({ type: fc.constant('TYPE65280' as const), bytes: bytesOf({ maxLength: 40 }) }),
);
const record: fc.Arbitrary<ResourceRecord> = fc
  .tuple(name, uint(31), data)
  .map(([owner, ttlSeconds, rest]) => ({ name: owner, ttlSeconds, ...rest }));
const records = fc.array(record, { maxLength: 6 });

const message: fc.Arbitrary<DnsMessage> = fc
  .record({
    id: uint(16),
    isResponse: fc.boolean(),
    isAuthoritative: fc.boolean(),
    isTruncated: fc.boolean(),
    recursionDesired: fc.boolean(),
    recursionAvailable: fc.boolean(),
    rcode: fc.constantFrom('NOERROR' as const, 'NXDOMAIN' as const, 'SERVFAIL' as const, 'RCODE11' as const),
    questions: fc.array(fc.record({ name, type: fc.constantFrom('A' as const, 'SRV' as const, 'ANY' as const) }), {
      maxLength: 2,
    }),
    answers: records,
    authority: records,
    additional: records,
    udpPayloadBytes: fc.option(uint(16), { nil: undefined }),
  })
  .map(({ udpPayloadBytes, ...rest }) => (udpPayloadBytes === undefined ? rest : { ...rest, udpPayloadBytes }));

describe('a message', () => {
  test('is what it was after the wire', () => {
    fc.assert(
      fc.property(message, (given) => {
        expect(decodeMessage(encodeMessage(given))).toEqual(given);
      }),
      { numRuns: 500 },
    );
  });

  test('cut to a limit has the first records of it, and says so if answers are missing', () => {
    fc.assert(
      fc.property(message, fc.integer({ min: 512, max: 1500 }), (given, limitBytes) => {
        const bytes = encodeMessage(given, { limitBytes });
        const got = decodeMessage(bytes);
        if (bytes.length > limitBytes) {
          // Two questions of 255 bytes each are all that may be larger.
          expect([got.answers, got.authority, got.additional]).toEqual([[], [], []]);
        }
        expect(got.answers).toEqual(given.answers.slice(0, got.answers.length));
        expect(got.authority).toEqual(given.authority.slice(0, got.authority.length));
        expect(got.additional).toEqual(given.additional.slice(0, got.additional.length));
        expect(got.isTruncated).toBe(given.isTruncated || got.answers.length < given.answers.length);
      }),
    );
  });

  test('has bytes that no change makes anything but a message or a DnsFormatError', () => {
    const change = fc.tuple(fc.nat(), uint(8));
    fc.assert(
      fc.property(message, fc.array(change, { minLength: 1, maxLength: 8 }), fc.nat(), (given, changes, cut) => {
        const bytes = encodeMessage(given);
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        parsesOrComplains(bytes);
        parsesOrComplains(bytes.subarray(0, cut % bytes.length));
      }),
      { numRuns: 1000 },
    );
  });
});

test('any bytes are a message, or a DnsFormatError', () => {
  fc.assert(fc.property(bytesOf({ maxLength: 200 }), parsesOrComplains), { numRuns: 2000 });
});

test('any text is a name, or a DomainNameError', () => {
  fc.assert(
    fc.property(fc.oneof(name, fc.string({ maxLength: 300 })), (text) => {
      try {
        const labels = encodeLabels(text);
        expect(labels.map(decodeLabel).length).toBe(labelsOf(text).length);
        expect(encodeLabels(`${labels.map(decodeLabel).join('.')}.`)).toEqual(labels);
      } catch (error) {
        expect(error).toBeInstanceOf(DomainNameError);
      }
    }),
    { numRuns: 2000 },
  );
});

function parsesOrComplains(bytes: Uint8Array): void {
  let parsed: DnsMessage;
  try {
    parsed = decodeMessage(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(DnsFormatError);
    return;
  }
  expect(formatMessage(parsed)).not.toBe('');
  for (const { name: owner } of parsed.answers) expect(encodeLabels(owner).length).toBeLessThan(128);
}
