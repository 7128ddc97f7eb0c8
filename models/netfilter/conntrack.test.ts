import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ms, ns, START, s, us } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import type { Frame } from '../packet/frame.ts';
import { formatIp, parseIp } from '../packet/ip-address.ts';
import { Chain } from './chain.ts';
import { zoneOf } from './connection-zone.ts';
import { Conntrack } from './conntrack.ts';
import { CONFIRMED, ORIGINAL, REPLY } from './conntrack-table.ts';
import { formatConntrack } from './conntrack-text.ts';
import { answerTo, readPacket, statesOf, TestNode } from './netfilter.fixture.ts';

/** Conntrack alone: packets in, states out. */
function tracker() {
  const conntrack = new Conntrack({ instant: START, current: 0 });
  const track = (packet: string | { packet: string; zone: number }): Frame => {
    const frame = readPacket(typeof packet === 'string' ? packet : packet.packet);
    if (typeof packet !== 'string') frame.conntrackZone = packet.zone;
    conntrack.track(frame);
    conntrack.confirm(frame);
    return frame;
  };
  return {
    conntrack,
    track,
    pass: (packet: Parameters<typeof track>[0]) => statesOf(track(packet)),
    entries: () => conntrack.list().map((entry) => formatConntrack(entry, START)),
  };
}

const QUERY = 'udp 10.244.1.2:4000 > 10.244.2.2:53';
const ANSWER = answerTo(QUERY);

describe('who is tracked', () => {
  test('nobody, as long as no rule needs it', () => {
    const node = new TestNode({ rules: 'filter FORWARD -p udp -j ACCEPT' });
    node.netfilter.tables.replaceChains('nat', [new Chain('PREROUTING', [], 'ACCEPT')]);
    expect(node.stateOf(QUERY)).toBe('');
    expect(node.entries).toEqual([]);

    node.addRules('filter FORWARD -m conntrack --ctstate NEW');
    expect(node.stateOf(QUERY)).toBe('NEW');
    expect(node.entries).toEqual([
      'udp      17 30 src=10.244.1.2 dst=10.244.2.2 sport=4000 dport=53 [UNREPLIED] ' +
        'src=10.244.2.2 dst=10.244.1.2 sport=53 dport=4000 mark=0 use=1',
    ]);
  });

  test('a frame that raw marks NOTRACK is UNTRACKED', () => {
    const node = new TestNode({
      rules: 'raw PREROUTING -p udp -j CT --notrack\nfilter OUTPUT -m conntrack --ctstate INVALID',
    });
    expect(node.stateOf(QUERY)).toBe('UNTRACKED');
    expect(node.stateOf('tcp 10.244.1.2:4000 > 10.244.2.2:80 S')).toBe('NEW');
    expect(node.entries).toHaveLength(1);
  });

  test('a packet that a rule drops leaves no entry behind', () => {
    const node = new TestNode({ rules: 'filter FORWARD -m conntrack --ctstate NEW -j DROP' });
    for (let port = 1; port <= 100; port++)
      expect(node.forward(`udp 10.244.1.2:${port} > 10.244.2.2:53`)).toBe('NETFILTER_DROP');
    expect(node.netfilter.conntrack.count).toBe(0);
  });

  test('the record of a connection that a reset refused begins afresh', () => {
    const { track, entries } = tracker();
    track('tcp 10.244.1.2:4000 > 10.244.2.2:80 S').reset(); // it has arrived: its frame is somebody else's
    track('tcp 10.244.2.2:80 > 10.244.1.2:4000 RA').reset();
    track(QUERY);
    expect(entries()).toEqual([expect.stringContaining('dport=53 [UNREPLIED]')]);
  });

  test('a packet that waits between the hooks keeps its entry', () => {
    const node = new TestNode();
    const frame = readPacket(QUERY, node.frames.allocate());
    node.passFrame(frame, []); // a frame that has ended, to be used again below
    const waiting = readPacket(QUERY, node.frames.allocate());
    node.netfilter.run(0, waiting, undefined, undefined);
    node.wait(s(3)); // for an ARP answer
    for (let port = 1; port <= 10; port++) node.forward(`udp 10.244.1.2:${port} > 10.244.2.2:53`);
    node.passFrame(waiting, [4]);
    expect(node.stateOf(ANSWER)).toBe('ESTABLISHED');
  });

  test('a protocol without ports is tracked by its addresses', () => {
    const node = new TestNode();
    expect(node.stateOf('47 10.244.1.2 > 10.244.2.2')).toBe('NEW');
    expect(node.stateOf('47 10.244.2.2 > 10.244.1.2')).toBe('ESTABLISHED');
    expect(node.entries).toEqual([
      'gre      47 30 src=10.244.1.2 dst=10.244.2.2 srckey=0x0 dstkey=0x0 ' +
        'src=10.244.2.2 dst=10.244.1.2 srckey=0x0 dstkey=0x0 mark=0 use=1',
    ]);
    node.forward('47 10.244.1.2 > 10.244.2.2');
    expect(node.entries[0]).toMatch(/^gre {6}47 180 .*\[ASSURED\]/);
    node.forward('50 10.244.1.2 > 10.244.2.2');
    expect(node.entries[1]).toMatch(/^unknown {2}50 600 src=10.244.1.2 dst=10.244.2.2 \[UNREPLIED\]/);
  });
});

describe('UDP in time', () => {
  test('a query without an answer is forgotten after 30 s', () => {
    const node = new TestNode();
    node.forward(QUERY);
    node.wait(ns(29_999_999_999));
    expect(node.entries).toHaveLength(1);
    node.wait(ns(1));
    expect(node.entries).toEqual([]);
    expect(node.stateOf(ANSWER)).toBe('NEW');
  });

  test('every packet prolongs it', () => {
    const node = new TestNode();
    for (let i = 0; i < 10; i++) {
      node.forward(QUERY);
      node.wait(s(29));
    }
    expect(node.entries[0]).toMatch(/^udp {6}17 1 .*UNREPLIED/);
  });

  test('it is ESTABLISHED from the answer on, and a stream once it talks for more than 2 s', () => {
    const node = new TestNode();
    expect(node.stateOf(QUERY)).toBe('NEW');
    expect(node.stateOf(QUERY)).toBe('NEW');
    expect(node.stateOf(ANSWER)).toBe('ESTABLISHED');
    expect(node.stateOf(QUERY)).toBe('ESTABLISHED');
    expect(node.entries[0]).toMatch(/^udp {6}17 30 (?!.*ASSURED)/);

    node.wait(s(2));
    node.forward(QUERY);
    expect(node.entries[0]).toMatch(/^udp {6}17 30 (?!.*ASSURED)/);
    node.wait(ms(1));
    node.forward(QUERY);
    expect(node.entries[0]).toMatch(/^udp {6}17 120 .*\[ASSURED\] mark=0 use=1$/);
  });

  test('one that only asks never becomes a stream', () => {
    const node = new TestNode();
    node.forward(QUERY);
    node.wait(s(10));
    node.forward(QUERY);
    expect(node.entries[0]).toMatch(/^udp {6}17 30 .*UNREPLIED/);
  });
});

describe('ICMP', () => {
  const PING = 'icmp 10.244.1.2 > 10.244.2.2 8/0 id 7';

  test('an echo and its reply are one connection for 30 s', () => {
    const node = new TestNode();
    expect(node.stateOf(PING)).toBe('NEW');
    expect(node.stateOf('icmp 10.244.2.2 > 10.244.1.2 0/0 id 7')).toBe('ESTABLISHED');
    expect(node.stateOf('icmp 10.244.2.2 > 10.244.1.2 0/0 id 8')).toBe('INVALID');
    expect(node.entries).toEqual([
      'icmp     1 30 src=10.244.1.2 dst=10.244.2.2 type=8 code=0 id=7 src=10.244.2.2 dst=10.244.1.2 type=0 code=0 id=7 mark=0 use=1',
    ]);
    node.wait(s(30));
    expect(node.entries).toEqual([]);
  });

  test('an error is RELATED to the connection of the packet that it quotes, whoever sends it', () => {
    const node = new TestNode();
    node.forward(QUERY);
    expect(node.stateOf(`icmp 10.244.2.2 > 10.244.1.2 3/3 about ${QUERY}`)).toBe('RELATED');
    expect(node.stateOf(`icmp 192.168.1.9 > 10.244.1.2 11/0 about ${QUERY}`)).toBe('RELATED');
    expect(node.entries[0]).toContain('[UNREPLIED]');
  });

  test('an error is INVALID if it quotes an unknown packet, quotes nothing, or goes to somebody else', () => {
    const node = new TestNode();
    node.forward(QUERY);
    expect(node.stateOf('icmp 10.244.2.2 > 10.244.1.2 3/3 about udp 10.244.1.2:4001 > 10.244.2.2:53')).toBe('INVALID');
    expect(node.stateOf('icmp 10.244.2.2 > 10.244.1.2 3/3')).toBe('INVALID');
    expect(node.stateOf(`icmp 10.244.2.2 > 10.244.1.3 3/3 about ${QUERY}`)).toBe('INVALID');
    expect(node.netfilter.conntrack.statistics).toMatchObject({ error: 3, invalid: 0 });
  });
});

describe('ICMP messages that begin nothing, as Linux 6.18 counts them', () => {
  test.each([0, 9, 10, 14, 16, 18])('of type %i are invalid', (type) => {
    const { pass, conntrack } = tracker();
    expect(pass(`icmp 10.244.1.2 > 10.244.2.2 ${type}/0`)).toBe('INVALID');
    expect(conntrack.statistics).toMatchObject({ invalid: 1, error: 0 });
  });

  test.each([30, 41, 255])('of type %i are errors', (type) => {
    const { pass, conntrack } = tracker();
    expect(pass(`icmp 10.244.1.2 > 10.244.2.2 ${type}/0`)).toBe('INVALID');
    expect(conntrack.statistics).toMatchObject({ invalid: 0, error: 1 });
  });

  test('an error about an error is one, also if that quotes a known packet', () => {
    const { pass, conntrack } = tracker();
    pass(QUERY);
    const about = `icmp 10.244.1.2 > 10.244.2.2 3/3`;
    expect(pass(`icmp 10.244.2.9 > 10.244.1.2 3/1 about ${about} about ${QUERY}`)).toBe('INVALID');
    expect(conntrack.statistics).toMatchObject({ invalid: 0, error: 1 });
  });

  test('an error about the first fragment of a packet is RELATED, about a later one it is not', () => {
    const { conntrack, pass } = tracker();
    pass(QUERY);
    const states = [0, 8].map((fragmentOffset) => {
      const frame = readPacket(`icmp 10.244.2.9 > 10.244.1.2 3/4 about ${QUERY}`);
      Object.assign(frame.quoted!, { moreFragments: true, fragmentOffset });
      conntrack.track(frame);
      return statesOf(frame);
    });
    expect(states).toEqual(['RELATED', 'INVALID']);
  });
});

describe('IPv6', () => {
  test('an address with the same bits as in IPv4 is another one', () => {
    const { pass } = tracker();
    expect(pass('udp 0.0.0.1:4000 > 0.0.0.2:53')).toBe('NEW');
    expect(pass('udp [::]:4000 > [::1]:53')).toBe('NEW');
    expect(pass('udp [::1]:53 > [::]:4000')).toBe('ESTABLISHED');
  });

  test('an echo and its reply are one connection', () => {
    const { pass, entries } = tracker();
    expect(pass('icmpv6 fd00::2 > fd00::3 128/0 id 7')).toBe('NEW');
    expect(pass('icmpv6 fd00::3 > fd00::2 129/0 id 7')).toBe('ESTABLISHED');
    expect(pass('icmpv6 fd00::3 > fd00::2 129/0 id 8')).toBe('INVALID');
    expect(entries()).toEqual([
      'icmpv6   58 30 src=fd00::2 dst=fd00::3 type=128 code=0 id=7 src=fd00::3 dst=fd00::2 type=129 code=0 id=7 mark=0 use=1',
    ]);
  });

  test.each([1, 2, 3, 4])('an error of type %i is RELATED to what it quotes', (type) => {
    const { pass } = tracker();
    pass('udp [fd00::2]:4000 > [fd00::3]:53');
    expect(pass(`icmpv6 fd00::9 > fd00::2 ${type}/0 about udp [fd00::2]:4000 > [fd00::3]:53`)).toBe('RELATED');
    expect(pass(`icmpv6 fd00::9 > fd00::2 ${type}/0 about udp [fd00::2]:4001 > [fd00::3]:53`)).toBe('INVALID');
  });

  test('neighbor discovery is never tracked; a redirect is INVALID', () => {
    const { pass, entries } = tracker();
    for (const type of [130, 131, 132, 133, 134, 135, 136, 143])
      expect(pass(`icmpv6 fe80::2 > fd00::3 ${type}/0`)).toBe('UNTRACKED');
    expect(pass('icmpv6 fe80::2 > fd00::3 137/0')).toBe('INVALID');
    expect(entries()).toEqual([]);
  });
});

test('of several CT targets the first one counts', () => {
  const node = new TestNode({
    rules: `
      raw PREROUTING -p udp -j CT --zone-orig 5
      raw PREROUTING -p udp -j CT --zone-reply 6
      raw PREROUTING -p udp -j CT --notrack
    `,
  });
  expect(node.stateOf(QUERY)).toBe('NEW');
  expect(node.entries[0]).toContain('dport=53 zone-orig=5 [UNREPLIED]');
});

describe('zones', () => {
  const query = (zone: number) => ({ packet: QUERY, zone });
  const answer = (zone: number) => ({ packet: ANSWER, zone });

  test('the same tuple is another connection in another zone', () => {
    const { pass, conntrack } = tracker();
    for (const zone of [0, zoneOf(1), zoneOf(2)]) expect(pass(query(zone))).toBe('NEW');
    for (const zone of [0, zoneOf(1), zoneOf(2)]) expect(pass(answer(zone))).toBe('ESTABLISHED');
    expect(pass(answer(zoneOf(3)))).toBe('NEW');
    expect(conntrack.list().map(({ zone }) => zone)).toEqual([0, zoneOf(1), zoneOf(2), zoneOf(3)]);
  });

  test('a zone of the original direction leaves the answer in zone 0', () => {
    const { pass } = tracker();
    pass(query(zoneOf(5, 'original')));
    expect(pass(query(0))).toBe('NEW'); // but it would give the answer two owners
    expect(pass(answer(0))).toBe('ESTABLISHED');
    expect(pass(query(zoneOf(5, 'original')))).toBe('ESTABLISHED');
  });

  test('a zone of the reply direction leaves room for the answer as a connection of its own, in zone 0', () => {
    const { pass, conntrack } = tracker();
    pass(query(0));
    expect(pass(answer(zoneOf(2, 'reply')))).toBe('NEW');
    expect(pass(answer(zoneOf(2, 'reply')))).toBe('NEW');
    expect(pass(answer(0))).toBe('ESTABLISHED');
    expect(conntrack.list()).toHaveLength(2);
  });

  test('a zone of the reply direction finds the answer there only', () => {
    const { pass } = tracker();
    pass(query(zoneOf(5, 'reply')));
    expect(pass(answer(0))).toBe('NEW');
    expect(pass(answer(zoneOf(5)))).toBe('ESTABLISHED');
  });
});

test('rules read and write the mark of a connection, which its packets of both directions share', () => {
  const { conntrack, track } = tracker();
  const first = track(QUERY);
  conntrack.setMark(first, 0x4000);
  expect(conntrack.mark(track(ANSWER))).toBe(0x4000);
  expect(conntrack.mark(readPacket(QUERY))).toBe(0); // of a frame that is not tracked
});

test('rules ask for tuples, status, expiry and zone of a connection', () => {
  const { conntrack, track } = tracker();
  const frame = track({ packet: QUERY, zone: zoneOf(7, 'reply') });
  expect(conntrack.expiration(frame)).toBe(s(30));
  expect(conntrack.status(frame)).toBe(CONFIRMED);
  expect([conntrack.zone(frame, ORIGINAL), conntrack.zone(frame, REPLY)]).toEqual([0, 7]);
  expect([conntrack.family(frame), conntrack.protocol(frame)]).toEqual([4, 17]);
  expect([conntrack.srcIp(frame, ORIGINAL), conntrack.dstIp(frame, ORIGINAL)].map((ip) => formatIp(ip))).toEqual([
    '10.244.1.2',
    '10.244.2.2',
  ]);
  expect([conntrack.srcPort(frame, REPLY), conntrack.dstPort(frame, REPLY)]).toEqual([53, 4000]);
});

test('connections are counted by tuples: that of their beginning, or of a frame that has none', () => {
  const { conntrack, track } = tracker();
  const tuple = { srcIp: 0, dstIp: 0, ports: 0, kind: 0, zone: 0 };
  const frame = track({ packet: QUERY, zone: zoneOf(7) });
  conntrack.readTuple(frame, tuple);
  expect(conntrack.find(tuple)).toBe(frame.conntrackEntry);
  conntrack.readTuple(readPacket(ANSWER), tuple);
  expect(conntrack.find(tuple)).toBe(0); // in zone 0
  expect(conntrack.find({ ...tuple, zone: zoneOf(7) })).toBe(frame.conntrackEntry);
  conntrack.flush();
  expect(conntrack.find({ ...tuple, zone: zoneOf(7) })).toBe(0);
});

test('a connection that a rule resets is over, as in Linux 6.18: CLOSE, for ten seconds', () => {
  const node = new TestNode({ rules: 'filter FORWARD -m conntrack --ctstate INVALID' });
  node.forward('tcp 10.1.0.2:4000 > 10.2.0.2:80 S seq 1000');
  node.forward('tcp 10.2.0.2:80 > 10.1.0.2:4000 S. seq 5000 ack 1001');
  node.forward('tcp 10.1.0.2:4000 > 10.2.0.2:80 . seq 1001 ack 5001');
  expect(node.entries[0]).toMatch(/^tcp {6}6 432000 ESTABLISHED /);
  node.addRules('filter FORWARD -p tcp -j REJECT --reject-with tcp-reset');
  node.forward('tcp 10.1.0.2:4000 > 10.2.0.2:80 P. seq 1001 ack 5001 len 2');
  expect(node.entries[0]).toMatch(/^tcp {6}6 10 CLOSE .*\[ASSURED\]/);
});

describe('the race for one tuple', () => {
  /** Every lookup takes 1 us, so that an entry is confirmed 1 us or more after it was looked for. */
  const SLOW = { ...FREE, conntrackLookupNs: [[0, 1_000]] } as const;

  test('two packets of one UDP socket, on two CPUs at once, share the entry of the first', () => {
    const node = new TestNode({ cpus: 2, costs: SLOW });
    expect(node.forward(QUERY, { cpu: 0 })).toBe(QUERY);
    expect(node.forward(QUERY, { cpu: 1 })).toBe(QUERY);
    expect(node.netfilter.conntrack.statistics).toMatchObject({ clash_resolve: 1, insert_failed: 0, drop: 0 });
    node.wait(us(1));
    expect(node.entries).toHaveLength(1);
    expect(node.netfilter.conntrack.count).toBe(1);
  });

  test('one after the other there is no race', () => {
    const node = new TestNode({ cpus: 2, costs: SLOW });
    node.forward(QUERY, { cpu: 0 });
    node.wait(us(1)); // the lookup begins when the entry is confirmed
    node.forward(QUERY, { cpu: 1 });
    expect(node.netfilter.conntrack.statistics).toMatchObject({ clash_resolve: 0 });
  });

  test('the second of two SYNs is dropped', () => {
    const node = new TestNode({ cpus: 2, costs: SLOW });
    const syn = 'tcp 10.244.1.2:4000 > 10.244.2.2:80 S seq 1000';
    expect(node.forward(syn, { cpu: 0 })).toBe(syn.replace(/ S.*/, ''));
    expect(node.forward(syn, { cpu: 1 })).toBe('CONNTRACK_CLASH');
    expect(node.netfilter.conntrack.statistics).toMatchObject({ clash_resolve: 0, insert_failed: 1, drop: 1 });
    expect(node.netfilter.conntrack.count).toBe(1);
    node.frames.assertConserved();
  });

  test('DNAT to different servers: both packets go on, both answers come back, and the first decides for the rest', () => {
    const node = new TestNode({
      cpus: 2,
      costs: SLOW,
      rules: `
        nat PREROUTING -d 10.96.0.10 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 10.244.2.2
        nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.3.3
      `,
    });
    const query = 'udp 10.244.1.2:4000 > 10.96.0.10:53';
    expect(node.forward(query, { cpu: 0 })).toBe('udp 10.244.1.2:4000 > 10.244.2.2:53');
    expect(node.forward(query, { cpu: 1 })).toBe('udp 10.244.1.2:4000 > 10.244.3.3:53');
    expect(node.netfilter.conntrack.statistics).toMatchObject({ clash_resolve: 1, insert_failed: 0 });
    node.wait(ms(1));
    expect(node.entries).toHaveLength(1); // conntrack -L does not show the loser
    expect(node.forward('udp 10.244.2.2:53 > 10.244.1.2:4000')).toBe('udp 10.96.0.10:53 > 10.244.1.2:4000');
    expect(node.forward('udp 10.244.3.3:53 > 10.244.1.2:4000', { cpu: 1 })).toBe('udp 10.96.0.10:53 > 10.244.1.2:4000');
    node.wait(ms(1));
    expect(node.forward(query)).toBe('udp 10.244.1.2:4000 > 10.244.2.2:53');

    node.wait(s(1)); // the loser was there for one answer, not for long
    expect(node.forward('udp 10.244.3.3:53 > 10.244.1.2:4000')).toBe('udp 10.244.3.3:53 > 10.244.1.2:4000');
  });
});

describe('the race before Linux 5.7', () => {
  const SLOW = { ...FREE, conntrackLookupNs: [[0, 1_000]] } as const;
  const query = 'udp 10.244.1.2:4000 > 10.96.0.10:53';
  const TO_ONE = 'nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2';
  const TO_TWO = `
    nat PREROUTING -d 10.96.0.10 -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 10.244.2.2
    nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.3.3
  `;
  const TRACKING = 'filter FORWARD -m conntrack --ctstate INVALID';
  const second = (rules: string, clashResolution: 'always' | 'identical' | 'untranslated'): string => {
    const node = new TestNode({ cpus: 2, costs: SLOW, rules, conntrack: { clashResolution } });
    node.forward(query, { cpu: 0 });
    const result = node.forward(query, { cpu: 1 });
    const { insert_failed, drop } = node.netfilter.conntrack.statistics;
    expect([insert_failed, drop]).toEqual(result === 'CONNTRACK_CLASH' ? [1, 1] : [0, 0]);
    node.frames.assertConserved();
    return result;
  };

  test('a packet that was sent to another server than the winner is lost: a DNS query in two', () => {
    expect(second(TO_TWO, 'identical')).toBe('CONNTRACK_CLASH');
    expect(second(TO_TWO, 'untranslated')).toBe('CONNTRACK_CLASH');
    expect(second(TO_TWO, 'always')).toBe('udp 10.244.1.2:4000 > 10.244.3.3:53');
  });

  test('a packet with the same translation is lost before 5.0', () => {
    expect(second(TO_ONE, 'identical')).toBe('udp 10.244.1.2:4000 > 10.244.2.2:53');
    expect(second(TO_ONE, 'untranslated')).toBe('CONNTRACK_CLASH');
  });

  test('without translation none is lost', () => {
    for (const clashResolution of ['identical', 'untranslated'] as const)
      expect(second(TRACKING, clashResolution)).toBe(query);
  });
});

describe('a full table', () => {
  const flow = (port: number): string => `udp 10.244.1.2:${port} > 10.244.2.2:53`;

  test('drops what is new and lets pass what is known', () => {
    // A million buckets: the 8 that are searched for a victim are empty.
    const node = new TestNode({ conntrack: { maxEntries: 100, buckets: 1_000_000 } });
    for (let port = 1; port <= 150; port++) node.forward(flow(port));
    expect(node.frames.drops()).toEqual(new Map([['CONNTRACK_FULL', 50]]));
    expect(node.netfilter.conntrack.statistics).toMatchObject({ drop: 50, early_drop: 0 });
    expect(node.forward(flow(1))).toBe(flow(1));
    expect(node.netfilter.conntrack.count).toBe(100);
  });

  test('evicts an entry that is not assured if its bucket is near', () => {
    const node = new TestNode({ conntrack: { maxEntries: 1_024, buckets: 1_024 } });
    for (let port = 1; port <= 1_024 + 501; port++) node.forward(flow(port));
    // 2 tuples per bucket on average: one of 8 buckets has an entry, but for a chance of e^-16.
    expect(node.netfilter.conntrack.statistics.drop).toBe(0);
    expect(node.netfilter.conntrack.statistics.early_drop).toBeGreaterThanOrEqual(501);
    expect(node.netfilter.conntrack.count).toBeLessThanOrEqual(1_024);
  });

  test('never evicts an assured entry', () => {
    const node = new TestNode({ conntrack: { maxEntries: 20, buckets: 1 } });
    for (let port = 1; port <= 20; port++) node.forward(flow(port));
    for (let port = 1; port <= 20; port++) node.forward(answerTo(flow(port)));
    node.wait(s(3));
    for (let port = 1; port <= 20; port++) node.forward(flow(port));
    expect(node.entries.every((entry) => entry.includes('[ASSURED]'))).toBe(true);
    for (let port = 21; port <= 40; port++) expect(node.forward(flow(port))).toBe('CONNTRACK_FULL');
  });

  test('has room again when entries expire', () => {
    const node = new TestNode({ conntrack: { maxEntries: 100, buckets: 1_000_000 } });
    for (let port = 1; port <= 100; port++) node.forward(flow(port));
    node.wait(s(30));
    for (let port = 1; port <= 100; port++) node.forward(flow(1_000 + port));
    expect(node.frames.drops()).toEqual(new Map());
  });

  test('the kernel refuses a maximum that makes no sense', () => {
    expect(() => new Conntrack({ instant: START, current: 0 }, { maxEntries: 0 })).toThrow(
      'nf_conntrack_max 0; expected 1 to 4194303',
    );
  });
});

test('memory is bounded by the entries alive: 10 queries a second, each known for 30 s', () => {
  const node = new TestNode();
  let most = 0;
  for (let query = 1; query <= 10_000; query++) {
    node.forward(`udp 10.244.1.2:${query} > 10.244.2.2:53`);
    most = Math.max(most, node.netfilter.conntrack.count);
    node.wait(ms(100));
  }
  expect(most).toBeGreaterThanOrEqual(300);
  expect(most).toBeLessThanOrEqual(600);
});

test('conntrack -D deletes what matches, conntrack -F everything', () => {
  const node = new TestNode();
  const { conntrack } = node.netfilter;
  for (const server of ['10.244.2.2', '10.244.2.3', '10.244.2.4']) node.forward(`udp 10.244.1.2:4000 > ${server}:53`);
  const dead = parseIp('10.244.2.3');
  expect(conntrack.delete(({ original }) => original.dstIp === dead)).toBe(1);
  expect(conntrack.list().map(({ original }) => original.dstIp)).toEqual(['10.244.2.2', '10.244.2.4'].map(parseIp));
  conntrack.flush();
  expect(conntrack.count).toBe(0);
});

test('a frame that waited while its entry was deleted does not take another one for its own', () => {
  const node = new TestNode({ rules: 'nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2' });
  const frame = readPacket('udp 10.244.1.2:4000 > 10.96.0.10:53', node.frames.allocate());
  node.netfilter.run(0, frame, undefined, undefined);
  node.netfilter.run(4, frame, undefined, undefined);
  node.netfilter.conntrack.flush();
  node.forward('udp 10.244.1.9:4000 > 10.96.0.10:53'); // takes the record that became free
  expect(node.passFrame(frame, [0])).toBe('udp 10.244.1.2:4000 > 10.244.2.2:53');
});

describe('the table against its slow twin', () => {
  /** A connection per key, in a Map from text; both directions. */
  class SlowTwin {
    readonly #directions = new Map<string, { id: string; isReply: boolean }>();

    track(packet: string): string {
      const known = this.#directions.get(packet);
      if (known !== undefined) return `${known.id} ${known.isReply ? 'reply' : 'original'}`;
      this.#directions.set(packet, { id: packet, isReply: false });
      this.#directions.set(answerTo(packet), { id: packet, isReply: true });
      return `${packet} original`;
    }

    delete(packet: string): void {
      const known = this.#directions.get(packet);
      if (known === undefined) return;
      this.#directions.delete(known.id);
      this.#directions.delete(answerTo(known.id));
    }

    get size(): number {
      return this.#directions.size / 2;
    }
  }

  // Few hosts and ports, so that packets meet their connection from both directions.
  const packets = fc
    .record({
      protocol: fc.constantFrom('udp', 'sctp'),
      from: fc.nat(5),
      fromPort: fc.integer({ min: 1, max: 6 }),
      to: fc.nat(5),
      toPort: fc.integer({ min: 1, max: 6 }),
    })
    .map(
      ({ protocol, from, fromPort, to, toPort }) => `${protocol} 10.0.0.${from}:${fromPort} > 10.1.0.${to}:${toPort}`,
    )
    .chain((packet) => fc.constantFrom(packet, answerTo(packet)));
  const steps = fc.array(fc.record({ packet: packets, isDeletion: fc.boolean() }), { minLength: 100, maxLength: 400 });

  test('a tuple finds its entry from both directions, also after deletions', () => {
    fc.assert(
      fc.property(steps, (script) => {
        const node = new TestNode();
        const { conntrack } = node.netfilter;
        const twin = new SlowTwin();
        for (const { packet, isDeletion } of script) {
          if (isDeletion) {
            const { srcIp, srcPort, dstIp, dstPort, protocol } = readPacket(packet);
            const isIt = (tuple: {
              srcIp: number;
              srcPort: number;
              dstIp: number;
              dstPort: number;
              protocol: number;
            }) =>
              tuple.srcIp === srcIp &&
              tuple.srcPort === srcPort &&
              tuple.dstIp === dstIp &&
              tuple.dstPort === dstPort &&
              tuple.protocol === protocol;
            conntrack.delete(({ original, reply }) => isIt(original) || isIt(reply));
            twin.delete(packet);
          } else {
            const frame = readPacket(packet, node.frames.allocate());
            node.netfilter.run(0, frame, undefined, undefined);
            const isReply = frame.conntrackReply;
            expect(`${isReply ? 'reply' : 'original'}`).toBe(twin.track(packet).split(' ').at(-1));
            node.passFrame(frame, [4]);
          }
          expect(conntrack.count).toBe(twin.size);
        }
        const tuples = conntrack
          .list()
          .flatMap(({ original, reply }) => [JSON.stringify(original), JSON.stringify(reply)]);
        expect(new Set(tuples).size).toBe(tuples.length);
      }),
      { numRuns: 30 },
    );
  });
});
