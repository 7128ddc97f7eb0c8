// Runs a parity case in the simulator and answers as the kernel's side does: every frame at every tap, `conntrack -L`,
// rule counters.
//
// A step is done when everything that takes no time has happened. Timers wait until a step waits for them.

import { after, ms } from '../../../engine/time.ts';
import type { NetworkNamespace } from '../../host/network-namespace.ts';
import { Chain } from '../../netfilter/chain.ts';
import { formatConntrack } from '../../netfilter/conntrack-text.ts';
import { parseIptablesSave, printIptablesSave, restoreTables } from '../../netfilter/iptables-save.ts';
import { type Mac, parseMac } from '../../packet/mac.ts';
import type { Capture, NodeRules, Outcome, PacketStep, ParityCase, Step, StepOutcome } from '../case.ts';
import { CaseError } from '../case-error.ts';
import { SimulatedNetwork } from './network.ts';
import { craft } from './packets.ts';
import { SocketSteps } from './sockets.ts';

/** Same case and seed, same outcome. Throws a CaseError or RuleTextError for what cannot be run. */
export function runInSimulator(parityCase: ParityCase, { seed = 'parity' }: { seed?: string } = {}): Outcome {
  return new SimulatedRun(parityCase, seed).run();
}

class SimulatedRun {
  readonly #case: ParityCase;
  readonly #network: SimulatedNetwork;
  readonly #sockets: SocketSteps;
  /** By node: what was loaded last. */
  readonly #rules = new Map<string, NodeRules>();

  constructor(parityCase: ParityCase, seed: string) {
    this.#case = parityCase;
    this.#network = new SimulatedNetwork(parityCase.topology, seed);
    this.#sockets = new SocketSteps(this.#network);
    this.#load(parityCase.rules ?? {});
  }

  run(): Outcome {
    const steps = this.#case.packets.map((step) => this.#take(step));
    const nodes = this.#case.topology.nodes.map(({ name }) => name);
    return {
      steps,
      conntrack: Object.fromEntries(nodes.map((node) => [node, this.#conntrackOf(node)])),
      counters: Object.fromEntries([...this.#rules.keys()].map((node) => [node, this.#countersOf(node)])),
    };
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
    const captures = this.#inject(packet);
    const reply = packet.autoreply === true ? replyTo(packet, captures, this.#network.podNames) : undefined;
    return reply === undefined ? { captures } : { captures, reply: this.#inject(reply) };
  }

  /** As a packet socket does: the frame leaves by the device, past the namespace's own IP stack and rules. */
  #inject(packet: PacketStep): Capture[] {
    const { cpus, frames } = this.#network;
    const [from = '', device = 'eth0'] = packet.from.split('/');
    const out = this.#network.namespace(from).deviceNamed(device);
    const frame = frames.allocate();
    craft(frame, packet, { srcMac: out.mac, dstMac: this.#nextHopOf(packet, from) });
    cpus.submit((packet.cpu ?? 0) % cpus.count, () => out.transmit(frame), undefined);
    return this.#settle();
  }

  /** The pod itself if it is on the same bridge, else the sender's gateway. */
  #nextHopOf(packet: PacketStep, from: string): Mac {
    if (packet.dmac !== undefined) return parseMac(packet.dmac);
    const node = this.#case.topology.nodes.find(({ pods }) => pods.some(({ name }) => name === from));
    const neighbor = node?.pods.find(({ name, ip, ip6 }) => name !== from && (ip === packet.dst || ip6 === packet.dst));
    if (neighbor !== undefined && node?.bridge !== false)
      return this.#network.namespace(neighbor.name).deviceNamed('eth0').mac;
    const gateway = this.#network.gatewayOf(from);
    if (gateway === undefined)
      throw new CaseError(`a packet from ${packet.from} needs a dmac: only pods have a gateway`);
    return gateway.mac;
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
    return netfilter?.conntrack.list().map((entry) => `ipv4     2 ${formatConntrack(entry, sim.now)}`) ?? [];
  }

  #countersOf(node: string): string {
    const { netfilter } = this.#network.namespace(node);
    return netfilter === undefined ? '' : printIptablesSave(netfilter.tables, { counters: true });
  }
}

/** Like `iptables-restore`: the tables of the text are replaced whole, others stay. */
function loadRules(namespace: NetworkNamespace, { backend, text, text6, ipset }: NodeRules, node: string): void {
  if (backend === 'nftnative') throw new CaseError(`rules.${node}.backend: nftnative is not modelled`);
  if (text6 !== undefined) throw new CaseError(`rules.${node}.text6: ip6tables is not modelled`);
  if (ipset !== undefined) throw new CaseError(`rules.${node}.ipset: ipset is not modelled`);
  const { tables } = namespace.enableNetfilter();
  const saved = parseIptablesSave(text, `rules.${node}.text`);
  for (const { name, chains } of saved) {
    const kept = new Set(chains.map(({ chain }) => chain.name));
    for (const old of tables.chainNames(name)) {
      if (kept.has(old)) continue;
      if (tables.chain(name, old)?.policy === undefined) tables.deleteChain(name, old);
      else tables.replaceChains(name, [new Chain(old, [], 'ACCEPT')]);
    }
  }
  restoreTables(tables, saved);
}

/**
 * The answer to a packet as it last arrived at another pod, addresses and ports swapped; or at its sender, if it came back
 * there alone.
 */
function replyTo(packet: PacketStep, captures: readonly Capture[], pods: ReadonlySet<string>): PacketStep | undefined {
  const arrivals = captures.filter(
    ({ dir, dev, proto, ns }) => dir === 'in' && dev === 'eth0' && (proto === 'udp' || proto === 'tcp') && pods.has(ns),
  );
  const elsewhere = arrivals.filter(({ ns }) => ns !== packet.from);
  const arrival = (elsewhere.length > 0 ? elsewhere : arrivals.filter(({ ns }) => ns === packet.from)).at(-1);
  if (arrival === undefined) return undefined;
  const { ns, proto, src, dst, sport, dport, smac } = arrival;
  if ((proto !== 'udp' && proto !== 'tcp') || src === undefined || dst === undefined) return undefined;
  if (sport === undefined || dport === undefined) return undefined;
  const ack = (packet.seq ?? 1000) + 1;
  return { from: ns, proto, src: dst, dst: src, sport: dport, dport: sport, flags: 'SA', seq: 500, ack, dmac: smac };
}
