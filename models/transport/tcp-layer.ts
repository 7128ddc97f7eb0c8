// TCP of one network namespace: finds the connection or listener of a segment, and makes new ones.
//
// What is sent to the same machine may be answered before send() returns, because frames move by plain calls. Such an
// answer waits and gets a visit of its own, as the kernel's softirq takes it up later; else a bulk transfer between two
// pods of one node would be a single endless call.

import type { RandomStream, Reserved } from '../../engine/random.ts';
import { between, type Instant, s } from '../../engine/time.ts';
import { fillReset, mayCauseReset } from '../ip/reject.ts';
import type { SendError } from '../ip/send-error.ts';
import type { ProtocolHandler } from '../ip/stack.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import {
  type Frame,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  PROTOCOL_TCP,
  TCP_ACK,
  TCP_FIN,
  TCP_HEADER_BYTES,
  TCP_RST,
  TCP_SYN,
} from '../packet/frame.ts';
import type { FrameHolder } from '../packet/frame-store.ts';
import {
  ANY_IP,
  formatSocketAddress,
  type Ip,
  type IpFamily,
  isLoopback,
  LOOPBACK_IPV6,
} from '../packet/ip-address.ts';
import { EphemeralPorts } from './ephemeral-ports.ts';
import { isTooBig } from './icmp-error.ts';
import { isAfter, isBefore } from './sequence.ts';
import type { SocketBalancer } from './socket-balancer.ts';
import { ConnectionTable, PortTable } from './socket-table.ts';
import { type ConnectionLayer, TcpConnection, type TcpHandlers } from './tcp-connection.ts';
import { type ConnectionAcceptor, type ListenOptions, TcpListener } from './tcp-listener.ts';
import { LINUX_TCP, type TcpCounters, type TcpSettings } from './tcp-settings.ts';
import { type TimeWait, TimeWaitQueue } from './tcp-time-wait.ts';
import type { SocketAddress, TransportStack } from './transport-stack.ts';

export type { TcpListener };

export class TcpLayer implements ProtocolHandler, ConnectionLayer, FrameHolder {
  readonly stack: TransportStack;
  readonly settings: TcpSettings;
  /** Answers from the same machine that wait for their visit. */
  heldFrames = 0;
  /** Knows where connections to Services' addresses go; absent: packets say it. */
  balancer: SocketBalancer | undefined;
  readonly #random: RandomStream;
  readonly #portSecret: Reserved;
  readonly #timestampDraw: Reserved;
  #timestampOffset: number | undefined;
  readonly #connections = new ConnectionTable<TcpConnection>();
  readonly #listeners = new PortTable<TcpListener>();
  #sending = false;
  // What most namespaces never need is made when it is first used: there are as many as pods.
  #ports: EphemeralPorts | undefined;
  #counters: TcpCounters | undefined;
  #timeWaits: ConnectionTable<TimeWait> | undefined;
  #timeWaitQueue: TimeWaitQueue | undefined;
  #receiveLater: ((frame: Frame) => void) | undefined;

  constructor(stack: TransportStack, random: RandomStream, settings?: Partial<TcpSettings>) {
    this.stack = stack;
    this.settings = settings === undefined ? LINUX_TCP : { ...LINUX_TCP, ...settings };
    this.#random = random;
    this.#portSecret = random.reserve();
    this.#timestampDraw = random.reserve();
    stack.frames.addHolder(this);
    stack.register(PROTOCOL_TCP, this);
  }

  get counters(): TcpCounters {
    this.#counters ??= noCounts();
    return this.#counters;
  }

  get #ephemeralPorts(): EphemeralPorts {
    const { firstLocalPort: first, lastLocalPort: last } = this.settings;
    this.#ports ??= new EphemeralPorts(this.#random, { range: { first, last }, secret: this.#portSecret });
    return this.#ports;
  }

  get holderName(): string {
    return `tcp of ${this.stack.name}`;
  }

  // ── for applications ───────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Opens a connection; what comes of it the handlers hear. Messages may be sent at once, they wait for the handshake.
   * `from` is the local address, by default the one of the route; `fromPort` a port that was bound to before.
   */
  connect(
    {
      to: wanted,
      cpu,
      from,
      fromPort,
    }: { readonly to: SocketAddress; readonly cpu: number; readonly from?: Ip; readonly fromPort?: number },
    handlers: TcpHandlers,
  ): TcpConnection {
    const backend = this.#backendOf(wanted, cpu);
    const to = backend === undefined || backend === 'unserved' ? wanted : backend;
    const { family = 4 } = to;
    const route = from ?? this.stack.sourceFor(to.ip, family);
    const localIp = route ?? ANY_IP;
    const isFree = (candidate: number): boolean => this.#isFreeFor(candidate, localIp, to);
    const bound = fromPort === undefined || !isFree(fromPort) ? undefined : fromPort;
    const port = fromPort === undefined ? this.#ephemeralPorts.forConnect(localIp, to, isFree) : bound;
    const localPort = port ?? 0;
    const initialSequence = this.#initialSequence(localIp, localPort, to);
    const addresses = { family, localIp, localPort, remoteIp: to.ip, remotePort: to.port };
    const connection = new TcpConnection(this, { ...addresses, cpu, initialSequence });
    const obstacle =
      backend === 'unserved'
        ? 'host unreachable'
        : route === undefined
          ? 'network unreachable'
          : port === undefined
            ? 'no free port'
            : undefined;
    if (obstacle === undefined) this.#connections.add(connection);
    connection.connect(handlers, obstacle);
    return connection;
  }

  #backendOf(to: SocketAddress, cpu: number): SocketAddress | 'unserved' | undefined {
    const { balancer } = this;
    if (balancer === undefined) return undefined;
    const { cpus } = this.stack;
    // connect() has not begun its visit yet: this one comes before it, on the same CPU.
    cpus.submit(cpu, (costNs: number) => cpus.charge(costNs), balancer.costNs);
    return balancer.translate(PROTOCOL_TCP, to, this.stack.name);
  }

  /**
   * Listens; `onConnection` accepts each connection and says who handles it. Throws if the port is taken or the address
   * is not one of this namespace.
   */
  listen(options: ListenOptions, onConnection: ConnectionAcceptor): TcpListener {
    const { family = 4, isIpv6Only = false, ip: localIp = ANY_IP, port: localPort } = options;
    const { cpu, backlog = this.settings.maxBacklog } = options;
    const bound = { family, isIpv6Only, localIp, localPort };
    const address = (): string => `${formatSocketAddress(localIp, localPort, family)} in ${this.stack.name}`;
    if (!(localPort >= 1 && localPort <= 65_535))
      throw new RangeError(`listen on ${address()}; expected a port up to 65535`);
    if (localIp !== ANY_IP && !this.stack.isLocal(localIp, family))
      throw new Error(`listen on ${address()}: not a local address`);
    if (!this.#listeners.isFree(bound)) throw new Error(`listen on ${address()}: address already in use`);
    const listener = new TcpListener({
      family,
      isIpv6Only,
      localIp,
      localPort,
      cpu,
      backlog: Math.min(backlog, this.settings.maxBacklog),
      cpus: this.stack.cpus,
      onConnection,
      listeners: this.#listeners,
    });
    this.#listeners.add(listener);
    return listener;
  }

  /**
   * All processes of the namespace are killed: listeners close, connections are reset towards their peers, and no
   * application of this side hears anything any more.
   */
  abortAll(): void {
    for (const listener of this.#listeners.all()) listener.close();
    for (const connection of this.#connections.all()) connection.kill();
  }

  /** Connections in any state but TIME_WAIT and CLOSED. */
  get connections(): readonly TcpConnection[] {
    return this.#connections.all();
  }

  /** Connections in TIME_WAIT. */
  get timeWaitCount(): number {
    return this.#timeWaits?.size ?? 0;
  }

  #isFreeFor(port: number, localIp: Ip, remote: SocketAddress): boolean {
    if (this.#listeners.has(port)) return false;
    const { family = 4, ip, port: remotePort } = remote;
    if (this.#connections.find(family, localIp, port, ip, remotePort) !== undefined) return false;
    const timeWait = this.#timeWaits?.find(family, localIp, port, ip, remotePort);
    return timeWait === undefined || this.#mayReuse(timeWait);
  }

  /** tcp_twsk_unique: timestamps tell old segments from new ones, once their clock has moved on. */
  #mayReuse({ family, remoteIp, recentTimestamp, enteredAt }: TimeWait): boolean {
    const { timeWaitReuse } = this.settings;
    const toLoopback = family === 6 ? remoteIp === LOOPBACK_IPV6 : isLoopback(remoteIp);
    if (timeWaitReuse === 'off' || (timeWaitReuse === 'loopback' && !toLoopback)) return false;
    return recentTimestamp !== 0 && between(enteredAt, this.stack.cpus.instant) > REUSE_DELAY;
  }

  /** Random, or beyond the TIME_WAIT whose addresses are used again. */
  #initialSequence(localIp: Ip, localPort: number, remote: SocketAddress): number {
    const timeWait = this.#timeWaits?.find(remote.family ?? 4, localIp, localPort, remote.ip, remote.port);
    if (timeWait === undefined) return this.#random.bits31();
    this.#timeWaits?.delete(timeWait);
    return timeWait.nextInitialSequence;
  }

  // ── from the IP stack ──────────────────────────────────────────────────────────────────────────────────────────────

  receive(frame: Frame): void {
    if (!this.#sending) return this.#receive(frame);
    this.heldFrames++;
    this.#receiveLater ??= (held) => {
      this.heldFrames--;
      this.#receive(held);
    };
    this.stack.cpus.submit(this.stack.cpus.current, this.#receiveLater, frame);
  }

  #receive(frame: Frame): void {
    const { cpus } = this.stack;
    cpus.charge(cpus.costs.tcpSegmentNs);
    const { family, dstIp, dstPort, srcIp, srcPort } = frame;
    const connection = this.#connections.find(family, dstIp, dstPort, srcIp, srcPort);
    if (connection !== undefined) {
      const { state } = connection;
      const at = cpus.instant;
      const refusal = connection.receive(frame);
      if (frame.journey !== undefined)
        this.#noteReceived(frame, at, state === connection.state ? state : `${state} > ${connection.state}`);
      return this.#finish(frame, refusal);
    }
    const timeWait = this.#timeWaits?.find(family, dstIp, dstPort, srcIp, srcPort);
    if (timeWait !== undefined) return this.#finish(frame, this.#receiveInTimeWait(frame, timeWait));
    if (frame.journey !== undefined) this.#noteReceived(frame, cpus.instant, 'LISTEN or CLOSED');
    this.#finish(frame, this.#receiveUnconnected(frame, undefined));
  }

  /** The frame was consumed, or refused for a reason. */
  #finish(frame: Frame, refusal: DropReason | undefined): void {
    if (refusal === undefined) this.stack.frames.deliver(frame);
    else this.stack.drop(frame, refusal);
  }

  #receiveUnconnected(frame: Frame, initialSequence: number | undefined): DropReason | undefined {
    const listener = this.#listeners.find(frame.family, frame.dstIp, frame.dstPort);
    if (listener === undefined) {
      this.sendReset(frame);
      return 'NO_SOCKET';
    }
    if ((frame.tcpFlags & (TCP_ACK | TCP_RST)) !== 0) {
      this.sendReset(frame);
      return 'TCP_RESET';
    }
    if ((frame.tcpFlags & TCP_SYN) === 0) return 'TCP_INVALID_SEQUENCE';
    if (listener.isFull) {
      this.counters.listenDrops++;
      return 'LISTEN_OVERFLOW';
    }
    const connection = new TcpConnection(this, {
      family: frame.family,
      localIp: frame.dstIp,
      localPort: frame.dstPort,
      remoteIp: frame.srcIp,
      remotePort: frame.srcPort,
      cpu: listener.cpu,
      initialSequence: initialSequence ?? this.#random.bits31(),
    });
    this.#connections.add(connection);
    connection.acceptSyn(frame, listener);
    return undefined;
  }

  /** tcp_timewait_state_process(). A new SYN may begin a new connection; what is left of the old one is answered. */
  #receiveInTimeWait(frame: Frame, timeWait: TimeWait): DropReason | undefined {
    const { tcpFlags, sequence, timestampValue, payloadBytes } = frame;
    const isStale =
      timestampValue !== 0 && timeWait.recentTimestamp !== 0 && isBefore(timestampValue, timeWait.recentTimestamp);
    if ((tcpFlags & TCP_RST) !== 0) {
      if (sequence === timeWait.receiveNext) this.#timeWaits?.delete(timeWait); // TIME_WAIT assassination, RFC 1337
      return 'TCP_RESET';
    }
    if ((tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN && !isStale && this.#isNewer(frame, timeWait)) {
      this.#timeWaits?.delete(timeWait);
      return this.#receiveUnconnected(frame, timeWait.nextInitialSequence);
    }
    this.#startTimeWait(timeWait);
    const isPureAck = (tcpFlags & (TCP_SYN | TCP_FIN)) === 0 && payloadBytes === 0;
    if (isPureAck && sequence === timeWait.receiveNext) return undefined;
    this.#acknowledgeFor(timeWait, frame);
    return 'TCP_OLD_DATA';
  }

  #isNewer({ sequence, timestampValue }: Frame, { receiveNext, recentTimestamp }: TimeWait): boolean {
    if (isAfter(sequence, receiveNext)) return true;
    return recentTimestamp !== 0 && timestampValue !== 0 && isAfter(timestampValue, recentTimestamp);
  }

  #acknowledgeFor(timeWait: TimeWait, about: Frame): void {
    const ack = this.stack.frames.allocate();
    ack.setFamily(timeWait.family);
    ack.protocol = PROTOCOL_TCP;
    ack.srcIp = timeWait.localIp;
    ack.dstIp = timeWait.remoteIp;
    ack.srcPort = timeWait.localPort;
    ack.dstPort = timeWait.remotePort;
    ack.sequence = timeWait.sendNext;
    ack.acknowledgment = timeWait.receiveNext;
    ack.tcpFlags = TCP_ACK;
    ack.flowHash = timeWait.flowHash;
    if (timeWait.recentTimestamp !== 0) {
      ack.timestampValue = this.timestamp();
      ack.timestampEcho = about.timestampValue;
    }
    ack.updateSize();
    this.transmit(ack);
  }

  icmpError(type: number, code: number, quoted: Frame, mtuBytes: number): void {
    const { family, srcIp, srcPort, dstIp, dstPort } = quoted;
    const connection = this.#connections.find(family, srcIp, srcPort, dstIp, dstPort);
    if (connection === undefined) return;
    if (!isTooBig(type, code, family)) return connection.icmpError(type, code, quoted);
    this.stack.updatePathMtu(dstIp, mtuBytes, family);
    connection.pathShrank();
  }

  // ── for connections ────────────────────────────────────────────────────────────────────────────────────────────────

  timestamp(): number {
    this.#timestampOffset ??= this.#random.reservedBits31(this.#timestampDraw);
    return (this.#timestampOffset + Math.floor(this.stack.cpus.instant / 1e6)) | 0 || 1;
  }

  transmit(frame: Frame): SendError | undefined {
    this.#sending = true;
    const error = this.stack.send(frame);
    this.#sending = false;
    return error;
  }

  /** Answers a segment that belongs to no connection. */
  sendReset(about: Frame): void {
    if (!mayCauseReset(about)) return;
    const reset = this.stack.frames.allocate();
    fillReset(reset, about);
    reset.isChecksumOpen = about.family === 6; // tcp_v6_send_response; ip_send_unicast_reply computes it
    this.counters.resetsSent++;
    this.stack.cpus.charge(this.stack.cpus.costs.tcpSegmentNs);
    this.transmit(reset);
  }

  mssTo(ip: Ip, family: IpFamily): number {
    return this.stack.mtuTo(ip, family) - (family === 6 ? IPV6_HEADER_BYTES : IPV4_HEADER_BYTES) - TCP_HEADER_BYTES;
  }

  remove(connection: TcpConnection): void {
    this.#connections.delete(connection);
  }

  enterTimeWait(connection: TcpConnection, timeWait: TimeWait): void {
    this.#connections.delete(connection);
    this.#timeWaits ??= new ConnectionTable();
    this.#timeWaits.add(timeWait);
    this.#startTimeWait(timeWait);
  }

  #startTimeWait(timeWait: TimeWait): void {
    const { place, instant } = this.stack.cpus;
    this.#timeWaitQueue ??= new TimeWaitQueue(place, this.settings.timeWait, (expired) =>
      this.#timeWaits?.delete(expired),
    );
    this.#timeWaitQueue.start(timeWait, instant);
  }

  /** Dated when processing began: an answer sent in between has a later instant. */
  #noteReceived(frame: Frame, at: Instant, state: string): void {
    const text = `received by the connection, ${state}`;
    frame.journey?.add({ at, namespace: this.stack.name, stage: 'socket', text });
  }

  /** For frames that are followed: where a journey begins. */
  noteSocket(frame: Frame, text: string): void {
    frame.journey?.add({ at: this.stack.cpus.instant, namespace: this.stack.name, stage: 'socket', text });
  }
}

const noCounts = (): TcpCounters => ({
  activeOpens: 0,
  passiveOpens: 0,
  attemptFails: 0,
  resetsReceived: 0,
  resetsSent: 0,
  retransmittedSegments: 0,
  timeouts: 0,
  listenDrops: 0,
});

/** tcp_tw_reuse_delay. */
const REUSE_DELAY = s(1);
