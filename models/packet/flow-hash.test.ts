import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hashForLabel, lastingFlowHash, steeringHash, symmetricFlowHash } from './flow-hash.ts';
import { Frame, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_UDP } from './frame.ts';
import type { Ip } from './ip-address.ts';
import { internIpv6 } from './ipv6-address.ts';

const anyInt32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const port = fc.integer({ min: 0, max: 65_535 });
const ports = { srcPort: port, dstPort: port, protocol: fc.constantFrom(PROTOCOL_UDP, PROTOCOL_ICMP) };
const ipv4 = anyInt32.map((ip) => ip as Ip);
const ipv6 = fc.tuple(anyInt32, anyInt32, anyInt32, anyInt32).map((words) => internIpv6(...words));
const anyFlow = fc.oneof(
  fc.record({ family: fc.constant(4 as const), srcIp: ipv4, dstIp: ipv4, ...ports }),
  fc.record({ family: fc.constant(6 as const), srcIp: ipv6, dstIp: ipv6, ...ports }),
);

test('the kernel sees one flow in both directions', () => {
  fc.assert(
    fc.property(anyFlow, ({ srcIp, dstIp, srcPort, dstPort, ...rest }) => {
      const there = Object.assign(new Frame(), { ...rest, srcIp, dstIp, srcPort, dstPort });
      const back = Object.assign(new Frame(), {
        ...rest,
        srcIp: dstIp,
        dstIp: srcIp,
        srcPort: dstPort,
        dstPort: srcPort,
      });
      expect(symmetricFlowHash(back)).toBe(symmetricFlowHash(there));
    }),
  );
});

test('a hash with ports stays what it was when it was first asked for, one without does not', () => {
  for (const [protocol, stays] of [
    [PROTOCOL_UDP, true],
    [PROTOCOL_ICMP, false],
  ] as const) {
    const frame = Object.assign(new Frame(), { protocol, srcIp: 1, dstIp: 2, srcPort: 3, dstPort: 53 });
    const before = lastingFlowHash(frame);
    frame.dstIp = 7 as Ip; // by DNAT
    expect(lastingFlowHash(frame) === before).toBe(stays);
  }
});

test('the hash for a flow label is another than that of the same packet on its way, and one per ICMPv6 message', () => {
  const error = (icmpCode: number): Frame =>
    Object.assign(new Frame(), { family: 6, protocol: PROTOCOL_ICMPV6, srcIp: 1, dstIp: 2, icmpType: 1, icmpCode });
  const labelled = [error(0), error(4), error(4)];
  labelled.forEach(hashForLabel);
  const [noRoute, portUnreachable, again] = labelled.map(({ flowHash }) => flowHash);
  expect(portUnreachable).toBe(again);
  expect(new Set([noRoute, portUnreachable, lastingFlowHash(error(4))]).size).toBe(3);
});

test('flows between the same hosts are spread by their ports', () => {
  const frames = Array.from({ length: 1_000 }, (_, srcPort) =>
    Object.assign(new Frame(), { protocol: PROTOCOL_UDP, srcIp: 1, dstIp: 2, srcPort, dstPort: 53 }),
  );
  for (const hash of [steeringHash, symmetricFlowHash]) expect(new Set(frames.map(hash)).size).toBeGreaterThan(990);
});

test('flows whose addresses have the same sum and differ in the same bits are told apart', () => {
  const flow = (srcIp: number, dstIp: number): number =>
    symmetricFlowHash(Object.assign(new Frame(), { protocol: PROTOCOL_ICMP, srcIp, dstIp }));
  expect(flow(0x0af40202, 0x0af40101)).not.toBe(flow(0x0af40201, 0x0af40102));
});
