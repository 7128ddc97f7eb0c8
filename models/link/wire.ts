// A cable between two machines, or a machine and a switch, and the network interface cards at its ends.
//
// Each direction has a rate, a propagation delay, a queue limit and optional loss. It keeps the instant until which it
// is busy, so a frame costs one event per hop: its arrival. Frames of one visit reach a wire in order; two CPUs whose
// visits overlap in time share it first come, first served in the order in which the visits began.
//
// Not modelled: preamble and inter-frame gap (`sizeBytes` is what is serialized), autonegotiation, flow control.

import type { RandomStream } from '../../engine/random.ts';
import type { Home } from '../../engine/simulator.ts';
import { type Duration, type Instant, us } from '../../engine/time.ts';
import { type CpuSet, NETDEV_MAX_BACKLOG } from '../cpu/cpu-set.ts';
import { steeringHash } from '../packet/flow-hash.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameHolder } from '../packet/frame-store.ts';
import { NetDevice } from './net-device.ts';

export interface WireSettings {
  /** Bits per second. */
  readonly rateBps: number;
  /** Propagation, one way. */
  readonly delay: Duration;
  /** What may wait in front of the transmitter; more is dropped as QDISC_DROP. */
  readonly queueBytes: number;
  /** Probability that a frame is lost, 0 to 1. */
  readonly lossFraction: number;
}

/** 10 Gbit/s, 5 us of cable and switch latency, a 1 MB queue: a common top-of-rack link. */
export const DEFAULT_WIRE: WireSettings = { rateBps: 10e9, delay: us(5), queueBytes: 1_000_000, lossFraction: 0 };

export const serializationDelay = (sizeBytes: number, rateBps: number): Duration =>
  Math.round((sizeBytes * 8e9) / rateBps) as Duration;

/** A network interface card. Received frames are steered to a CPU by flow (RSS); its backlog is bounded. */
export class WireDevice extends NetDevice<WireDirection> implements FrameHolder {
  #backlog = 0;

  override get beginsVisits(): boolean {
    return true;
  }

  get holderName(): string {
    return `backlog of ${this.namespace}/${this.name}`;
  }

  get heldFrames(): number {
    return this.#backlog;
  }

  /** Plugs the cable in; see {@link connectWire}. */
  plug(outgoing: WireDirection): void {
    this.link = outgoing;
    this.frames.addHolder(this);
    this.frames.addHolder(outgoing);
  }

  /** Frames waiting or under way on the cable, away from this end. */
  get outgoing(): WireDirection | undefined {
    return this.link;
  }

  protected override carry(frame: Frame): void {
    const { recorder } = this.frames;
    if (recorder.isRecording) recorder.leaves(frame, { device: this });
    const { link } = this;
    if (link === undefined) return this.drop(frame, 'DEV_READY');
    this.cpus.charge(this.cpus.costs.nicNs);
    link.carry(frame);
  }

  /**
   * The last bit of a frame has come in: an event of its own. `cpus` are the device's, which the wire knows, too, so that the
   * processor fetches both at once.
   */
  arrive(frame: Frame, cpus: CpuSet): void {
    frame.clearMetadata();
    frame.flowHash = 0; // only bytes cross a cable, checksums among them
    frame.hasPortlessHash = false;
    frame.isChecksumOpen = false;
    frame.closeInnerChecksum();
    const cpu = cpus.count === 1 ? 0 : cpus.cpuOf(steeringHash(frame));
    if (cpus.begin(cpu)) {
      this.#receive(frame);
      return cpus.end();
    }
    if (cpus.backlog(cpu) >= NETDEV_MAX_BACKLOG) return this.drop(frame, 'CPU_BACKLOG');
    this.#backlog++;
    frame.holder = this;
    cpus.submit(cpu, WireDevice.#receiveLater, frame);
  }

  static readonly #receiveLater = (frame: Frame): void => {
    const device = frame.holder as WireDevice;
    device.#backlog--;
    device.#receive(frame);
  };

  #receive(frame: Frame): void {
    this.cpus.charge(this.cpus.costs.nicNs);
    this.deliver(frame);
  }
}

/** What wires of the same settings share. */
class WireKind {
  readonly settings: WireSettings;
  readonly delay: Duration;
  readonly queueLimit: Duration;

  constructor(settings: WireSettings) {
    const { rateBps, queueBytes, lossFraction } = settings;
    if (!(rateBps > 0)) throw new RangeError(`wire rate ${rateBps} bit/s; expected more than 0`);
    if (!(lossFraction >= 0 && lossFraction <= 1))
      throw new RangeError(`loss fraction ${lossFraction}; expected 0 to 1`);
    this.settings = settings;
    this.delay = settings.delay;
    this.queueLimit = serializationDelay(queueBytes, rateBps);
  }

  has({ rateBps, delay, queueBytes, lossFraction }: WireSettings): boolean {
    const own = this.settings;
    return (
      own.rateBps === rateBps &&
      own.delay === delay &&
      own.queueBytes === queueBytes &&
      own.lossFraction === lossFraction
    );
  }
}

let latestKind: WireKind | undefined;

/** One wire after another is like that before: their kind is in the processor's cache whichever is used. */
function kindOf(settings: WireSettings): WireKind {
  if (latestKind?.has(settings) !== true) latestKind = new WireKind(settings);
  return latestKind;
}

// Of each direction, in the run's table of numbers.
const BUSY_UNTIL = 0;
const NS_PER_BYTE = 1;
const NUMBERS_PER_DIRECTION = 2;

/** One direction of a wire. */
export class WireDirection implements FrameHolder {
  readonly #from: WireDevice;
  readonly #to: WireDevice;
  readonly #toCpus: CpuSet;
  readonly #kind: WireKind;
  readonly #firstNumber: number;
  #inFlight = 0;
  readonly #loss: RandomStream | undefined;
  /** Takes frames whose arrival another worker simulates. */
  #crossing: WireCrossing | undefined;

  /** Throws a RangeError for settings that no wire can have. */
  constructor(from: WireDevice, to: WireDevice, settings: WireSettings) {
    const { place, numbers } = from.cpus;
    this.#from = from;
    this.#to = to;
    this.#toCpus = to.cpus;
    this.#kind = kindOf(settings);
    this.#firstNumber = numbers.add(NUMBERS_PER_DIRECTION);
    numbers.values[this.#firstNumber + NS_PER_BYTE] = 8e9 / settings.rateBps;
    this.#loss = settings.lossFraction > 0 ? place.random(`wire/${from.name}`) : undefined;
  }

  get settings(): WireSettings {
    return this.#kind.settings;
  }

  get holderName(): string {
    const ends = [this.#from, this.#to].map(({ namespace, name }) => `${namespace}/${name}`);
    return `wire ${ends.join(' > ')}`;
  }

  get heldFrames(): number {
    return this.#inFlight;
  }

  /** Where its ends are at home, when several workers simulate the run. */
  get homes(): { readonly from: Home; readonly to: Home } {
    return { from: this.#from.cpus.place.home, to: this.#toCpus.place.home };
  }

  /** Its frames leave this worker. */
  cross(crossing: WireCrossing): void {
    this.#crossing = crossing;
  }

  /** A frame of another worker is under way on the cable. */
  takeOver(frame: Frame, at: Instant, key: number): void {
    this.#inFlight++;
    frame.holder = this;
    this.#from.cpus.place.sim.insertFrom(at, key, WireDirection.#arrive, frame);
  }

  carry(frame: Frame): void {
    const { cpus } = this.#from;
    const { queueLimit, delay } = this.#kind;
    const { values } = cpus.numbers;
    const at = this.#firstNumber;
    const now = cpus.instant;
    const queuedNs = Math.max(values[at + BUSY_UNTIL]! - now, 0);
    if (queuedNs > queueLimit) return this.#from.drop(frame, 'QDISC_DROP');
    const serializedNs = Math.round(frame.sizeBytes * values[at + NS_PER_BYTE]!);
    // Added in the table, whose numbers V8 does not take for small integers until 2.1 s have passed.
    values[at + BUSY_UNTIL] = now;
    values[at + BUSY_UNTIL]! += queuedNs + serializedNs;
    if (frame.journey !== undefined) this.#note(frame, { at: now, queuedNs, serializedNs });
    if (this.#loss !== undefined && this.#loss.uniform() < this.settings.lossFraction) {
      return this.#from.drop(frame, 'WIRE_LOSS'); // lost on the cable: the transmitter was busy with it all the same
    }
    const arrivesInNs = queuedNs + serializedNs + delay;
    if (this.#crossing !== undefined) {
      return this.#crossing.carry(frame, (now + arrivesInNs) as Instant, cpus.place.takeKey());
    }
    this.#inFlight++;
    frame.holder = this;
    cpus.scheduleAfter(arrivesInNs as Duration, WireDirection.#arrive, frame);
  }

  #note({ sizeBytes, journey }: Frame, times: { at: Instant; queuedNs: number; serializedNs: number }): void {
    const { at, queuedNs, serializedNs } = times;
    const text = `${queuedNs} ns queued, ${serializedNs} ns to serialize ${sizeBytes} bytes, ${this.#kind.delay} ns of cable`;
    journey?.add({ at, namespace: this.#from.namespace, stage: 'wire', device: this.#from.name, text });
  }

  /** One for all wires: a function of each would be two more lines of the processor's cache. */
  static readonly #arrive = (frame: Frame): void => {
    const wire = frame.holder as WireDirection;
    wire.#inFlight--;
    wire.#to.arrive(frame, wire.#toCpus);
  };
}

/** Between the parts of a run that several workers simulate (frame-border.ts). */
export interface WireBorder {
  /** A wire is there; all workers hear of all wires, in the same order. */
  add(wire: WireDirection): void;
}

/** A wire from a place of this worker to one of another. */
export interface WireCrossing {
  /** A frame that arrives `at` the other end; the order key is its arrival's. */
  carry(frame: Frame, at: Instant, key: number): void;
}

/** Connects two NICs, which may stand in different places, with the same settings both ways. */
export function connectWire(
  a: WireDevice,
  b: WireDevice,
  { border, ...settings }: Partial<WireSettings> & { readonly border?: WireBorder | undefined } = {},
): void {
  const complete = { ...DEFAULT_WIRE, ...settings };
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const direction = new WireDirection(from, to, complete);
    from.plug(direction);
    border?.add(direction);
  }
}
