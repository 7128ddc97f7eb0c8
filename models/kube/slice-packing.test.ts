import { describe, expect, test } from 'vitest';
import { type Endpoint, type EndpointSlice, objectFrom } from './objects.ts';
import { packSlices } from './slice-packing.ts';

/** Endpoints `10.0.0.<from>` to `10.0.0.<to>`. */
const endpoints = (from: number, to: number, ready = true): Endpoint[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    addresses: [`10.0.${Math.floor((from + i) / 250)}.${(from + i) % 250}`],
    conditions: { ready, serving: ready, terminating: false },
  }));
const slice = (name: string, content: readonly Endpoint[]): EndpointSlice => ({
  ...objectFrom('EndpointSlice', { metadata: { name }, addressType: 'IPv4' }),
  endpoints: content,
});
/** `a 99*`: the name of the slice, its size, and a star if it is to be written. */
const pack = (slices: readonly EndpointSlice[], wanted: readonly Endpoint[]): string[] =>
  packSlices(slices, wanted, (endpoint) => endpoint).map(
    ({ slice, endpoints: { length }, isChanged }) =>
      `${slice?.metadata.name ?? 'new'} ${length}${isChanged ? '*' : ''}`,
  );

describe('new endpoints', () => {
  const [a, b] = [endpoints(1, 60), endpoints(101, 190)];

  test('go to new slices of 100', () => {
    expect(pack([], endpoints(1, 250))).toEqual(['new 100*', 'new 100*', 'new 50*']);
  });

  test('all fit in an untouched slice: into the one that is then fullest', () => {
    expect(pack([slice('a', a), slice('b', b)], [...a, ...b, ...endpoints(300, 309)])).toEqual(['a 60', 'b 100*']);
    expect(pack([slice('a', a), slice('b', b)], [...a, ...b, ...endpoints(300, 310)])).toEqual(['a 71*', 'b 90']);
  });

  test('do not all fit in one: into a new one, though there is room for some', () => {
    expect(pack([slice('a', a), slice('b', b)], [...a, ...b, ...endpoints(300, 340)])).toEqual([
      'a 60',
      'b 90',
      'new 41*',
    ]);
  });

  test('fill slices that are written anyway first, the fullest of them before others, and are not kept together', () => {
    const [, ...restOfA] = a;
    const [, ...restOfB] = b;
    const wanted = [...restOfA, ...restOfB, ...endpoints(300, 314)];
    expect(pack([slice('a', a), slice('b', b)], wanted)).toEqual(['a 63*', 'b 100*']); // 89 + 11, 59 + 4
  });

  test('and an endpoint that changes is written where it is', () => {
    const changed = [...a.slice(1), ...endpoints(1, 1, false)];
    expect(pack([slice('a', a), slice('b', b)], [...changed, ...b])).toEqual(['a 60*', 'b 90']);
  });
});

test('slices are never evened out, and one without endpoints is left empty', () => {
  const [a, b] = [endpoints(1, 100), endpoints(101, 200)];
  expect(pack([slice('a', a), slice('b', b)], [...a.slice(0, 1), ...b.slice(0, 1)])).toEqual(['a 1*', 'b 1*']);
  expect(pack([slice('a', a), slice('b', b)], a)).toEqual(['a 100', 'b 0*']);
});

test('an endpoint in two slices stays in the first', () => {
  const a = endpoints(1, 2);
  expect(pack([slice('a', a), slice('b', a)], a)).toEqual(['a 2', 'b 0*']);
});
