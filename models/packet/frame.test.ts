import { expect, test } from 'vitest';
import { ETHERTYPE_ARP, Frame, PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from './frame.ts';

test.each<[string, number, Partial<Frame>]>([
  ['an ARP request', 14 + 28, { etherType: ETHERTYPE_ARP }],
  ['an empty datagram', 14 + 20 + 8, { protocol: PROTOCOL_UDP }],
  ['a datagram', 14 + 20 + 8 + 120, { protocol: PROTOCOL_UDP, payloadBytes: 120 }],
  ['a later fragment', 14 + 20 + 500, { protocol: PROTOCOL_UDP, fragmentOffset: 1480, payloadBytes: 500 }],
  ['an atomic fragment', 14 + 40 + 8 + 8, { family: 6, protocol: PROTOCOL_UDP, isAtomicFragment: true }],
  ['a bare ACK', 14 + 20 + 20, { protocol: PROTOCOL_TCP }],
  ['an ACK with timestamps', 14 + 20 + 20 + 12, { protocol: PROTOCOL_TCP, timestampValue: 1 }],
  [
    'a SYN of Linux',
    14 + 20 + 20 + 4 + 4 + 12,
    { protocol: PROTOCOL_TCP, tcpFlags: TCP_SYN, mssOption: 1460, windowScaleOption: 7, timestampValue: 1 },
  ],
  ['a SYN with a window scale of 0', 14 + 20 + 20 + 4, { protocol: PROTOCOL_TCP, windowScaleOption: 0 }],
  ['an echo request of ping', 14 + 20 + 8 + 56, { protocol: PROTOCOL_ICMP, icmpType: 8, payloadBytes: 56 }],
  ['an ICMP error', 14 + 20 + 8 + 20 + 8, { protocol: PROTOCOL_ICMP, icmpType: 3, quoted: datagram(0) }],
  ['an ICMP error about much', 14 + 576, { protocol: PROTOCOL_ICMP, icmpType: 3, quoted: datagram(1_400) }],
])('%s is %d bytes long', (_, sizeBytes, fields) => {
  const frame = Object.assign(new Frame(), fields);
  frame.updateSize();
  expect(frame.sizeBytes).toBe(sizeBytes);
});

function datagram(payloadBytes: number): Frame {
  return Object.assign(new Frame(), { protocol: PROTOCOL_UDP, payloadBytes });
}

test('metadata does not survive leaving a namespace; the journey and the packet do', () => {
  const frame = Object.assign(new Frame(), { mark: 0x4000, conntrackEntry: 5, preRoutingDone: true, ttl: 63 });
  frame.clearMetadata();
  expect(frame).toEqual(Object.assign(new Frame(), { ttl: 63 }));
});
