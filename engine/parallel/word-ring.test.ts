import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RecordReader, RecordWriter } from './records.ts';
import { ringBytes, WordRing } from './word-ring.ts';

/** The writer's and the reader's end of one ring. */
function ringOf(capacityWords: number): [WordRing, WordRing] {
  const memory = new SharedArrayBuffer(ringBytes(capacityWords));
  const end = () => new WordRing(memory, { byteOffset: 0, capacityWords });
  return [end(), end()];
}

test('whatever is put comes out in order, once it has been published', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.integer(), fc.constantFrom('publish', 'take')), { maxLength: 200 }), (steps) => {
      const [writer, reader] = ringOf(16);
      const put: number[] = [];
      const taken: number[] = [];
      let published = 0;
      for (const step of steps) {
        if (step === 'publish') {
          writer.publish();
          published = put.length;
        } else if (step === 'take') {
          while (reader.available > 0) {
            expect(reader.peek()).toBe(put[taken.length]);
            taken.push(reader.take());
          }
          reader.release();
          expect(taken).toEqual(put.slice(0, published));
        } else if (writer.hasRoom(1)) {
          writer.put(step as number);
          put.push(step as number);
        } else {
          expect(put.length - taken.length).toBe(16);
        }
      }
    }),
  );
});

test('numbers and texts come out of records as they were; a text that was there before takes one word', () => {
  const [writing, reading] = ringOf(2 ** 16);
  const writer = new RecordWriter(writing);
  const reader = new RecordReader(reading);
  const words = (write: () => void): number => {
    writer.publish();
    const before = reading.available;
    write();
    writer.publish();
    return reading.available - before;
  };
  expect(words(() => writer.putText('default/web-0'))).toBe(2 + 'default/web-0'.length);
  expect(words(() => writer.putText('default/web-0'))).toBe(1);
  for (const number of [2 ** 53, -0.5, Number.POSITIVE_INFINITY]) writer.putFloat(number);
  writer.put(-1);
  writer.putText('Pod ü');
  writer.putLoneText('{}');
  writer.publish();
  expect([reader.takeText(), reader.takeText()]).toEqual(['default/web-0', 'default/web-0']);
  expect([reader.takeFloat(), reader.takeFloat(), reader.takeFloat()]).toEqual([2 ** 53, -0.5, Infinity]);
  expect([reader.take(), reader.takeText(), reader.takeLoneText()]).toEqual([-1, 'Pod ü', '{}']);
  expect(reader.hasRecord()).toBe(false);
});

test('a text that would not fit a record is refused', () => {
  expect(() => new RecordWriter(ringOf(2 ** 16)[0]).putText('x'.repeat(10_000))).toThrow('10000 characters');
});
