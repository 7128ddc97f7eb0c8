import { describe, expect, test } from 'vitest';
import { formatPrefix, parseIpv6Prefix, parsePrefix } from '../packet/ip-address.ts';
import { makeNode } from './node-objects.ts';
import { type KubeObject, objectFrom } from './objects.ts';
import {
  type ClusterRanges,
  checkRanges,
  completeRanges,
  DEFAULT_RANGES,
  familiesOf,
  formatRanges,
  parseRanges,
  RangesError,
  rangeOf,
  rangesFor,
} from './ranges.ts';

const pod = (podIP: string, hostIP?: string): KubeObject =>
  objectFrom('Pod', { metadata: { name: 'a' }, spec: { containers: [{ name: 'main' }] }, status: { podIP, hostIP } });
const service = (clusterIP: string): KubeObject =>
  objectFrom('Service', { metadata: { name: 'a' }, spec: { clusterIP, ports: [{ port: 80 }] } });

describe('ranges of a snapshot', () => {
  const ranges = (...objects: KubeObject[]) => {
    const { pod, service, node } = rangesFor(objects);
    return [pod, service, node].map(formatPrefix).join(' ');
  };

  test('are the default ones if its addresses lie in them', () => {
    expect(ranges()).toBe('10.244.0.0/16 10.96.0.0/12 192.168.0.0/16');
    expect(ranges(pod('10.244.7.1', '192.168.0.3'), service('10.100.0.1'), service('None'))).toBe(ranges());
  });

  test('otherwise they are around its addresses', () => {
    expect(ranges(pod('10.42.1.9', '172.18.0.3'), pod('10.42.0.3', '172.18.3.2'), service('10.43.0.10'))).toBe(
      '10.42.0.0/16 10.43.0.0/16 172.18.0.0/22',
    );
    expect(ranges(makeNode({ name: 'a', address: '10.0.0.5', podCIDR: '100.64.0.0/14' }))).toBe(
      '100.64.0.0/14 10.96.0.0/12 10.0.0.0/24',
    );
  });

  test('wider, if a ClusterIP would be the first or the last of them', () => {
    // the last of 10.43.0.0/16, of 10.42.0.0/15 and of 10.40.0.0/14
    expect(ranges(service('10.43.255.255'))).toBe('10.244.0.0/16 10.40.0.0/13 192.168.0.0/16');
  });

  test('and what is given is not guessed', () => {
    expect(rangesFor([pod('10.42.1.9')], { pod: parsePrefix('10.42.0.0/15') }).pod).toEqual(
      parsePrefix('10.42.0.0/15'),
    );
  });
});

describe('IP families', () => {
  const texts = (ranges: ClusterRanges) => Object.values(formatRanges(ranges)).join(' ');
  const dual = '10.244.0.0/16 10.96.0.0/12 192.168.0.0/16 fd00:10:244::/56 fd00:10:96::/112 fd00:192:168::/64';
  const six = { pod: parseIpv6Prefix('fd42::/56') };

  test('are those that are asked for, with default ranges where none are given', () => {
    expect(completeRanges({})).toEqual(DEFAULT_RANGES);
    expect(texts(completeRanges({}, 'ipv6'))).toBe('fd00:10:244::/56 fd00:10:96::/112 fd00:192:168::/64');
    expect(texts(completeRanges({}, 'dual'))).toBe(dual);
    expect(familiesOf(completeRanges(six, 'dual'))).toEqual([6, 4]);
    expect(() => completeRanges(six, 'ipv4')).toThrow('range fd42::/56 in a cluster whose family is IPv4');
  });

  test('else those of the given ranges', () => {
    expect(texts(completeRanges(six))).toBe('fd42::/56 fd00:10:96::/112 fd00:192:168::/64');
    expect(familiesOf(completeRanges({ ...six, service: parsePrefix('10.96.0.0/12') }))).toEqual([4, 6]);
    expect(rangeOf(completeRanges({}, 'dual'), 'service', 6)).toEqual(parseIpv6Prefix('fd00:10:96::/112'));
    expect(rangeOf(DEFAULT_RANGES, 'service', 6)).toBeUndefined();
  });

  test('of a snapshot are those of its pods and Services; addresses of nodes alone mean nothing', () => {
    const familiesIn = (...objects: KubeObject[]) => familiesOf(rangesFor(objects));
    expect(familiesIn(pod('10.244.0.3', 'fd18::3'))).toEqual([4]);
    expect(familiesIn(pod('10.244.0.3'), service('fd00::9'))).toEqual([4, 6]);
    expect(familiesIn(pod('fd42::3', 'fd18::3'), service('fd43::9'))).toEqual([6]);
    const { node, service: services, pod: pods } = rangesFor([pod('fd42::3', 'fd18::3'), service('fd43::9')]);
    expect([pods, services, node].map(formatPrefix)).toEqual(['fd42::/56', 'fd43::/112', 'fd18::/64']);
  });

  test('of pods and nodes are the same, and no two ranges of one family overlap', () => {
    const complete = completeRanges({}, 'dual');
    expect(() => checkRanges(complete)).not.toThrow();
    const { secondaryNode: _none, ...withoutNodes } = complete;
    expect(() => checkRanges(withoutNodes)).toThrow('a range of pods of IPv6 and none of nodes');
    for (const [change, message] of [
      [
        { secondaryNode: parsePrefix('172.18.0.0/16') },
        'node ranges 192.168.0.0/16 and 172.18.0.0/16; expected one of each',
      ],
      [
        { secondaryPod: parseIpv6Prefix('fd00:10:96::/56') },
        'second pod range fd00:10:96::/56 overlaps second service range',
      ],
      [{ secondaryPod: parseIpv6Prefix('fd00::/40') }, 'pod range fd00::/40: IPv6 prefix must be /48 or longer'],
      [{ secondaryNode: parseIpv6Prefix('2001:db8:203:113::/96') }, 'overlaps network outside the cluster'],
    ] as const)
      expect(() => checkRanges({ ...complete, ...change })).toThrow(message);
  });
});

test('overlapping ranges are named, both of them', () => {
  expect(() => checkRanges(DEFAULT_RANGES)).not.toThrow();
  expect(() => checkRanges({ ...DEFAULT_RANGES, node: parsePrefix('10.0.0.0/8') })).toThrow(
    'pod range 10.244.0.0/16 overlaps node range 10.0.0.0/8; expected ranges with no address in common',
  );
  expect(() => checkRanges({ ...DEFAULT_RANGES, service: parsePrefix('192.168.5.0/24') })).toThrow(
    'service range 192.168.5.0/24 overlaps node range 192.168.0.0/16',
  );
});

test.each(['0.0.0.0/8', '127.0.0.0/16', '224.1.0.0/16', '255.255.255.0/24', '203.0.113.0/25'])(
  'pods cannot be at %s',
  (range) => expect(() => checkRanges({ ...DEFAULT_RANGES, pod: parsePrefix(range) })).toThrow(RangesError),
);

test('a second service range is of the other family; IPv6 ClusterIPs of a snapshot make one', () => {
  const six = parseIpv6Prefix('fd00:10:96::/112');
  expect(() => checkRanges({ ...DEFAULT_RANGES, secondaryService: six })).not.toThrow();
  expect(() => checkRanges({ ...DEFAULT_RANGES, secondaryService: parsePrefix('10.112.0.0/16') })).toThrow(
    'service ranges 10.96.0.0/12 and 10.112.0.0/16; expected one of each IP family',
  );
  expect(() => checkRanges({ ...DEFAULT_RANGES, secondaryService: parseIpv6Prefix('fd00::/63') })).toThrow(
    'service range fd00::/63: IPv6 prefix must be /64 or longer',
  );
  expect(rangesFor([service('10.96.0.9')]).secondaryService).toBeUndefined();
  expect(rangesFor([service('fd00:10:96::1'), service('fd00:10:96::8000')]).secondaryService).toEqual(six);
  const texts = formatRanges({ ...DEFAULT_RANGES, secondaryService: six });
  expect(texts.secondaryService).toBe('fd00:10:96::/112');
  expect(parseRanges(texts)).toEqual({ ...DEFAULT_RANGES, secondaryService: six });
});
