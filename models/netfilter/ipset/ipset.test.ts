import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Instant, s } from '../../../engine/time.ts';
import { PROTOCOL_ICMP, PROTOCOL_UDP } from '../../packet/frame.ts';
import { type FrameFields, frameOf, TestNamespace, unindent } from '../rules.fixture.ts';
import { IpSets } from './ip-sets.ts';
import { listIpsets, printIpsets, restoreIpsets } from './ipset-text.ts';

const SAVED = readFileSync(join(import.meta.dirname, '../testdata/sets.ipset'), 'utf8');

function setsOf(text: string): IpSets {
  const sets = new IpSets();
  restoreIpsets(sets, unindent(text));
  return sets;
}

describe('text', () => {
  test('what ipset save prints is read, and printed the same', () => {
    const sets = new IpSets();
    restoreIpsets(sets, SAVED);
    expect(printIpsets(sets)).toBe(SAVED);
  });

  test('and the real ipset agrees', ({ skip }) => {
    const probe = spawnSync('unshare', ['-n', 'ipset', 'list', '-n'], { encoding: 'utf8' });
    if (probe.status !== 0) skip(`needs root and ipset: ${probe.error?.message ?? probe.stderr.trim()}`);
    const real = spawnSync('unshare', ['-n', 'sh', '-c', 'ipset restore && ipset save'], {
      encoding: 'utf8',
      input: SAVED,
    });
    expect(real.stderr).toBe('');
    // The order in a hash is the hash's, a second may have passed, and the kernel draws what was not given.
    const comparable = (text: string): string[] =>
      text
        .replace(/ timeout \d+/g, ' timeout')
        .replace(/ bucketsize \d+ initval \w+/g, '')
        .trim()
        .split('\n')
        .sort();
    expect(comparable(real.stdout)).toEqual(comparable(SAVED));
  });

  test('ranges stand for their elements; other spellings are printed as the kernel has them', () => {
    const sets = setsOf(`
      create A hash:ip,port
      add A 10.0.0.1-10.0.0.2,80-81
      add A 10.0.0.9,http
      add -exist A 10.0.0.9,tcp:80
      create B hash:net
      add B 10.1.2.3/8
      create P bitmap:port range 1-9
      add P tcp:2-3
    `);
    expect(printIpsets(sets)).toBe(
      unindent(`
        create A hash:ip,port family inet hashsize 1024 maxelem 65536
        add A 10.0.0.1,tcp:80
        add A 10.0.0.1,tcp:81
        add A 10.0.0.2,tcp:80
        add A 10.0.0.2,tcp:81
        add A 10.0.0.9,tcp:80
        create B hash:net family inet hashsize 1024 maxelem 65536
        add B 10.0.0.0/8
        create P bitmap:port range 1-9
        add P 2
        add P 3
      `),
    );
  });

  test('ipset list', () => {
    expect(listIpsets(setsOf('create A hash:ip counters\nadd A 10.0.0.1'))).toBe(
      unindent(`
        Name: A
        Type: hash:ip
        Header: family inet hashsize 1024 maxelem 65536 counters
        Number of entries: 1
        Members:
        10.0.0.1 packets 0 bytes 0
      `),
    );
  });

  test('elements end after their time', () => {
    const sets = setsOf(
      'create A hash:ip timeout 10\nadd A 10.0.0.1\nadd A 10.0.0.2 timeout 0\nadd A 10.0.0.3 timeout 20',
    );
    const savedAt = (seconds: number): string[] =>
      printIpsets(sets, { now: s(seconds) as number as Instant })
        .trim()
        .split('\n')
        .slice(1);
    expect(savedAt(9)).toEqual(['add A 10.0.0.1 timeout 1', 'add A 10.0.0.2 timeout 0', 'add A 10.0.0.3 timeout 11']);
    expect(savedAt(10)).toEqual(['add A 10.0.0.2 timeout 0', 'add A 10.0.0.3 timeout 10']);
  });

  test.each<[command: string, message: string]>([
    ['add hip 10.0.0.300', 'found "10.0.0.300" after "hip"; expected an element of a hash:ip'],
    ['add nosuch 1.1.1.1', 'found "nosuch" after "add"; expected the name of a set'],
    ['create hip hash:ip', 'set hip exists already'],
    ['create x hash:foo', 'found "hash:foo" after "x"; expected one of hash:ip, hash:net'],
    ['add hnet 10.0.0.0/33', 'expected an element of a hash:net'],
    ['add hip 10.0.1.5', 'cannot add to set hip: it is in the set already'], // netmask 24
    ['del hip 9.9.9.9', 'cannot delete from set hip: it is not in the set'],
    ['add hipp 10.0.0.1', 'expected an element of a hash:ip,port'],
    ['add hipp 10.0.0.1,tcp:70000', 'expected an element of a hash:ip,port'],
    ['add hipp 10.0.0.1,foo:1', 'expected an element of a hash:ip,port'],
    ['add bp 5', "cannot add to set bp: port 5 is outside the set's range 1000-2000"],
    ['add hip fd00::1', 'expected an element of a hash:ip'],
    ['add hip6 1.1.1.1', 'expected an element of a hash:ip of IPv6'],
    ['add hip6 fd00::/64', 'expected an element of a hash:ip of IPv6'],
    ['create y hash:ip maxelem x', 'found "x" after "maxelem"; expected a whole number from 0 to 4294967295'],
    ['create y hash:ip family foo', 'found "foo" after "family"; expected inet or inet6'],
    ['create y hash:ip foo 3', 'found "foo" after "hash:ip"; expected one of netmask, family'],
    ['create y bitmap:port', 'bitmap:port needs range FIRST-LAST'],
    ['create y hash:ip timeout 2147484', 'expected a whole number from 0 to 2147483'],
    ['create 12345678901234567890123456789012 hash:ip', 'expected a name of up to 31 characters'],
    ['add ls nosuch', 'cannot add to set ls: there is no set nosuch'],
    ['add hni 10.0.0.0/8', 'expected an element of a hash:net,iface'],
    ['add hnet 10.5.0.0/16 timeout 5', 'cannot add to set hnet: the set has no timeouts'],
    ['add hip6 fd00::2 comment x', 'cannot add to set hip6: the set has no comments'],
    ['add hip6 fd00::2 nomatch', 'cannot add to set hip6: nomatch is for sets of networks'],
    ['add hnet 0.0.0.0/0', 'cannot add to set hnet: a network of length 0'],
    ['add hip 0.0.0.0', 'cannot add to set hip: the address of all zeros'],
    ['add hip 1.1.1.1 foo', 'found "foo" after "1.1.1.1"; expected one of timeout, nomatch, packets, bytes, comment'],
    ['destroy hip', 'set hip is in list:set ls; cannot destroy it'],
    ['rename hip hnet', 'set hnet exists; expected a new name'],
    ['swap hip hipp', 'sets hip and hipp are of different types; cannot swap them'],
    ['frob x', 'found "frob"; expected create, add, del, flush, destroy, rename or swap'],
    ['add hip', 'found the end of the line after "hip"; expected an element of a hash:ip'],
  ])('%s is refused', (command, message) => {
    const sets = new IpSets();
    restoreIpsets(sets, SAVED);
    expect(() => restoreIpsets(sets, command, { fileName: 'node-1.ipset' })).toThrow(`node-1.ipset:1: `);
    expect(() => restoreIpsets(sets, command, { fileName: 'node-1.ipset' })).toThrow(message);
  });
});

/** A namespace with sets and one rule; does the rule match the frame that came by eth0 and leaves by cbr0? */
function matches(sets: string, rule: string, fields: FrameFields = {}): boolean {
  const family = fields.from?.includes(':') ? 6 : 4;
  const node = new TestNamespace(`*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${rule} -j DROP\nCOMMIT`, { family });
  restoreIpsets(node.sets, unindent(sets));
  return node.walk(frameOf(fields), 'filter', 'FORWARD', { in: 'eth0', out: 'cbr0' }) === 'DROP';
}

describe('a frame from 10.0.0.1:40000 to 10.0.0.2:80', () => {
  test.each<[set: string, rule: string, expected: boolean, fields?: FrameFields]>([
    ['create A hash:ip\nadd A 10.0.0.1', 'A src', true],
    ['create A hash:ip\nadd A 10.0.0.1', 'A dst', false],
    ['create A hash:ip netmask 24\nadd A 10.0.0.77', 'A src', true],
    ['create A hash:net\nadd A 10.0.0.0/8', 'A src', true],
    ['create A hash:net\nadd A 10.0.0.0/8\nadd A 10.0.0.0/24 nomatch', 'A src', false], // the longest decides
    ['create A hash:net\nadd A 10.0.0.0/8 nomatch\nadd A 10.0.0.0/24', 'A src', true],
    ['create A hash:net\nadd A 10.0.0.0/8\nadd A 10.0.0.0/24 nomatch', 'A src --return-nomatch', true],
    ['create A hash:net\nadd A 10.0.0.0/8', 'A src --return-nomatch', false],
    ['create A hash:ip,port\nadd A 10.0.0.2,tcp:80', 'A dst,dst', true],
    ['create A hash:ip,port\nadd A 10.0.0.2,tcp:80', 'A dst', false], // too few sides
    ['create A hash:ip,port\nadd A 10.0.0.2,tcp:80', 'A dst,dst,dst', true],
    ['create A hash:ip,port\nadd A 10.0.0.2,udp:80', 'A dst,dst', false],
    ['create A hash:ip,port\nadd A 10.0.0.2,tcp:80', 'A dst,dst', false, { fragmentOffset: 1_480 }],
    [
      'create A hash:ip,port\nadd A 10.0.0.2,icmp:echo-request',
      'A dst,dst',
      true,
      { protocol: PROTOCOL_ICMP, icmpType: 8 },
    ],
    ['create A hash:ip,port\nadd A 10.0.0.2,vrrp:0', 'A dst,src', true, { protocol: 112 }],
    ['create A hash:ip,port,ip\nadd A 10.0.0.2,tcp:80,10.0.0.1', 'A dst,dst,src', true],
    ['create A hash:ip,port,net\nadd A 10.0.0.2,tcp:80,10.0.0.0/30', 'A dst,dst,src', true],
    ['create A hash:net,port\nadd A 10.0.0.0/30,tcp:80', 'A dst,dst', true],
    ['create A hash:net,iface\nadd A 10.0.0.0/30,eth0', 'A src,src', true],
    ['create A hash:net,iface\nadd A 10.0.0.0/30,eth0', 'A src,dst', false], // leaves by cbr0
    ['create A bitmap:port range 0-100\nadd A 80', 'A dst', true],
    ['create A bitmap:port range 0-100\nadd A 80', 'A dst', true, { protocol: PROTOCOL_UDP }],
    ['create A bitmap:port range 0-100\nadd A 80', 'A dst', false, { protocol: 132 }],
    ['create B hash:ip\nadd B 10.0.0.1\ncreate A list:set\nadd A B', 'A src', true],
    ['create A hash:ip family inet6\nadd A fd00::1', 'A src', true, { from: 'fd00::1', to: 'fd00::2' }],
    ['create A hash:net family inet6\nadd A fd00::/63', 'A src', true, { from: 'fd00::1:0:0:0:1', to: 'fd00::2' }],
    ['create A hash:ip family inet6\nadd A fd00::1', 'A src', false],
  ])('%s: -m set --match-set %s: %s', (set, rule, expected, fields = {}) => {
    const option = `-m set --match-set ${rule}`;
    expect(matches(set, option, fields)).toBe(expected);
    expect(matches(set, option.replace('--match-set', '! --match-set'), fields)).toBe(!expected);
  });
});

test('a match counts in the element that it finds, unless it is told not to', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    -A INPUT -m set --match-set A src --packets-gt 1 -j DROP
    -A INPUT -m set --match-set A src ! --update-counters
    COMMIT
  `);
  restoreIpsets(node.sets, 'create A hash:ip counters\nadd A 10.0.0.1 packets 1 bytes 60');
  const verdict = (): string => node.walk(frameOf(), 'filter', 'INPUT');
  expect(verdict()).toBe('ACCEPT'); // 1 is not more than 1, and nobody counts
  restoreIpsets(node.sets, 'add -exist A 10.0.0.1 packets 2 bytes 120');
  expect(verdict()).toBe('DROP');
  expect(printIpsets(node.sets)).toContain('add A 10.0.0.1 packets 3 bytes 180');
});

test('-j SET adds and deletes what the frame is', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    -A INPUT -j SET --add-set SEEN src,dst --exist --timeout 5
    -A OUTPUT -j SET --del-set SEEN dst,src
    COMMIT
  `);
  restoreIpsets(node.sets, 'create SEEN hash:ip,port timeout 10');
  node.walk(frameOf(), 'filter', 'INPUT');
  expect(printIpsets(node.sets)).toContain('add SEEN 10.0.0.1,tcp:80 timeout 5\n');
  node.walk(frameOf({ from: '10.0.0.2', to: '10.0.0.1', srcPort: 80, dstPort: 40_000 }), 'filter', 'OUTPUT');
  expect(printIpsets(node.sets)).not.toContain('add');
});

test('namespaces share the elements of a set until one of them changes its own', () => {
  const one = setsOf('create A hash:ip\nadd A 10.0.0.1');
  const other = new IpSets();
  other.share(one);
  restoreIpsets(other, 'add A 10.0.0.2');
  expect(printIpsets(one)).not.toContain('10.0.0.2');
  expect(printIpsets(other)).toContain('add A 10.0.0.1\nadd A 10.0.0.2\n');
  restoreIpsets(one, 'del A 10.0.0.1');
  expect(printIpsets(other)).toContain('add A 10.0.0.1\n');
});

test('swapped sets exchange what rules find', () => {
  const sets = 'create A hash:ip\nadd A 10.0.0.1\ncreate B hash:ip';
  expect(matches(sets, '-m set --match-set B src')).toBe(false);
  expect(matches(`${sets}\nswap A B`, '-m set --match-set B src')).toBe(true);
});

test('a rule that names a set that is not there says so', () => {
  expect(() => matches('create B hash:ip', '-m set --match-set A src')).toThrow(
    'no set A, which a rule names; there are: B',
  );
});
