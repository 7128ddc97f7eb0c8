import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RandomStreams } from './random.ts';
import { ms } from './time.ts';

const draw = <T>(count: number, next: () => T): T[] => Array.from({ length: count }, next);
const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const variance = (values: number[]): number => {
  const center = mean(values);
  return mean(values.map((value) => (value - center) ** 2));
};

describe('streams', () => {
  test('a new consumer does not disturb the others', () => {
    const alone = new RandomStreams('seed').stream('kube-proxy/node-1');
    const streams = new RandomStreams('seed');
    const among = streams.stream('kube-proxy/node-1');
    const values = draw(100, () => {
      streams.stream('newcomer').uniform();
      return among.uniform();
    });
    expect(values).toEqual(draw(100, () => alone.uniform()));
  });

  test('a stream depends on the seed and on its name', () => {
    const first = (seed: string, name: string) => new RandomStreams(seed).stream(name).uniform();
    expect(new Set([first('1', 'a'), first('2', 'a'), first('1', 'b'), first('1', 'aa')]).size).toBe(4);
  });

  test('asking for a name again goes on with the same stream', () => {
    const streams = new RandomStreams('seed');
    expect(streams.stream('a')).toBe(streams.stream('a'));
  });

  test('streams that are seeded again go on as if the seed had always been that one', () => {
    const streams = new RandomStreams('seed');
    const early = streams.stream('a');
    early.uniform();
    streams.reseed('other');
    const other = new RandomStreams('other');
    expect(draw(10, () => early.uniform())).toEqual(draw(10, () => other.stream('a').uniform()));
    expect(streams.stream('b').uniform()).toBe(other.stream('b').uniform());
  });

  test('numbers that are set aside are the first ones, whenever they are asked for', () => {
    const stream = () => new RandomStreams('seed').stream('a');
    const all = stream();
    const [first, second, third, fourth] = draw(4, () => all.uniform()) as [number, number, number, number];
    const asked = stream();
    const [one, two] = [asked.reserve(), asked.reserve()];
    expect([asked.reserved(two), asked.uniform(), asked.reserved(one), asked.uniform()]).toEqual([
      second,
      third,
      first,
      fourth,
    ]);
    const unasked = stream();
    unasked.reserve();
    expect(unasked.uniform()).toBe(second);
    expect(asked.reservedInt(one, 100)).toBe(stream().int(100));
    expect(asked.reservedBits31(one)).toBe(stream().bits31());
  });

  test('a number that is set aside belongs to the seed of that time', () => {
    const streams = new RandomStreams('seed');
    const early = streams.stream('a');
    const aside = early.reserve();
    streams.reseed('other');
    expect(early.uniform()).toBe(new RandomStreams('other').stream('a').uniform());
    expect(early.reserved(aside)).toBe(new RandomStreams('seed').stream('a').uniform());
  });

  test('later numbers can be set aside, too', () => {
    const all = new RandomStreams('seed').stream('a');
    const [first, second, third, fourth] = draw(4, () => all.uniform());
    const stream = new RandomStreams('seed').stream('a');
    const one = stream.reserve();
    expect(stream.uniform()).toBe(second);
    const two = stream.reserve();
    expect([stream.uniform(), stream.reserved(two), stream.reserved(one)]).toEqual([fourth, third, first]);
  });

  test('streams with similar names are not correlated', () => {
    const streams = new RandomStreams('seed');
    const a = draw(10_000, () => streams.stream('node-1').uniform());
    const b = draw(10_000, () => streams.stream('node-2').uniform());
    const covariance = mean(a.map((value, i) => (value - 0.5) * (b[i]! - 0.5)));
    expect(Math.abs(covariance * 12)).toBeLessThan(0.04); // 4 standard errors of 1/sqrt(10,000)
  });
});

describe('distributions, within 4 standard errors of 100,000 draws', () => {
  const stream = new RandomStreams('distributions').stream('x');
  const count = 100_000;

  test('uniform', () => {
    const values = draw(count, () => stream.uniform());
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    expect(Math.abs(mean(values) - 1 / 2)).toBeLessThan(0.0037);
    expect(Math.abs(variance(values) - 1 / 12)).toBeLessThan(0.001);
  });

  test('int gives every value below its bound the same share', () => {
    const shares = new Array<number>(7).fill(0);
    for (let i = 0; i < count; i++) shares[stream.int(7)]!++;
    for (const share of shares) expect(Math.abs(share - count / 7)).toBeLessThan(444); // sqrt(n p q) = 111
  });

  test('exponential: mean and standard deviation are equal', () => {
    const values = draw(count, () => stream.exponential(ms(1)));
    expect(values.every(Number.isInteger)).toBe(true);
    expect(Math.abs(mean(values) - 1e6)).toBeLessThan(12_700);
    expect(Math.abs(Math.sqrt(variance(values)) - 1e6)).toBeLessThan(20_000);
  });

  test('normal', () => {
    const values = draw(count, () => stream.normal(10, 2));
    expect(Math.abs(mean(values) - 10)).toBeLessThan(0.026);
    expect(Math.abs(variance(values) - 4)).toBeLessThan(0.072);
    const within = values.filter((value) => Math.abs(value - 10) < 2).length;
    expect(Math.abs(within / count - 0.6827)).toBeLessThan(0.006);
  });

  test('bits31 fills 31 bits', () => {
    const values = draw(1_000, () => stream.bits31());
    expect(values.every((value) => Number.isInteger(value) && value >= 0)).toBe(true);
    expect(values.reduce((bits, value) => bits | value, 0)).toBe(2 ** 31 - 1);
  });
});

test('a chance of 31 bits is what its threshold says', () => {
  const stream = new RandomStreams('chances').stream('x');
  const hits = draw(10_000, () => stream.chance31(2 ** 29)).filter(Boolean).length;
  expect(Math.abs(hits - 2_500)).toBeLessThan(174); // sqrt(n p q) = 43
  expect(draw(100, () => stream.chance31(0)).some(Boolean)).toBe(false);
  expect(draw(100, () => stream.chance31(2 ** 31)).every(Boolean)).toBe(true);
});

describe('choices', () => {
  const stream = new RandomStreams('choices').stream('x');
  const rising = (a: number, b: number) => a - b;

  test('a shuffle has the same items and leaves the original alone', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), (items) => {
        const before = [...items];
        expect(stream.shuffle(items).sort(rising)).toEqual([...before].sort(rising));
        expect(items).toEqual(before);
      }),
    );
  });

  test('all six orders of three items are equally likely', () => {
    const orders = new Map<string, number>();
    for (let i = 0; i < 6_000; i++) {
      const order = stream.shuffle(['a', 'b', 'c']).join('');
      orders.set(order, (orders.get(order) ?? 0) + 1);
    }
    expect(orders.size).toBe(6);
    for (const share of orders.values()) expect(Math.abs(share - 1_000)).toBeLessThan(116); // sqrt(n p q) = 29
  });

  test('pick takes one of the items', () => {
    expect(new Set(draw(100, () => stream.pick(['a', 'b', 'c'])))).toEqual(new Set(['a', 'b', 'c']));
    expect(() => stream.pick([])).toThrow('pick from an empty array');
    expect(() => stream.int(0)).toThrow('random integer below 0');
  });
});
