// DNS messages as bytes (RFC 1035 section 4.1), with names compressed, and back.
//
// A name may point only to what stands before it, so that no chain of pointers is endless, and never grows beyond 255
// bytes: what a real parser refuses (a pointer loop, a compression bomb) throws a DnsFormatError.

import { formatIp, type IpFamily, ipOfBytes, ipv6OfBytes, parseIp, parseIpv6, readIpv4 } from '../packet/ip-address.ts';
import { ipv6Word } from '../packet/ipv6-address.ts';
import { decodeLabel, encodeLabels } from './domain-name.ts';
import {
  type DnsMessage,
  type Question,
  RCODES,
  type Rcode,
  type RecordData,
  type RecordType,
  type ResourceRecord,
  TYPE_CODES,
} from './message.ts';

/** Bytes that are no DNS message. The message says what is wrong, and where. */
export class DnsFormatError extends Error {
  override readonly name = 'DnsFormatError';
}

// ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The message in at most `limitBytes`. Records that do not fit are left out from the end: additional ones, then
 * authority, then answers; missing answers set the TC bit (RFC 2181 section 9).
 */
export function encodeMessage(message: DnsMessage, { limitBytes = 65_535 }: { limitBytes?: number } = {}): Uint8Array {
  const writer = new Writer(message.udpPayloadBytes === undefined ? limitBytes : limitBytes - OPT_BYTES);
  writer.skip(HEADER_BYTES);
  for (const { name, type } of message.questions) {
    writer.name(name);
    writer.uint16(typeCode(type));
    writer.uint16(CLASS_IN);
  }
  const answerCount = writer.records(message.answers);
  const isCut = answerCount < message.answers.length;
  const authorityCount = isCut ? 0 : writer.records(message.authority);
  const additionalCount = isCut || authorityCount < message.authority.length ? 0 : writer.records(message.additional);
  if (message.udpPayloadBytes !== undefined) writer.opt(message.udpPayloadBytes, rcodeNumber(message.rcode) >> 4);
  const counts = [
    message.questions.length,
    answerCount,
    authorityCount,
    additionalCount + (message.udpPayloadBytes === undefined ? 0 : 1),
  ];
  writer.header(message.id, flagsOf(message, isCut), counts);
  return writer.bytes();
}

const HEADER_BYTES = 12;
const CLASS_IN = 1;
const TYPE_OPT = 41;
/** Root, type, class, TTL and the length of no options. */
const OPT_BYTES = 11;
const LARGEST_POINTER = 0x3fff;

const QR = 0x8000;
const AA = 0x0400;
const TC = 0x0200;
const RD = 0x0100;
const RA = 0x0080;

const flagsOf = (message: DnsMessage, isCut: boolean): number =>
  (message.isResponse ? QR : 0) |
  (message.isAuthoritative ? AA : 0) |
  (message.isTruncated || isCut ? TC : 0) |
  (message.recursionDesired ? RD : 0) |
  (message.recursionAvailable ? RA : 0) |
  (rcodeNumber(message.rcode) & 0xf);

function typeCode(type: RecordType): number {
  return Object.hasOwn(TYPE_CODES, type) ? TYPE_CODES[type as keyof typeof TYPE_CODES] : Number(type.slice(4));
}

function rcodeNumber(rcode: Rcode): number {
  return Object.hasOwn(RCODES, rcode) ? RCODES[rcode as keyof typeof RCODES] : Number(rcode.slice(5));
}

class Writer {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  readonly #limitBytes: number;
  /** Where each ending of a name stands, by its spelling: compression must not change the case that a client used. */
  readonly #offsets = new Map<string, number>();

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#at);
  }

  skip(count: number): void {
    this.#reserve(count);
    this.#at += count;
  }

  uint8(value: number): void {
    this.#reserve(1);
    this.#view.setUint8(this.#at++, value);
  }

  uint16(value: number): void {
    this.#reserve(2);
    this.#view.setUint16(this.#at, value);
    this.#at += 2;
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  header(id: number, flags: number, counts: readonly number[]): void {
    this.#view.setUint16(0, id);
    this.#view.setUint16(2, flags);
    for (const [i, count] of counts.entries()) this.#view.setUint16(4 + 2 * i, count);
  }

  /** With `compressed` false its labels are written out: only types of RFC 1035 may have compressed names (RFC 3597). */
  name(name: string, { compressed = true }: { compressed?: boolean } = {}): void {
    const labels = encodeLabels(name);
    const texts = labels.map(decodeLabel);
    for (let i = 0; i < labels.length; i++) {
      const ending = texts.slice(i).join('.');
      const known = this.#offsets.get(ending);
      if (known !== undefined && compressed) return this.uint16(0xc000 | known);
      if (known === undefined && this.#at <= LARGEST_POINTER) this.#offsets.set(ending, this.#at);
      this.uint8(labels[i]!.length);
      this.raw(labels[i]!);
    }
    this.uint8(0);
  }

  /** How many of them have found room. */
  records(records: readonly ResourceRecord[]): number {
    for (const [written, record] of records.entries()) {
      const before = this.#at;
      this.#record(record);
      if (this.#at <= this.#limitBytes) continue;
      this.#at = before;
      for (const [ending, offset] of this.#offsets) if (offset >= before) this.#offsets.delete(ending);
      return written;
    }
    return records.length;
  }

  opt(udpPayloadBytes: number, extendedRcode: number): void {
    this.uint8(0);
    this.uint16(TYPE_OPT);
    this.uint16(udpPayloadBytes);
    this.uint32(extendedRcode * 0x100_0000);
    this.uint16(0);
  }

  #record(record: ResourceRecord): void {
    this.name(record.name);
    this.uint16(typeCode(record.type));
    this.uint16(CLASS_IN);
    this.uint32(record.ttlSeconds);
    const lengthAt = this.#at;
    this.skip(2);
    this.#data(record);
    this.#view.setUint16(lengthAt, this.#at - lengthAt - 2);
  }

  #data(data: RecordData): void {
    switch (data.type) {
      case 'A':
        return this.uint32((readIpv4(data.address) ?? parseIp(data.address)) >>> 0);
      case 'AAAA': {
        const ip = parseIpv6(data.address);
        for (const word of [0, 1, 2, 3] as const) this.uint32(ipv6Word(ip, word) >>> 0);
        return;
      }
      case 'CNAME':
      case 'NS':
      case 'PTR':
        return this.name(data.target);
      case 'SRV':
        for (const number of [data.priority, data.weight, data.port]) this.uint16(number);
        return this.name(data.target, { compressed: false });
      case 'MX':
        this.uint16(data.preference);
        return this.name(data.exchange);
      case 'TXT':
        for (const text of data.texts) this.#characterString(text);
        return;
      case 'SOA':
        this.name(data.primary);
        this.name(data.mailbox);
        for (const number of [data.serial, data.refreshSeconds, data.retrySeconds]) this.uint32(number);
        this.uint32(data.expireSeconds);
        return this.uint32(data.minimumSeconds);
      default:
        return this.raw(data.bytes);
    }
  }

  /** Of bytes as code points up to 255. */
  #characterString(text: string): void {
    if (text.length > 255) throw new RangeError(`text of ${text.length} bytes in a TXT record; expected up to 255`);
    this.uint8(text.length);
    this.raw(Uint8Array.from(text, (character) => character.charCodeAt(0)));
  }

  #reserve(count: number): void {
    if (this.#at + count <= this.#bytes.length) return;
    const longer = new Uint8Array(2 * (this.#at + count));
    longer.set(this.#bytes);
    this.#bytes = longer;
    this.#view = new DataView(longer.buffer);
  }
}

// ── decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Throws a DnsFormatError for bytes that are no message, or hold more or less than they say. */
export function decodeMessage(bytes: Uint8Array): DnsMessage {
  const reader = new Reader(bytes);
  const id = reader.uint16();
  const flags = reader.uint16();
  const counts = [reader.uint16(), reader.uint16(), reader.uint16(), reader.uint16()] as const;
  const opcode = (flags >> 11) & 0xf;
  if (opcode !== 0) throw new DnsFormatError(`opcode ${opcode}; expected 0, a query`);
  const questions: Question[] = [];
  for (let i = 0; i < counts[0]; i++) {
    questions.push({ name: reader.name(), type: typeNamed(reader.uint16()) });
    reader.skip(2);
  }
  const sections = [counts[1], counts[2], counts[3]].map((count) => reader.records(count));
  reader.end();
  const { udpPayloadBytes, extendedRcode } = reader;
  return {
    id,
    isResponse: (flags & QR) !== 0,
    isAuthoritative: (flags & AA) !== 0,
    isTruncated: (flags & TC) !== 0,
    recursionDesired: (flags & RD) !== 0,
    recursionAvailable: (flags & RA) !== 0,
    rcode: rcodeNamed((extendedRcode << 4) | (flags & 0xf)),
    questions,
    answers: sections[0]!,
    authority: sections[1]!,
    additional: sections[2]!,
    ...(udpPayloadBytes === undefined ? {} : { udpPayloadBytes }),
  };
}

/** The id of what may be no message at all, for an answer that says so; undefined if there is none. */
export const messageIdOf = (bytes: Uint8Array): number | undefined =>
  bytes.length < HEADER_BYTES ? undefined : (bytes[0]! << 8) | bytes[1]!;

const TYPE_NAMES = new Map<number, RecordType>(
  Object.entries(TYPE_CODES).map(([name, code]) => [code, name as RecordType]),
);
const RCODE_NAMES = new Map<number, Rcode>(Object.entries(RCODES).map(([name, code]) => [code, name as Rcode]));

const typeNamed = (code: number): RecordType => TYPE_NAMES.get(code) ?? `TYPE${code}`;
const rcodeNamed = (code: number): Rcode => RCODE_NAMES.get(code) ?? `RCODE${code}`;

class Reader {
  udpPayloadBytes: number | undefined;
  extendedRcode = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  uint8(): number {
    this.#require(1);
    return this.#view.getUint8(this.#at++);
  }

  uint16(): number {
    this.#require(2);
    this.#at += 2;
    return this.#view.getUint16(this.#at - 2);
  }

  uint32(): number {
    this.#require(4);
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4);
  }

  skip(count: number): void {
    this.#require(count);
    this.#at += count;
  }

  end(): void {
    if (this.#at < this.#bytes.length)
      throw new DnsFormatError(`${this.#bytes.length - this.#at} bytes after the last record`);
  }

  name(): string {
    const labels: string[] = [];
    let sizeBytes = 1;
    let at = this.#at;
    /** What a pointer may point to ends here: before the name, or before what an earlier pointer led to. */
    let limit = this.#at;
    let end: number | undefined;
    for (;;) {
      if (at >= this.#bytes.length) throw new DnsFormatError(`name at ${this.#at} runs past the end`);
      const length = this.#bytes[at]!;
      if (length === 0) break;
      if (length >= 0xc0) {
        if (at + 1 >= this.#bytes.length) throw new DnsFormatError(`name at ${this.#at} runs past the end`);
        const target = ((length & 0x3f) << 8) | this.#bytes[at + 1]!;
        end ??= at + 2;
        if (target >= limit) throw new DnsFormatError(`compression pointer at ${at} does not point back`);
        at = target;
        limit = target;
        continue;
      }
      if (length > 63) throw new DnsFormatError(`label type ${length >> 6} at ${at}`);
      if (at + 1 + length > this.#bytes.length) throw new DnsFormatError(`name at ${this.#at} runs past the end`);
      sizeBytes += length + 1;
      if (sizeBytes > 255) throw new DnsFormatError(`name at ${this.#at} has more than 255 bytes`);
      labels.push(decodeLabel(this.#bytes.subarray(at + 1, at + 1 + length)));
      at += 1 + length;
    }
    this.#at = end ?? at + 1;
    return `${labels.join('.')}.`;
  }

  /** Without OPT, which is about the message and no record of a name. */
  records(count: number): ResourceRecord[] {
    const records: ResourceRecord[] = [];
    for (let i = 0; i < count; i++) {
      const name = this.name();
      const code = this.uint16();
      const classOrSize = this.uint16();
      const ttlSeconds = this.uint32();
      const length = this.uint16();
      this.#require(length);
      const end = this.#at + length;
      if (code === TYPE_OPT) {
        this.udpPayloadBytes = classOrSize;
        this.extendedRcode = ttlSeconds >>> 24;
        this.#at = end;
        continue;
      }
      const data = this.#data(typeNamed(code), end);
      if (this.#at !== end) throw new DnsFormatError(`${typeNamed(code)} record of ${name} has a wrong length`);
      records.push({ name, ttlSeconds, ...data });
    }
    return records;
  }

  #data(type: RecordType, end: number): RecordData {
    switch (type) {
      case 'A':
        return { type, address: this.#address(4) };
      case 'AAAA':
        return { type, address: this.#address(6) };
      case 'CNAME':
      case 'NS':
      case 'PTR':
        return { type, target: this.name() };
      case 'SRV':
        return {
          type,
          priority: this.uint16(),
          weight: this.uint16(),
          port: this.uint16(),
          target: this.name(),
        };
      case 'MX':
        return { type, preference: this.uint16(), exchange: this.name() };
      case 'TXT':
        return { type, texts: this.#texts(end) };
      case 'SOA':
        return {
          type,
          primary: this.name(),
          mailbox: this.name(),
          serial: this.uint32(),
          refreshSeconds: this.uint32(),
          retrySeconds: this.uint32(),
          expireSeconds: this.uint32(),
          minimumSeconds: this.uint32(),
        };
      case 'IXFR':
      case 'AXFR':
      case 'ANY':
        throw new DnsFormatError(`a record of type ${type}, which is for questions only`);
      default:
        return { type, bytes: this.#rest(end) };
    }
  }

  #address(family: IpFamily): string {
    const bytes = this.#rest(this.#at + (family === 4 ? 4 : 16));
    return family === 4 ? formatIp(ipOfBytes(bytes, 0)) : formatIp(ipv6OfBytes(bytes, 0), 6);
  }

  #texts(end: number): string[] {
    const texts: string[] = [];
    while (this.#at < end) {
      const length = this.uint8();
      texts.push(String.fromCharCode(...this.#rest(this.#at + length)));
    }
    return texts;
  }

  #rest(end: number): Uint8Array {
    this.#require(end - this.#at);
    const bytes = this.#bytes.slice(this.#at, end);
    this.#at = end;
    return bytes;
  }

  #require(count: number): void {
    if (count < 0 || this.#at + count > this.#bytes.length)
      throw new DnsFormatError(`message ends at ${this.#bytes.length}; expected ${count} more bytes at ${this.#at}`);
  }
}
