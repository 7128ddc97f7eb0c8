// Captures in pcapng, the format of Wireshark: many devices in one file, nanosecond timestamps, directions, and the
// frame's id on every packet (draft-ietf-opsawg-pcapng). Virtual time 0 is the start of 1970.
//
// Frames are kept in memory until the end: a visit stamps its frames ahead of the clock, so the frames of two CPUs do
// not come in the order of their instants, and readers expect them sorted.

import type { Instant } from '../../engine/time.ts';
import { type DeviceRef, ETHERNET_HEADER_BYTES, type Frame } from './frame.ts';
import { formatMac, type Mac } from './mac.ts';
import { encodeFrame } from './wire-bytes.ts';

/** What a capture asks of a device. */
export interface CapturedDevice extends DeviceRef {
  /** The network namespace: `node-1`, `default/web-0`. */
  readonly namespace: string;
  readonly mac: Mac;
  /** Its packets have no Ethernet header; absent: they have. */
  readonly isWithoutHeader?: boolean;
}

/** Fits the tap of a net device. */
export type CaptureTap = (frame: Frame, direction: 'in' | 'out', device: CapturedDevice, at: Instant) => void;

export class PcapngWriter {
  readonly #interfaces: Uint8Array[] = [];
  readonly #packets: { readonly at: Instant; readonly block: Uint8Array }[] = [];

  /** Adds a device to the capture, as interface `node-1/eth0`. Its frames are those that the returned tap is shown. */
  addTap(device: CapturedDevice): CaptureTap {
    const interfaceId = this.#interfaces.length;
    this.#interfaces.push(interfaceBlock(device));
    return (frame, direction, _device, at) => {
      this.#packets.push({ at, block: packetBlock(frame, { interfaceId, direction, at, device }) });
    };
  }

  /** The capture so far as a file; packets of one instant stand in the order in which they were seen. */
  bytes(): Uint8Array {
    const packets = this.#packets.toSorted((a, b) => a.at - b.at).map(({ block }) => block);
    return concatenate([sectionBlock(), ...this.#interfaces, ...packets]);
  }
}

function sectionBlock(): Uint8Array {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setUint32(0, 0x1a2b3c4d, LITTLE_ENDIAN); // byte-order magic
  view.setUint16(4, 1, LITTLE_ENDIAN); // version 1.0
  view.setBigInt64(8, -1n, LITTLE_ENDIAN); // section length: until the end of the file
  return encodeBlock(0x0a0d0d0a, [body, ...encodeOptions([{ code: SHB_USERAPPL, value: ascii('Podwire') }])]);
}

function interfaceBlock({ namespace, name, mac, isWithoutHeader = false }: CapturedDevice): Uint8Array {
  const body = new Uint8Array(8); // the snapshot length stays 0: no limit
  new DataView(body.buffer).setUint16(0, isWithoutHeader ? LINKTYPE_RAW : LINKTYPE_ETHERNET, LITTLE_ENDIAN);
  const macBytes = formatMac(mac)
    .split(':')
    .map((byte) => Number.parseInt(byte, 16));
  const options = encodeOptions([
    { code: IF_NAME, value: ascii(`${namespace}/${name}`) },
    ...(isWithoutHeader ? [] : [{ code: IF_MACADDR, value: Uint8Array.from(macBytes) }]),
    { code: IF_TSRESOL, value: Uint8Array.of(9) }, // 10^-9 s
  ]);
  return encodeBlock(1, [body, ...options]);
}

/** An Enhanced Packet Block. */
function packetBlock(
  frame: Frame,
  {
    interfaceId,
    direction,
    at,
    device,
  }: { interfaceId: number; direction: 'in' | 'out'; at: Instant; device: CapturedDevice },
): Uint8Array {
  const data = encodeFrame(frame).subarray(device.isWithoutHeader === true ? ETHERNET_HEADER_BYTES : 0);
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  view.setUint32(0, interfaceId, LITTLE_ENDIAN);
  view.setUint32(4, Math.floor(at / 2 ** 32), LITTLE_ENDIAN);
  view.setUint32(8, at % 2 ** 32, LITTLE_ENDIAN);
  view.setUint32(12, data.length, LITTLE_ENDIAN); // captured
  view.setUint32(16, data.length, LITTLE_ENDIAN); // on the wire

  const flags = new Uint8Array(4);
  new DataView(flags.buffer).setUint32(0, direction === 'in' ? INBOUND : OUTBOUND, LITTLE_ENDIAN);
  const packetId = new Uint8Array(8);
  new DataView(packetId.buffer).setBigUint64(0, BigInt(frame.id), LITTLE_ENDIAN);
  const options = encodeOptions([
    { code: EPB_FLAGS, value: flags },
    { code: EPB_PACKETID, value: packetId }, // the same frame on several devices
  ]);
  return encodeBlock(6, [header, data, ...options]);
}

const LITTLE_ENDIAN = true;
const LINKTYPE_ETHERNET = 1;
/** Begins with the IP header. */
const LINKTYPE_RAW = 101;
const INBOUND = 1;
const OUTBOUND = 2;

// Option codes; 2 and 5 mean something else in each kind of block.
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_MACADDR = 6;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
const EPB_PACKETID = 5;

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

/** The options and the end-of-options mark. */
function encodeOptions(options: readonly Option[]): Uint8Array[] {
  const parts = options.flatMap(({ code, value }) => {
    const head = new Uint8Array(4);
    const view = new DataView(head.buffer);
    view.setUint16(0, code, LITTLE_ENDIAN);
    view.setUint16(2, value.length, LITTLE_ENDIAN);
    return [head, value];
  });
  return [...parts, new Uint8Array(4)];
}

/** Type, total length, body, total length again (so that a file can be read backwards). */
function encodeBlock(type: number, parts: readonly Uint8Array[]): Uint8Array {
  const body = concatenate(parts.map(padded));
  const block = new Uint8Array(12 + body.length);
  const view = new DataView(block.buffer);
  view.setUint32(0, type, LITTLE_ENDIAN);
  view.setUint32(4, block.length, LITTLE_ENDIAN);
  block.set(body, 8);
  view.setUint32(block.length - 4, block.length, LITTLE_ENDIAN);
  return block;
}

/** Every field starts at a multiple of four bytes. */
function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.length % 4 === 0) return bytes;
  const longer = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  longer.set(bytes);
  return longer;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
