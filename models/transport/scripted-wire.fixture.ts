// Hosts on one wire that loses, delays and repeats packets as a test says, and writes down what it carries in the manner
// of tcpdump. For the tests of this folder: no devices, no routes, no netfilter.

import { Simulator } from '../../engine/simulator.ts';
import { after, type Duration, type Instant, inMs, ms, ns, START } from '../../engine/time.ts';
import { type CostModel, FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { fillIcmpError } from '../ip/icmp.ts';
import type { SendError } from '../ip/send-error.ts';
import type { ProtocolHandler } from '../ip/stack.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import {
  type Frame,
  type Message,
  PROTOCOL_ICMP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
} from '../packet/frame.ts';
import { type FrameHolder, FrameStore } from '../packet/frame-store.ts';
import { ICMP_DEST_UNREACHABLE, ICMP_PORT_UNREACHABLE } from '../packet/icmp.ts';
import { ANY_IP, type Ip, parseIp } from '../packet/ip-address.ts';
import type { TcpConnection, TcpHandlers } from './tcp-connection.ts';
import { TcpLayer } from './tcp-layer.ts';
import type { TcpSettings } from './tcp-settings.ts';
import type { TransportStack } from './transport-stack.ts';
import { UdpLayer } from './udp.ts';

/** Lost, or carried so many times, each after a delay beyond the wire's own. */
export type Fate = 'lost' | readonly Duration[];

export const CARRIED: Fate = [ns(0)];

/** Packets of one host get lost, by their index from 0. */
export const losing =
  (name: string, ...indices: number[]) =>
  (_frame: Frame, sender: WiredHost, index: number): Fate =>
    sender.name === name && indices.includes(index) ? 'lost' : CARRIED;

export interface ScriptedWireOptions {
  /** One way. */
  readonly delay?: Duration;
  /** Of each direction; without it serialization takes no time. */
  readonly rateBps?: number;
  /** What may wait for serialization. */
  readonly queueBytes?: number;
  readonly costs?: CostModel;
  readonly seed?: string;
}

export class ScriptedWire implements FrameHolder {
  readonly sim: Simulator;
  readonly frames = new FrameStore();
  /** Decides over each packet; `index` counts the packets of its sender from 0. */
  fate: (frame: Frame, sender: WiredHost, index: number) => Fate = () => CARRIED;
  /** What was sent, with times in milliseconds and sequence numbers from 0. */
  readonly trace: string[] = [];
  /** Off for runs whose trace would be long. */
  tracing = true;
  readonly holderName = 'scripted wire';
  heldFrames = 0;
  readonly options: Required<ScriptedWireOptions>;
  readonly #hosts = new Map<Ip, WiredHost>();
  /** By flow direction, the first sequence number seen. */
  readonly #firstSequences = new Map<string, number>();

  constructor(options: ScriptedWireOptions = {}) {
    const defaults = { delay: ms(1), rateBps: Number.POSITIVE_INFINITY, queueBytes: Number.POSITIVE_INFINITY };
    this.options = { ...defaults, costs: FREE, seed: 'scripted wire', ...options };
    this.sim = new Simulator({ seed: this.options.seed });
    this.frames.addHolder(this);
  }

  host(name: string, ip: string, settings: Partial<TcpSettings> = {}): WiredHost {
    const host = new WiredHost(this, { name, ip: parseIp(ip), settings });
    this.#hosts.set(host.ip, host);
    return host;
  }

  runUntil(time: Duration): void {
    this.sim.run({ until: after(START, time) });
  }

  hostAt(ip: Ip): WiredHost | undefined {
    return this.#hosts.get(ip);
  }

  /** For hosts: `from` sends at its own instant. */
  carry(frame: Frame, from: WiredHost): void {
    const fate = this.fate(frame, from, from.sentPackets++);
    const to = this.#hosts.get(frame.dstIp)!;
    const departure = from.serialize(frame.sizeBytes);
    if (this.tracing) {
      const outcome = fate === 'lost' ? ' lost' : departure === undefined ? ' dropped' : '';
      this.trace.push(`${inMs(from.cpus.instant)} ${from.name} > ${to.name} ${this.#describe(frame)}${outcome}`);
    }
    if (departure === undefined) return from.drop(frame, 'QDISC_DROP');
    if (fate === 'lost' || fate.length === 0) return from.drop(frame, 'WIRE_LOSS');
    for (const extra of fate.slice(1)) this.#deliver(this.frames.copy(frame), to, after(departure, extra));
    this.#deliver(frame, to, after(departure, fate[0]!));
  }

  #deliver(frame: Frame, to: WiredHost, departure: Instant): void {
    this.heldFrames++;
    to.cpus.place.scheduleAt(after(departure, this.options.delay), to.arrive, frame);
  }

  #describe(frame: Frame): string {
    if (frame.protocol === PROTOCOL_ICMP) return `icmp ${frame.icmpType}/${frame.icmpCode}`;
    if (frame.protocol === PROTOCOL_UDP) return `udp ${frame.payloadBytes}`;
    const flags = FLAG_LETTERS.filter(([flag]) => (frame.tcpFlags & flag) !== 0).map(([, letter]) => letter);
    const sequence = this.#relative(frame.sequence, `${frame.srcIp}:${frame.srcPort} ${frame.dstIp}:${frame.dstPort}`);
    const range = frame.payloadBytes > 0 ? `${sequence}:${sequence + frame.payloadBytes}` : `${sequence}`;
    const text = `[${flags.join('')}] ${range}`;
    if ((frame.tcpFlags & TCP_ACK) === 0) return text;
    const back = `${frame.dstIp}:${frame.dstPort} ${frame.srcIp}:${frame.srcPort}`;
    return `${text} ack ${this.#relative(frame.acknowledgment, back)}`;
  }

  #relative(sequence: number, direction: string): number {
    const first = this.#firstSequences.get(direction);
    if (first !== undefined) return (sequence - first) | 0;
    this.#firstSequences.set(direction, sequence);
    return 0;
  }
}

/** tcpdump's, in its order. */
const FLAG_LETTERS: readonly (readonly [flag: number, letter: string])[] = [
  [TCP_SYN, 'S'],
  [TCP_FIN, 'F'],
  [TCP_RST, 'R'],
  [TCP_PSH, 'P'],
  [TCP_ACK, '.'],
];

export class WiredHost implements TransportStack {
  readonly name: string;
  readonly ip: Ip;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  readonly tcp: TcpLayer;
  readonly udp: UdpLayer;
  sentPackets = 0;
  /** What send() returns instead of sending. */
  sendError: SendError | undefined;
  readonly #wire: ScriptedWire;
  readonly #handlers = new Map<number, ProtocolHandler>();
  #busyUntil = 0 as Instant;
  #mtuBytes = 1500;

  constructor(wire: ScriptedWire, { name, ip, settings }: { name: string; ip: Ip; settings: Partial<TcpSettings> }) {
    const place = wire.sim.place(name);
    this.name = name;
    this.ip = ip;
    this.#wire = wire;
    this.frames = wire.frames;
    this.cpus = new CpuSet(place, { count: 1, costs: wire.options.costs });
    this.tcp = new TcpLayer(this, place.random('tcp'), settings);
    this.udp = new UdpLayer(this, place.random('udp'));
  }

  register(protocol: number, handler: ProtocolHandler): void {
    this.#handlers.set(protocol, handler);
  }

  send(frame: Frame): SendError | undefined {
    if (frame.srcIp === ANY_IP) frame.srcIp = this.ip;
    if (this.sendError !== undefined) this.drop(frame, 'NETFILTER_DROP');
    else if (frame.dstIp === this.ip) this.#receive(frame);
    else if (this.#wire.hostAt(frame.dstIp) === undefined) this.drop(frame, 'NEIGH_FAILED');
    else this.#wire.carry(frame, this);
    return this.sendError;
  }

  sendOrCut(frame: Frame): SendError | undefined {
    frame.dontFragment = frame.ipBytes() <= this.#mtuBytes;
    return this.send(frame);
  }

  routeError(): SendError | undefined {
    return this.sendError === 'EPERM' ? undefined : this.sendError;
  }

  sourceFor(): Ip | undefined {
    return this.sendError === 'ENETUNREACH' ? undefined : this.ip;
  }

  isLocal(ip: Ip): boolean {
    return ip === this.ip;
  }

  mtuTo(): number {
    return this.#mtuBytes;
  }

  updatePathMtu(_dst: Ip, mtuBytes: number): void {
    this.#mtuBytes = mtuBytes;
  }

  drop(frame: Frame, reason: DropReason): void {
    this.frames.drop(frame, reason, this.cpus.instant, this.name);
  }

  portUnreachable(about: Frame): void {
    this.sendIcmpError(about, ICMP_DEST_UNREACHABLE, ICMP_PORT_UNREACHABLE);
  }

  sendIcmpError(about: Frame, type: number, code: number, mtuBytes = 0): void {
    const error = this.frames.allocate();
    fillIcmpError(error, { about, type, code, mtuBytes, gateway: ANY_IP });
    this.send(error);
  }

  /** Puts so many bytes on the wire. The instant at which the last has left; undefined if the queue is full. */
  serialize(sizeBytes: number): Instant | undefined {
    const { rateBps, queueBytes } = this.#wire.options;
    const now = this.cpus.instant;
    const start = this.#busyUntil > now ? this.#busyUntil : now;
    if (((start - now) * rateBps) / 8e9 > queueBytes) return undefined;
    this.#busyUntil = after(start, ns((sizeBytes * 8e9) / rateBps));
    return this.#busyUntil;
  }

  /** A packet comes off the wire. */
  readonly arrive = (frame: Frame): void => {
    this.#wire.heldFrames--;
    this.cpus.submit(0, this.#receive, frame);
  };

  readonly #receive = (frame: Frame): void => {
    if (frame.protocol !== PROTOCOL_ICMP) return this.#handlers.get(frame.protocol)!.receive(frame);
    const { quoted, icmpType, icmpCode, icmpMtu } = frame;
    this.#handlers.get(quoted!.protocol)!.icmpError(icmpType, icmpCode, quoted!, icmpMtu);
    this.frames.deliver(frame);
  };
}

/** Messages of these sizes, with ids from 0. */
export const messagesOf = (...sizesBytes: number[]): Message[] =>
  sizesBytes.map((sizeBytes, id) => ({ sizeBytes, id }));

/** A wire of 1 ms each way with a client, 10.0.0.1, and a server, 10.0.0.2. */
export function clientAndServer(options: ScriptedWireOptions & { readonly settings?: Partial<TcpSettings> } = {}): {
  wire: ScriptedWire;
  client: WiredHost;
  server: WiredHost;
} {
  const wire = new ScriptedWire(options);
  const client = wire.host('client', '10.0.0.1', options.settings);
  const server = wire.host('server', '10.0.0.2', options.settings);
  return { wire, client, server };
}

/**
 * A connection of the client to the server, established 3 ms after the start. `heard` is what both applications hear
 * from then on, with the time in milliseconds; packets are counted anew.
 */
export function establishedConnection(options: Parameters<typeof clientAndServer>[0] = {}): {
  wire: ScriptedWire;
  client: WiredHost;
  server: WiredHost;
  near: TcpConnection;
  far: TcpConnection;
  heard: string[];
} {
  const { wire, client, server } = clientAndServer(options);
  const heard: string[] = [];
  const handlersOf = ({ name, cpus }: WiredHost): TcpHandlers => {
    const note = (text: string): void => {
      heard.push(`${inMs(cpus.instant)} ${name}: ${text}`);
    };
    return {
      onMessage: (_, { id }) => note(`message ${id}`),
      onPeerClosed: () => note('peer closed'),
      onClosed: (_, reason) => note(reason),
    };
  };
  let far: TcpConnection | undefined;
  server.tcp.listen({ port: 80, cpu: 0 }, (connection) => {
    far = connection;
    return handlersOf(server);
  });
  const near = client.tcp.connect({ to: { ip: server.ip, port: 80 }, cpu: 0 }, handlersOf(client));
  wire.runUntil(ms(3));
  wire.trace.length = 0;
  client.sentPackets = 0;
  server.sentPackets = 0;
  return { wire, client, server, near, far: far!, heard };
}
