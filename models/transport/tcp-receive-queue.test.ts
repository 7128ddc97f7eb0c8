import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Message } from '../packet/frame.ts';
import { type Arrival, TcpReceiveQueue } from './tcp-receive-queue.ts';
import { TcpSendQueue } from './tcp-send-queue.ts';

/** Just below 2^31, so that every run crosses the sign of int32. */
const START = 2 ** 31 - 50;

/** A peer that has written messages of these sizes; `segment` cuts bytes out of the stream as it would send them. */
function stream(sizesBytes: readonly number[]) {
  const queue = new TcpSendQueue(START);
  const messages = sizesBytes.map((sizeBytes, id): Message => ({ sizeBytes, id }));
  for (const message of messages) queue.write(message);
  return {
    messages,
    totalBytes: sizesBytes.reduce((sum, size) => sum + size, 0),
    deliver(receiver: TcpReceiveQueue, first: number, end: number): Arrival {
      const sequence = (START + first) | 0;
      const payloadBytes = end - first;
      return receiver.receive(sequence, payloadBytes, queue.endsWithin({ sequence, payloadBytes }));
    },
  };
}

function readAll(queue: TcpReceiveQueue): number[] {
  const ids: number[] = [];
  for (let message = queue.read(); message !== undefined; message = queue.read()) ids.push(message.id);
  return ids;
}

describe('receive queue', () => {
  test('a message is complete when its last byte has come', () => {
    const queue = new TcpReceiveQueue(START);
    const { deliver } = stream([30, 10]);
    expect(deliver(queue, 0, 20)).toBe('in order');
    expect(readAll(queue)).toEqual([]);
    expect(deliver(queue, 20, 40)).toBe('in order');
    expect(readAll(queue)).toEqual([0, 1]);
  });

  test('bytes behind a gap wait for it', () => {
    const queue = new TcpReceiveQueue(START);
    const { deliver } = stream([10, 10, 10]);
    expect(deliver(queue, 20, 30)).toBe('out of order');
    expect(queue.hasGap).toBe(true);
    expect(deliver(queue, 0, 10)).toBe('in order');
    expect(readAll(queue)).toEqual([0]);
    expect(deliver(queue, 10, 20)).toBe('in order');
    expect(queue.hasGap).toBe(false);
    expect(readAll(queue)).toEqual([1, 2]);
    expect(deliver(queue, 0, 30)).toBe('nothing new');
  });

  test('what is not read fills the buffer, a started message too', () => {
    const queue = new TcpReceiveQueue(START);
    const { deliver } = stream([10, 10]);
    deliver(queue, 0, 15);
    expect(queue.unreadBytes).toBe(15);
    expect(readAll(queue)).toEqual([0]);
    expect(queue.unreadBytes).toBe(0);
  });

  test('a FIN counts once, and only when nothing is missing before it', () => {
    const queue = new TcpReceiveQueue(START);
    const { deliver } = stream([10]);
    expect(queue.receiveFin((START + 10) | 0)).toBe(false);
    deliver(queue, 0, 10);
    expect(queue.takeFin()).toBe(true);
    expect(queue.finished).toBe(true);
    expect(queue.next).toBe((START + 11) | 0);
    expect(queue.receiveFin((START + 10) | 0)).toBe(false);
  });

  test('any segments in any order give what a bitmap of the bytes gives', () => {
    const segment = fc.record({ first: fc.nat(120), length: fc.integer({ min: 1, max: 40 }) });
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 6 }),
        fc.array(segment, { maxLength: 40 }),
        (sizes, segments) => {
          const { deliver, messages, totalBytes } = stream(sizes);
          const queue = new TcpReceiveQueue(START);
          const arrived = new Array<boolean>(totalBytes + 1).fill(false);
          const read: number[] = [];
          for (const { first, length } of segments) {
            if (first >= totalBytes) continue;
            const end = Math.min(first + length, totalBytes);
            const before = arrived.indexOf(false);
            arrived.fill(true, first, end);
            const inOrder = arrived.indexOf(false);
            const arrival = deliver(queue, first, end);
            expect(arrival).toBe(end <= before ? 'nothing new' : inOrder > before ? 'in order' : 'out of order');
            expect(queue.next).toBe((START + inOrder) | 0);
            expect(queue.hasGap).toBe(arrived.lastIndexOf(true) > inOrder);
            read.push(...readAll(queue));
          }
          let end = 0;
          const complete = messages.filter(({ sizeBytes }) => (end += sizeBytes) <= arrived.indexOf(false));
          expect(read).toEqual(complete.map(({ id }) => id));
        },
      ),
    );
  });
});
