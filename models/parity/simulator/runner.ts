// Runs a parity case in the simulator and answers as the kernel's side does: every frame at every tap, `conntrack -L`,
// rule counters.
//
// A step is done when everything that takes no time has happened. Timers wait until a step waits for them, or until the
// step's own time comes, where the times of another run are given.

import { after, type Instant, ms, ns } from '../../../engine/time.ts';
import type { SendError } from '../../ip/send-error.ts';
import { formatConntrack } from '../../netfilter/conntrack-text.ts';
import type { Frame } from '../../packet/frame.ts';
import { contains, parseAddress, parseAnyPrefix } from '../../packet/ip-address.ts';
import { type Mac, parseMac, ZERO_MAC } from '../../packet/mac.ts';
import type { Capture, NodeRules, Outcome, PacketStep, ParityCase, ParityNode, Step, StepOutcome } from '../case.ts';
import { CaseError, EndlessCaseError } from '../case-error.ts';
import { SimulatedNetwork } from './network.ts';
import { craft } from './packets.ts';
import { countersOf, loadRules } from './rules.ts';
import { SocketSteps } from './sockets.ts';

export interface SimulatedRunOptions {
  readonly seed?: string;
  /**
   * An outcome of the same case whose steps say when they began: no step begins earlier here. A busy machine may take
   * seconds between two packets, which timeouts, limits and UDP streams notice.
   */
  readonly timesOf?: Outcome;
  /** By step: all random numbers begin anew there. Steps without one go on. */
  readonly stepSeeds?: readonly (string | undefined)[];
  /** What is left at the end, connections and counters, is of no interest. */
  readonly stepsOnly?: boolean;
}

/** Same case and options, same outcome. Throws a CaseError or RuleTextError for what cannot be run. */
export function runInSimulator(parityCase: ParityCase, options: SimulatedRunOptions = {}): Outcome {
  const run = new SimulatedRun(parityCase, options.seed ?? 'parity');
  try {
    return run.run(options);
  } catch (error) {
    // Calls move frames within a machine: those that cause each other for ever use up the stack.
    if (error instanceof RangeError && /call stack/.test(error.message))
      throw new EndlessCaseError('frames cause frames in one step, and never come to rest');
    throw error;
  }
}

class SimulatedRun {
  readonly #case: ParityCase;
  readonly #network: SimulatedNetwork;
  readonly #sockets: SocketSteps;
  /** By node: what was loaded last. */
  readonly #rules = new Map<string, NodeRules>();
  readonly #began: Instant;

  constructor(parityCase: ParityCase, seed: string) {
    this.#case = parityCase;
    this.#network = new SimulatedNetwork(parityCase.topology, seed);
    this.#sockets = new SocketSteps(this.#network);
    this.#load(parityCase.rules ?? {});
    this.#began = this.#network.sim.now;
  }

  run({ timesOf, stepSeeds = [], stepsOnly = false }: SimulatedRunOptions): Outcome {
    const steps = this.#case.packets.map((step, index) => {
      this.#pass(timesOf?.steps[index]?.at ?? 0);
      const seed = stepSeeds[index];
      if (seed !== undefined) this.#network.sim.random.reseed(seed);
      return this.#take(step);
    });
    if (stepsOnly) return { steps, conntrack: {}, counters: {} };
    const nodes = this.#case.topology.nodes.map(({ name }) => name);
    return {
      steps,
      conntrack: Object.fromEntries(nodes.map((node) => [node, this.#conntrackOf(node)])),
      counters: Object.fromEntries([...this.#rules.keys()].map((node) => [node, this.#countersOf(node)])),
    };
  }

  /** Frames that timers send meanwhile are seen by the step that follows, as the kernel's side sees them. */
  #pass(sinceBeginNs: number): void {
    const { sim } = this.#network;
    const until = after(this.#began, ns(sinceBeginNs));
    if (until > sim.now) sim.run({ until });
  }

  #take(step: Step): StepOutcome {
    if ('waitMs' in step) return this.#wait(step.waitMs);
    if ('flush' in step) return this.#flush();
    if ('rules' in step) {
      this.#load(step.rules);
      return {};
    }
    if ('socket' in step) return this.#sockets.take(step.socket);
    return this.#send(step);
  }

  #send(packet: PacketStep): StepOutcome {
    const outcome = packet.local === true ? this.#sendLocally(packet) : { captures: this.#inject(packet) };
    if (packet.autoreply !== true) return outcome;
    const arrival = this.#arrival(packet, outcome.captures);
    return { ...outcome, reply: arrival === undefined ? [] : this.#inject(replyTo(arrival, packet)) };
  }

  /** As a raw socket does: through routes and OUTPUT. */
  #sendLocally(packet: PacketStep): { captures: Capture[]; socket?: string } {
    const { cpus, frames } = this.#network;
    const { stack } = this.#network.namespace(packet.from);
    const [frame] = craft(packet, { srcMac: ZERO_MAC, dstMac: ZERO_MAC }, () => frames.allocate());
    let failure: SendError | undefined;
    cpus.submit((packet.cpu ?? 0) % cpus.count, (sent: Frame) => (failure = stack.send(sent)), frame!);
    const captures = this.#settle();
    return failure === undefined ? { captures } : { captures, socket: failure };
  }

  /** As a packet socket does: frames leave by the device, past the namespace's own IP stack and rules. */
  #inject(packet: PacketStep): Capture[] {
    const { cpus, frames, sim } = this.#network;
    sim.run({ until: after(sim.now, ms(this.#case.paceMs ?? 0)) });
    const [from = '', deviceName = 'eth0'] = packet.from.split('/');
    const device = this.#network.device(from, deviceName);
    const macs = { srcMac: device.mac, dstMac: this.#nextHopOf(packet, from, deviceName) };
    const crafted = craft(packet, macs, () => frames.allocate());
    const send = (frame: Frame): void => this.#network.send(device, frame);
    for (const frame of crafted) cpus.submit((packet.cpu ?? 0) % cpus.count, send, frame);
    return this.#settle();
  }

  #nextHopOf(packet: PacketStep, from: string, deviceName: string): Mac {
    const { dmac, dst } = packet;
    if (dmac !== undefined) {
      const [namespace = '', device] = dmac.split('/');
      return device === undefined ? parseMac(dmac) : this.#network.device(namespace, device).mac;
    }
    const { nodes } = this.#case.topology;
    const node = nodes.find(({ name }) => name === from);
    if (node === undefined) return this.#nextHopOfPod(packet, from);
    if (deviceName === 'eth0') return this.#network.device(nextNode(nodes, node, dst), 'eth0').mac;
    const pod = node.pods[Number(/^veth(\d+)$/.exec(deviceName)?.[1])];
    if (pod === undefined) throw new CaseError(`a packet from ${packet.from} needs a dmac`);
    return this.#network.device(pod.name, 'eth0').mac;
  }

  /** The pod of that address if it is on the same bridge, else the gateway. */
  #nextHopOfPod(packet: PacketStep, from: string): Mac {
    const node = this.#case.topology.nodes.find(({ pods }) => pods.some(({ name }) => name === from));
    const neighbor = node?.pods.find(({ name, ip, ip6 }) => name !== from && (ip === packet.dst || ip6 === packet.dst));
    if (neighbor !== undefined && node?.bridge !== false && node?.ptp !== true)
      return this.#network.device(neighbor.name, 'eth0').mac;
    const gateway = this.#network.gatewayOf(from);
    if (gateway === undefined) throw new CaseError(`a packet from ${packet.from} needs a dmac`);
    return gateway.mac;
  }

  /** The packet as it last came to another pod, else as it came back to the pod that sent it. */
  #arrival(packet: PacketStep, captures: readonly Capture[]): Capture | undefined {
    const [sender] = packet.from.split('/');
    const arrivals = captures.filter(
      (capture) =>
        capture.dir === 'in' && capture.dev === 'eth0' && this.#network.isPod(capture.ns) && isAnswerable(capture),
    );
    return arrivals.findLast(({ ns }) => ns !== sender) ?? arrivals.findLast(({ ns }) => ns === sender);
  }

  #wait(waitMs: number): StepOutcome {
    const { sim } = this.#network;
    sim.run({ until: after(sim.now, ms(waitMs)) });
    return { captures: this.#network.drain() };
  }

  #settle(): Capture[] {
    const { sim } = this.#network;
    sim.run({ until: sim.now });
    return this.#network.drain();
  }

  #flush(): StepOutcome {
    for (const { name } of this.#case.topology.nodes) this.#network.namespace(name).netfilter?.conntrack.flush();
    return {};
  }

  #load(rules: Readonly<Record<string, NodeRules>>): void {
    for (const [node, nodeRules] of Object.entries(rules)) {
      loadRules(this.#network.namespace(node), nodeRules, node);
      this.#rules.set(node, nodeRules);
    }
  }

  #conntrackOf(node: string): string[] {
    const { netfilter } = this.#network.namespace(node);
    const { sim } = this.#network;
    // The network layer's name and number go before, as `-o extended` has it.
    return netfilter?.conntrack.list().map((entry) => formatConntrack(entry, sim.now, { extended: true })) ?? [];
  }

  #countersOf(node: string): string {
    const rules = this.#rules.get(node);
    return rules === undefined ? '' : countersOf(this.#network.namespace(node).enableNetfilter(), rules);
  }
}

/** On the fabric: the node that has the address or its pod range, else the first other one. */
function nextNode(nodes: readonly ParityNode[], own: ParityNode, dst: string): string {
  const others = nodes.filter((node) => node !== own);
  const { ip, family } = parseAddress(dst);
  const owner = others.find((node) =>
    [node.ip, node.ip6, node.podCIDR, node.podCIDR6].some((range) => {
      if (range === undefined) return false;
      const network = parseAnyPrefix(range);
      return network.family === family && contains(network, ip);
    }),
  );
  const next = owner ?? others[0];
  if (next === undefined) throw new CaseError(`a packet from ${own.name} needs a dmac: nobody else is on the fabric`);
  return next.name;
}

const isAnswerable = ({ proto, type }: Capture): boolean =>
  proto === 'udp' ||
  proto === 'tcp' ||
  proto === 'sctp' ||
  (proto === 'icmp' && type === 8) ||
  (proto === 'icmpv6' && type === 128);

/** What the receiver would say: SYN gets SYN-ACK, other segments an ACK, an echo request its reply. */
function replyTo(arrival: Capture, packet: PacketStep): PacketStep {
  const { ns, smac, src = '', dst = '', flags = '', seq = 0, ack = 0 } = arrival;
  const proto = arrival.proto as PacketStep['proto'];
  const ends = { from: ns, proto, src: dst, dst: src, dmac: smac, cpu: packet.cpu ?? 0 };
  if (proto === 'icmp' || proto === 'icmpv6') {
    return { ...ends, type: proto === 'icmp' ? 0 : 129, id: arrival.id ?? 0, seqn: packet.seqn ?? 1 };
  }
  const ported = { ...ends, sport: arrival.dport ?? 0, dport: arrival.sport ?? 0 };
  if (proto === 'udp' || proto === 'sctp') return ported;
  if (flags.includes('S')) return { ...ported, flags: 'SA', seq: 500, ack: (seq + 1) >>> 0 };
  const dataBytes = new TextEncoder().encode(packet.payload).length + (packet.pad ?? 0);
  return { ...ported, flags: 'A', seq: ack, ack: (seq + dataBytes + (flags.includes('F') ? 1 : 0)) >>> 0 };
}
