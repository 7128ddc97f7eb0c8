// SCTP packets (RFC 9260): what their chunks say as far as an association here needs it, and how long they are.
//
// Not modelled: optional parameters of INIT and INIT ACK, gap reports in SACK, error causes.

import type { Message } from '../packet/frame.ts';

export type SctpChunk =
  | { readonly type: 'INIT'; readonly tag: number; readonly tsn: number }
  | { readonly type: 'INIT ACK'; readonly tag: number; readonly tsn: number; readonly cookie: SctpCookie }
  | { readonly type: 'COOKIE ECHO'; readonly cookie: SctpCookie }
  | { readonly type: 'DATA'; readonly tsn: number; readonly bytes: number; readonly message: Message | undefined }
  | { readonly type: 'SACK' | 'SHUTDOWN'; readonly cumulativeTsn: number }
  | { readonly type: 'COOKIE ACK' | 'SHUTDOWN ACK' }
  /** Reflected (flag T): the sender knows no association, and gives the verification tag back that it has got. */
  | { readonly type: 'ABORT' | 'SHUTDOWN COMPLETE'; readonly isReflected: boolean };

/** All that a server would keep of an INIT, if it kept anything. */
export interface SctpCookie {
  readonly ownTag: number;
  readonly ownTsn: number;
  readonly peerTag: number;
  readonly peerTsn: number;
}

/** What the frame carries as its message. */
export interface SctpPacket extends Message {
  readonly kind: 'sctp';
  readonly verificationTag: number;
  readonly chunks: readonly SctpChunk[];
}

/** Ports, verification tag, CRC32c. */
export const SCTP_HEADER_BYTES = 12;
export const DATA_HEADER_BYTES = 16;
/** Assumed: an implementation's own matter. Linux' has a MAC, times, and a copy of the INIT, in multiples of 32. */
const COOKIE_BYTES = 256;

const SIZES: Readonly<Record<Exclude<SctpChunk['type'], 'DATA'>, number>> = {
  INIT: 20,
  'INIT ACK': 20 + 4 + COOKIE_BYTES,
  'COOKIE ECHO': 4 + COOKIE_BYTES,
  'COOKIE ACK': 4,
  SACK: 16,
  ABORT: 4,
  SHUTDOWN: 8,
  'SHUTDOWN ACK': 4,
  'SHUTDOWN COMPLETE': 4,
};

/** Chunks are padded to four bytes. */
const sizeOf = (chunk: SctpChunk): number =>
  chunk.type === 'DATA' ? (DATA_HEADER_BYTES + chunk.bytes + 3) & ~3 : SIZES[chunk.type];

export function sctpPacket(verificationTag: number, chunks: readonly SctpChunk[]): SctpPacket {
  const sizeBytes = chunks.reduce((sum, chunk) => sum + sizeOf(chunk), SCTP_HEADER_BYTES);
  return { kind: 'sctp', id: 0, sizeBytes, verificationTag, chunks };
}

export const isSctpPacket = (message: Message | undefined): message is SctpPacket =>
  message !== undefined && 'kind' in message && message.kind === 'sctp';
