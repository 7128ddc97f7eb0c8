// A frame as words, for a wire whose ends are simulated by different workers. Only what a cable carries is written: the
// headers and the payload, not what the kernel keeps beside them.
//
// Not crossing: journeys.

import { CoupledError } from '../../engine/parallel/coupled-error.ts';
import type { RecordReader, RecordWriter } from '../../engine/parallel/records.ts';
import { type Discovery, ETHERTYPE_ARP, Frame, type Message } from './frame.ts';
import type { Ip, IpFamily } from './ip-address.ts';
import { internIpv6, ipv6Word } from './ipv6-address.ts';
import type { Mac } from './mac.ts';

/** What applications say to each other, as words: the models that make the messages know. */
export interface MessageRecords {
  write(message: Message, to: RecordWriter): void;
  read(from: RecordReader): Message;
}

// Which groups of fields follow, and the flags of a frame.
const IS_IPV6 = 1;
const DONT_FRAGMENT = 2;
const MORE_FRAGMENTS = 4;
const IS_ATOMIC = 8;
const IS_CHECKSUM_OPEN = 16;
const IS_CHECKSUM_WRONG = 32;
const HAS_MESSAGE = 64;
const HAS_TCP = 128;
const HAS_MESSAGE_ENDS = 256;
/** From here on they are rare. */
const HAS_ICMP = 512;
const HAS_ARP = 1024;
const HAS_FRAGMENT = 2048;
const HAS_DISCOVERY = 4096;
const HAS_QUOTED = 8192;
const HAS_WHOLE = 16_384;
const HAS_INNER = 32_768;

export class FrameWriter {
  readonly #to: RecordWriter;
  readonly #messages: MessageRecords;
  readonly #wholes: WholeNumbers;

  constructor(to: RecordWriter, messages: MessageRecords, wholes: WholeNumbers) {
    this.#to = to;
    this.#messages = messages;
    this.#wholes = wholes;
  }

  write(frame: Frame): void {
    const to = this.#to;
    if (frame.journey !== undefined) throw new CoupledError('frames that are followed stay with one worker');
    const contents = contentsOf(frame);
    to.put(contents);
    to.put(frame.sizeBytes);
    putMac(to, frame.srcMac);
    putMac(to, frame.dstMac);
    putIp(to, frame.srcIp, frame.family);
    putIp(to, frame.dstIp, frame.family);
    to.put((frame.srcPort << 16) | frame.dstPort);
    to.put((frame.protocol << 16) | (frame.ttl << 8) | frame.typeOfService);
    to.put(frame.payloadBytes);
    if ((contents & HAS_MESSAGE) !== 0) this.#messages.write(frame.message!, to);
    if ((contents & HAS_TCP) !== 0) putTcp(to, frame);
    if ((contents & HAS_MESSAGE_ENDS) !== 0) this.#putMessageEnds(frame);
    if (contents < HAS_ICMP) return;
    if ((contents & HAS_ICMP) !== 0) putIcmp(to, frame);
    if ((contents & HAS_ARP) !== 0) {
      to.put(frame.arpOperation);
      putMac(to, frame.arpTargetMac);
    }
    if ((contents & HAS_FRAGMENT) !== 0) {
      to.put(frame.identification);
      to.put(frame.fragmentOffset);
    }
    if ((contents & HAS_DISCOVERY) !== 0) putDiscovery(to, frame.discovery!);
    if ((contents & HAS_QUOTED) !== 0) this.write(frame.quoted!);
    if ((contents & HAS_WHOLE) !== 0) {
      to.put(this.#wholes.of(frame.whole!));
      this.write(frame.whole!);
    }
    if ((contents & HAS_INNER) !== 0) {
      to.put(frame.vni);
      this.write(frame.inner!);
    }
  }

  #putMessageEnds({ messageEnds = [] }: Frame): void {
    this.#to.put(messageEnds.length);
    for (const { offset, message } of messageEnds) {
      this.#to.put(offset);
      this.#messages.write(message, this.#to);
    }
  }
}

export class FrameReader {
  readonly #from: RecordReader;
  readonly #messages: MessageRecords;
  readonly #wholes = new KnownWholes();

  constructor(from: RecordReader, messages: MessageRecords) {
    this.#from = from;
    this.#messages = messages;
  }

  /** Into a blank frame. */
  read(frame: Frame): Frame {
    const from = this.#from;
    const contents = from.take();
    frame.sizeBytes = from.take();
    frame.srcMac = takeMac(from);
    frame.dstMac = takeMac(from);
    const family = (contents & IS_IPV6) !== 0 ? 6 : 4;
    frame.setFamily(family);
    frame.srcIp = takeIp(from, family);
    frame.dstIp = takeIp(from, family);
    const ports = from.take();
    frame.srcPort = ports >>> 16;
    frame.dstPort = ports & 0xffff;
    const header = from.take();
    frame.protocol = header >>> 16;
    frame.ttl = (header >>> 8) & 0xff;
    frame.typeOfService = header & 0xff;
    frame.payloadBytes = from.take();
    frame.dontFragment = (contents & DONT_FRAGMENT) !== 0;
    frame.moreFragments = (contents & MORE_FRAGMENTS) !== 0;
    frame.isAtomicFragment = (contents & IS_ATOMIC) !== 0;
    frame.isChecksumOpen = (contents & IS_CHECKSUM_OPEN) !== 0;
    frame.isChecksumWrong = (contents & IS_CHECKSUM_WRONG) !== 0;
    if ((contents & HAS_MESSAGE) !== 0) frame.message = this.#messages.read(from);
    if ((contents & HAS_TCP) !== 0) takeTcp(from, frame);
    if ((contents & HAS_MESSAGE_ENDS) !== 0) this.#takeMessageEnds(frame);
    if (contents < HAS_ICMP) return frame;
    if ((contents & HAS_ICMP) !== 0) takeIcmp(from, frame, family);
    if ((contents & HAS_ARP) !== 0) {
      frame.etherType = ETHERTYPE_ARP;
      frame.arpOperation = from.take();
      frame.arpTargetMac = takeMac(from);
    }
    if ((contents & HAS_FRAGMENT) !== 0) {
      frame.identification = from.take();
      frame.fragmentOffset = from.take();
    }
    if ((contents & HAS_DISCOVERY) !== 0) frame.discovery = takeDiscovery(from);
    if ((contents & HAS_QUOTED) !== 0) frame.quoted = this.read(new Frame());
    if ((contents & HAS_WHOLE) !== 0) frame.whole = this.#wholes.get(from.take(), this.read(new Frame()));
    if ((contents & HAS_INNER) !== 0) {
      frame.vni = from.take();
      frame.inner = this.read(new Frame());
    }
    return frame;
  }

  #takeMessageEnds(frame: Frame): void {
    const from = this.#from;
    frame.messageEnds = [];
    for (let left = from.take(); left > 0; left--) {
      const offset = from.take();
      frame.messageEnds.push({ offset, message: this.#messages.read(from) });
    }
  }
}

/** Numbers for packets that were cut into fragments: whoever joins them asks whether they are of one. */
export class WholeNumbers {
  readonly #numbers = new WeakMap<Frame, number>();
  #last = 0;

  of(whole: Frame): number {
    let number = this.#numbers.get(whole);
    if (number === undefined) this.#numbers.set(whole, (number = ++this.#last));
    return number;
  }
}

/** Each whole packet is one object for as long as any fragment of it is there. */
class KnownWholes {
  readonly #known = new Map<number, WeakRef<Frame>>();
  #most = 1_024;

  /** The one that is known by this number; else `whole`, which is known from now on. */
  get(number: number, whole: Frame): Frame {
    const known = this.#known.get(number)?.deref();
    if (known !== undefined) return known;
    this.#known.set(number, new WeakRef(whole));
    if (this.#known.size > this.#most) this.#tidy();
    return whole;
  }

  #tidy(): void {
    for (const [number, whole] of this.#known) if (whole.deref() === undefined) this.#known.delete(number);
    this.#most = Math.max(1_024, 2 * this.#known.size);
  }
}

function contentsOf(frame: Frame): number {
  let contents = frame.family === 6 ? IS_IPV6 : 0;
  if (frame.dontFragment) contents |= DONT_FRAGMENT;
  if (frame.moreFragments) contents |= MORE_FRAGMENTS;
  if (frame.isAtomicFragment) contents |= IS_ATOMIC;
  if (frame.isChecksumOpen) contents |= IS_CHECKSUM_OPEN;
  if (frame.isChecksumWrong) contents |= IS_CHECKSUM_WRONG;
  if (hasTcp(frame)) contents |= HAS_TCP;
  if (hasIcmp(frame)) contents |= HAS_ICMP;
  if (frame.etherType === ETHERTYPE_ARP) contents |= HAS_ARP;
  if ((frame.identification | frame.fragmentOffset) !== 0) contents |= HAS_FRAGMENT;
  if (frame.discovery !== undefined) contents |= HAS_DISCOVERY;
  if (frame.quoted !== undefined) contents |= HAS_QUOTED;
  if (frame.whole !== undefined) contents |= HAS_WHOLE;
  if (frame.inner !== undefined) contents |= HAS_INNER;
  if (frame.message !== undefined) contents |= HAS_MESSAGE;
  if (frame.messageEnds !== undefined) contents |= HAS_MESSAGE_ENDS;
  return contents;
}

const hasTcp = (frame: Frame): boolean =>
  (frame.tcpFlags | frame.sequence | frame.acknowledgment | frame.window | frame.mssOption) !== 0 ||
  frame.windowScaleOption >= 0 ||
  frame.timestampValue !== 0 ||
  frame.timestampEcho !== 0;

function putTcp(to: RecordWriter, frame: Frame): void {
  to.put((frame.tcpFlags << 16) | (frame.windowScaleOption & 0xff));
  to.put(frame.sequence);
  to.put(frame.acknowledgment);
  to.put(frame.window);
  to.put(frame.mssOption);
  to.putFloat(frame.timestampValue);
  to.putFloat(frame.timestampEcho);
}

function takeTcp(from: RecordReader, frame: Frame): void {
  const flags = from.take();
  frame.tcpFlags = flags >>> 16;
  frame.windowScaleOption = ((flags & 0xff) << 24) >> 24; // -1: absent
  frame.sequence = from.take();
  frame.acknowledgment = from.take();
  frame.window = from.take();
  frame.mssOption = from.take();
  frame.timestampValue = from.takeFloat();
  frame.timestampEcho = from.takeFloat();
}

const hasIcmp = (frame: Frame): boolean =>
  (frame.icmpType | frame.icmpCode | frame.icmpIdentifier | frame.icmpSequence) !== 0 ||
  (frame.icmpMtu | frame.icmpGateway) !== 0;

function putIcmp(to: RecordWriter, frame: Frame): void {
  to.put((frame.icmpType << 8) | frame.icmpCode);
  to.put(frame.icmpIdentifier);
  to.put(frame.icmpSequence);
  to.put(frame.icmpMtu);
  putIp(to, frame.icmpGateway, frame.family);
}

function takeIcmp(from: RecordReader, frame: Frame, family: IpFamily): void {
  const type = from.take();
  frame.icmpType = type >>> 8;
  frame.icmpCode = type & 0xff;
  frame.icmpIdentifier = from.take();
  frame.icmpSequence = from.take();
  frame.icmpMtu = from.take();
  frame.icmpGateway = takeIp(from, family);
}

const IS_ROUTER = 1;
const IS_SOLICITED = 2;
const IS_OVERRIDE = 4;
const HAS_LINK_LAYER = 8;

function putDiscovery(to: RecordWriter, discovery: Discovery): void {
  const { target, linkLayer, isRouter, isSolicited, isOverride } = discovery;
  to.put(
    (isRouter ? IS_ROUTER : 0) |
      (isSolicited ? IS_SOLICITED : 0) |
      (isOverride ? IS_OVERRIDE : 0) |
      (linkLayer === undefined ? 0 : HAS_LINK_LAYER),
  );
  putIp(to, target, 6);
  if (linkLayer !== undefined) putMac(to, linkLayer);
}

function takeDiscovery(from: RecordReader): Discovery {
  const flags = from.take();
  return {
    target: takeIp(from, 6),
    linkLayer: (flags & HAS_LINK_LAYER) === 0 ? undefined : takeMac(from),
    isRouter: (flags & IS_ROUTER) !== 0,
    isSolicited: (flags & IS_SOLICITED) !== 0,
    isOverride: (flags & IS_OVERRIDE) !== 0,
  };
}

function putMac(to: RecordWriter, mac: Mac): void {
  to.put((mac / 2 ** 32) | 0);
  to.put(mac | 0);
}

const takeMac = (from: RecordReader): Mac => (from.take() * 2 ** 32 + (from.take() >>> 0)) as Mac;

/** Every worker numbers the addresses of IPv6 for itself, so their words cross. */
export function putIp(to: RecordWriter, ip: Ip, family: IpFamily): void {
  if (family === 4) return to.put(ip);
  for (const word of [0, 1, 2, 3] as const) to.put(ipv6Word(ip, word));
}

export const takeIp = (from: RecordReader, family: IpFamily): Ip =>
  family === 4 ? (from.take() as Ip) : internIpv6(from.take(), from.take(), from.take(), from.take());
