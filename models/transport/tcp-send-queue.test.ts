import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Message } from '../packet/frame.ts';
import { TcpSendQueue } from './tcp-send-queue.ts';

/** Just below 2^31, so that every run crosses the sign of int32. */
const START = 2 ** 31 - 50;

test('finds the messages that end in a segment, also after some were acknowledged, like a plain list', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 30 }),
      fc.array(fc.record({ acked: fc.nat(20), first: fc.nat(40), length: fc.nat(60) }), { maxLength: 20 }),
      (sizes, steps) => {
        const queue = new TcpSendQueue(START);
        const list: { message: Message; end: number }[] = [];
        let written = 0;
        let acknowledged = 0;
        for (const [id, sizeBytes] of sizes.entries()) {
          const message = { id, sizeBytes };
          queue.write(message);
          list.push({ message, end: (written += sizeBytes) });
          const { acked, first, length } = steps[id % Math.max(steps.length, 1)] ?? { acked: 0, first: 0, length: 9 };
          acknowledged = Math.min(acknowledged + acked, written);
          queue.acknowledge((START + acknowledged) | 0);
          const from = acknowledged + first;
          const found = queue.endsWithin({ sequence: (START + from) | 0, payloadBytes: length });
          const expected = list.filter(({ end }) => end > from && end <= from + length);
          expect(found ?? []).toEqual(expected.map(({ message: own, end }) => ({ offset: end - from, message: own })));
        }
        expect(queue.bytesFrom((START + acknowledged) | 0)).toBe(written - acknowledged);
      },
    ),
  );
});

test('an application may write more than sequence numbers can count', () => {
  const queue = new TcpSendQueue(START);
  for (let id = 0; id < 10; id++) queue.write({ id, sizeBytes: 2 ** 30 });
  let sequence = START;
  const ids: number[] = [];
  for (let gib = 0; gib < 10; gib++) {
    expect(queue.bytesFrom(sequence)).toBe((10 - gib) * 2 ** 30);
    for (const { message } of queue.endsWithin({ sequence, payloadBytes: 2 ** 30 })!) ids.push(message.id);
    sequence = (sequence + 2 ** 30) | 0;
    queue.acknowledge(sequence);
  }
  expect(ids).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
