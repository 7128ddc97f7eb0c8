import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RecordReader, RecordWriter } from '../../engine/parallel/records.ts';
import { ringBytes, WordRing } from '../../engine/parallel/word-ring.ts';
import { type Discovery, ETHERTYPE_ARP, Frame, type Message } from './frame.ts';
import { FrameReader, FrameWriter, type MessageRecords, WholeNumbers } from './frame-record.ts';
import { type Ip, type IpFamily, ipv6OfBytes } from './ip-address.ts';
import { Journey } from './journey.ts';
import type { Mac } from './mac.ts';

const records: MessageRecords = {
  write({ id, sizeBytes }, to) {
    to.put(id);
    to.put(sizeBytes);
  },
  read: (from) => ({ id: from.take(), sizeBytes: from.take() }),
};

/** A frame goes in at one end and comes out of the other. */
function cable(): (frame: Frame) => Frame {
  const capacityWords = 2 ** 16;
  const memory = new SharedArrayBuffer(ringBytes(capacityWords));
  const ring = () => new WordRing(memory, { byteOffset: 0, capacityWords });
  const writing = new RecordWriter(ring());
  const reading = new RecordReader(ring());
  const writer = new FrameWriter(writing, records, new WholeNumbers());
  const reader = new FrameReader(reading, records);
  return (frame) => {
    writer.write(frame);
    writing.publish();
    const passed = reader.read(new Frame());
    expect(reading.hasRecord()).toBe(false);
    reading.release();
    return passed;
  };
}

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const byte = fc.nat(255);
const port = fc.nat(65_535);
const mac = fc.nat(2 ** 48 - 1) as fc.Arbitrary<Mac>;
const ipOf = (family: IpFamily): fc.Arbitrary<Ip> =>
  family === 4
    ? (int32 as fc.Arbitrary<Ip>)
    : fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => ipv6OfBytes(bytes, 0));
const message: fc.Arbitrary<Message> = fc.record({ id: int32, sizeBytes: fc.nat(2 ** 20) });
const discovery: fc.Arbitrary<Discovery> = fc.record({
  target: ipOf(6),
  linkLayer: fc.option(mac, { nil: undefined }),
  isRouter: fc.boolean(),
  isSolicited: fc.boolean(),
  isOverride: fc.boolean(),
});

const anyFrame: fc.Arbitrary<Frame> = fc.constantFrom<IpFamily>(4, 6).chain((family) =>
  fc
    .record(
      {
        ...{ sizeBytes: fc.nat(9_000), srcMac: mac, dstMac: mac, srcIp: ipOf(family), dstIp: ipOf(family) },
        ...{ protocol: byte, ttl: byte, typeOfService: byte, identification: port, fragmentOffset: port },
        ...{ dontFragment: fc.boolean(), moreFragments: fc.boolean(), isAtomicFragment: fc.boolean() },
        ...{ isChecksumOpen: fc.boolean(), isChecksumWrong: fc.boolean(), vni: fc.nat(2 ** 24 - 1) },
        ...{ srcPort: port, dstPort: port, payloadBytes: port },
        ...{ icmpType: byte, icmpCode: byte, icmpIdentifier: port, icmpSequence: port, icmpMtu: port },
        ...{ icmpGateway: ipOf(family), discovery },
        ...{ tcpFlags: byte, sequence: int32, acknowledgment: int32, window: port, mssOption: port },
        ...{ windowScaleOption: fc.integer({ min: -1, max: 14 }), timestampValue: fc.nat(), timestampEcho: fc.nat() },
        message,
        messageEnds: fc.array(fc.record({ offset: port, message }), { maxLength: 5 }),
      },
      { requiredKeys: [] },
    )
    .map((fields) => {
      const frame = new Frame();
      frame.setFamily(family);
      return Object.assign(frame, fields);
    }),
);

test('whatever a cable carries of a frame comes out as it went in', () => {
  const pass = cable();
  fc.assert(
    fc.property(anyFrame, fc.option(anyFrame), fc.constantFrom('whole', 'quoted', 'inner'), (frame, other, as) => {
      if (other !== null) frame[as] = other;
      if (frame.inner === undefined) frame.vni = 0;
      if (other !== null && other.inner === undefined) other.vni = 0;
      expect(pass(frame)).toEqual(frame);
    }),
    { numRuns: 500 },
  );
});

test('ARP comes out as it went in', () => {
  const frame = new Frame();
  frame.etherType = ETHERTYPE_ARP;
  frame.arpOperation = 2;
  frame.arpTargetMac = 0x02_00_00_00_00_2a as Mac;
  frame.updateSize();
  expect(cable()(frame)).toEqual(frame);
});

test('fragments of one packet are of one packet at the other end, and those of two of two', () => {
  const pass = cable();
  const [first, second] = [new Frame(), new Frame()];
  const part = (whole: Frame): Frame => Object.assign(new Frame(), { whole, moreFragments: true });
  const [a, b, c] = [first, second, first].map((whole) => pass(part(whole)).whole);
  expect(a).toBe(c);
  expect(a).not.toBe(b);
});

test('what was in a tunnel comes out of a packet that was cut on the way, with its network', () => {
  const cross = cable();
  const whole = new Frame();
  whole.vni = 7;
  whole.inner = new Frame();
  whole.inner.ttl = 9;
  const part = new Frame();
  part.whole = whole;
  const joined = new Frame();
  joined.copyInnerFrom(cross(part).whole!);
  expect(joined.vni).toBe(7);
  expect(joined.inner!.ttl).toBe(9);
});

test('what the kernel keeps beside the bytes stays behind, and a frame that is followed does not go', () => {
  const frame = Object.assign(new Frame(), { mark: 7, conntrackEntry: 3, flowHash: 9 });
  expect(cable()(frame)).toEqual(new Frame());
  frame.journey = new Journey(1);
  expect(() => cable()(frame)).toThrow('frames that are followed');
});
