import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contains, formatPrefix, overlaps, type Prefix, parseIpv6Prefix, parsePrefix } from '../packet/ip-address.ts';
import { PodCidrs } from './pod-cidrs.ts';

test('pieces come in order, and a released one comes round again last', () => {
  const cidrs = new PodCidrs(parsePrefix('10.244.0.0/22'));
  const next = (node: string) => {
    const piece = cidrs.allocate(node);
    return piece && formatPrefix(piece);
  };
  expect([next('a'), next('b')]).toEqual(['10.244.0.0/24', '10.244.1.0/24']);
  cidrs.release('a');
  expect([next('c'), next('d'), next('e'), next('f')]).toEqual([
    '10.244.2.0/24',
    '10.244.3.0/24',
    '10.244.0.0/24',
    undefined,
  ]);
});

test('a range smaller than a piece goes to one node', () => {
  const cidrs = new PodCidrs(parsePrefix('10.244.0.0/28'));
  expect(cidrs.allocate('a')).toEqual(parsePrefix('10.244.0.0/28'));
  expect(cidrs.allocate('b')).toBeUndefined();
});

test('a piece of an IPv6 range is a /64', () => {
  const cidrs = new PodCidrs(parseIpv6Prefix('fd00:10:244:ff00::/62'));
  const pieces = ['a', 'b', 'c', 'd'].map((node) => formatPrefix(cidrs.allocate(node) as Prefix));
  expect(pieces).toEqual([0, 1, 2, 3].map((piece) => `fd00:10:244:ff0${piece}::/64`));
  expect(cidrs.allocate('e')).toBeUndefined();
  expect(cidrs.ownerOf(parseIpv6Prefix('fd00:10:244:ff02:8000::/65'), 'e')).toBe('c');
});

const IPV4 = {
  range: parsePrefix('10.244.0.0/20'),
  brought: (host: number, spare: number) => parsePrefix(`10.244.${host >> 8}.${host & 255}/${20 + spare}`),
};
const IPV6 = {
  range: parseIpv6Prefix('fd00:10:244:10::/60'),
  brought: (host: number, spare: number) =>
    parseIpv6Prefix(`fd00:10:244:1${(host >> 8).toString(16)}:${(host & 255).toString(16)}00::/${60 + spare}`),
};

test.each([IPV4, IPV6])(
  'pieces of $range.family never overlap, whatever nodes bring and give back',
  ({ range, brought: at }) => {
    const brought = fc.tuple(fc.nat(4_095), fc.integer({ min: 0, max: 8 })).map(([host, spare]) => at(host, spare));
    const steps = fc.array(fc.oneof(fc.constant('allocate' as const), fc.constant('release' as const), brought), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(steps, (all) => {
        const cidrs = new PodCidrs(range);
        const held = new Map<string, Prefix>();
        for (const [step, action] of all.entries()) {
          const node = `node-${step}`;
          if (action === 'release') {
            const [oldest] = held.keys();
            if (oldest === undefined) continue;
            cidrs.release(oldest);
            held.delete(oldest);
          } else if (action === 'allocate') {
            const piece = cidrs.allocate(node);
            if (piece !== undefined) held.set(node, piece);
          } else {
            const owner = cidrs.ownerOf(action, node);
            expect(owner !== undefined).toBe([...held.values()].some((other) => overlaps(action, other)));
            if (owner !== undefined) continue;
            cidrs.take(node, action);
            held.set(node, action);
          }
          const pieces = [...held.values()];
          expect(pieces.every((piece) => contains(range, piece.net))).toBe(true);
          for (const [index, piece] of pieces.entries()) {
            expect(pieces.slice(index + 1).some((other) => overlaps(piece, other))).toBe(false);
          }
        }
      }),
    );
  },
);
