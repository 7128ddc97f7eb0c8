// A veth pair: what goes into one end comes out of the other, in another network namespace, within the same visit.

import { ETHERNET_HEADER_BYTES, type Frame } from '../packet/frame.ts';
import { NetDevice, type NetDeviceOptions } from './net-device.ts';
import { TokenBucket, type TokenBucketSettings } from './token-bucket.ts';

export class VethDevice extends NetDevice<VethDevice> {
  #bucket: TokenBucket | undefined;

  /** The other end. Both ends exist before either is used. */
  get peer(): VethDevice | undefined {
    return this.link;
  }

  /** Ties two ends together, each with none before. */
  connect(peer: VethDevice): void {
    this.link = peer;
    peer.link = this;
  }

  /** `tc qdisc replace dev DEVICE root tbf …`, or undefined without. What waits in one that goes, goes on in its time. */
  get bucket(): TokenBucketSettings | undefined {
    return this.#bucket?.settings;
  }

  set bucket(settings: TokenBucketSettings | undefined) {
    this.cpus.forgetWays();
    const { name, namespace, cpus, frames } = this;
    const forward = (frame: Frame): void => this.#cross(frame);
    this.#bucket =
      settings && new TokenBucket(settings, { name: `${namespace}/${name}`, namespace, cpus, frames, forward });
  }

  protected override carry(frame: Frame): void {
    if (this.#bucket !== undefined) return this.#bucket.take(frame);
    this.#cross(frame);
  }

  #cross(frame: Frame): void {
    const { peer } = this;
    if (peer === undefined || !peer.up) return this.drop(frame, 'DEV_READY');
    if (frame.sizeBytes > peer.mtuBytes + ETHERNET_HEADER_BYTES) return this.drop(frame, 'PKT_TOO_BIG'); // is_skb_forwardable
    this.cpus.charge(this.cpus.costs.vethNs);
    frame.clearMetadata(); // skb_scrub_packet: mark and conntrack do not cross namespaces
    peer.deliverInTurn(frame);
  }
}

export interface VethPair {
  readonly inside: VethDevice;
  readonly outside: VethDevice;
}

/** `inside` is the end in the pod's namespace, `outside` the one in the node's. Both ends belong to one machine. */
export function createVethPair(options: { inside: NetDeviceOptions; outside: NetDeviceOptions }): VethPair {
  const inside = new VethDevice(options.inside);
  const outside = new VethDevice(options.outside);
  inside.connect(outside);
  return { inside, outside };
}
