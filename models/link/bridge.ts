// A learning bridge (802.1D forwarding) that is also a device of its namespace, as `cbr0` is: frames for its own MAC go
// up to the IP stack. The fabric's switch is the same thing without a stack.
//
// br_netfilter is a hook that the host fills (`netfilter`), so that this file knows nothing of iptables.
//
// Not modelled: spanning tree, VLANs, multicast snooping.

import { ETHERNET_HEADER_BYTES, type Frame } from '../packet/frame.ts';
import { formatMac, isGroupHigh, type Mac } from '../packet/mac.ts';
import { Fdb } from './fdb.ts';
import { type FrameReceiver, NetDevice, type NetDeviceOptions } from './net-device.ts';

/**
 * What br_netfilter does with bridged frames (net.bridge.bridge-nf-call-*). The hooks return false when the frame has
 * ended or will be continued later with {@link Bridge.forward}.
 */
export interface BridgeNetfilter {
  /** Do frames of this kind pass the hooks? */
  isFor(frame: Frame): boolean;
  preRouting(frame: Frame, ingress: BridgePort): boolean;
  forward(frame: Frame, ingress: BridgePort, egress: BridgePort): boolean;
  postRouting(frame: Frame, egress: BridgePort): boolean;
  localIn(frame: Frame): boolean;
  /** A copy goes up only because the bridge is promiscuous. */
  promiscuousIn(frame: Frame): void;
}

export class BridgePort implements FrameReceiver {
  readonly bridge: Bridge;
  readonly device: NetDevice;
  readonly number: number;
  /** No frame goes from one isolated port to another (`bridge link set dev DEVICE isolated on`). */
  readonly isolated: boolean;
  #hairpin: boolean;

  constructor(
    bridge: Bridge,
    device: NetDevice,
    { number, hairpin, isolated }: { number: number; hairpin: boolean; isolated: boolean },
  ) {
    this.bridge = bridge;
    this.device = device;
    this.number = number;
    this.isolated = isolated;
    this.#hairpin = hairpin;
  }

  /** May a frame leave by the port it came in by? */
  get hairpin(): boolean {
    return this.#hairpin;
  }

  set hairpin(hairpin: boolean) {
    this.#hairpin = hairpin;
    this.bridge.cpus.forgetWays();
  }

  /** br_dev_queue_push_xmit: a frame that the port's device cannot take ends here; a bridge sends no errors. */
  transmit(frame: Frame): void {
    const { device } = this;
    if (frame.sizeBytes > device.mtuBytes + ETHERNET_HEADER_BYTES) return device.drop(frame, 'PKT_TOO_BIG');
    device.transmit(frame);
  }

  receive(frame: Frame): void {
    const { bridge } = this;
    bridge.cpus.charge(bridge.cpus.costs.bridgeNs);
    const { netfilter } = bridge;
    if (netfilter?.isFor(frame) === true && !netfilter.preRouting(frame, this)) return;
    bridge.forward(frame, this);
  }
}

export class Bridge extends NetDevice {
  readonly fdb = new Fdb({ clock: this.cpus, numbers: this.cpus.numbers });
  #netfilter: BridgeNetfilter | undefined;
  /** By port number; a removed port leaves a hole. */
  readonly #ports: (BridgePort | undefined)[] = [];
  /** MACs of the bridge and its ports: frames for them go up. */
  readonly #localMacs = new Set<Mac>();
  #promiscuous = false;

  constructor(options: NetDeviceOptions) {
    super(options);
    this.#localMacs.add(this.mac);
  }

  get netfilter(): BridgeNetfilter | undefined {
    return this.#netfilter;
  }

  set netfilter(netfilter: BridgeNetfilter | undefined) {
    this.#netfilter = netfilter;
    this.cpus.forgetWays();
  }

  /** `ip link set BRIDGE promisc on`: what it bridges goes up, too. The IP stack drops what was not sent to the bridge's MAC. */
  get promiscuous(): boolean {
    return this.#promiscuous;
  }

  set promiscuous(promiscuous: boolean) {
    this.#promiscuous = promiscuous;
    this.cpus.forgetWays();
  }

  /** The port of that device, if it is one. */
  portOf(device: NetDevice): BridgePort | undefined {
    return this.#ports.find((port) => port?.device === device);
  }

  get ports(): BridgePort[] {
    return this.#ports.filter((port) => port !== undefined);
  }

  /** `ip link set DEVICE master BRIDGE`. */
  addPort(
    device: NetDevice,
    { hairpin = false, isolated = false }: { hairpin?: boolean; isolated?: boolean } = {},
  ): BridgePort {
    this.cpus.forgetWays();
    const port = new BridgePort(this, device, { number: this.#ports.length, hairpin, isolated });
    this.#ports.push(port);
    this.#localMacs.add(device.mac);
    device.receiver = port;
    return port;
  }

  removePort(port: BridgePort): void {
    this.cpus.forgetWays();
    this.#ports[port.number] = undefined;
    this.#localMacs.delete(port.device.mac);
    port.device.receiver = undefined;
  }

  /**
   * A frame that came in by a port (and passed PREROUTING, where br_netfilter is on). `wasForBridge`: by its MAC, before
   * br_netfilter sent it to another one (PACKET_HOST).
   */
  forward(frame: Frame, ingress: BridgePort, { wasForBridge = false }: { wasForBridge?: boolean } = {}): void {
    if (this.fdb.learn(frame.srcMacHigh, frame.srcMacLow, ingress.number)) this.cpus.forgetWays();
    const { recorder } = this.frames;
    if (recorder.isRecording) recorder.seenBy(this.fdb.seenAt(frame.srcMacHigh, frame.srcMacLow));
    if (this.isAddressedBy(frame)) return this.#passUp(frame);
    if (isGroupHigh(frame.dstMacHigh)) return this.#toGroup(frame, ingress);
    const egress = this.#lookup(frame);
    if (egress === undefined && this.#localMacs.has(frame.dstMac)) return this.#passUp(frame);
    const copy = this.#promiscuous && wasForBridge ? this.#copyOf(frame) : undefined;
    if (egress !== undefined) this.#forwardTo(egress, frame, ingress);
    else this.#flood(frame, ingress);
    if (copy !== undefined) this.#passCopyUp(copy);
  }

  /** br_pass_frame_up: after the bridged frame has left. */
  #passCopyUp(copy: Frame): void {
    this.netfilter?.promiscuousIn(copy);
    copy.dstMac = this.mac; // the kernel goes by what it was, the stack here by the MAC
    this.#passUp(copy);
  }

  /** First the ports have copies, then it goes up. */
  #toGroup(frame: Frame, ingress: BridgePort): void {
    if (this.receiver === undefined) return this.#flood(frame, ingress);
    for (const egress of this.#egresses(ingress)) this.#send(egress, this.#copyOf(frame), ingress);
    if (this.netfilter?.isFor(frame) !== true || this.netfilter.localIn(frame)) this.#passUp(frame);
  }

  /** The IP stack sends through the bridge device itself. */
  protected override carry(frame: Frame): void {
    this.cpus.charge(this.cpus.costs.bridgeNs);
    frame.closeInnerChecksum();
    const egress = this.#lookup(frame);
    if (egress === undefined) return this.#flood(frame, undefined);
    if (frame.journey !== undefined) this.#noteEgress(egress, frame);
    egress.transmit(frame);
  }

  #lookup({ dstMacHigh, dstMacLow }: Frame): BridgePort | undefined {
    const number = this.fdb.lookup(dstMacHigh, dstMacLow);
    if (number === undefined) return undefined;
    const { recorder } = this.frames;
    if (recorder.isRecording) recorder.holdsUntil(this.fdb.knownUntil(dstMacHigh, dstMacLow));
    return this.#ports[number];
  }

  #passUp(frame: Frame): void {
    this.#note(frame, `for the bridge itself (${this.name})`);
    this.deliver(frame);
  }

  #forwardTo(egress: BridgePort, frame: Frame, ingress: BridgePort): void {
    if (egress === ingress && !egress.hairpin)
      return this.#refuse(egress, frame, ', where it came from; hairpin mode is off');
    if (egress.isolated && ingress.isolated) return this.#refuse(egress, frame, '; both ports are isolated');
    if (frame.journey !== undefined) this.#noteEgress(egress, frame);
    this.#send(egress, frame, ingress);
  }

  #refuse(egress: BridgePort, frame: Frame, why: string): void {
    this.#noteEgress(egress, frame, why);
    this.drop(frame, 'BRIDGE_NO_EGRESS');
  }

  /** A copy each, and the original to the last. */
  #flood(frame: Frame, ingress: BridgePort | undefined): void {
    const egresses = this.#egresses(ingress);
    const last = egresses.pop();
    if (last === undefined) return this.drop(frame, 'BRIDGE_NO_EGRESS');
    this.#note(frame, `flooded to ${egresses.length + 1} ports`);
    for (const egress of egresses) this.#send(egress, this.#copyOf(frame), ingress);
    this.#send(last, frame, ingress);
  }

  #copyOf(frame: Frame): Frame {
    const copy = this.frames.copy(frame);
    if (copy.fragments !== undefined) copy.fragments = { ...copy.fragments, isCopied: true };
    return copy;
  }

  /** The ports that a flooded frame may leave by: the newest one first, as new_nbp() puts them. */
  #egresses(ingress: BridgePort | undefined): BridgePort[] {
    return this.ports
      .filter((port) => port.device.up && (port !== ingress || port.hairpin) && !(port.isolated && ingress?.isolated))
      .reverse();
  }

  #send(egress: BridgePort, frame: Frame, ingress: BridgePort | undefined): void {
    // Frames of the stack (no ingress) have been through POSTROUTING already.
    const { netfilter } = this;
    if (ingress !== undefined && netfilter?.isFor(frame) === true) {
      if (!netfilter.forward(frame, ingress, egress) || !netfilter.postRouting(frame, egress)) return;
    }
    egress.transmit(frame);
  }

  #noteEgress(egress: BridgePort, frame: Frame, rest = ''): void {
    this.#note(frame, `${formatMac(frame.dstMac)} is behind ${egress.device.name}${rest}`);
  }

  #note(frame: Frame, text: string): void {
    frame.journey?.add({ at: this.cpus.instant, namespace: this.namespace, stage: 'bridge', device: this.name, text });
  }
}
