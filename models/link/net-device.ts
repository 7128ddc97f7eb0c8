// What `ip link` lists: the base of every device, and who receives from it.

import type { Instant } from '../../engine/time.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import type { DeviceRef, Frame } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { Ip } from '../packet/ip-address.ts';
import { type Mac, macHigh, macLow, macOf } from '../packet/mac.ts';

/** Who takes frames that a device has received: the IP stack of its namespace, or the bridge it is a port of. */
export interface FrameReceiver {
  receive(frame: Frame, device: NetDevice): void;
}

/** Sees every frame that passes a device; never changes it. For captures. */
export type DeviceTap = (frame: Frame, direction: 'in' | 'out', device: NetDevice, at: Instant) => void;

export const DEFAULT_MTU_BYTES = 1500;

export interface NetDeviceOptions {
  readonly name: string;
  readonly mac: Mac;
  readonly mtuBytes?: number;
  /** The network namespace's name, for journeys and captures. */
  readonly namespace: string;
  readonly index: number;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
}

// Of a device, as far as every frame needs to know it.
/** Up, and without a tap. */
const PLAIN = 0;
const TAPPED = 1;
const DOWN = 2;

export abstract class NetDevice<Link = unknown> implements DeviceRef {
  // First what every frame needs, in one line of the processor's cache or two.
  #state: typeof PLAIN | typeof TAPPED | typeof DOWN = PLAIN;
  #receiver: FrameReceiver | undefined;
  /**
   * To which {@link carry} gives frames, where a device is tied to something: a NIC to its cable, an end of a veth pair to the
   * other. Here, because the fields of subclasses stand behind all of these.
   */
  protected link: Link | undefined;
  readonly cpus: CpuSet;
  protected readonly frames: FrameStore;
  #mtuBytes: number;
  /** Where ways of frames begin that come in by this device, for the stack that has it and its flow cache. */
  wayIngress = 0;
  #tap: DeviceTap | undefined;
  // The MAC in two parts, which are small integers in V8.
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly name: string;
  readonly namespace: string;
  readonly index: number;

  constructor({ name, mac, mtuBytes = DEFAULT_MTU_BYTES, namespace, index, cpus, frames }: NetDeviceOptions) {
    this.name = name;
    this.#macHigh = macHigh(mac);
    this.#macLow = macLow(mac);
    this.#mtuBytes = mtuBytes;
    this.namespace = namespace;
    this.index = index;
    this.cpus = cpus;
    this.frames = frames;
  }

  get mac(): Mac {
    return macOf(this.#macHigh, this.#macLow);
  }

  /** Frames come in by this device first of all in a visit, with nothing known of them but their bytes. */
  get beginsVisits(): boolean {
    return false;
  }

  /** What the device puts before a frame (needed_headroom). */
  get headroomBytes(): number {
    return 0;
  }

  /** `ip link set DEVICE mtu BYTES`. */
  get mtuBytes(): number {
    return this.#mtuBytes;
  }

  set mtuBytes(mtuBytes: number) {
    this.#mtuBytes = mtuBytes;
    this.cpus.forgetWays();
  }

  get up(): boolean {
    return this.#state !== DOWN;
  }

  set up(up: boolean) {
    this.#state = up ? this.#stateWhenUp : DOWN;
    this.cpus.forgetWays();
  }

  get #stateWhenUp(): typeof PLAIN | typeof TAPPED {
    return this.#tap === undefined ? PLAIN : TAPPED;
  }

  get receiver(): FrameReceiver | undefined {
    return this.#receiver;
  }

  set receiver(receiver: FrameReceiver | undefined) {
    this.#receiver = receiver;
    this.cpus.forgetWays();
  }

  get tap(): DeviceTap | undefined {
    return this.#tap;
  }

  set tap(tap: DeviceTap | undefined) {
    this.#tap = tap;
    if (this.up) this.#state = this.#stateWhenUp;
    this.cpus.forgetWays();
  }

  /** Is the frame for this very MAC? */
  isAddressedBy({ dstMacHigh, dstMacLow }: Frame): boolean {
    return dstMacLow === this.#macLow && dstMacHigh === this.#macHigh;
  }

  /** Are its packets without an Ethernet header? Frames have one all the same, and nobody sees it. */
  get isWithoutHeader(): boolean {
    return false;
  }

  /** Of a next hop, where it follows from the IP address (IFF_NOARP); undefined: the next hop is to be asked. */
  linkAddressOf(_ip: Ip): Mac | undefined {
    return undefined;
  }

  /** Sends a frame out of this device; the frame is no longer the caller's. */
  transmit(frame: Frame): void {
    if (this.#state === DOWN) return this.drop(frame, 'DEV_READY');
    if (this.#state === TAPPED || frame.journey !== undefined) this.#observe(frame, 'out');
    this.carry(frame);
  }

  /** A frame has come in by this device: hands it to the receiver. */
  deliver(frame: Frame): void {
    if (this.#state === DOWN || this.#receiver === undefined) return this.drop(frame, 'DEV_READY');
    if (this.#state === TAPPED || frame.journey !== undefined) this.#observe(frame, 'in');
    this.#receiver.receive(frame, this);
  }

  /**
   * The same by netif_rx: after those frames of a batch that came before, and when sending is over, so that this frame
   * goes into no tunnel within those that are being sent into, and ICMP may be sent about it.
   */
  deliverInTurn(frame: Frame): void {
    const { cpus } = this;
    if (cpus.isBatching) return cpus.postpone(() => this.deliver(frame));
    const { tunnelDepth, icmpLocks } = cpus;
    cpus.tunnelDepth = cpus.icmpLocks = 0;
    this.deliver(frame);
    cpus.tunnelDepth = tunnelDepth;
    cpus.icmpLocks = icmpLocks;
  }

  /** What kind of device this is: carries the frame to the other end. */
  protected abstract carry(frame: Frame): void;

  drop(frame: Frame, reason: DropReason): void {
    this.frames.drop(frame, reason, this.cpus.instant, this.namespace);
  }

  #observe(frame: Frame, direction: 'in' | 'out'): void {
    const at = this.cpus.instant;
    this.frames.recorder.spoil(); // observers see every frame
    this.#tap?.(frame, direction, this, at);
    frame.journey?.add({
      at,
      namespace: this.namespace,
      stage: 'device',
      device: this.name,
      text: direction === 'in' ? `received on ${this.name}` : `sent out of ${this.name}`,
    });
  }
}
