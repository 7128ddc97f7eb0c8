// UDP of one network namespace: sockets, their receive buffers, and the errors they hear of.
//
// Not modelled: connected sockets, but for their flow hash (a socket hears of errors as if it were connected to each peer,
// and of datagrams from all), multicast and broadcast, the send buffer, UDP-Lite.

import type { RandomStream, Reserved } from '../../engine/random.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { ProtocolHandler } from '../ip/stack.ts';
import { socketFlowHash } from '../packet/flow-hash.ts';
import { type Frame, IPV4_HEADER_BYTES, type Message, PROTOCOL_UDP, UDP_HEADER_BYTES } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import { ANY_IP, formatSocketAddress, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { EphemeralPorts } from './ephemeral-ports.ts';
import { type IcmpError, icmpErrorOf, isHardError, isTooBig, type LocalError, sendErrorOf } from './icmp-error.ts';
import type { SocketBalancer } from './socket-balancer.ts';
import { type BoundSocket, PortTable } from './socket-table.ts';
import type { SocketAddress, TransportStack } from './transport-stack.ts';

/** Why a datagram was not sent, or not taken: EMSGSIZE beside what the stack and ICMP say. */
export type SocketError = IcmpError | LocalError | 'message too long';

export interface UdpHandlers {
  onDatagram(message: Message, from: SocketAddress, socket: UdpSocket): void;
  onError?(error: SocketError, to: SocketAddress): void;
}

export interface UdpBindOptions {
  /** Default: IPv4. A socket of IPv6 that is bound to no address serves both, unless it is for IPv6 only. */
  readonly family?: IpFamily;
  readonly isIpv6Only?: boolean;
  /** Default: any address. */
  readonly ip?: Ip;
  /** Default, and 0: an ephemeral port. */
  readonly port?: number;
  /** All its datagrams go to one peer: their flow hash is the socket's (sk_set_txhash in __ip4_datagram_connect). */
  readonly isConnected?: boolean;
  /** Where the application runs. */
  readonly cpu: number;
  /** SO_RCVBUF as the kernel counts it, overhead included. Default: net.core.rmem_default. */
  readonly receiveBufferBytes?: number;
}

/** Takes datagrams in the kernel. */
export interface TunnelReceiver {
  receive(frame: Frame): void;
  /** A datagram from here to there, of IPv6, was too large for a router; those of IPv4 may be cut. */
  packetTooBig(quoted: Frame, mtuBytes: number): void;
}

/** The kernel's sockets of one family (udp_tunnel), by port. */
type Tunnels = Map<number, TunnelReceiver>;

/** EADDRINUSE of a bind() to any port. */
export class NoFreePortError extends Error {
  override readonly name = 'NoFreePortError';
}

export class UdpLayer implements ProtocolHandler {
  readonly stack: TransportStack;
  /** Knows where datagrams to Services' addresses go; absent: packets say it. */
  balancer: SocketBalancer | undefined;
  readonly #random: RandomStream;
  readonly #portSecret: Reserved;
  /** Made when it is first used: there are as many layers as pods. */
  #ports: EphemeralPorts | undefined;
  readonly #sockets = new PortTable<UdpSocket>();
  /** Ports of the kernel's own sockets, whose datagrams go to a device. Usually there are none. */
  #tunnels: Tunnels | undefined;
  #tunnels6: Tunnels | undefined;

  constructor(stack: TransportStack, random: RandomStream) {
    this.stack = stack;
    this.#random = random;
    this.#portSecret = random.reserve();
    stack.register(PROTOCOL_UDP, this);
  }

  /** Throws if the port is taken, the address is not one of this namespace, or (NoFreePortError) every port is taken. */
  bind(options: UdpBindOptions, handlers: UdpHandlers): UdpSocket {
    const { family = 4, isIpv6Only = false, ip: localIp = ANY_IP, port = 0, cpu } = options;
    const { receiveBufferBytes = RECEIVE_BUFFER_BYTES, isConnected = false } = options;
    const address = `${formatSocketAddress(localIp, port, family)} in ${this.stack.name}`;
    if (!(port >= 0 && port <= 65_535)) throw new RangeError(`bind to ${address}; expected a port up to 65535`);
    if (localIp !== ANY_IP && !this.stack.isLocal(localIp, family))
      throw new Error(`bind to ${address}: not a local address`);
    const wanted = { family, isIpv6Only, localIp, localPort: port };
    const isFree = (candidate: number): boolean => {
      wanted.localPort = candidate;
      return this.#sockets.isFree(wanted) && !this.#isTunnelPort(wanted);
    };
    const localPort = port === 0 ? this.#ephemeralPorts.forBind(isFree) : port;
    if (localPort === undefined) throw new NoFreePortError(`bind to ${address}: no free port`);
    if (!isFree(localPort)) throw new Error(`bind to ${address}: address already in use`);
    const flowHash = isConnected ? socketFlowHash(this.#random.bits31()) : 0;
    // No spread: each object of one would have a hidden class of its own.
    const bound = { family, isIpv6Only, localIp, localPort, cpu, receiveBufferBytes, flowHash };
    const socket = new UdpSocket(this, bound, handlers);
    this.#sockets.add(socket);
    return socket;
  }

  /** A kernel's socket on every address of a family; its receiver ends the frames. Throws if the port is taken. */
  addTunnel(port: number, family: IpFamily, receiver: TunnelReceiver): void {
    const bound = { family, isIpv6Only: family === 6, localIp: ANY_IP, localPort: port };
    if (this.#isTunnelPort(bound) || !this.#sockets.isFree(bound)) {
      throw new Error(`tunnel of IPv${family} on port ${port} in ${this.stack.name}: address already in use`);
    }
    if (family === 6) (this.#tunnels6 ??= new Map()).set(port, receiver);
    else (this.#tunnels ??= new Map()).set(port, receiver);
  }

  get #ephemeralPorts(): EphemeralPorts {
    this.#ports ??= new EphemeralPorts(this.#random, { secret: this.#portSecret });
    return this.#ports;
  }

  #isTunnelPort({ family, isIpv6Only, localIp, localPort }: BoundSocket): boolean {
    if (family === 6 && this.#tunnels6?.has(localPort) === true) return true;
    const servesIpv4 = family === 4 || (!isIpv6Only && localIp === ANY_IP);
    return servesIpv4 && this.#tunnels?.has(localPort) === true;
  }

  /** All processes of the namespace are killed. */
  closeAll(): void {
    for (const socket of this.#sockets.all()) socket.close();
  }

  receive(frame: Frame): void {
    if (frame.isChecksumWrong && frame.hasWrongChecksum) return this.stack.drop(frame, 'UDP_CSUM');
    const tunnels = frame.family === 4 ? this.#tunnels : this.#tunnels6;
    if (tunnels !== undefined) {
      const tunnel = tunnels.get(frame.dstPort);
      if (tunnel !== undefined) return tunnel.receive(frame);
    }
    const socket = this.#sockets.find(frame.family, frame.dstIp, frame.dstPort);
    if (socket === undefined) {
      this.stack.portUnreachable(frame);
      return this.stack.drop(frame, 'NO_SOCKET');
    }
    socket.receive(frame);
  }

  /** Its socket: as long as that is open, no other one can be bound that would take its packets. */
  receiverOf({ family, dstIp, dstPort }: Frame): UdpSocket | undefined {
    const tunnels = family === 4 ? this.#tunnels : this.#tunnels6;
    return tunnels?.has(dstPort) === true ? undefined : this.#sockets.find(family, dstIp, dstPort);
  }

  icmpError(type: number, code: number, quoted: Frame, mtuBytes: number): void {
    const { family, dstIp: ip, dstPort: port } = quoted;
    const socket = this.#sockets.find(family, quoted.srcIp, quoted.srcPort);
    if (socket === undefined) {
      // __udp6_lib_err_encap
      if (family === 6 && isTooBig(type, code, 6)) this.#tunnels6?.get(port)?.packetTooBig(quoted, mtuBytes);
      return;
    }
    if (isTooBig(type, code, family)) {
      this.stack.updatePathMtu(ip, mtuBytes, family);
      return socket.reportError('message too long', { family, ip, port });
    }
    if (isHardError(type, code, family)) socket.reportError(icmpErrorOf(type, code, family), { family, ip, port });
  }

  /** For sockets. */
  remove(socket: UdpSocket): void {
    this.#sockets.delete(socket);
  }
}

const NO_PEER: SocketAddress = { family: 4, ip: ANY_IP, port: 0 };

export class UdpSocket implements BoundSocket {
  // Fields that are used together stand together, because a socket meets them all with every datagram, and seldom the same
  // socket twice: first what both directions need.
  #closed = false;
  readonly #cpus: CpuSet;
  readonly #frames: FrameStore;
  /** The first that waits for the application; the others behind it are further below. */
  #firstMessage: Message | undefined;
  #bufferedBytes = 0;

  // Sending.
  /** What waits for the CPU, or has; most datagrams need not. */
  #outgoing: Datagram[] | undefined;
  readonly family: IpFamily;
  readonly cpu: number;
  /** ANY_IP: each datagram leaves from the address of its route. */
  readonly localIp: Ip;
  readonly localPort: number;
  readonly #layer: UdpLayer;
  readonly #stack: TransportStack;
  /** Of its datagrams; 0: that of their flow. */
  readonly #flowHash: number;

  // Receiving.
  readonly #handlers: UdpHandlers;
  readonly #receiveBufferBytes: number;
  #readingPaused = false;
  #firstPeer: SocketAddress | undefined;
  /** Most sockets hear from one peer: it need not be made anew for each datagram. */
  #latestPeer = NO_PEER;
  // The same, beside the rest.
  #latestFamily: IpFamily = 4;
  #latestIp: Ip = ANY_IP;
  #latestPort = 0;
  /** By backend: the Service's address by which this socket sent to it last. */
  #services: Map<string, SocketAddress> | undefined;
  /** What waits for the application behind the first message; there seldom is any. */
  #others: Datagram[] | undefined;
  /** Once there is more than one peer: the last few, by turns. */
  #peers: SocketAddress[] | undefined;
  #nextPeer = 0;
  readonly isIpv6Only: boolean;

  /** Use UdpLayer.bind. */
  constructor(
    layer: UdpLayer,
    options: BoundSocket & { readonly cpu: number; readonly receiveBufferBytes: number; readonly flowHash: number },
    handlers: UdpHandlers,
  ) {
    this.family = options.family;
    this.isIpv6Only = options.isIpv6Only;
    this.localIp = options.localIp;
    this.localPort = options.localPort;
    this.cpu = options.cpu;
    this.#layer = layer;
    this.#stack = layer.stack;
    this.#cpus = layer.stack.cpus;
    this.#frames = layer.stack.frames;
    this.#handlers = handlers;
    this.#receiveBufferBytes = options.receiveBufferBytes;
    this.#flowHash = options.flowHash;
  }

  get protocol(): 'UDP' {
    return 'UDP';
  }

  /**
   * Sends a datagram. Errors come to onError. Throws for a peer of a family that the socket does not serve. `cpu`: where the
   * sending thread runs, if it is not the socket's.
   */
  send(to: SocketAddress, message: Message, cpu = this.cpu): void {
    if (this.#closed) return;
    const { family = 4 } = to;
    if (family !== this.family && (family === 6 || this.isIpv6Only || this.localIp !== ANY_IP)) throw wrongFamily(to);
    const isFirst = this.#outgoing === undefined || this.#outgoing.length === 0;
    if (isFirst && this.#cpus.begin(cpu)) {
      this.#sendNow(message, to);
      return this.#cpus.end();
    }
    (this.#outgoing ??= []).push({ message, peer: to });
    this.#cpus.submit(cpu, UdpSocket.#onSend, this);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Datagrams sent before still go out; nothing is heard any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#layer.remove(this);
  }

  /** The application does not read for a while: datagrams fill the receive buffer, then they are dropped. */
  pauseReading(): void {
    this.#readingPaused = true;
  }

  resumeReading(): void {
    if (!this.#readingPaused) return;
    this.#readingPaused = false;
    this.#cpus.submit(this.cpu, UdpSocket.#onResume, this);
  }

  static readonly #onSend = (socket: UdpSocket): void => {
    const { message, peer } = socket.#outgoing!.shift()!;
    socket.#sendNow(message, peer);
  };

  #sendNow(message: Message, peer: SocketAddress): void {
    const stack = this.#stack;
    const cpus = this.#cpus;
    cpus.charge(cpus.costs.socketSendNs);
    if (message.sizeBytes > LARGEST_MESSAGE_BYTES) return this.reportError('message too long', peer);
    const to = this.#layer.balancer === undefined ? peer : this.#backendOf(peer, this.#layer.balancer);
    if (to === undefined) return this.reportError('host unreachable', peer);
    const { family = 4 } = to;
    const frame = this.#frames.allocate();
    if (family === 6) frame.setFamily(6);
    frame.protocol = PROTOCOL_UDP;
    frame.srcIp = this.localIp;
    frame.dstIp = to.ip;
    frame.srcPort = this.localPort;
    frame.dstPort = to.port;
    frame.flowHash = this.#flowHash;
    frame.isChecksumOpen = true;
    frame.payloadBytes = message.sizeBytes;
    frame.message = message;
    frame.updateSize();
    if (frame.journey !== undefined) this.#note(frame, 'sent by the application');
    const error = stack.sendOrCut(frame);
    if (error !== undefined) this.reportError(sendErrorOf(error), peer);
  }

  /** sendmsg4, for each datagram; undefined for a Service that nobody serves. */
  #backendOf(peer: SocketAddress, balancer: SocketBalancer): SocketAddress | undefined {
    this.#cpus.charge(balancer.costNs);
    const backend = balancer.translate(PROTOCOL_UDP, peer, this.#stack.name);
    if (backend === 'unserved') return undefined;
    if (backend === undefined) return peer;
    this.#services ??= new Map();
    this.#services.set(`${backend.ip}:${backend.port}`, peer);
    return backend;
  }

  /** For the layer, and for frames whose way leads here; what comes too late is for another socket, or for nobody. */
  receive(frame: Frame): void {
    if (this.#closed) return this.#layer.receive(frame);
    const cpus = this.#cpus;
    cpus.charge(cpus.costs.localDeliveryNs);
    const buffered = truesizeBytes(frame.payloadBytes);
    if (this.#bufferedBytes + buffered > this.#receiveBufferBytes) return this.#stack.drop(frame, 'SOCKET_RCVBUFF');
    this.#bufferedBytes += buffered;
    // Rules can lead to a socket what no application wrote: a tunnel's datagram.
    this.#enqueue(frame.message ?? { id: 0, sizeBytes: frame.payloadBytes }, this.#peerOf(frame));
    if (!this.#readingPaused) this.#readOne();
    if (frame.journey !== undefined) this.#note(frame, `received on port ${this.localPort}`);
    this.#frames.deliver(frame);
  }

  #note(frame: Frame, text: string): void {
    frame.journey?.add({ at: this.#cpus.instant, namespace: this.#stack.name, stage: 'socket', text });
  }

  #peerOf({ family, srcIp: ip, srcPort: port }: Frame): SocketAddress {
    // recvmsg4: the application hears of the address that it has sent to.
    const service = this.#services?.get(`${ip}:${port}`);
    if (service !== undefined) return service;
    if (this.#latestIp === ip && this.#latestPort === port && this.#latestFamily === family) return this.#latestPeer;
    this.#latestFamily = family;
    this.#latestIp = ip;
    this.#latestPort = port;
    return (this.#latestPeer = this.#otherPeer(family, ip, port));
  }

  #otherPeer(family: IpFamily, ip: Ip, port: number): SocketAddress {
    const peers = (this.#peers ??= [this.#latestPeer]);
    for (const peer of peers) if (peer.ip === ip && peer.port === port && peer.family === family) return peer;
    this.#nextPeer = (this.#nextPeer + 1) % MOST_PEERS;
    return (peers[this.#nextPeer] = { family, ip, port });
  }

  static readonly #onResume = (socket: UdpSocket): void => {
    if (socket.#readingPaused) return;
    if (socket.#firstMessage === undefined) return;
    for (let waiting = 1 + (socket.#others?.length ?? 0); waiting > 0; waiting--) socket.#readOne();
  };

  #enqueue(message: Message, peer: SocketAddress): void {
    if (this.#firstMessage === undefined) {
      this.#firstMessage = message;
      this.#firstPeer = peer;
    } else {
      (this.#others ??= []).push({ message, peer });
    }
  }

  #readOne(): void {
    this.#cpus.charge(this.#cpus.costs.socketReceiveNs);
    this.#cpus.schedule(UdpSocket.#onReadable, this);
  }

  static readonly #onReadable = (socket: UdpSocket): void => {
    const message = socket.#firstMessage;
    if (message === undefined) return;
    const peer = socket.#firstPeer!;
    const next = socket.#others?.shift();
    socket.#firstMessage = next?.message;
    socket.#firstPeer = next?.peer;
    socket.#bufferedBytes -= truesizeBytes(message.sizeBytes);
    if (!socket.#closed) socket.#handlers.onDatagram(message, peer, socket);
  };

  /** For the layer: the application hears of it by an event. */
  reportError(error: SocketError, to: SocketAddress): void {
    if (this.#handlers.onError === undefined) return;
    this.#cpus.schedule(UdpSocket.#onError, { socket: this, error, to });
  }

  static readonly #onError = ({ socket, error, to }: SocketReport): void => {
    if (!socket.#closed) socket.#handlers.onError?.(error, to);
  };
}

interface SocketReport {
  readonly socket: UdpSocket;
  readonly error: SocketError;
  readonly to: SocketAddress;
}

interface Datagram {
  readonly message: Message;
  readonly peer: SocketAddress;
}

const wrongFamily = ({ ip, port, family }: SocketAddress): RangeError =>
  new RangeError(`send to ${formatSocketAddress(ip, port, family)} from a socket of another family`);

/** What the length field of an IPv4 packet leaves. */
const LARGEST_MESSAGE_BYTES = 65_535 - IPV4_HEADER_BYTES - UDP_HEADER_BYTES;

/** Of those that a socket knows: looking through more of them costs as much as to make one anew. */
const MOST_PEERS = 8;

/** net.core.rmem_default. */
const RECEIVE_BUFFER_BYTES = 212_992;

/**
 * What a datagram takes of the receive buffer (skb->truesize), as seen on Linux 6.18: 832 bytes up to 100 bytes of
 * payload, 1,280 from 200 to 500, 2,304 from 1,000 to 1,472. That is struct sk_buff and the size class of the data with
 * headers, headroom and skb_shared_info.
 */
function truesizeBytes(payloadBytes: number): number {
  const needed = payloadBytes + 380;
  return 256 + (needed <= 576 ? 576 : 1 << (32 - Math.clz32(needed - 1)));
}
