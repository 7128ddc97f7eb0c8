// A DNS message as its fields (RFC 1035 section 4, EDNS of RFC 6891). Bytes: wire-format.ts; text: message-text.ts.
//
// Class is IN throughout. Not modelled: EDNS options, DNSSEC records other than as bytes, updates and notifications.

/** Types that are more than bytes to Podwire, and those that clients ask for by name; others are `TYPE65` (RFC 3597). */
export const TYPE_CODES = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

export type RecordType = keyof typeof TYPE_CODES | `TYPE${number}`;

/** RFC 1035 section 4.1.1; others are `RCODE11`. */
export const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

export type Rcode = keyof typeof RCODES | `RCODE${number}`;

export interface Question {
  readonly name: string;
  readonly type: RecordType;
}

/** Domain names are absolute, addresses canonical. */
export type RecordData =
  | { readonly type: 'A' | 'AAAA'; readonly address: string }
  | { readonly type: 'CNAME' | 'NS' | 'PTR'; readonly target: string }
  | {
      readonly type: 'SRV';
      readonly priority: number;
      readonly weight: number;
      readonly port: number;
      readonly target: string;
    }
  | { readonly type: 'MX'; readonly preference: number; readonly exchange: string }
  | { readonly type: 'TXT'; readonly texts: readonly string[] }
  | ({ readonly type: 'SOA' } & StartOfAuthority)
  | { readonly type: `TYPE${number}` | 'HINFO'; readonly bytes: Uint8Array };

export interface StartOfAuthority {
  readonly primary: string;
  readonly mailbox: string;
  readonly serial: number;
  readonly refreshSeconds: number;
  readonly retrySeconds: number;
  readonly expireSeconds: number;
  /** How long names may be remembered not to exist (RFC 2308). */
  readonly minimumSeconds: number;
}

export type ResourceRecord = { readonly name: string; readonly ttlSeconds: number } & RecordData;

export interface DnsMessage {
  readonly id: number;
  readonly isResponse: boolean;
  readonly isAuthoritative: boolean;
  /** Answers did not fit: ask again over TCP. */
  readonly isTruncated: boolean;
  readonly recursionDesired: boolean;
  readonly recursionAvailable: boolean;
  readonly rcode: Rcode;
  /** One in practice; a malformed query is answered without any. */
  readonly questions: readonly Question[];
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
  /** The size of UDP messages that the sender takes (EDNS); undefined: 512 bytes. */
  readonly udpPayloadBytes?: number;
}

/** What is left of an answer when header and question are taken off. */
export interface Answer {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly isTruncated?: boolean;
  readonly answers: readonly ResourceRecord[];
  readonly authority: readonly ResourceRecord[];
  readonly additional: readonly ResourceRecord[];
}

export const emptyAnswer = (rcode: Rcode): Answer => ({
  rcode,
  isAuthoritative: false,
  answers: [],
  authority: [],
  additional: [],
});

export const queryFor = (
  question: Question,
  { id, udpPayloadBytes }: { readonly id: number; readonly udpPayloadBytes?: number | undefined },
): DnsMessage => ({
  ...emptyAnswer('NOERROR'),
  id,
  isResponse: false,
  isTruncated: false,
  recursionDesired: true,
  recursionAvailable: false,
  questions: [question],
  ...(udpPayloadBytes === undefined ? {} : { udpPayloadBytes }),
});

/** The answer to a query. A server that takes EDNS says so to those who use it. */
export const responseTo = (query: DnsMessage, answer: Answer): DnsMessage => ({
  ...answer,
  id: query.id,
  isResponse: true,
  isTruncated: answer.isTruncated ?? false,
  recursionDesired: query.recursionDesired,
  recursionAvailable: true,
  questions: query.questions,
  ...(query.udpPayloadBytes === undefined ? {} : { udpPayloadBytes: SERVER_UDP_PAYLOAD_BYTES }),
});

/** What servers say since DNS flag day 2020. */
const SERVER_UDP_PAYLOAD_BYTES = 1232;

/** RFC 1035 section 4.2.1: UDP without EDNS. */
export const CLASSIC_UDP_BYTES = 512;
