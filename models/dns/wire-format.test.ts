import { describe, expect, test } from 'vitest';
import { encodeLabels } from './domain-name.ts';
import { emptyAnswer, queryFor, responseTo } from './message.ts';
import { formatMessage } from './message-text.ts';
import { decodeMessage, encodeMessage, messageIdOf } from './wire-format.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const QUERY = queryFor({ name: 'web.shop.', type: 'A' }, { id: 0x1234 });
const ANSWER = responseTo(QUERY, {
  ...emptyAnswer('NOERROR'),
  isAuthoritative: true,
  answers: [
    { name: 'web.shop.', ttlSeconds: 5, type: 'A', address: '10.96.0.1' },
    { name: 'www.web.shop.', ttlSeconds: 5, type: 'CNAME', target: 'shop.' },
  ],
});

test('a query is its header, the name by labels, type and class', () => {
  expect(hex(encodeMessage(QUERY))).toBe(
    ['1234', '0100', '0001', '0000', '0000', '0000', '03776562', '0473686f70', '00', '0001', '0001'].join(''),
  );
});

test('a name that stood in the message before is a pointer to it, and so is its ending', () => {
  const records = hex(encodeMessage(ANSWER)).slice(2 * (12 + 10 + 4));
  expect(records).toBe(
    [
      ...['c00c', '0001', '0001', '00000005', '0004', '0a600001'], // web.shop. is at byte 12
      ...['03777777', 'c00c', '0005', '0001', '00000005', '0002', 'c010'], // shop. is at byte 16
    ].join(''),
  );
});

test('as text it reads like the output of dig', () => {
  expect(formatMessage(ANSWER)).toBe(
    [
      'NOERROR, id 4660, qr aa rd ra',
      'question A web.shop.',
      'answer web.shop. 5 IN A 10.96.0.1',
      'answer www.web.shop. 5 IN CNAME shop.',
    ].join('\n'),
  );
});

describe('bytes that no resolver takes', () => {
  const header = (questions: number): number[] => [0, 1, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0];
  const bytes = (...parts: number[][]): Uint8Array => Uint8Array.from(parts.flat());

  test.each<[string, Uint8Array, string]>([
    [
      'a pointer to itself',
      bytes(header(1), [0xc0, 12], [0, 1, 0, 1]),
      'compression pointer at 12 does not point back',
    ],
    [
      'two pointers to each other',
      bytes(header(1), [0xc0, 14, 0xc0, 12], [0, 1, 0, 1]),
      'compression pointer at 12 does not point back',
    ],
    [
      'a label and a pointer back to it',
      bytes(header(1), [1, 97, 0xc0, 12], [0, 1, 0, 1]),
      'compression pointer at 14 does not point back',
    ],
    ['a label of the types 01 and 10', bytes(header(1), [0x41, 0]), 'label type 1 at 12'],
    ['a name without an end', bytes(header(1), [3, 97]), 'name at 12 runs past the end'],
    ['fewer questions than it says', bytes(header(2), [0, 0, 1, 0, 1]), 'name at 17 runs past the end'],
    ['more than it says', bytes(header(0), [0]), '1 bytes after the last record'],
    ['half a header', bytes([0, 1, 1]), 'message ends at 3; expected 2 more bytes at 2'],
    ['a notification', bytes([0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 'opcode 4; expected 0, a query'],
  ])('%s', (_, given, message) => {
    expect(() => decodeMessage(given)).toThrow(message);
  });

  test('a compression bomb: names that point to names that point to names, each with a label more', () => {
    // Name i is a label of 30 bytes and a pointer to name i - 1: the ninth, at 12 + 36 + 7 x 37 = 307, would have
    // 9 x 31 + 1 = 280 bytes.
    const parts: number[][] = [header(9)];
    let at = 12;
    let before: number | undefined;
    for (let i = 0; i < 9; i++) {
      const name = [
        30,
        ...new Array<number>(30).fill(97),
        ...(before === undefined ? [0] : [0xc0 | (before >> 8), before & 0xff]),
      ];
      before = at;
      parts.push(name, [0, 1, 0, 1]);
      at += name.length + 4;
    }
    expect(() => decodeMessage(bytes(...parts))).toThrow('name at 307 has more than 255 bytes');
  });

  test('even half a message has an id to answer to', () => {
    expect(messageIdOf(bytes(header(9)))).toBe(1);
    expect(messageIdOf(bytes([0, 1]))).toBeUndefined();
  });
});

describe('a name that no message can carry', () => {
  const label = 'a'.repeat(63);

  test('has more than 253 bytes', () => {
    // 4 x 63 + 3 dots = 255 bytes of text; the longest is 3 x 64 + 61.
    expect(() => encodeLabels([label, label, label, label].join('.'))).toThrow('255 bytes; expected up to 253');
    expect(encodeLabels(`${label}.${label}.${label}.${'a'.repeat(61)}.`)).toHaveLength(4);
  });

  test('has a label of more than 63', () => {
    expect(() => encodeLabels(`${label}a.svc.`)).toThrow('a label of 64 bytes; expected up to 63');
  });

  test('has an empty label', () => {
    expect(() => encodeLabels('web..svc.')).toThrow('"web..svc.": empty label');
  });

  test('is not in ASCII', () => {
    expect(() => encodeLabels('žluť.svc.')).toThrow('not ASCII; expected its xn-- form');
  });
});
