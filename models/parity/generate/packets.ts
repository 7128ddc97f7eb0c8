// Random packets: new flows to Services, pods, nodes and nowhere, and what comes after them: answers, more of the same flow
// with odd flags and numbers, the same ports again from elsewhere.

import type { PacketStep, ParityNode, Topology } from '../case.ts';
import type { Draw } from './draw.ts';
import type { Feature } from './features.ts';
import { EDGE_PORTS, NODE_PORT, POD_PORTS, SERVICE_PORTS, SOURCE_PORTS, type Words } from './words.ts';

export class PacketDraw {
  readonly #draw: Draw;
  readonly #topology: Topology;
  readonly #words: readonly Words[];
  readonly #features: ReadonlySet<Feature>;
  readonly #sent: PacketStep[] = [];

  /** `words` of every family that packets may have. */
  constructor(
    draw: Draw,
    { topology, words, features }: { topology: Topology; words: readonly Words[]; features: ReadonlySet<Feature> },
  ) {
    this.#draw = draw;
    this.#topology = topology;
    this.#words = words;
    this.#features = features;
  }

  next(): PacketStep {
    const draw = this.#draw;
    const followed = this.#sent.length > 0 && draw.chance(0.4) ? this.#followUp(draw.pick(this.#sent)) : undefined;
    const packet = followed ?? this.#newFlow();
    this.#sent.push(packet);
    return packet;
  }

  #newFlow(): PacketStep {
    const draw = this.#draw;
    const words = draw.pick(this.#words);
    const sender = this.#sender(words);
    const proto = draw.weighted<PacketStep['proto']>([
      [5, () => 'udp'],
      [4, () => 'tcp'],
      [this.#features.has('icmp') ? 1.5 : 0, () => (words.family === 4 ? 'icmp' : 'icmpv6')],
    ]);
    const ends = { ...sender, proto, dst: this.#destination(words, sender.src) };
    const echo = draw.chance(0.15) ? { type: words.family === 4 ? 0 : 129 } : {};
    const flags = draw.chance(0.12) ? { flags: draw.pick(ODD_FLAGS) } : {};
    const rest =
      proto === 'icmp' || proto === 'icmpv6'
        ? { ...echo, ...(draw.chance(0.3) ? { id: draw.between(1, 3) } : {}) }
        : {
            sport: draw.pick(draw.chance(0.05) ? EDGE_PORTS : SOURCE_PORTS),
            dport: this.#port(),
            ...(proto === 'tcp' ? flags : {}),
          };
    return {
      ...ends,
      ...rest,
      ...this.#timeToLive(),
      ...this.#size(proto, words),
      ...(draw.chance(0.6) ? { autoreply: true } : {}),
    };
  }

  /** Mostly a pod as itself; sometimes under a false name, or somebody outside who comes by the fabric. */
  #sender({ family, outside, services, edges }: Words): Pick<PacketStep, 'from' | 'src' | 'dmac'> {
    const draw = this.#draw;
    const node = draw.pick(this.#topology.nodes);
    const nodes = this.#topology.nodes.length;
    if (nodes > 1 && draw.chance(0.08))
      return { from: `${node.name}/eth0`, src: draw.pick([outside, addressOf(node, family)]) };
    const pod = draw.pick(node.pods);
    const own = family === 4 ? pod.ip : (pod.ip6 ?? outside);
    const falseNames = [outside, draw.pick(services), draw.pick(edges)];
    return { from: pod.name, src: draw.chance(0.04) ? draw.pick(falseNames) : own, ...this.#station(node) };
  }

  /** Mostly whom a stack would send to; sometimes the wrong one on the bridge, nobody, or a group. */
  #station({ bridge, ptp, pods }: ParityNode): Pick<PacketStep, 'dmac'> {
    const draw = this.#draw;
    if (bridge === false || ptp === true || !this.#features.has('bridge') || !draw.chance(0.06)) return {};
    return { dmac: draw.pick([...GROUPS, NOBODY, NOBODY, `${draw.pick(pods).name}/eth0`]) };
  }

  #destination(words: Words, source: string): string {
    const draw = this.#draw;
    const { pods, nodes, gateways, services, outside, absent, edges } = words;
    const others = pods.filter((ip) => ip !== source);
    return draw.weighted<string>([
      [9, () => draw.pick(services)],
      [6, () => draw.pick(others.length > 0 ? others : pods)],
      [gateways.length > 0 ? 1 : 0, () => draw.pick(gateways)],
      [nodes.length > 0 ? 1.5 : 0, () => draw.pick(nodes)],
      [0.7, () => outside],
      [0.3, () => absent],
      [0.7, () => draw.pick(edges)],
    ]);
  }

  #port(): number {
    const draw = this.#draw;
    return draw.weighted([
      [6, () => draw.pick(SERVICE_PORTS)],
      [3, () => draw.pick(POD_PORTS)],
      [1, () => NODE_PORT],
      [0.7, () => draw.pick(EDGE_PORTS)],
    ]);
  }

  #timeToLive(): Partial<PacketStep> {
    const draw = this.#draw;
    return draw.chance(this.#features.has('icmp') ? 0.08 : 0.02) ? { ttl: draw.between(1, 3) } : {};
  }

  /** All of it within the 1500 bytes of a pod's link, or in fragments. */
  #size(proto: PacketStep['proto'], { family }: Words): Partial<PacketStep> {
    const draw = this.#draw;
    const payload = 1500 - (family === 4 ? 20 : 40) - (proto === 'tcp' ? 20 : 8);
    if (!this.#features.has('fragments') || !draw.chance(0.15))
      return draw.chance(0.1) ? { pad: draw.between(1, 200) } : {};
    const df = family === 4 && draw.chance(0.4) ? { df: true } : {};
    if (proto === 'tcp' || draw.chance(0.5))
      return { pad: draw.pick([payload, payload - 50, payload - 51, 1000]), ...df };
    return {
      pad: draw.pick([1400, 1600, 2900]),
      fragmentMtu: draw.pick([576, 1000, 1500]),
      ipid: this.#sent.length + 1,
    };
  }

  /** The same flow again as it may go on, or an abuse of it. */
  #followUp(earlier: PacketStep): PacketStep {
    const draw = this.#draw;
    const { ttl: _, pad: __, fragmentMtu: ___, ipid: ____, df: _____, flags, ...flow } = earlier;
    const again = { ...flow, ...this.#timeToLive(), autoreply: draw.chance(0.6) };
    if (earlier.proto !== 'tcp') return { ...again, ...(draw.chance(0.2) ? { pad: draw.between(1, 100) } : {}) };
    const next = (earlier.seq ?? 1000) + 1;
    return draw.weighted<PacketStep>([
      [4, () => ({ ...again, flags: 'A', seq: next, ack: 501 })],
      [2, () => ({ ...again, flags: 'PA', seq: next, ack: 501, pad: draw.between(1, 100) })],
      [2, () => ({ ...again, flags: 'FA', seq: next, ack: 501 })],
      [1, () => ({ ...again, flags: draw.pick(['R', 'RA']), seq: next, ack: 501 })],
      [1, () => ({ ...again, flags: flags ?? 'S' })],
      [
        this.#features.has('conntrack') ? 2 : 0,
        () => ({ ...again, flags: draw.pick(ODD_FLAGS), seq: draw.pick(FAR), ack: draw.pick(FAR) }),
      ],
    ]);
  }
}

/** Of no segment that opens a connection, or of none at all. */
const ODD_FLAGS = ['A', 'SA', 'R', 'RA', 'FA', 'PA', 'F', 'SF', 'SFRPU', 'AU', ''];
/** Sequence numbers inside, at the edges of and far outside a window of 64 KB. */
const FAR = [0, 501, 1000, 1001, 65_241, 100_000, 2_000_000, 3_000_000_000];

/** A MAC that no bridge has heard of. */
const NOBODY = '02:00:00:00:00:99';
/** All, and the group of all hosts. */
const GROUPS = ['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01'];

const addressOf = ({ ip, ip6 }: ParityNode, family: 4 | 6): string => (family === 4 ? ip : ip6) ?? '';
