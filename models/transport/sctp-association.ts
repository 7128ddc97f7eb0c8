// One association of SCTP (RFC 9260): the handshake with its cookie, messages in one stream, acknowledged and repeated, and
// the shutdown.
//
// Not modelled: several addresses per end and heartbeats, several streams and unordered messages, windows and congestion
// control (all that is written goes out at once), gap reports (what comes out of order is thrown away and comes again),
// delayed and bundled SACKs (each packet with data gets one), measured round trips (the RTO is the initial one), restarts of
// an association, the limit of a cookie's life.

import type { RandomStream } from '../../engine/random.ts';
import { type Duration, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import { IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, type Message } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { SctpLayer } from './sctp-layer.ts';
import {
  DATA_HEADER_BYTES,
  SCTP_HEADER_BYTES,
  type SctpChunk,
  type SctpCookie,
  type SctpPacket,
} from './sctp-packet.ts';
import type { ConnectedSocket } from './socket-table.ts';

export type SctpState =
  | 'COOKIE WAIT'
  | 'COOKIE ECHOED'
  | 'ESTABLISHED'
  | 'SHUTDOWN SENT'
  | 'SHUTDOWN ACK SENT'
  | 'CLOSED';
export type SctpCloseReason = 'closed' | 'refused' | 'reset' | 'timed out' | 'network unreachable' | 'no free port';

export interface SctpHandlers {
  onConnected?(association: SctpAssociation): void;
  onMessage?(association: SctpAssociation, message: Message): void;
  onClosed?(association: SctpAssociation, reason: SctpCloseReason): void;
}

/** net.sctp.rto_initial and rto_max. */
const RTO_INITIAL = s(3);
const RTO_MAX = s(60);
/** net.sctp.max_init_retransmits and association_max_retrans. */
const MOST_INITS = 8;
const MOST_RETRANSMISSIONS = 10;

type DataChunk = Extract<SctpChunk, { type: 'DATA' }>;

export class SctpAssociation implements ConnectedSocket {
  readonly family: IpFamily;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly remoteIp: Ip;
  readonly remotePort: number;
  readonly cpu: number;
  state: SctpState = 'COOKIE WAIT';
  readonly #layer: SctpLayer;
  readonly #handlers: SctpHandlers;
  readonly #ownTag: number;
  #peerTag = 0;
  /** Of the next DATA chunk; 32 bits that wrap. */
  #nextTsn: number;
  /** Up to which the peer's have come. */
  #cumulativeTsn = 0;
  #cookie: SctpCookie | undefined;
  readonly #unacknowledged: DataChunk[] = [];
  readonly #waiting: Message[] = [];
  #isClosing = false;
  readonly #timer: Timer;
  #rto: Duration = RTO_INITIAL;
  #repetitions = 0;

  /** Use SctpLayer.connect and listen. `cookie`: the peer has echoed it. */
  constructor(
    layer: SctpLayer,
    options: ConnectedSocket & { readonly cpu: number; readonly random: RandomStream; readonly cookie?: SctpCookie },
    handlers: SctpHandlers,
  ) {
    this.family = options.family;
    this.localIp = options.localIp;
    this.localPort = options.localPort;
    this.remoteIp = options.remoteIp;
    this.remotePort = options.remotePort;
    this.cpu = options.cpu;
    this.#layer = layer;
    this.#handlers = handlers;
    const { cookie, random } = options;
    this.#ownTag = cookie?.ownTag ?? random.bits31() + 1; // never 0
    this.#nextTsn = cookie?.ownTsn ?? random.bits31();
    if (cookie !== undefined) this.#meet(cookie.peerTag, cookie.peerTsn);
    if (cookie !== undefined) this.state = 'ESTABLISHED';
    this.#timer = new Timer(layer.stack.cpus.place, () =>
      layer.stack.cpus.submit(this.cpu, SctpAssociation.#onTimer, this),
    );
  }

  /** For the layer, in a visit: the first packet. */
  begin(): void {
    this.#sendInit();
  }

  /** For the layer: there is no way to connect at all. */
  fail(reason: SctpCloseReason): void {
    this.#end(reason);
  }

  /** Before the association is there, messages wait. */
  send(message: Message): void {
    this.#layer.stack.cpus.submit(this.cpu, () => this.#write(message), undefined);
  }

  /** When all that was sent has arrived. */
  close(): void {
    this.#layer.stack.cpus.submit(this.cpu, SctpAssociation.#onClose, this);
  }

  /** At once, and the peer hears of it. */
  abort(): void {
    this.#layer.stack.cpus.submit(this.cpu, SctpAssociation.#onAbort, this);
  }

  static readonly #onClose = (association: SctpAssociation): void => {
    association.#isClosing = true;
    association.#shutDownIfDone();
  };

  static readonly #onAbort = (association: SctpAssociation): void => {
    if (association.state === 'CLOSED') return;
    if (association.#peerTag !== 0) association.#send([{ type: 'ABORT', isReflected: false }]);
    association.#end('closed');
  };

  // ── receiving ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether it is of this association, by its verification tag. */
  accepts({ verificationTag, chunks: [first] }: SctpPacket): boolean {
    const isReflected = first !== undefined && 'isReflected' in first && first.isReflected;
    return verificationTag === (isReflected ? this.#peerTag : this.#ownTag);
  }

  receive({ chunks }: SctpPacket): void {
    let hasData = false;
    for (const chunk of chunks) {
      if (chunk.type === 'DATA') hasData = true;
      if (this.state !== 'CLOSED') this.#take(chunk);
    }
    if (hasData && this.state !== 'CLOSED') this.#send([{ type: 'SACK', cumulativeTsn: this.#cumulativeTsn }]);
  }

  #take(chunk: SctpChunk): void {
    switch (chunk.type) {
      case 'INIT ACK':
        if (this.state !== 'COOKIE WAIT') return;
        this.#meet(chunk.tag, chunk.tsn);
        this.#cookie = chunk.cookie;
        this.state = 'COOKIE ECHOED';
        return this.#sendCookie();
      case 'COOKIE ACK':
        if (this.state === 'COOKIE ECHOED') this.#establish();
        return;
      case 'COOKIE ECHO':
        return this.#send([{ type: 'COOKIE ACK' }]); // the first one was lost
      case 'DATA':
        return this.#takeData(chunk);
      case 'SACK':
        return this.#takeSack(chunk.cumulativeTsn);
      case 'SHUTDOWN':
        this.#takeSack(chunk.cumulativeTsn);
        this.state = 'SHUTDOWN ACK SENT';
        this.#send([{ type: 'SHUTDOWN ACK' }]);
        return this.#startTimer();
      case 'SHUTDOWN ACK':
        this.#send([{ type: 'SHUTDOWN COMPLETE', isReflected: false }]);
        return this.#end('closed');
      case 'SHUTDOWN COMPLETE':
        if (this.state === 'SHUTDOWN ACK SENT') this.#end('closed');
        return;
      case 'ABORT':
        return this.#end(this.state === 'COOKIE WAIT' ? 'refused' : 'reset');
      default:
    }
  }

  #meet(peerTag: number, peerTsn: number): void {
    this.#peerTag = peerTag;
    this.#cumulativeTsn = (peerTsn - 1) | 0;
  }

  #establish(): void {
    this.state = 'ESTABLISHED';
    this.#stopTimer();
    this.#tell(() => this.#handlers.onConnected?.(this));
    for (const message of this.#waiting.splice(0)) this.#write(message);
    this.#shutDownIfDone();
  }

  #takeData({ tsn, message }: DataChunk): void {
    if (tsn !== ((this.#cumulativeTsn + 1) | 0)) return; // comes again, or has come
    this.#cumulativeTsn = tsn;
    if (message !== undefined) this.#tell(() => this.#handlers.onMessage?.(this, message));
  }

  #takeSack(cumulativeTsn: number): void {
    const before = this.#unacknowledged.length;
    while (this.#unacknowledged.length > 0 && ((cumulativeTsn - this.#unacknowledged[0]!.tsn) | 0) >= 0)
      this.#unacknowledged.shift();
    if (this.#unacknowledged.length === before) return;
    this.#stopTimer();
    if (this.#unacknowledged.length > 0) this.#startTimer();
    this.#shutDownIfDone();
  }

  // ── sending ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #write(message: Message): void {
    if (this.state === 'COOKIE WAIT' || this.state === 'COOKIE ECHOED') {
      this.#waiting.push(message);
      return;
    }
    if (this.state !== 'ESTABLISHED') return;
    const { cpus } = this.#layer.stack;
    cpus.charge(cpus.costs.socketSendNs);
    const most = this.#mostDataBytes();
    for (let left = message.sizeBytes; left > 0; left -= most) {
      const isLast = left <= most;
      const chunk = {
        type: 'DATA',
        tsn: this.#nextTsn,
        bytes: Math.min(left, most),
        message: isLast ? message : undefined,
      } as const;
      this.#nextTsn = (this.#nextTsn + 1) | 0;
      this.#unacknowledged.push(chunk);
      if (!this.#timer.armed) this.#startTimer();
      this.#send([chunk]);
    }
  }

  /** In a chunk alone in its packet. */
  #mostDataBytes(): number {
    const headerBytes = this.family === 6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES;
    const room = this.#layer.stack.mtuTo(this.remoteIp, this.family) - headerBytes - SCTP_HEADER_BYTES;
    return (room & ~3) - DATA_HEADER_BYTES;
  }

  #shutDownIfDone(): void {
    if (!this.#isClosing || this.state !== 'ESTABLISHED' || this.#unacknowledged.length > 0) return;
    this.state = 'SHUTDOWN SENT';
    this.#sendShutdown();
  }

  #sendInit(): void {
    this.#startTimer();
    // Its verification tag is 0: the peer has not told its own.
    this.#send([{ type: 'INIT', tag: this.#ownTag, tsn: this.#nextTsn }]);
  }

  #sendCookie(): void {
    this.#startTimer();
    this.#send([{ type: 'COOKIE ECHO', cookie: this.#cookie! }]);
  }

  #sendShutdown(): void {
    this.#startTimer();
    this.#send([{ type: 'SHUTDOWN', cumulativeTsn: this.#cumulativeTsn }]);
  }

  #send(chunks: readonly SctpChunk[]): void {
    this.#layer.transmit(this, this.#peerTag, chunks);
  }

  // ── timer ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  #startTimer(): void {
    this.#timer.start(this.#rto);
  }

  /** The peer is there. */
  #stopTimer(): void {
    this.#timer.stop();
    this.#rto = RTO_INITIAL;
    this.#repetitions = 0;
  }

  static readonly #onTimer = (association: SctpAssociation): void => association.#repeat();

  #repeat(): void {
    if (this.state === 'CLOSED') return;
    const isConnecting = this.state === 'COOKIE WAIT' || this.state === 'COOKIE ECHOED';
    if (++this.#repetitions > (isConnecting ? MOST_INITS : MOST_RETRANSMISSIONS)) return this.#end('timed out');
    this.#rto = Math.min(2 * this.#rto, RTO_MAX) as Duration;
    switch (this.state) {
      case 'COOKIE WAIT':
        return this.#sendInit();
      case 'COOKIE ECHOED':
        return this.#sendCookie();
      case 'SHUTDOWN SENT':
        return this.#sendShutdown();
      case 'SHUTDOWN ACK SENT':
        this.#startTimer();
        return this.#send([{ type: 'SHUTDOWN ACK' }]);
      default:
        if (this.#unacknowledged.length > 0) this.#startTimer();
        for (const chunk of [...this.#unacknowledged]) this.#send([chunk]);
    }
  }

  #end(reason: SctpCloseReason): void {
    if (this.state === 'CLOSED') return;
    this.state = 'CLOSED';
    this.#timer.stop();
    this.#layer.remove(this);
    this.#tell(() => this.#handlers.onClosed?.(this, reason));
  }

  /** The application hears of it by an event. */
  #tell(action: () => void): void {
    this.#layer.stack.cpus.schedule((told: () => void) => told(), action);
  }
}
