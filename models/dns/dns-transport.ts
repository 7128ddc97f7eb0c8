// DNS messages on their way: datagrams, and messages of a TCP stream, which stand behind their length (RFC 1035 section
// 4.2).

import type { Message } from '../packet/frame.ts';
import { type IpAddress, parseAddress } from '../packet/ip-address.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import type { DnsMessage } from './message.ts';
import { DnsFormatError, decodeMessage, encodeMessage } from './wire-format.ts';

export const DNS_PORT = 53;

export type DnsProtocol = 'UDP' | 'TCP';

/** What a socket sends. */
export function carry(message: DnsMessage, protocol: DnsProtocol, limitBytes?: number): Message {
  const bytes = encodeMessage(message, limitBytes === undefined ? {} : { limitBytes });
  return protocol === 'UDP' ? datagramOf(message.id, bytes) : streamMessageOf(message.id, bytes);
}

export const datagramOf = (id: number, bytes: Uint8Array): Message => ({ id, sizeBytes: bytes.length, bytes });

function streamMessageOf(id: number, bytes: Uint8Array): Message {
  const framed = new Uint8Array(2 + bytes.length);
  new DataView(framed.buffer).setUint16(0, bytes.length);
  framed.set(bytes, 2);
  return { id, sizeBytes: framed.length, bytes: framed };
}

/** The bytes of what a socket has received; none if it was no DNS message. */
export const bytesOf = ({ bytes = NO_BYTES }: Message, protocol: DnsProtocol): Uint8Array =>
  protocol === 'UDP' ? bytes : bytes.subarray(2);

const NO_BYTES = new Uint8Array();

/** A message that nobody can read is as good as none. */
export function receivedMessage(message: Message, protocol: DnsProtocol): DnsMessage | undefined {
  try {
    return decodeMessage(bytesOf(message, protocol));
  } catch (error) {
    if (error instanceof DnsFormatError) return undefined;
    throw error;
  }
}

/** Where a name server listens. */
export function serverAt(address: string): Required<SocketAddress> {
  const { family, ip } = parseAddress(address) satisfies IpAddress;
  return { family, ip, port: DNS_PORT };
}
