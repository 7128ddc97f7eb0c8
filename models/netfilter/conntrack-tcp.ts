// How conntrack follows a TCP connection: a state machine driven by the flags of both directions, and a test whether a
// segment's sequence and acknowledgment numbers fit what has been seen (nf_conntrack_proto_tcp.c). Every transition and
// limit here was compared with Linux 6.18 segment by segment; testdata/tcp-tracking.txt has the kernel's answers.
//
// Not modelled: selective acknowledgments, sequence adjustment by helpers, ECN bits, checksums.

import { type Duration, ms, s } from '../../engine/time.ts';
import { type Frame, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TCP_URG } from '../packet/frame.ts';
import {
  ASSURED,
  BYTES_PER_ENTRY,
  type ConntrackTable,
  type Direction,
  FIXED_TIMEOUT,
  LAST_ACKNOWLEDGMENT,
  LAST_DIRECTION,
  LAST_END,
  LAST_FLAGS,
  LAST_KIND,
  LAST_SCALE,
  LAST_SEQUENCE,
  LAST_WINDOW,
  ORIGINAL,
  REPLY,
  RETRANSMISSIONS,
  SEEN_REPLY,
  STATUS,
  TCP_FLAGS,
  TCP_SCALE,
  TCP_STATE,
  WINDOW_WORDS,
  WINDOWS,
  WORDS_PER_ENTRY,
} from './conntrack-table.ts';

/** In the order of the columns of the tables below; `conntrack -L` prints these names. */
export const TCP_STATES = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2',
] as const;

export type TcpState = (typeof TCP_STATES)[number];

export interface TcpTrackingSettings {
  /** net.netfilter.nf_conntrack_tcp_loose: take up connections whose beginning was not seen. */
  readonly tcpLoose: boolean;
  /** net.netfilter.nf_conntrack_tcp_be_liberal: segments outside the window are not invalid, except resets. */
  readonly tcpBeLiberal: boolean;
  /** net.netfilter.nf_conntrack_tcp_ignore_invalid_rst: resets below what was acknowledged are not invalid for it. */
  readonly tcpIgnoreInvalidReset: boolean;
  /** net.netfilter.nf_conntrack_tcp_max_retrans: so many repetitions of one segment shorten the timeout. */
  readonly tcpMaxRetransmissions: number;
  readonly tcpTimeouts: Readonly<Record<Exclude<TcpState, 'NONE'> | 'UNACKNOWLEDGED' | 'RETRANSMITTED', Duration>>;
}

/** net.netfilter.nf_conntrack_tcp_*, defaults of Linux 6.18. */
export const TCP_DEFAULTS: TcpTrackingSettings = {
  tcpLoose: true,
  tcpBeLiberal: false,
  tcpIgnoreInvalidReset: false,
  tcpMaxRetransmissions: 3,
  tcpTimeouts: {
    SYN_SENT: s(120),
    SYN_RECV: s(60),
    ESTABLISHED: s(432_000),
    FIN_WAIT: s(120),
    CLOSE_WAIT: s(60),
    LAST_ACK: s(30),
    TIME_WAIT: s(120),
    CLOSE: s(10),
    SYN_SENT2: s(120),
    UNACKNOWLEDGED: s(300),
    RETRANSMITTED: s(300),
  },
};

/** What a segment means for the entry that it belongs to. */
export const FOLLOWED = 0;
/** Does not fit; it is forwarded without translation, unless a rule drops what is invalid. */
export const UNFIT = 1;
/** Begins a new connection between the same ports: the entry gives way to a new one. */
export const REOPENED = 2;
/** The only answer was a reset: the entry ends with this segment. */
export const REFUSED = 3;
export type SegmentOutcome = typeof FOLLOWED | typeof UNFIT | typeof REOPENED | typeof REFUSED;

/** {@link TcpTracking.timeout}: the entry keeps the time that it has. */
export const KEEP = 0 as Duration;

export class TcpTracking {
  /** How long the entry lives from now on: exactly so after FOLLOWED, at most so after UNFIT; or {@link KEEP}. */
  timeout: Duration = KEEP;
  readonly #table: ConntrackTable;
  #settings: TcpTrackingSettings;
  /** Timeouts by state number. */
  #timeouts: readonly Duration[] = [];

  constructor(table: ConntrackTable, settings: TcpTrackingSettings) {
    this.#table = table;
    this.#settings = settings;
    this.configure(settings);
  }

  configure(settings: TcpTrackingSettings): void {
    this.#settings = settings;
    this.#timeouts = TCP_STATES.map((state) => (state === 'NONE' ? ms(0) : settings.tcpTimeouts[state]));
  }

  /** May this segment begin a connection? */
  mayOpen({ tcpFlags }: Frame): boolean {
    if (VALID_FLAGS[tcpFlags & FLAG_BITS] === 0) return false;
    const state = NEXT_STATE[transition(ORIGINAL, kindOf(tcpFlags), NONE)]!;
    return state === SYN_SENT || (state === ESTABLISHED && this.#settings.tcpLoose);
  }

  /** Prepares a blank record for the first segment, which {@link mayOpen} accepts; {@link follow} comes next. */
  open(index: number, frame: Frame): void {
    this.#table.makeRoomForTcp();
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const sender = windowAt(index, ORIGINAL);
    const end = endOf(frame);
    words[sender + END] = end;
    words[sender + MAX_WINDOW] = Math.max(1, frame.window);
    if (kindOf(frame.tcpFlags) === SYN) {
      words[sender + MAX_END] = end;
      this.#readScale(index, frame, ORIGINAL);
    } else {
      // In the middle of a connection the scale of its windows is unknown: neither direction is held to them.
      words[sender + MAX_END] = end + words[sender + MAX_WINDOW]!;
      bytes[at + TCP_FLAGS + ORIGINAL] = BE_LIBERAL;
      bytes[at + TCP_FLAGS + REPLY] = BE_LIBERAL;
    }
    bytes[at + LAST_KIND] = NO_KIND;
  }

  /** Data or an ACK in the middle of a connection, which {@link follow} will find FOLLOWED: it fits, or strays harmlessly. */
  isOrdinary(index: number, { tcpFlags, sequence, acknowledgment }: Frame, direction: Direction): boolean {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    if ((tcpFlags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) !== TCP_ACK) return false;
    if (VALID_FLAGS[tcpFlags & FLAG_BITS] === 0 || bytes[index * BYTES_PER_ENTRY + TCP_STATE] !== ESTABLISHED)
      return false;
    const sender = windowAt(index, direction);
    if (words[sender + MAX_WINDOW] === 0 || isBefore(words[sender + MAX_END]!, sequence)) return false;
    return !isBefore(words[windowAt(index, 1 - direction) + END]!, acknowledgment);
  }

  /** A segment of a tracked connection. */
  follow(index: number, frame: Frame, direction: Direction): SegmentOutcome {
    this.timeout = KEEP;
    if (VALID_FLAGS[frame.tcpFlags & FLAG_BITS] === 0) return UNFIT;
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const kind = kindOf(frame.tcpFlags);
    let state = bytes[at + TCP_STATE]!;
    let next = NEXT_STATE[transition(direction, kind, state)]!;
    let needsWindowTest = true;

    switch (next) {
      case INVALID:
        return UNFIT;

      case SYN_SENT:
        if (state < TIME_WAIT) break;
        if (this.#isOver(index, direction)) return REOPENED;
        return this.#ignore(index, frame, direction, kind);

      case IGNORED:
        // The answer to a SYN that was ignored: client and server agree on a connection that is new to the entry.
        if (
          kind === SYN_ACK &&
          bytes[at + LAST_KIND] === SYN &&
          bytes[at + LAST_DIRECTION] !== direction &&
          words[index * WORDS_PER_ENTRY + LAST_END] === frame.acknowledgment
        ) {
          this.#adoptIgnoredSyn(index, direction);
          state = SYN_SENT;
          next = SYN_RECV;
          break;
        }
        return this.#ignore(index, frame, direction, kind);

      case TIME_WAIT:
        // An ACK that challenges a SYN (RFC 5961) does not acknowledge the last FIN.
        if (
          state === LAST_ACK &&
          kind === ACK &&
          bytes[at + LAST_KIND] === SYN &&
          bytes[at + LAST_DIRECTION] !== direction &&
          (bytes[at + LAST_FLAGS]! & CHALLENGE_EXPECTED) !== 0
        ) {
          bytes[at + LAST_FLAGS]! &= ~CHALLENGE_EXPECTED;
          return FOLLOWED;
        }
        break;

      case SYN_SENT2:
        bytes[at + LAST_FLAGS]! |= SIMULTANEOUS_OPEN;
        break;

      case SYN_RECV:
        if (direction === REPLY && kind === ACK && (bytes[at + LAST_FLAGS]! & SIMULTANEOUS_OPEN) !== 0) {
          next = ESTABLISHED;
        }
        break;

      case CLOSE:
        if (kind !== RST) break;
        switch (this.#judgeReset(index, frame, direction)) {
          case RESET_IMPOSSIBLE:
            return UNFIT;
          case RESET_DOUBTFUL:
            next = state;
            break;
          case RESET_CERTAIN:
            needsWindowTest = false;
            break;
        }
        break;
    }

    if (needsWindowTest) {
      const fit = this.#testWindow(index, frame, direction, kind);
      if (fit === STRAY) return FOLLOWED;
      if (fit === OUTSIDE) {
        this.#noteInvalidEnd(index, direction, kind);
        return UNFIT;
      }
    }
    return this.#advance(index, direction, kind, state, next);
  }

  /** The segment counts: the entry takes the new state, and its timeout. */
  #advance(index: number, direction: Direction, kind: number, state: number, next: number): SegmentOutcome {
    const { tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    bytes[at + LAST_KIND] = kind;
    bytes[at + LAST_DIRECTION] = direction;
    bytes[at + TCP_STATE] = next;
    if (next === FIN_WAIT && state !== FIN_WAIT) bytes[at + TCP_FLAGS + direction]! |= CLOSE_BEGUN;

    const timeout = this.#timeoutIn(index, kind, next);
    const status = this.#table.words[index * WORDS_PER_ENTRY + STATUS]!;
    if ((status & SEEN_REPLY) === 0) {
      if (kind === RST) return REFUSED;
      // A repeated SYN does not prolong the entry: a client that reuses its port could keep a stale translation for ever.
      if (kind === SYN && state === SYN_SENT) return FOLLOWED;
      const { UNACKNOWLEDGED } = this.#settings.tcpTimeouts;
      this.timeout = next === ESTABLISHED && timeout > UNACKNOWLEDGED ? UNACKNOWLEDGED : timeout;
      return FOLLOWED;
    }
    if (next === ESTABLISHED && (state === SYN_RECV || state === ESTABLISHED)) {
      this.#table.words[index * WORDS_PER_ENTRY + STATUS] = status | ASSURED;
    }
    this.timeout = timeout;
    return FOLLOWED;
  }

  #timeoutIn(index: number, kind: number, state: number): Duration {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const timeout = this.#timeouts[state]!;
    const { RETRANSMITTED, UNACKNOWLEDGED, CLOSE: RESET } = this.#settings.tcpTimeouts;
    if (bytes[at + RETRANSMISSIONS]! >= this.#settings.tcpMaxRetransmissions && timeout > RETRANSMITTED) {
      return RETRANSMITTED;
    }
    if (kind === RST) return RESET;
    const flags = bytes[at + TCP_FLAGS + ORIGINAL]! | bytes[at + TCP_FLAGS + REPLY]!;
    if ((flags & DATA_UNACKNOWLEDGED) !== 0 && timeout > UNACKNOWLEDGED) return UNACKNOWLEDGED;
    if (words[index * WORDS_PER_ENTRY + LAST_WINDOW] === 0 && timeout > RETRANSMITTED) return RETRANSMITTED;
    return timeout;
  }

  /** Somebody closed or reset the connection: a SYN now begins another one (RFC 1122 4.2.2.13). */
  #isOver(index: number, direction: Direction): boolean {
    const { tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const flags = bytes[at + TCP_FLAGS + ORIGINAL]! | bytes[at + TCP_FLAGS + REPLY]!;
    return (flags & CLOSE_BEGUN) !== 0 || (bytes[at + LAST_DIRECTION] === direction && bytes[at + LAST_KIND] === RST);
  }

  /** Client and server may know better than the entry: the segment passes, and what it says is kept for its answer. */
  #ignore(index: number, frame: Frame, direction: Direction, kind: number): SegmentOutcome {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const wordsAt = index * WORDS_PER_ENTRY;
    bytes[at + LAST_KIND] = kind;
    bytes[at + LAST_DIRECTION] = direction;
    words[wordsAt + LAST_SEQUENCE] = frame.sequence;
    words[wordsAt + LAST_END] = endOf(frame);
    words[wordsAt + LAST_WINDOW] = frame.window;
    if (kind === SYN && direction === ORIGINAL) {
      bytes[at + LAST_FLAGS] =
        (frame.windowScaleOption >= 0 ? SCALES_WINDOW : 0) |
        (bytes[at + TCP_STATE] === LAST_ACK ? CHALLENGE_EXPECTED : 0);
      bytes[at + LAST_SCALE] = scaleOf(frame);
    }
    if (kind === ACK && direction === REPLY && bytes[at + TCP_STATE] === SYN_SENT) {
      words[wordsAt + LAST_ACKNOWLEDGMENT] = frame.acknowledgment;
    }
    return FOLLOWED;
  }

  /** The peer's ignored SYN was good: its numbers replace what was known of it, and this direction begins afresh. */
  #adoptIgnoredSyn(index: number, direction: Direction): void {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const wordsAt = index * WORDS_PER_ENTRY;
    const other = 1 - direction;
    const peer = windowAt(index, other);
    words[peer + END] = words[wordsAt + LAST_END]!;
    words[peer + MAX_END] = words[wordsAt + LAST_END]!;
    words[peer + MAX_WINDOW] = Math.max(1, words[wordsAt + LAST_WINDOW]!);
    bytes[at + LAST_FLAGS]! &= ~CHALLENGE_EXPECTED;
    bytes[at + TCP_FLAGS + other] = bytes[at + LAST_FLAGS]!;
    bytes[at + TCP_SCALE + other] = bytes[at + LAST_SCALE]!;
    const own = windowAt(index, direction);
    words.fill(0, own, own + WINDOW_WORDS);
    bytes[at + TCP_FLAGS + direction] = 0;
    bytes[at + TCP_SCALE + direction] = 0;
  }

  #judgeReset(index: number, frame: Frame, direction: Direction): ResetJudgment {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const wordsAt = index * WORDS_PER_ENTRY;
    const state = bytes[at + TCP_STATE]!;
    const status = this.#table.words[wordsAt + STATUS]!;
    const lastKind = bytes[at + LAST_KIND]!;
    const other = 1 - direction;
    // The tuple of a closing connection may be in use again already, by a connection with other numbers.
    if (IS_CLOSING[state] === 1) return RESET_CERTAIN;

    let judgment: ResetJudgment = RESET_IF_IN_WINDOW;
    const established = state === ESTABLISHED && (status & ASSURED) !== 0;
    if ((bytes[at + TCP_FLAGS + other]! & MAX_ACK_KNOWN) !== 0 && lastKind !== SYN) {
      const maxAck = words[windowAt(index, other) + MAX_ACK]!;
      if (frame.sequence === 0 && !established) return RESET_IF_IN_WINDOW; // answers a SYN that was let through
      if (isBefore(frame.sequence, maxAck) && !this.#settings.tcpIgnoreInvalidReset) return RESET_IMPOSSIBLE;
      if (!established || frame.sequence === maxAck) return RESET_IF_IN_WINDOW;
      const lastDirection = bytes[at + LAST_DIRECTION]!;
      const followsItsData =
        lastKind === ACK && lastDirection === direction && frame.sequence === words[wordsAt + LAST_END];
      if (followsItsData) return RESET_IF_IN_WINDOW;
      judgment = RESET_DOUBTFUL; // not the very next number: the receiver may challenge it and stay (RFC 5961)
    }
    // It answers a SYN or an ACK that was let through.
    const isAnswer =
      lastKind === SYN
        ? (status & SEEN_REPLY) !== 0 && bytes[at + LAST_DIRECTION] !== direction
        : lastKind === ACK && (status & ASSURED) === 0;
    if (isAnswer && frame.acknowledgment === words[wordsAt + LAST_END]) return RESET_CERTAIN;
    const challenged = state === SYN_SENT && lastKind === ACK && bytes[at + LAST_DIRECTION] === REPLY;
    if (challenged && frame.sequence === words[wordsAt + LAST_ACKNOWLEDGMENT]) return RESET_CERTAIN;
    return judgment;
  }

  /**
   * Guido van Rooij's test (Real Stateful TCP Packet Filtering in IP Filter, 2001). With the sender's view of both
   * windows, a segment fits if: its begin is not above the window (I), its end is not below it (II), it acknowledges
   * nothing that was not sent (III), and nothing too old (IV).
   */
  #testWindow(index: number, frame: Frame, direction: Direction, kind: number): Fit {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const other = 1 - direction;
    const sender = windowAt(index, direction);
    const receiver = windowAt(index, other);
    const { tcpFlags, window } = frame;
    const hasAck = (tcpFlags & TCP_ACK) !== 0;
    const isSyn = (tcpFlags & TCP_SYN) !== 0;
    const state = bytes[at + TCP_STATE]!;
    const scale = bytes[at + TCP_SCALE + direction]!;
    let { sequence, acknowledgment: ack } = frame;
    let end = endOf(frame);

    if (words[sender + MAX_WINDOW] === 0) {
      if (isSyn) {
        this.#begin(index, frame, direction, end);
        if (!hasAck) return FITS; // simultaneous open
      } else {
        words[sender + END] = end;
        words[sender + MAX_WINDOW] = Math.max(1, window << scale);
        words[sender + MAX_END] = end + words[sender + MAX_WINDOW]!;
        if (words[receiver + MAX_WINDOW] === 0) {
          words[receiver + END] = ack;
          words[receiver + MAX_END] = ack;
        } else if (ack === ((words[receiver + END]! + 1) | 0)) {
          words[receiver + END] = ack; // the answer to a keepalive probe
        }
      }
    } else if (isSyn && isBefore(words[sender + END]!, end) && (state === SYN_SENT || state === SYN_RECV)) {
      this.#begin(index, frame, direction, end);
      if (direction === REPLY && !hasAck) return FITS;
    }

    const receiverEnd = words[receiver + END]!;
    const receiverWindow = words[receiver + MAX_WINDOW]!;
    const senderEnd = words[sender + END]!;
    const senderWindow = words[sender + MAX_WINDOW]!;
    const maxEnd = words[sender + MAX_END]!;
    if (!hasAck || (kind === RST && ack === 0)) ack = receiverEnd;
    if (kind === RST && sequence === 0 && state === SYN_SENT) sequence = end = senderEnd;

    const ownFlags = at + TCP_FLAGS + direction;
    let flags = bytes[ownFlags]!;
    const liberal = this.#settings.tcpBeLiberal || (flags & BE_LIBERAL) !== 0;
    const oldestAck = (receiverEnd - Math.max(senderWindow, ACK_WINDOW) - 1) | 0;
    const acksUnsent = isBefore(receiverEnd, ack);
    const endsInWindow = isBefore((senderEnd - receiverWindow - 1) | 0, end);

    if (isBefore(maxEnd, sequence)) {
      const excessBytes = (end - maxEnd + 1) >>> 0;
      const isSlight = receiverWindow !== 0 && endsInWindow && excessBytes <= receiverWindow;
      if (isSlight && isBefore(oldestAck, ack) && !acksUnsent) {
        // Somewhat more than the window allows: should the receiver take it after all, its ACK must fit.
        words[sender + END] = end;
        bytes[ownFlags] = flags | DATA_UNACKNOWLEDGED;
        return liberal ? FITS : STRAY;
      }
      return liberal ? FITS : OUTSIDE;
    }
    if (acksUnsent) return liberal ? FITS : OUTSIDE;
    if ((receiverWindow !== 0 && !endsInWindow) || !isBefore(oldestAck, ack)) return liberal ? FITS : STRAY;

    const scaledWindow = isSyn ? window : window << bytes[at + TCP_SCALE + direction]!;
    if (senderWindow < scaledWindow) words[sender + MAX_WINDOW] = scaledWindow;
    if (isBefore(senderEnd, end)) {
      words[sender + END] = end;
      flags |= DATA_UNACKNOWLEDGED;
    }
    if (hasAck && ((flags & MAX_ACK_KNOWN) === 0 || isBefore(words[sender + MAX_ACK]!, ack))) {
      words[sender + MAX_ACK] = ack;
      flags |= MAX_ACK_KNOWN;
    }
    bytes[ownFlags] = flags;
    if (receiverWindow !== 0 && isBefore(maxEnd, end))
      words[receiver + MAX_WINDOW] = receiverWindow + ((end - maxEnd) | 0);
    const offered = (ack + scaledWindow) | 0;
    if (isBefore((words[receiver + MAX_END]! - 1) | 0, offered)) {
      words[receiver + MAX_END] = scaledWindow === 0 ? offered + 1 : offered;
    }
    if (ack === receiverEnd) bytes[at + TCP_FLAGS + other]! &= ~DATA_UNACKNOWLEDGED;
    if (kind !== ACK) return FITS;

    const last = index * WORDS_PER_ENTRY;
    if (
      bytes[at + LAST_DIRECTION] === direction &&
      words[last + LAST_SEQUENCE] === sequence &&
      words[last + LAST_ACKNOWLEDGMENT] === ack &&
      words[last + LAST_END] === end &&
      words[last + LAST_WINDOW] === window
    ) {
      if (bytes[at + RETRANSMISSIONS]! < 255) bytes[at + RETRANSMISSIONS]!++;
      return FITS;
    }
    bytes[at + LAST_DIRECTION] = direction;
    words[last + LAST_SEQUENCE] = sequence;
    words[last + LAST_ACKNOWLEDGMENT] = ack;
    words[last + LAST_END] = end;
    words[last + LAST_WINDOW] = window;
    bytes[at + RETRANSMISSIONS] = 0;
    return FITS;
  }

  /** The sender's window starts with this SYN. Windows are scaled only if both sides say so (RFC 7323). */
  #begin(index: number, frame: Frame, direction: Direction, end: number): void {
    const { tcpWords: words, tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    const sender = windowAt(index, direction);
    words[sender + END] = end;
    words[sender + MAX_END] = end;
    words[sender + MAX_WINDOW] = Math.max(1, frame.window);
    this.#readScale(index, frame, direction);
    const bothScale = bytes[at + TCP_FLAGS + ORIGINAL]! & bytes[at + TCP_FLAGS + REPLY]! & SCALES_WINDOW;
    if (direction === REPLY && bothScale === 0) {
      bytes[at + TCP_SCALE + ORIGINAL] = 0;
      bytes[at + TCP_SCALE + REPLY] = 0;
    }
  }

  #readScale(index: number, frame: Frame, direction: Direction): void {
    const { tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    bytes[at + TCP_FLAGS + direction] = frame.windowScaleOption >= 0 ? SCALES_WINDOW : 0;
    bytes[at + TCP_SCALE + direction] = scaleOf(frame);
  }

  /** Ends outside the window from both sides: the entry is out of step with a connection that is closing. */
  #noteInvalidEnd(index: number, direction: Direction, kind: number): void {
    const { tcpBytes: bytes } = this.#table;
    const at = index * BYTES_PER_ENTRY;
    if ((this.#table.words[index * WORDS_PER_ENTRY + STATUS]! & (ASSURED | FIXED_TIMEOUT)) !== ASSURED) return;
    if (kind !== FIN && kind !== RST) return;
    const lastKind = bytes[at + LAST_KIND]!;
    if (bytes[at + LAST_DIRECTION] !== direction && (lastKind === FIN || lastKind === RST)) {
      this.timeout = this.#settings.tcpTimeouts.UNACKNOWLEDGED;
    } else {
      bytes[at + LAST_KIND] = kind;
      bytes[at + LAST_DIRECTION] = direction;
    }
  }
}

// States, by their place in TCP_STATES.
const NONE = 0;
export const SYN_SENT = 1;
const SYN_RECV = 2;
const ESTABLISHED = 3;
const FIN_WAIT = 4;
const LAST_ACK = 6;
/** A source port may be taken away from a translated connection in this state or a later one. */
export const TIME_WAIT = 7;
export const CLOSE = 8;
const SYN_SENT2 = 9;
/** Not states but verdicts on the segment. */
const INVALID = 10;
const IGNORED = 11;

const IS_CLOSING = Uint8Array.from(TCP_STATES, (state) =>
  ['FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE'].includes(state) ? 1 : 0,
);

// Kinds of segments: the rows of the tables.
const SYN = 0;
const SYN_ACK = 1;
const FIN = 2;
const ACK = 3;
const RST = 4;
const KINDS = 5;
const NO_KIND = 5;

function kindOf(tcpFlags: number): number {
  if ((tcpFlags & TCP_RST) !== 0) return RST;
  if ((tcpFlags & TCP_SYN) !== 0) return (tcpFlags & TCP_ACK) !== 0 ? SYN_ACK : SYN;
  return (tcpFlags & TCP_FIN) !== 0 ? FIN : ACK;
}

/**
 * The next state by direction, kind of segment and state. IG: the segment passes and changes nothing; IV: it is invalid.
 * The row of a SYN-ACK from the original direction is that of Linux 6.18, where older kernels ignore instead.
 */
const NEXT_STATE = readTables({
  //         NO SS SR ES FW CW LA TW CL S2
  original: {
    syn: '   SS SS IG IG IG IG IG SS SS S2',
    synAck: 'IV IV SR IV IV IV IV IV IV SR',
    fin: '   IV IV FW FW LA LA LA TW CL IV',
    ack: '   ES IV ES ES CW CW TW TW CL IV',
    rst: '   IV CL CL CL CL CL CL CL CL CL',
  },
  reply: {
    syn: '   IV S2 IV IV IV IV IV SS IV S2',
    synAck: 'IV SR IG IG IG IG IG IG IG SR',
    fin: '   IV IV FW FW LA LA LA TW CL IV',
    ack: '   IV IG SR ES CW CW TW TW CL IG',
    rst: '   IV CL CL CL CL CL CL CL CL CL',
  },
});

type TransitionTable = Readonly<Record<'syn' | 'synAck' | 'fin' | 'ack' | 'rst', string>>;

function readTables({ original, reply }: Record<'original' | 'reply', TransitionTable>): Uint8Array {
  const names = ['NO', 'SS', 'SR', 'ES', 'FW', 'CW', 'LA', 'TW', 'CL', 'S2', 'IV', 'IG'];
  const rows = [original, reply].flatMap(({ syn, synAck, fin, ack, rst }) => [syn, synAck, fin, ack, rst]);
  return Uint8Array.from(
    rows.flatMap((row) => row.trim().split(' ')),
    (name) => names.indexOf(name),
  );
}

const transition = (direction: Direction, kind: number, state: number): number =>
  (direction * KINDS + kind) * TCP_STATES.length + state;

const FLAG_BITS = TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK | TCP_URG;

/** Combinations of flags that a sane sender uses; PSH goes with all of them. */
const VALID_FLAGS = new Uint8Array(FLAG_BITS + 1);
for (const flags of [
  TCP_SYN,
  TCP_SYN | TCP_URG,
  TCP_SYN | TCP_ACK,
  TCP_RST,
  TCP_RST | TCP_ACK,
  TCP_FIN | TCP_ACK,
  TCP_FIN | TCP_ACK | TCP_URG,
  TCP_ACK,
  TCP_ACK | TCP_URG,
]) {
  VALID_FLAGS[flags] = 1;
}

// Words of one direction's window: the end of what it has sent, the end of what it may send, the largest window it has
// offered, and the highest number it has acknowledged.
const END = 0;
const MAX_END = 1;
const MAX_WINDOW = 2;
const MAX_ACK = 3;

/** nf_conntrack_proto_tcp.c, MAXACKWINCONST: an ACK may be this far behind. */
const ACK_WINDOW = 66_000;

const windowAt = (index: number, direction: number): number =>
  index * WORDS_PER_ENTRY + WINDOWS + direction * WINDOW_WORDS;

// Flags of one direction.
const SCALES_WINDOW = 1;
const CLOSE_BEGUN = 2;
const BE_LIBERAL = 4;
const DATA_UNACKNOWLEDGED = 8;
const MAX_ACK_KNOWN = 16;
// Flags of the last segment.
const CHALLENGE_EXPECTED = 32;
const SIMULTANEOUS_OPEN = 64;

type Fit = typeof FITS | typeof STRAY | typeof OUTSIDE;
const FITS = 0;
/** Old or slightly too much: it belongs to the connection, but says nothing about it. */
const STRAY = 1;
const OUTSIDE = 2;

type ResetJudgment = typeof RESET_IF_IN_WINDOW | typeof RESET_DOUBTFUL | typeof RESET_CERTAIN | typeof RESET_IMPOSSIBLE;
const RESET_IF_IN_WINDOW = 0;
/** If it is in the window, it passes, and the connection lives on for a while. */
const RESET_DOUBTFUL = 1;
const RESET_CERTAIN = 2;
const RESET_IMPOSSIBLE = 3;

/** Comparison of sequence numbers modulo 2^32. */
const isBefore = (a: number, b: number): boolean => ((a - b) | 0) < 0;

/** The sequence number after the segment's last byte; SYN and FIN count as one. */
function endOf({ sequence, payloadBytes, tcpFlags }: Frame): number {
  return (sequence + payloadBytes + ((tcpFlags & TCP_SYN) !== 0 ? 1 : 0) + ((tcpFlags & TCP_FIN) !== 0 ? 1 : 0)) | 0;
}

/** RFC 7323: shifts above 14 count as 14. */
const scaleOf = ({ windowScaleOption }: Frame): number => Math.min(14, Math.max(0, windowScaleOption));

/** For NAT: does `newer` begin above everything that `older` has sent? */
export function beginsAbove(table: ConntrackTable, newer: number, older: number): boolean {
  const { tcpWords: words } = table;
  return isBefore(words[windowAt(older, ORIGINAL) + END]!, words[windowAt(newer, ORIGINAL) + END]!);
}
