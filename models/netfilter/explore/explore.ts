// Where one packet can go by the rules of a node, whichever way chance falls: its walk through the hooks that Linux takes
// for it, once per outcome of `-m statistic` and `numgen random`, each with its probability.
//
// Of a virtual server of IPVS each real server may be next.
//
// The rules are the node's; the rest of the node is what the caller says of it: its own addresses and the devices by
// which the packet comes in and goes out. Memory starts empty: no connection, no list of `-m recent`, full buckets of
// `-m limit`. Not modelled: routes; the port that a translation picks at random.

import { Simulator } from '../../../engine/simulator.ts';
import { START } from '../../../engine/time.ts';
import { FREE } from '../../cpu/cost-model.ts';
import { CpuSet } from '../../cpu/cpu-set.ts';
import { type DeviceRef, Frame } from '../../packet/frame.ts';
import { FrameStore } from '../../packet/frame-store.ts';
import { formatIp, type Ip, type IpFamily, isIpv6Multicast, isMulticast } from '../../packet/ip-address.ts';
import { Journey, type JourneyStep } from '../../packet/journey.ts';
import {
  type AddressType,
  FORWARD,
  type Hook,
  INPUT,
  Netfilter,
  type NetfilterStack,
  OUTPUT,
  POSTROUTING,
  PREROUTING,
  type RejectType,
} from '../netfilter.ts';
import { BranchingRandom } from './branching-random.ts';

export interface ExploredNode {
  /** Puts the node's rules into a fresh netfilter; called once per outcome. */
  readonly load: (netfilter: Netfilter) => void;
  /** The node's own addresses, loopback included. */
  readonly isLocal: (ip: Ip, family: IpFamily) => boolean;
  /** What MASQUERADE makes the source; undefined if the node has none of that family. */
  readonly masqueradeIp: (family: IpFamily) => Ip | undefined;
  /** By which the packet comes in, and leaves; `undefined`: one that no rule names. */
  readonly inDevice: string | undefined;
  readonly outDevice: string | undefined;
}

export interface ExploredPacket {
  /** Fills a blank frame with the packet; called once per outcome. */
  readonly fill: (frame: Frame) => void;
  /** A process of the node sends it: it begins in OUTPUT. */
  readonly isLocallySent: boolean;
}

export interface PacketOutcome {
  readonly probability: number;
  readonly verdict: 'accepted' | 'dropped' | RejectType;
  /** Where an accepted packet goes. */
  readonly goesTo: 'this node' | 'the next hop' | undefined;
  /** As it leaves, or as it was when it ended. */
  readonly packet: Frame;
  readonly steps: readonly JourneyStep[];
  /** Rules compared with the packet, in all tables. */
  readonly rulesVisited: number;
  /** Chance decided before these steps: indices into `steps`. */
  readonly branches: readonly number[];
}

/** More would be a list that nobody reads, and take minutes. */
const MOST_OUTCOMES = 100_000;

/** All outcomes, those that begin alike next to each other; probabilities sum to 1. Throws a RangeError for too many. */
export function explorePacket(node: ExploredNode, packet: ExploredPacket): PacketOutcome[] {
  const random = new BranchingRandom();
  const outcomes: PacketOutcome[] = [];
  do {
    if (outcomes.length === MOST_OUTCOMES) throw new RangeError(`more than ${MOST_OUTCOMES} outcomes`);
    outcomes.push(new Passage(node, random).of(packet));
  } while (random.advance());
  return outcomes;
}

/** One packet's way through a node that has seen nothing before it. */
class Passage implements NetfilterStack {
  readonly #node: ExploredNode;
  readonly #random: BranchingRandom;
  readonly #frames = new FrameStore();
  readonly #netfilter: Netfilter;
  readonly #journey = new Journey(0);
  /** The packet before the hook that ended it: an ended frame is blank. */
  readonly #last = new Frame();
  #rejectedWith: RejectType | undefined;
  /** IPVS has sent the packet on, and it has left. */
  #isSentOn = false;

  constructor(node: ExploredNode, random: BranchingRandom) {
    this.#node = node;
    this.#random = random;
    random.mark = () => this.#journey.steps.length;
    const place = new Simulator({ seed: 'explore' }).place('node');
    const cpus = new CpuSet(place, { count: 1, costs: FREE });
    const frames = this.#frames;
    const natRandom = place.random('nat');
    this.#netfilter = new Netfilter({ cpus, frames, random, natRandom, namespace: 'node', stack: this });
    node.load(this.#netfilter);
    // Whose turn it is depends on what came before: each of them is tried.
    for (const virtual of this.#netfilter.ipvs.virtualServers())
      virtual.scheduler = { choose: (servers) => (servers.length === 0 ? undefined : random.pick(servers)) };
  }

  of({ fill, isLocallySent }: ExploredPacket): PacketOutcome {
    const frame = this.#frames.allocate();
    frame.journey = this.#journey;
    fill(frame);
    const passed = isLocallySent ? this.#leave(frame) : this.#arrive(frame);
    const goesTo = this.#isSentOn ? 'the next hop' : passed;
    if (goesTo !== undefined) this.#last.copyPacketFrom(frame);
    return {
      probability: this.#random.probability,
      verdict: goesTo === undefined ? (this.#rejectedWith ?? 'dropped') : 'accepted',
      goesTo,
      packet: this.#last,
      steps: this.#journey.steps,
      rulesVisited: this.#netfilter.rulesVisited,
      branches: this.#random.draws.map(({ mark }) => mark),
    };
  }

  #arrive(frame: Frame): PacketOutcome['goesTo'] {
    const inDevice = deviceRef(this.#node.inDevice);
    const outDevice = deviceRef(this.#node.outDevice);
    if (!this.#run(PREROUTING, frame, inDevice, undefined)) return undefined;
    if (this.#staysHere(frame)) return this.#run(INPUT, frame, inDevice, undefined) ? 'this node' : undefined;
    const passes =
      this.#run(FORWARD, frame, inDevice, outDevice) && this.#run(POSTROUTING, frame, undefined, outDevice);
    return passes ? 'the next hop' : undefined;
  }

  #leave(frame: Frame): PacketOutcome['goesTo'] {
    const outDevice = this.#isLocal(frame) ? LO : deviceRef(this.#node.outDevice);
    if (!this.#run(OUTPUT, frame, undefined, outDevice)) return undefined;
    if (!this.#staysHere(frame)) {
      return this.#run(POSTROUTING, frame, undefined, deviceRef(this.#node.outDevice)) ? 'the next hop' : undefined;
    }
    const passes =
      this.#run(POSTROUTING, frame, undefined, LO) &&
      this.#run(PREROUTING, frame, LO, undefined) &&
      this.#run(INPUT, frame, LO, undefined);
    return passes ? 'this node' : undefined;
  }

  #run(hook: Hook, frame: Frame, inDevice: DeviceRef | undefined, outDevice: DeviceRef | undefined): boolean {
    this.#last.copyPacketFrom(frame);
    return this.#netfilter.run(hook, frame, inDevice, outDevice);
  }

  #staysHere(frame: Frame): boolean {
    const staysHere = this.#isLocal(frame);
    const address = formatIp(frame.dstIp, frame.family);
    const text = staysHere ? `${address} is an address of the node` : `${address} is beyond the node`;
    this.#journey.add({ at: START, namespace: 'node', stage: 'route', text });
    return staysHere;
  }

  #isLocal({ dstIp, family }: Frame): boolean {
    return this.#node.isLocal(dstIp, family);
  }

  // ── what netfilter asks ────────────────────────────────────────────────────────────────────────────────────────────

  addressType(ip: Ip, family: IpFamily): AddressType {
    if (family === 6 ? isIpv6Multicast(ip) : isMulticast(ip)) return 'MULTICAST';
    return this.#node.isLocal(ip, family) ? 'LOCAL' : 'UNICAST';
  }

  masqueradeAddress(_outDevice: DeviceRef, _dstIp: Ip, family: IpFamily): Ip | undefined {
    return this.#node.masqueradeIp(family);
  }

  redirectAddress(_inDevice: DeviceRef, family: IpFamily): Ip | undefined {
    return this.#node.masqueradeIp(family);
  }

  reject(_frame: Frame, _hook: Hook, rejectWith: RejectType): void {
    this.#rejectedWith = rejectWith;
  }

  routeToServer({ family }: Frame, ip: Ip): DeviceRef | 'here' {
    return this.#node.isLocal(ip, family) ? 'here' : deviceRef(this.#node.outDevice);
  }

  sendOn(frame: Frame): void {
    this.#isSentOn = this.#run(POSTROUTING, frame, undefined, deviceRef(this.#node.outDevice));
  }
}

const LO: DeviceRef = { name: 'lo', index: 1 };

const deviceRef = (name: string | undefined): DeviceRef => ({ name: name ?? '', index: 2 });
