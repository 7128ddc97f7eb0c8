// What packets look like, as rules test and change it. All of it was compared with Linux 6.18, packet by packet.

import { describe, expect, test } from 'vitest';
import { s } from '../../../engine/time.ts';
import { type DeviceRef, PROTOCOL_UDP, TCP_ACK, TCP_SYN } from '../../packet/frame.ts';
import { BROADCAST_MAC, parseMac } from '../../packet/mac.ts';
import { type FrameFields, frameOf, TestNamespace } from '../rules.fixture.ts';

const ETH0: DeviceRef = { name: 'eth0', index: 1 };

/** Does the rule match the frame that came by eth0 and leaves by cbr0? */
function matches(rule: string, fields: FrameFields = {}): boolean {
  const node = new TestNamespace(`*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${rule} -j DROP\nCOMMIT`);
  return node.walk(frameOf(fields), 'filter', 'FORWARD', { in: 'eth0', out: 'cbr0' }) === 'DROP';
}

describe('a TCP segment of 60 bytes', () => {
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-m length --length 60', {}, true],
    ['-m length --length 28:59', {}, false],
    ['-m length ! --length 28:59', {}, true],
    ['-m length --length 80:20', {}, false], // accepted, and never matches
    ['-m ttl --ttl-eq 64', {}, true],
    ['-m ttl ! --ttl-eq 64', {}, false],
    ['-m ttl --ttl-lt 64', { ttl: 63 }, true],
    ['-m ttl --ttl-gt 64', {}, false],
    ['-m tos --tos 0x28', { typeOfService: 0x28 }, true],
    ['-m tos --tos 0x08/0x0f', { typeOfService: 0x28 }, true],
    ['-m tos ! --tos 0x28', { typeOfService: 0x28 }, false],
    ['-m dscp --dscp-class AF11', { typeOfService: 0x2b }, true], // the two lowest bits do not count
    ['-m dscp ! --dscp 10', { typeOfService: 0x2b }, false],
    ['-m mac --mac-source 02:00:00:00:00:01', { srcMac: parseMac('02:00:00:00:00:01') }, true],
    ['-m mac ! --mac-source 02:00:00:00:00:01', { srcMac: parseMac('02:00:00:00:00:01') }, false],
    ['-m pkttype --pkt-type unicast', { dstMac: parseMac('02:00:00:00:00:01') }, true],
    ['-m pkttype --pkt-type multicast', { dstMac: parseMac('01:00:5e:00:00:01'), receivedOn: ETH0 }, true],
    ['-m pkttype --pkt-type broadcast', { dstMac: BROADCAST_MAC, receivedOn: ETH0 }, true],
    ['-m pkttype --pkt-type unicast', { dstMac: BROADCAST_MAC }, true], // made here
    ['-p tcp --tcp-option 2', { mssOption: 1_460 }, true],
    ['-p tcp ! --tcp-option 2', {}, true],
    ['-p tcp --tcp-option 5', { mssOption: 1_460 }, false],
    ['-f', { fragmentOffset: 1_480 }, true],
    ['-f', {}, false],
    ['! -f', { moreFragments: true }, true], // the first one
    ['-p 6', {}, true],
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, fields)).toBe(expected);
  });
});

describe('targets change', () => {
  const changed = (rule: string, fields: FrameFields = {}) => {
    const node = new TestNamespace(`*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${rule}\nCOMMIT`);
    const frame = frameOf(fields);
    node.walk(frame, 'mangle', 'FORWARD');
    return frame;
  };

  test.each<[rule: string, before: number, after: number]>([
    ['-j TOS --set-tos 0x10', 0xff, 0x10],
    ['-j TOS --set-tos 0x0f/0x3c', 0xff, 0xcc], // clears 0x3c, then xors
    ['-j TOS --or-tos 0xf0', 0x0c, 0xfc],
    ['-j DSCP --set-dscp 10', 0x03, 0x2b],
  ])('the type of service: %s of %i', (rule, before, after) => {
    expect(changed(rule, { typeOfService: before }).typeOfService).toBe(after);
  });

  test('the segment size that a SYN announces, downwards only', () => {
    const rule = '-p tcp --syn -j TCPMSS --set-mss 1000';
    expect(changed(rule, { tcpFlags: TCP_SYN, mssOption: 1_460 }).mssOption).toBe(1_000);
    expect(changed(rule, { tcpFlags: TCP_SYN, mssOption: 900 }).mssOption).toBe(900);
    expect(changed(rule, { tcpFlags: TCP_ACK }).mssOption).toBe(0);
    // Without the option a SYN means 536, and gets no more; one with data stays as it is.
    const bare = changed(rule, { tcpFlags: TCP_SYN, payloadBytes: 0 });
    expect([bare.mssOption, bare.ipBytes()]).toEqual([536, 44]);
    expect(changed(rule, { tcpFlags: TCP_SYN, payloadBytes: 5 }).mssOption).toBe(0);
  });
});

describe('hashlimit', () => {
  const node = (rule: string) =>
    new TestNamespace(`*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m hashlimit ${rule} -j DROP\nCOMMIT`);
  const drops = (namespace: TestNamespace, fields: FrameFields, count: number): number =>
    Array.from({ length: count }, () => namespace.walk(frameOf(fields), 'filter', 'INPUT')).filter((v) => v === 'DROP')
      .length;

  test('rules of one name share the buckets that the first of them asked for; builtin chains come first', () => {
    const shared = new TestNamespace(`
      *filter
      :A - [0:0]
      :INPUT ACCEPT [0:0]
      -A A -m hashlimit --hashlimit-upto 1/min --hashlimit-burst 3 --hashlimit-mode srcip,srcport --hashlimit-name d -j DROP
      -A INPUT -m hashlimit --hashlimit-above 1/min --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name d -j DROP
      -A INPUT -j A
      COMMIT
    `);
    const walks = [1, 2].map((srcPort) => shared.walk(frameOf({ srcPort }), 'filter', 'INPUT'));
    expect(walks[0]).toBe('ACCEPT'); // by the only token
    expect(walks[1]).toBe('DROP');
  });

  test('has a bucket per source, and above takes those that find none', () => {
    const limited = node('--hashlimit-above 1/min --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name a');
    expect(drops(limited, {}, 5)).toBe(3);
    expect(drops(limited, { from: '10.0.0.9' }, 5)).toBe(3);
    limited.wait(s(60)); // a bucket that nobody asked for a minute is full again
    expect(drops(limited, {}, 5)).toBe(3);
  });

  test('neighbors share a bucket under a mask, and tokens come back one by one', () => {
    const limited = node(
      '--hashlimit-upto 1/sec --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-srcmask 24 --hashlimit-name b --hashlimit-htable-expire 60000',
    );
    expect(drops(limited, {}, 1) + drops(limited, { from: '10.0.0.9' }, 4)).toBe(2);
    limited.wait(s(1));
    expect(drops(limited, {}, 5)).toBe(1);
  });

  test('a full table drops whoever needs another bucket, whatever the rule says', () => {
    const full = new TestNamespace(`
      *filter
      :INPUT ACCEPT [0:0]
      -A INPUT -m hashlimit --hashlimit-upto 1/min --hashlimit-mode dstport --hashlimit-name c --hashlimit-htable-size 2 --hashlimit-htable-max 2
      COMMIT
    `);
    const verdict = (dstPort: number): string =>
      full.walk(frameOf({ protocol: PROTOCOL_UDP, dstPort }), 'filter', 'INPUT');
    expect([verdict(1), verdict(2), verdict(3), verdict(1)]).toEqual(['ACCEPT', 'ACCEPT', 'DROP', 'ACCEPT']);
  });
});
