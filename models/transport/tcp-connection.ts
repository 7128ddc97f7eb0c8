// One TCP connection of one side: its states, what it says to its application, and its receiving half (RFC 9293). The
// sending half is in tcp-sender.ts. State names are the kernel's.
//
// An application's calls run as visits on the application's CPU, in order; segments are processed on the CPU they arrive
// on; the application is told by events at the instant at which the kernel would wake it.
// Not modelled: simultaneous open, urgent data, keep-alive probes, Fast Open, SYN cookies, MD5 and AO, ECN.

import { after, type Duration, type Instant, ms } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { SendError } from '../ip/send-error.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import { socketFlowHash } from '../packet/flow-hash.ts';
import { type Frame, type Message, PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { type IcmpError, icmpErrorOf, sendErrorOf } from './icmp-error.ts';
import { isAfter, isBefore } from './sequence.ts';
import type { ConnectedSocket } from './socket-table.ts';
import { DelayedAck } from './tcp-delayed-ack.ts';
import type { TcpListener } from './tcp-listener.ts';
import { TcpReceiveQueue } from './tcp-receive-queue.ts';
import { TcpReceiveWindow } from './tcp-receive-window.ts';
import { type SegmentOutput, TcpSender } from './tcp-sender.ts';
import type { TcpCounters, TcpSettings } from './tcp-settings.ts';
import { TimeWait } from './tcp-time-wait.ts';
import { TcpTimer } from './tcp-timer.ts';
import type { SocketAddress, TransportStack } from './transport-stack.ts';

export type TcpState =
  | 'CLOSED'
  | 'SYN_SENT'
  | 'SYN_RECV'
  | 'ESTABLISHED'
  | 'FIN_WAIT1'
  | 'FIN_WAIT2'
  | 'CLOSE_WAIT'
  | 'CLOSING'
  | 'LAST_ACK'
  | 'TIME_WAIT';

/** How a connection ended for its application: as it asked, or by errno. */
export type TcpCloseReason =
  | 'closed'
  | 'refused' //      ECONNREFUSED: reset or port unreachable during the handshake
  | 'reset' //        ECONNRESET
  | 'timed out' //    ETIMEDOUT
  | 'network unreachable' // ENETUNREACH
  | 'host unreachable' //    EHOSTUNREACH
  | 'prohibited' //          EACCES
  | 'invalid argument' //    EINVAL: a blackhole route
  | 'not permitted' //       EPERM
  | 'no free port'; // EADDRNOTAVAIL: connect() found every ephemeral port in use

/** What an application hears of its connection. Nothing but onClosed is called after it has closed the connection itself. */
export interface TcpHandlers {
  /** connect() has succeeded. Not called for accepted connections. */
  onConnected?(connection: TcpConnection): void;
  onMessage?(connection: TcpConnection, message: Message): void;
  /** The peer sends no more; this side still may. */
  onPeerClosed?(connection: TcpConnection): void;
  /** Once per connection: it is over, whatever the reason. A TIME_WAIT that may follow is the kernel's own. */
  onClosed?(connection: TcpConnection, reason: TcpCloseReason): void;
}

/** What a connection needs of the layer it belongs to. */
export interface ConnectionLayer {
  readonly stack: TransportStack;
  readonly settings: TcpSettings;
  readonly counters: TcpCounters;
  /** Value of the timestamp option: milliseconds on a clock of the whole namespace, never 0. */
  timestamp(): number;
  transmit(frame: Frame): SendError | undefined;
  sendReset(about: Frame): void;
  /** MSS towards an address: what fits into the MTU of the way, as far as it is known. */
  mssTo(ip: Ip, family: IpFamily): number;
  remove(connection: TcpConnection): void;
  enterTimeWait(connection: TcpConnection, timeWait: TimeWait): void;
  /** For frames that are followed: a step of the journey. */
  noteSocket(frame: Frame, text: string): void;
}

export interface TcpConnectionOptions {
  readonly family: IpFamily;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly remoteIp: Ip;
  readonly remotePort: number;
  /** Where the application runs. */
  readonly cpu: number;
  readonly initialSequence: number;
}

/** What an application asks for, in the order of its calls. */
type Call = Message | 'connect' | 'shut down' | 'close' | 'abort' | 'read';
/** What it is told, in order. */
type Notice = Message | 'connected' | 'peer closed' | 'closed';

export class TcpConnection implements ConnectedSocket, SegmentOutput {
  readonly family: IpFamily;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly remoteIp: Ip;
  readonly remotePort: number;
  readonly cpu: number;
  readonly cpus: CpuSet;
  readonly settings: TcpSettings;
  readonly #layer: ConnectionLayer;
  #state: TcpState = 'CLOSED';

  readonly #initialSequence: number;
  /** What its segments have for a flow hash, so that a path that loses them is left (sk_txhash). */
  #flowHash: number;
  readonly #sender: TcpSender;
  /** Of the handshake, of retransmissions and probes, and of FIN_WAIT2: never two of them at a time. */
  readonly #timer: TcpTimer;
  #obstacle: TcpCloseReason | undefined;
  #handshakeTimeouts = 0;
  #synSentAt = 0 as Instant;
  /** Of a connection that a listener took, until its handshake is over. */
  #listener: TcpListener | undefined;
  /** Last ICMP error of an established connection: the reason if it times out later. */
  #softError: IcmpError | undefined;

  readonly #received = new TcpReceiveQueue(0);
  readonly #window: TcpReceiveWindow;
  readonly #delayedAck: DelayedAck;
  readonly #ackTimer: TcpTimer;
  /** Acknowledgment number of the last segment sent. */
  #lastAckSent = 0;
  #lastChallengeAt: Instant | undefined;
  // Options of the peer's SYN.
  #peerMssBytes = DEFAULT_MSS_BYTES;
  #peerScale = 0;
  #scaling = false;
  /** Timestamp to echo; 0 when the connection does without. */
  #recentTimestamp = 0;

  #handlers: TcpHandlers | undefined;
  readonly #calls: Call[] = [];
  readonly #notices: Notice[] = [];
  #sendingEnded = false;
  #applicationClosed = false;
  #readingPaused = false;
  #toldPeerClosed = false;
  /** The connection is over, but the application has yet to read what came before. */
  #closedUnread = false;
  #closeReason: TcpCloseReason = 'closed';

  /** Use TcpLayer.connect and TcpLayer.listen. */
  constructor(layer: ConnectionLayer, options: TcpConnectionOptions) {
    const { cpus } = layer.stack;
    this.family = options.family;
    this.localIp = options.localIp;
    this.localPort = options.localPort;
    this.remoteIp = options.remoteIp;
    this.remotePort = options.remotePort;
    this.cpu = options.cpu;
    this.cpus = cpus;
    this.settings = layer.settings;
    this.#layer = layer;
    this.#initialSequence = options.initialSequence;
    this.#flowHash = socketFlowHash(options.initialSequence);
    const mssBytes = layer.mssTo(options.remoteIp, options.family);
    this.#timer = new TcpTimer(cpus.place, () => cpus.submit(this.cpu, TcpConnection.#onTimer, this));
    this.#ackTimer = new TcpTimer(cpus.place, () => cpus.submit(this.cpu, TcpConnection.#onAckTimer, this));
    this.#sender = new TcpSender(this, this.#timer, { initialSequence: options.initialSequence, mssBytes });
    this.#window = new TcpReceiveWindow(layer.settings, mssBytes);
    this.#delayedAck = new DelayedAck(layer.settings.delayedAck);
  }

  // ── for the application ────────────────────────────────────────────────────────────────────────────────────────────

  get local(): SocketAddress {
    return { family: this.family, ip: this.localIp, port: this.localPort };
  }

  get remote(): SocketAddress {
    return { family: this.family, ip: this.remoteIp, port: this.remotePort };
  }

  get state(): TcpState {
    return this.#state;
  }

  /** Undefined before the first measurement. */
  get smoothedRtt(): Duration | undefined {
    return this.#sender.timeout.smoothedRtt;
  }

  /** Data segments sent again. */
  get retransmissions(): number {
    return this.#sender.retransmissions;
  }

  get congestionWindowBytes(): number {
    return this.#sender.congestion.bytes;
  }

  /**
   * Writes a message; before the connection is established it waits. False if the message can no longer go out, because
   * this side has closed or the connection is over (EPIPE).
   */
  send(message: Message): boolean {
    if (!(message.sizeBytes >= 1)) throw new RangeError(`message of ${message.sizeBytes} bytes; expected at least 1`);
    if (this.#sendingEnded) return false;
    this.#call(message);
    return true;
  }

  /** shutdown(SHUT_WR): FIN follows the data, and this side still receives. */
  shutdownSend(): void {
    if (this.#sendingEnded) return;
    this.#sendingEnded = true;
    this.#call('shut down');
  }

  /**
   * close(): FIN follows the data. Data from the peer that has not been read, or comes later, is answered with RST, as
   * Linux does.
   */
  close(): void {
    this.#letGo('close');
  }

  /** Ends the connection at once, with RST to the peer. */
  abort(): void {
    this.#letGo('abort');
  }

  /** The application does not read for a while: what arrives fills the receive buffer, and the window closes. */
  pauseReading(): void {
    this.#readingPaused = true;
  }

  resumeReading(): void {
    if (this.#applicationClosed || !this.#readingPaused) return;
    this.#readingPaused = false;
    this.#call('read');
  }

  #letGo(call: 'close' | 'abort'): void {
    this.#applicationClosed = true;
    this.#sendingEnded = true;
    this.#readingPaused = true;
    this.#call(call);
  }

  #call(call: Call): void {
    this.#calls.push(call);
    this.cpus.submit(this.cpu, TcpConnection.#onCall, this);
  }

  /** One visit per call. */
  static readonly #onCall = (connection: TcpConnection): void => {
    const call = connection.#calls.shift()!;
    if (call === 'read') return connection.#readLate();
    connection.cpus.charge(connection.cpus.costs.socketSendNs);
    switch (call) {
      case 'connect':
        connection.cpus.charge(connection.cpus.costs.tcpOpenNs);
        return connection.#open();
      case 'shut down':
        return connection.#finishSending();
      case 'close':
        return connection.#closeForApplication();
      case 'abort':
        return connection.#abort();
      default:
        return connection.#write(call);
    }
  };

  #write(message: Message): void {
    switch (this.#state) {
      case 'SYN_SENT':
        return this.#sender.write(message);
      case 'ESTABLISHED':
      case 'CLOSE_WAIT':
        this.#sender.write(message);
        return this.#sender.transmit();
    }
  }

  // ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** For the layer: connect(), which fails without a packet if there is an obstacle. */
  connect(handlers: TcpHandlers, obstacle: TcpCloseReason | undefined): void {
    this.#handlers = handlers;
    this.#obstacle = obstacle;
    this.#call('connect');
  }

  #open(): void {
    if (this.#obstacle !== undefined) return this.#end(this.#obstacle);
    this.#layer.counters.activeOpens++;
    this.#state = 'SYN_SENT';
    const error = this.#sendSyn();
    if (error !== undefined && this.#state === 'SYN_SENT') this.#couldNotSend();
  }

  /**
   * Without a route connect() fails. Rules that drop the SYN, or translate its addresses to such as have no route or may
   * not leave, do not fail it: the SYN is repeated like one lost on the way.
   */
  #couldNotSend(): void {
    const error = this.#layer.stack.routeError(this.remoteIp, this.family);
    if (error !== undefined) this.#end(sendErrorOf(error));
  }

  /** For the layer: a listener takes this SYN. */
  acceptSyn(syn: Frame, listener: TcpListener): void {
    this.cpus.charge(this.cpus.costs.tcpOpenNs);
    this.#layer.counters.passiveOpens++;
    this.#listener = listener;
    this.#readingPaused = true; // until the application has accepted
    this.#state = 'SYN_RECV';
    this.#takeSyn(syn);
    this.#sendSyn();
  }

  /** For the listener: accept(). */
  accepted(handlers: TcpHandlers): void {
    this.#handlers = handlers;
    for (let waiting = this.#notices.length; waiting > 0; waiting--) this.#wakeApplication();
    if (this.#received.unreadBytes > 0 || this.#received.finished) return this.resumeReading();
    this.#readingPaused = this.#applicationClosed;
  }

  #sendSyn(): SendError | undefined {
    const syn = this.newSegment();
    const answer = this.#state === 'SYN_RECV';
    syn.sequence = this.#initialSequence;
    syn.tcpFlags = answer ? TCP_SYN | TCP_ACK : TCP_SYN;
    if (answer) syn.acknowledgment = this.#lastAckSent = this.#received.next;
    syn.mssOption = this.#layer.mssTo(this.remoteIp, this.family);
    if (!answer || this.#scaling) syn.windowScaleOption = this.#window.scaleOption;
    if (answer ? this.#recentTimestamp !== 0 : this.settings.timestamps) this.#addTimestamps(syn);
    syn.window = this.#window.initialField;
    if (this.#handshakeTimeouts === 0) this.#synSentAt = this.cpus.instant;
    if (!this.#timer.armed) this.#startTimer(this.settings.initialTimeout);
    return this.#emit(syn);
  }

  #takeSyn(syn: Frame): void {
    this.#received.next = (syn.sequence + 1) | 0;
    this.#window.begin(this.#received.next);
    if (syn.mssOption > 0) this.#peerMssBytes = syn.mssOption;
    if (this.settings.timestamps) this.#recentTimestamp = syn.timestampValue;
    if (syn.windowScaleOption < 0) return;
    this.#scaling = true;
    this.#peerScale = syn.windowScaleOption;
    this.#window.useScale();
  }

  /** The peer has acknowledged our SYN. */
  #establish(frame: Frame, windowBytes: number): void {
    this.#state = this.#sender.isFinishing ? 'FIN_WAIT1' : 'ESTABLISHED';
    const { timeout } = this.#sender;
    if (this.#handshakeTimeouts === 0) timeout.measured((this.cpus.instant - this.#synSentAt) as Duration);
    else if (frame.timestampEcho !== 0) timeout.measured(this.timeSinceEcho(frame));
    this.#sender.open(frame, { windowBytes, mssBytes: this.#segmentBytes() });
    if (this.#handshakeTimeouts > 1) this.#sender.congestion.restart();
  }

  /** Payload of a full segment, by what both sides and the way take. */
  #segmentBytes(): number {
    const mssBytes = Math.min(this.#peerMssBytes, this.#layer.mssTo(this.remoteIp, this.family));
    return this.#recentTimestamp === 0 ? mssBytes : mssBytes - TIMESTAMP_OPTION_BYTES;
  }

  // ── segments from the peer ─────────────────────────────────────────────────────────────────────────────────────────

  /** For the layer. Undefined if the segment was of use, else why it is dropped. */
  receive(frame: Frame): DropReason | undefined {
    switch (this.#state) {
      case 'CLOSED':
      case 'TIME_WAIT':
        return 'TCP_RESET';
      case 'SYN_SENT':
        return this.#receiveAnswerToSyn(frame);
      case 'SYN_RECV':
        if ((frame.tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN && ((frame.sequence + 1) | 0) === this.#received.next) {
          this.#sendSyn(); // the peer has not seen our answer
          return undefined;
        }
        return this.#refusal(frame) ?? this.#completeHandshake(frame) ?? this.#receiveAcceptable(frame);
      default:
        return this.#refusal(frame) ?? this.#receiveAcceptable(frame);
    }
  }

  #receiveAnswerToSyn(frame: Frame): DropReason | undefined {
    const { tcpFlags } = frame;
    const acknowledges = (tcpFlags & TCP_ACK) !== 0;
    if (acknowledges && frame.acknowledgment !== this.#sender.max) {
      this.#layer.sendReset(frame);
      return 'TCP_INVALID_SEQUENCE';
    }
    if ((tcpFlags & TCP_RST) !== 0) {
      if (acknowledges) this.#end('refused');
      return 'TCP_RESET';
    }
    if (!acknowledges || (tcpFlags & TCP_SYN) === 0) return 'TCP_INVALID_SEQUENCE';
    this.#takeSyn(frame);
    this.#establish(frame, frame.window);
    this.#sender.transmit();
    if (this.#lastAckSent !== this.#received.next) this.#sendAck();
    // connect() returns when the softirq that has sent the ACK is over (tcp_rcv_synsent_state_process()).
    this.#tell('connected');
    return undefined;
  }

  /** Checks of every segment after the SYN, in the kernel's order (tcp_validate_incoming, RFC 5961). */
  #refusal(frame: Frame): DropReason | undefined {
    const { tcpFlags, sequence, payloadBytes } = frame;
    const isReset = (tcpFlags & TCP_RST) !== 0;
    const end = (sequence + payloadBytes + ((tcpFlags & TCP_FIN) !== 0 ? 1 : 0)) | 0;
    const isOld = isBefore(end, this.#lastAckSent) || (end !== sequence && !isReset && this.#isStale(frame));
    if (isOld || !this.#window.includes(sequence)) {
      if (!isReset) this.#challenge(payloadBytes > 0);
      return isOld ? 'TCP_OLD_DATA' : 'TCP_INVALID_SEQUENCE';
    }
    if (isReset) {
      if (sequence === this.#received.next) this.#resetByPeer();
      else this.#challenge(false);
      return 'TCP_RESET';
    }
    if ((tcpFlags & TCP_SYN) !== 0) {
      this.#challenge(false);
      return 'TCP_INVALID_SEQUENCE';
    }
    return (tcpFlags & TCP_ACK) === 0 ? 'TCP_INVALID_SEQUENCE' : undefined;
  }

  /** PAWS (RFC 7323 5): sent before a segment that has already been taken. Pure acknowledgments may be reordered. */
  #isStale({ timestampValue }: Frame): boolean {
    return this.#recentTimestamp !== 0 && timestampValue !== 0 && isBefore(timestampValue, this.#recentTimestamp);
  }

  #completeHandshake(frame: Frame): DropReason | undefined {
    const listener = this.#listener!;
    if (frame.acknowledgment !== this.#sender.max || listener.closed) {
      this.#layer.sendReset(frame);
      if (listener.closed) this.#end('reset');
      return 'TCP_RESET';
    }
    if (listener.isFull) {
      this.#layer.counters.listenDrops++; // the peer believes that it is connected; our SYN-ACK is repeated
      return 'LISTEN_OVERFLOW';
    }
    this.#listener = undefined;
    this.#establish(frame, this.#windowBytes(frame));
    listener.enqueue(this);
    return undefined;
  }

  #receiveAcceptable(frame: Frame): DropReason | undefined {
    const kind = this.#sender.acknowledge(frame, this.#windowBytes(frame));
    if (kind === 'unsent') {
      this.#challenge(false);
      return 'TCP_INVALID_SEQUENCE';
    }
    if (frame.timestampValue !== 0 && !isAfter(frame.sequence, this.#lastAckSent) && !this.#isStale(frame)) {
      this.#recentTimestamp = frame.timestampValue;
    }
    if (kind === 'new' && this.#sender.finAcknowledged && this.#onFinAcknowledged()) return undefined;
    const hasData = frame.payloadBytes > 0 || (frame.tcpFlags & TCP_FIN) !== 0;
    const refusal = hasData ? this.#receiveData(frame) : undefined;
    if (this.#state === 'CLOSED' || this.#state === 'TIME_WAIT') return refusal;
    this.#sender.transmit();
    if (this.#lastAckSent !== this.#received.next) this.#acknowledge();
    return refusal;
  }

  /** True if that was the last thing this connection waited for. */
  #onFinAcknowledged(): boolean {
    switch (this.#state) {
      case 'FIN_WAIT1':
        this.#state = 'FIN_WAIT2';
        if (this.#applicationClosed) this.#startTimer(this.settings.finTimeout);
        return false;
      case 'CLOSING':
        this.#enterTimeWait();
        return true;
      case 'LAST_ACK':
        this.#end('closed');
        return true;
      default:
        return false;
    }
  }

  #receiveData(frame: Frame): DropReason | undefined {
    const { sequence, payloadBytes } = frame;
    const end = (sequence + payloadBytes) | 0;
    if (this.#nobodyReads && isAfter(end, this.#received.next)) {
      this.#layer.sendReset(frame);
      this.#end('closed');
      return 'TCP_RESET';
    }
    this.#delayedAck.received(payloadBytes, this.cpus.instant);
    const hadGap = this.#received.hasGap;
    const arrival =
      payloadBytes > 0 ? this.#received.receive(sequence, payloadBytes, frame.messageEnds) : 'nothing new';
    if (arrival === 'in order' && !this.#readingPaused) this.#read();
    const isFin = (frame.tcpFlags & TCP_FIN) !== 0 && !this.#received.finished;
    if (isFin ? this.#received.receiveFin(end) : this.#received.takeFin()) {
      this.#onFin();
      return undefined;
    }
    // A gap, the end of a gap, or a segment sent twice: the peer must learn of it at once.
    if (arrival !== 'in order' || hadGap) this.#sendAck();
    return arrival === 'nothing new' && !isFin ? 'TCP_OLD_DATA' : undefined;
  }

  /** The application has closed the socket; before the call's visit what comes is still taken, and makes it a RST. */
  get #nobodyReads(): boolean {
    return this.#applicationClosed && (this.#state === 'FIN_WAIT1' || this.#state === 'FIN_WAIT2');
  }

  #onFin(): void {
    if (!this.#readingPaused) this.#tellPeerClosed();
    switch (this.#state) {
      case 'ESTABLISHED':
        this.#state = 'CLOSE_WAIT';
        this.#delayedAck.expectFin();
        return;
      case 'FIN_WAIT1':
        this.#state = 'CLOSING';
        return this.#sendAck();
      case 'FIN_WAIT2':
        this.#sendAck();
        return this.#enterTimeWait();
    }
  }

  #resetByPeer(): void {
    if (this.#state === 'SYN_RECV') return this.#end('refused');
    this.#layer.counters.resetsReceived++;
    this.#end('reset');
  }

  #windowBytes(frame: Frame): number {
    return frame.window << this.#peerScale;
  }

  // ── segments to the peer ───────────────────────────────────────────────────────────────────────────────────────────

  /** For the sending half. */
  newSegment(): Frame {
    const frame = this.#layer.stack.frames.allocate();
    if (this.family === 6) frame.setFamily(6);
    frame.protocol = PROTOCOL_TCP;
    frame.srcIp = this.localIp;
    frame.dstIp = this.remoteIp;
    frame.srcPort = this.localPort;
    frame.dstPort = this.remotePort;
    frame.flowHash = this.#flowHash;
    frame.isChecksumOpen = true;
    return frame;
  }

  /** For the sending half: acknowledges what has arrived, too. */
  sendSegment(frame: Frame): void {
    const { next, unreadBytes } = this.#received;
    frame.acknowledgment = next;
    frame.window = this.#window.field(next, unreadBytes);
    if (this.#recentTimestamp !== 0) this.#addTimestamps(frame);
    this.#lastAckSent = next;
    this.#ackTimer.stop();
    this.#delayedAck.sentAck();
    if (frame.payloadBytes > 0) this.#delayedAck.sentData(this.cpus.instant);
    this.#emit(frame);
  }

  /** As somebody with a raw socket may do: sends a byte so far beyond what has been sent, which the connection does not keep. */
  sendStray({ aheadBytes }: { readonly aheadBytes: number }): void {
    const frame = this.newSegment();
    frame.sequence = (this.#sender.max + aheadBytes) | 0;
    frame.payloadBytes = 1;
    frame.tcpFlags = TCP_ACK;
    this.sendSegment(frame);
  }

  /** For the sending half. */
  timeSinceEcho(frame: Frame): Duration {
    return ms(Math.max((this.#layer.timestamp() - frame.timestampEcho) | 0, 1));
  }

  /** For the sending half. */
  countRetransmission(): void {
    this.#layer.counters.retransmittedSegments++;
  }

  #addTimestamps(frame: Frame): void {
    frame.timestampValue = this.#layer.timestamp();
    frame.timestampEcho = this.#recentTimestamp;
  }

  #emit(frame: Frame): SendError | undefined {
    frame.updateSize();
    this.cpus.charge(this.cpus.costs.tcpSegmentNs);
    if (frame.journey !== undefined) this.#layer.noteSocket(frame, `sent by the connection, ${this.#state}`);
    return this.#layer.transmit(frame);
  }

  #sendAck(): void {
    const frame = this.newSegment();
    frame.sequence = this.#sender.max;
    frame.tcpFlags = TCP_ACK;
    this.sendSegment(frame);
  }

  /** New data has arrived in order and no segment since has acknowledged it. */
  #acknowledge(): void {
    if (this.#delayedAck.isDue((this.#received.next - this.#lastAckSent) | 0)) return this.#sendAck();
    if (!this.#ackTimer.armed) this.#ackTimer.startAt(after(this.cpus.instant, this.settings.delayedAck));
  }

  /** Answers a segment that does not fit; without data at most every 500 ms (tcp_invalid_ratelimit), lest two argue. */
  #challenge(hasData: boolean): void {
    const now = this.cpus.instant;
    if (!hasData) {
      if (this.#lastChallengeAt !== undefined && now - this.#lastChallengeAt < CHALLENGE_INTERVAL) return;
      this.#lastChallengeAt = now;
    }
    this.#sendAck();
  }

  #sendReset(): void {
    const reset = this.newSegment();
    reset.sequence = this.#sender.max;
    reset.acknowledgment = this.#received.next;
    reset.tcpFlags = TCP_RST | TCP_ACK;
    this.#layer.counters.resetsSent++;
    this.#emit(reset);
  }

  // ── closing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #closeForApplication(): void {
    switch (this.#state) {
      case 'CLOSED':
      case 'TIME_WAIT':
        return this.#tellClosedLate();
      case 'SYN_SENT':
        return this.#end('closed');
      case 'FIN_WAIT2':
        return this.#startTimer(this.settings.finTimeout);
      default:
        if (this.#received.unreadBytes > 0) return this.#abort();
        return this.#finishSending();
    }
  }

  #finishSending(): void {
    switch (this.#state) {
      case 'SYN_SENT':
        return this.#sender.finish(); // the FIN follows the handshake
      case 'ESTABLISHED':
        this.#state = 'FIN_WAIT1';
        break;
      case 'CLOSE_WAIT':
        this.#state = 'LAST_ACK';
        break;
      default:
        return;
    }
    this.#sender.finish();
    this.#sender.transmit();
  }

  #abort(): void {
    switch (this.#state) {
      case 'CLOSED':
      case 'TIME_WAIT':
        return this.#tellClosedLate();
      case 'SYN_SENT':
        return this.#end('closed');
      default:
        this.#sendReset();
        this.#end('closed');
    }
  }

  /** For the layer: the application and its socket are gone, and hear nothing any more. */
  kill(): void {
    this.#handlers = undefined;
    this.#letGo('abort');
  }

  #enterTimeWait(): void {
    this.#state = 'TIME_WAIT';
    this.#stop();
    const last = {
      sendNext: this.#sender.max,
      receiveNext: this.#received.next,
      recentTimestamp: this.#recentTimestamp,
      flowHash: this.#flowHash,
      now: this.cpus.instant,
    };
    this.#layer.enterTimeWait(this, new TimeWait(this, last));
    this.#tellClosed();
  }

  #end(reason: TcpCloseReason): void {
    if (this.#state === 'SYN_SENT' || this.#state === 'SYN_RECV') this.#layer.counters.attemptFails++;
    this.#state = 'CLOSED';
    this.#closeReason = reason;
    this.#stop();
    this.#layer.remove(this);
    this.#tellClosed();
  }

  #stop(): void {
    this.#sendingEnded = true;
    this.#timer.cancel();
    this.#ackTimer.cancel();
  }

  // ── timers and errors ──────────────────────────────────────────────────────────────────────────────────────────────

  static readonly #onTimer = (connection: TcpConnection): void => {
    if (connection.#timer.armed) return; // restarted while this visit waited for its CPU
    switch (connection.#state) {
      case 'CLOSED':
      case 'TIME_WAIT':
        return;
      case 'SYN_SENT':
      case 'SYN_RECV':
        return connection.#repeatSyn();
      case 'FIN_WAIT2':
        if (connection.#applicationClosed) connection.#end('closed'); // the peer never closed
        return;
      default:
        return connection.#retry();
    }
  };

  static readonly #onAckTimer = (connection: TcpConnection): void => {
    if (connection.#ackTimer.armed || connection.#lastAckSent === connection.#received.next) return;
    if (connection.#state === 'CLOSED' || connection.#state === 'TIME_WAIT') return;
    connection.#delayedAck.expired();
    connection.#sendAck();
  };

  /** Linux repeats a SYN at constant intervals first: after 1, 2, 3, 4, 5, 7, 11, ... s; a SYN-ACK after 1, 3, 7, ... s. */
  #repeatSyn(): void {
    const { synRetries, synAckRetries, initialTimeout, maxTimeout } = this.settings;
    const linear = this.#state === 'SYN_SENT' ? this.settings.synLinearTimeouts : 0;
    const retries = this.#state === 'SYN_SENT' ? synRetries + linear : synAckRetries;
    this.#layer.counters.timeouts++;
    if (this.#handshakeTimeouts >= retries) return this.#end('timed out');
    this.#handshakeTimeouts++;
    this.#flowHash = socketFlowHash(this.#flowHash);
    this.countRetransmission();
    const doublings = Math.max(this.#handshakeTimeouts - linear, 0);
    this.#startTimer(Math.min(initialTimeout * 2 ** doublings, maxTimeout) as Duration);
    this.#sendSyn();
  }

  #retry(): void {
    if (this.#sender.outstanding) {
      this.#layer.counters.timeouts++;
      this.#flowHash = socketFlowHash(this.#flowHash); // tcp_write_timeout: net.core.txrehash is on
    }
    const { retries, orphanRetries } = this.settings;
    if (this.#sender.timerFired(this.#applicationClosed ? orphanRetries : retries)) return;
    this.#end(this.#softError === undefined || this.#softError === 'refused' ? 'timed out' : this.#softError);
  }

  /** For the layer: an ICMP error about a segment of ours. It ends a handshake; later it may pass (RFC 5461). */
  icmpError(type: number, code: number, quoted: Frame): void {
    if (isBefore(quoted.sequence, this.#sender.una) || isAfter(quoted.sequence, this.#sender.max)) return;
    const error = icmpErrorOf(type, code, this.family);
    if (this.#state === 'SYN_SENT' || this.#state === 'SYN_RECV') this.#end(error);
    else this.#softError = error;
  }

  /** For the layer: a router found a segment of ours too large. */
  pathShrank(): void {
    this.cpus.submit(this.cpu, TcpConnection.#onPathShrank, this);
  }

  static readonly #onPathShrank = (connection: TcpConnection): void => {
    switch (connection.#state) {
      case 'CLOSED':
      case 'SYN_SENT':
      case 'SYN_RECV':
      case 'TIME_WAIT':
        return;
    }
    const segmentBytes = connection.#segmentBytes();
    if (segmentBytes < connection.#sender.mssBytes) connection.#sender.shrinkSegments(segmentBytes);
  };

  #startTimer(delay: Duration): void {
    this.#timer.startAt(after(this.cpus.instant, delay));
  }

  // ── to the application ─────────────────────────────────────────────────────────────────────────────────────────────

  /** The application reads what is there: each complete message, and the end. */
  #read(): void {
    const received = this.#received;
    const bytes = received.unreadBytes;
    for (let message = received.read(); message !== undefined; message = received.read()) {
      this.cpus.charge(this.cpus.costs.localDeliveryNs + this.cpus.costs.socketReceiveNs);
      this.#tell(message);
    }
    if (bytes > 0) this.#window.read(bytes, this.cpus.instant, this.smoothedRtt);
    if (received.finished) this.#tellPeerClosed();
  }

  /** After a pause. */
  #readLate(): void {
    if (this.#readingPaused || (this.#state === 'CLOSED' && !this.#closedUnread)) return;
    this.#read();
    if (this.#closedUnread) return this.#tellClosedLate();
    if (this.#window.shouldUpdate(this.#received.next, this.#received.unreadBytes)) this.#sendAck();
  }

  #tellPeerClosed(): void {
    if (this.#toldPeerClosed) return;
    this.#toldPeerClosed = true;
    this.#tell('peer closed');
  }

  /** Unless it still has to read up to the peer's FIN. */
  #tellClosed(): void {
    this.#closedUnread = this.#received.finished && !this.#toldPeerClosed && !this.#applicationClosed;
    if (!this.#closedUnread) this.#tell('closed');
  }

  #tellClosedLate(): void {
    if (!this.#closedUnread) return;
    this.#closedUnread = false;
    this.#tell('closed');
  }

  #tell(notice: Notice): void {
    this.#notices.push(notice);
    if (this.#handlers !== undefined) this.#wakeApplication();
  }

  #wakeApplication(): void {
    this.cpus.schedule(TcpConnection.#onWake, this);
  }

  static readonly #onWake = (connection: TcpConnection): void => {
    const notice = connection.#notices.shift();
    const handlers = connection.#handlers;
    if (notice === undefined || handlers === undefined) return; // killed
    if (notice === 'closed') return handlers.onClosed?.(connection, connection.#closeReason);
    if (connection.#applicationClosed) return;
    switch (notice) {
      case 'connected':
        return handlers.onConnected?.(connection);
      case 'peer closed':
        return handlers.onPeerClosed?.(connection);
      default:
        return handlers.onMessage?.(connection, notice);
    }
  };
}

/** TCP_MSS_DEFAULT: of a peer that does not say. */
const DEFAULT_MSS_BYTES = 536;
/** As on the wire, with padding. */
const TIMESTAMP_OPTION_BYTES = 12;
/** tcp_invalid_ratelimit. */
const CHALLENGE_INTERVAL = ms(500);
