// For tests: a node that has netfilter and nothing around it. Packets are lines of text; they come to the hooks as if by
// device eth0, and the answer is how they leave, or why they do not.

import { Simulator } from '../../engine/simulator.ts';
import { after, type Duration, type Instant } from '../../engine/time.ts';
import { type CostModel, FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { formatProtocol, formatTuple } from '../packet/describe.ts';
import {
  type DeviceRef,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
} from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { formatIp, type Ip, type IpAddress, type IpFamily, parseAddress } from '../packet/ip-address.ts';
import { isIcmp } from './connection-tuple.ts';
import type { ConntrackSettings } from './conntrack.ts';
import { CONNTRACK_STATE_BITS, CONNTRACK_STATES } from './conntrack-state.ts';
import { formatConntrack } from './conntrack-text.ts';
import {
  FORWARD,
  type Hook,
  INPUT,
  Netfilter,
  type NetfilterStack,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
} from './netfilter.ts';
import { Rule } from './rule.ts';
import type { TableName } from './rule-tables.ts';
import { parseRule } from './rule-text.ts';

/** One rule that needs conntrack, and does nothing. */
const TRACKING = 'filter FORWARD -m conntrack --ctstate INVALID';

const ETH0 = { name: 'eth0', index: 2 };

export interface TestNodeOptions {
  /**
   * A line per rule to append: `nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2`; those of ip6tables
   * begin with `ip6`.
   */
  readonly rules?: string;
  /** Addresses of the node; the first one of each family is that of all its devices. */
  readonly local?: readonly string[];
  readonly cpus?: number;
  readonly costs?: CostModel;
  readonly conntrack?: Partial<ConntrackSettings>;
  readonly seed?: string;
}

export class TestNode implements NetfilterStack {
  readonly frames = new FrameStore();
  readonly netfilter: Netfilter;
  readonly cpus: CpuSet;
  readonly #simulator: Simulator;
  readonly #local: readonly IpAddress[];
  /** The packet that IPVS has sent on to a server, as it left. */
  #sentOn: string | undefined;
  /** What REJECT was asked to send, and about what. */
  readonly rejects: string[] = [];

  constructor({
    rules = TRACKING,
    local = ['10.244.1.1'],
    cpus = 1,
    costs = FREE,
    conntrack = {},
    seed = 'test',
  }: TestNodeOptions = {}) {
    this.#simulator = new Simulator({ seed });
    const place = this.#simulator.place('node-1');
    this.cpus = new CpuSet(place, { count: cpus, costs });
    this.#local = local.map(parseAddress);
    const { frames } = this;
    const random = place.random('netfilter');
    const natRandom = place.random('nat');
    const common = { cpus: this.cpus, frames, namespace: 'node-1', stack: this, conntrack };
    this.netfilter = new Netfilter({ ...common, random, natRandom });
    if (rules !== '') this.addRules(rules);
  }

  addRules(rules: string): void {
    for (const line of rules.trim().split(/\s*\n\s*/)) {
      const [, ip6, table, chain, rule] = /^(ip6 )?(\w+) (\w+) (.*)$/.exec(line) ?? [];
      const { tables, tables6 } = this.netfilter;
      const family = ip6 === undefined ? 4 : 6;
      (family === 6 ? tables6 : tables).appendRule(table as TableName, chain!, new Rule(parseRule(rule!, { family })));
    }
  }

  get now(): Instant {
    return this.#simulator.now;
  }

  wait(delay: Duration): void {
    this.#simulator.run({ until: after(this.now, delay) });
  }

  /** A packet in transit: it comes out of POSTROUTING, or the reason why not. */
  forward(packet: string, options: { cpu?: number } = {}): string {
    return this.pass(packet, [PREROUTING, FORWARD, POSTROUTING], options);
  }

  /** A packet for the node itself. */
  receive(packet: string, options: { cpu?: number } = {}): string {
    return this.pass(packet, [PREROUTING, INPUT], options);
  }

  /** A packet that the node sends. */
  send(packet: string, options: { cpu?: number } = {}): string {
    return this.pass(packet, [OUTPUT, POSTROUTING], options);
  }

  /** A visit of one CPU: the packet passes the hooks in order. */
  pass(packet: string, hooks: readonly Hook[], { cpu = 0 }: { cpu?: number } = {}): string {
    let result = 'waits for its CPU';
    this.cpus.submit(
      cpu,
      (frame: Frame) => {
        result = this.passFrame(frame, hooks);
      },
      readPacket(packet, this.frames.allocate()),
    );
    return result;
  }

  passFrame(frame: Frame, hooks: readonly Hook[]): string {
    const dropsBefore = this.frames.drops();
    this.#sentOn = undefined;
    for (const hook of hooks) {
      const isIn = hook === PREROUTING || hook === INPUT || hook === FORWARD;
      const isOut = hook === POSTROUTING || hook === OUTPUT || hook === FORWARD;
      if (this.netfilter.run(hook, frame, isIn ? ETH0 : undefined, isOut ? ETH0 : undefined)) continue;
      if (this.#sentOn !== undefined) return this.#sentOn;
      return [...this.frames.drops()].find(([reason, count]) => count !== (dropsBefore.get(reason) ?? 0))![0];
    }
    const packet = printPacket(frame);
    this.frames.deliver(frame);
    return packet;
  }

  /** How rules see the packet, which then goes on. */
  stateOf(packet: string): string {
    const frame = readPacket(packet, this.frames.allocate());
    this.netfilter.run(PREROUTING, frame, ETH0, undefined);
    const states = statesOf(frame);
    this.passFrame(frame, [FORWARD, POSTROUTING]);
    return states;
  }

  /** `conntrack -L`. */
  get entries(): string[] {
    return this.netfilter.conntrack.list().map((entry) => formatConntrack(entry, this.now));
  }

  // ── the stack ──────────────────────────────────────────────────────────────────────────────────────────────────────

  addressType(ip: Ip, family: IpFamily): 'LOCAL' | 'UNICAST' {
    return this.#local.some((local) => local.ip === ip && local.family === family) ? 'LOCAL' : 'UNICAST';
  }

  masqueradeAddress(_outDevice: DeviceRef, _dstIp: Ip, family: IpFamily): Ip | undefined {
    return this.#local.find((local) => local.family === family)?.ip;
  }

  redirectAddress(_inDevice: DeviceRef, family: IpFamily): Ip | undefined {
    return this.#local.find((local) => local.family === family)?.ip;
  }

  routeToServer(frame: Frame, ip: Ip): DeviceRef | 'here' {
    return this.addressType(ip, frame.family) === 'LOCAL' ? 'here' : ETH0;
  }

  sendOn(frame: Frame): void {
    if (!this.netfilter.run(POSTROUTING, frame, undefined, ETH0)) return;
    this.#sentOn = printPacket(frame);
    this.frames.deliver(frame);
  }

  reject(frame: Frame, _hook: Hook, rejectWith: string): void {
    if (rejectWith === 'tcp-reset') this.netfilter.conntrack.closeByReset(frame);
    this.rejects.push(`${rejectWith}: ${printPacket(frame)}`);
  }
}

/** `NEW`, `ESTABLISHED,DNAT`. */
export const statesOf = ({ conntrackState }: Frame): string =>
  CONNTRACK_STATES.filter((state) => (conntrackState & CONNTRACK_STATE_BITS[state]) !== 0).join(',');

const TCP_FLAGS: Readonly<Record<string, number>> = { F: TCP_FIN, S: TCP_SYN, R: TCP_RST, P: TCP_PSH, '.': TCP_ACK };
const PROTOCOLS: Readonly<Record<string, number>> = {
  icmp: PROTOCOL_ICMP,
  icmpv6: PROTOCOL_ICMPV6,
  tcp: PROTOCOL_TCP,
  udp: PROTOCOL_UDP,
  sctp: PROTOCOL_SCTP,
};

/**
 * `udp 10.244.1.2:4000 > 10.96.0.10:53`, `tcp 10.244.1.2:4000 > 10.96.0.1:80 S. seq 5000 ack 1001 len 10`,
 * `icmp 10.244.1.2 > 10.244.2.2 8/0 id 7`, `icmp 10.244.2.2 > 10.244.1.2 3/3 about udp 10.244.1.2:4000 > 10.244.2.2:53`,
 * `udp [fd00::2]:4000 > [fd00::10]:53`.
 */
export function readPacket(text: string, frame = new Frame()): Frame {
  const [head = '', ...abouts] = text.split(' about ');
  const [protocol = '', from = '', , to = '', ...rest] = head.split(' ');
  const src = readEnd(from);
  const dst = readEnd(to);
  const number = (name: string): number => (rest.includes(name) ? Number(rest[rest.indexOf(name) + 1]) : 0);
  frame.protocol = PROTOCOLS[protocol] ?? Number(protocol);
  frame.family = src.family;
  frame.etherType = src.family === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  frame.srcIp = src.ip;
  frame.dstIp = dst.ip;
  frame.srcPort = src.port;
  frame.dstPort = dst.port;
  frame.payloadBytes = number('len');
  if (frame.protocol === PROTOCOL_TCP) {
    frame.tcpFlags = [...(rest[0] ?? 'S')].reduce((flags, letter) => flags | TCP_FLAGS[letter]!, 0);
    frame.sequence = number('seq') | 0;
    frame.acknowledgment = number('ack') | 0;
    frame.window = 64_240;
  }
  if (isIcmp(frame.protocol)) {
    const [type, code] = (rest[0] ?? '8/0').split('/').map(Number);
    frame.icmpType = type!;
    frame.icmpCode = code!;
    frame.icmpIdentifier = number('id');
  }
  if (abouts.length > 0) frame.quoted = readPacket(abouts.join(' about '));
  frame.updateSize();
  return frame;
}

/** `10.244.1.2`, `10.244.1.2:80`, `fd00::2`, `[fd00::2]:80`. */
function readEnd(text: string): IpAddress & { port: number } {
  const [, address = text, port = '0'] = /^\[(.*)\]:(\d+)$/.exec(text) ?? /^([\d.]+):(\d+)$/.exec(text) ?? [];
  return { ...parseAddress(address), port: Number(port) };
}

/** The packet's addresses in the same notation; of TCP no more than that. */
export function printPacket(frame: Frame): string {
  const flow = `${formatProtocol(frame.protocol)} ${formatTuple(frame)}`;
  if (!isIcmp(frame.protocol)) return flow;
  const { icmpType, icmpCode, icmpIdentifier, quoted } = frame;
  return `${flow} ${icmpType}/${icmpCode}${quoted === undefined ? ` id ${icmpIdentifier}` : ` about ${printPacket(quoted)}`}`;
}

/** Who receives this packet answers it: ends exchanged, ICMP queries answered. */
export function answerTo(packet: string): string {
  const { family, protocol, srcIp, srcPort, dstIp, dstPort, icmpIdentifier } = readPacket(packet);
  if (isIcmp(protocol)) {
    const kind = protocol === PROTOCOL_ICMPV6 ? 'icmpv6' : 'icmp';
    const type = protocol === PROTOCOL_ICMPV6 ? 129 : 0;
    return `${kind} ${formatIp(dstIp, family)} > ${formatIp(srcIp, family)} ${type}/0 id ${icmpIdentifier}`;
  }
  const answer = { family, protocol, srcIp: dstIp, srcPort: dstPort, dstIp: srcIp, dstPort: srcPort };
  return `${formatProtocol(protocol)} ${formatTuple(answer)}`;
}
