import { describe, expect, test } from 'vitest';
import { START } from '../../engine/time.ts';
import { zoneOf } from './connection-zone.ts';
import { Conntrack } from './conntrack.ts';
import { matchesFilter, parseConntrackFilter } from './conntrack-filter.ts';
import { answerTo, readPacket, TestNode } from './netfilter.fixture.ts';

const dns = 'udp 10.244.1.2:4000 > 10.96.0.10:53';
const ping = 'icmp 10.244.1.2 > 10.244.9.9 8/0 id 7';
const web = 'tcp 10.244.1.3:4001 > 10.244.9.9:80 S seq 1';
const away = 'udp 10.244.1.4:4002 > 192.0.2.1:53';

function node(): TestNode {
  const node = new TestNode({
    rules: `
      nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2
      nat POSTROUTING -d 192.0.2.0/24 -j MASQUERADE
    `,
  });
  for (const packet of [dns, ping, web, away]) node.forward(packet);
  node.forward(answerTo(ping));
  return node;
}

const nameOf = (originalPort: number, protocol: number): string =>
  [dns, ping, web, away].find((packet) => {
    const frame = readPacket(packet);
    return frame.protocol === protocol && (frame.srcPort === originalPort || protocol === 1);
  }) ?? '';

describe('conntrack -D deletes', () => {
  test.each([
    ['-p udp', [dns, away]],
    ['-p udp --orig-dst 10.96.0.10 --dport 53', [dns]],
    ['-d 10.96.0.0/16', [dns]],
    ['--orig-dst 10.96.0.10 --dst-nat 10.244.2.2', [dns]],
    ['--orig-dst 10.96.0.10 --dst-nat 10.244.2.3', []],
    ['--reply-src 10.244.2.2', [dns]],
    ['--src-nat', [away]],
    ['-n 10.244.1.1', [away]],
    ['-j', [dns, away]],
    ['-j 10.244.1.1', [away]],
    ['-s 10.244.1.2', [dns, ping]],
    ['--state SYN_SENT', [web]],
    ['-u SEEN_REPLY', [ping]],
    ['-u ASSURED', []],
    ['--sport 4001 --reply-port-src 80', [web]],
    ['-f ipv6', []],
    ['-f ipv4 -p 1', [ping]],
    ['', [dns, ping, web, away]],
  ])('%s', (options, deleted) => {
    const { conntrack } = node().netfilter;
    const filter = parseConntrackFilter(options);
    const matching = conntrack.list().filter((entry) => matchesFilter(entry, filter));
    expect(matching.map(({ original }) => nameOf(original.srcPort, original.protocol)).sort()).toEqual(deleted.sort());
    expect(conntrack.delete((entry) => matchesFilter(entry, filter))).toBe(deleted.length);
    expect(conntrack.list()).toHaveLength(4 - deleted.length);
  });

  test('by mark, with a mask or without, and by zone', () => {
    const conntrack = new Conntrack({ instant: START, current: 0 });
    for (const [port, mark, zone] of [
      [1, 0x4000, 0],
      [2, 0x4001, zoneOf(5)],
    ] as const) {
      const frame = readPacket(`udp 10.244.1.2:${port} > 10.244.2.2:53`);
      frame.conntrackZone = zone;
      conntrack.track(frame);
      conntrack.setMark(frame, mark);
      conntrack.confirm(frame);
    }
    const found = (options: string) =>
      conntrack.list().filter((entry) => matchesFilter(entry, parseConntrackFilter(options))).length;
    expect(['-m 0x4000', '-m 0x4000/0x4000', '-m 1/1', '-m 2', '-w 5', '-w 0'].map(found)).toEqual([1, 2, 1, 0, 1, 1]);
  });
});

test.each([
  ['-x', 'option "-x" of conntrack; expected one of -p --proto -s'],
  ['-p nothing', '-p nothing; expected a number from 0 to 255'],
  ['-d 10.96.0', '-d 10.96.0; expected an address, or ADDRESS/LENGTH'],
  ['--dport', '--dport without a value; expected a number from 0 to 65535'],
  ['--dport 70000', '--dport 70000; expected a number from 0 to 65535'],
  ['--state OPEN', '--state OPEN; expected a state of TCP: NONE, SYN_SENT,'],
  ['-u DEAD', '-u DEAD; expected some of ASSURED,SEEN_REPLY'],
  ['-f ip', '-f ip; expected ipv4 or ipv6'],
  ['-m 1/x', '-m x; expected a number from 0 to 4294967295'],
])('%s is refused with what was expected', (options, message) => {
  expect(() => parseConntrackFilter(options)).toThrow(message);
});
