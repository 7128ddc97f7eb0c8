// What tunnels of IP have in common (net/ipv4/ip_tunnel_core.c, include/net/inet_ecn.h).

import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, type Frame } from '../packet/frame.ts';
import type { NetDevice } from './net-device.ts';

/**
 * Within one another. dev_xmit_recursion counts each twice, as a device that sends and in iptunnel_xmit, which refuses
 * where more than IP_TUNNEL_RECURSION_LIMIT, 5, are on the way (Linux 6.18.44). A bridge above a tunnel counts, too;
 * that is not modelled.
 */
export const MOST_TUNNELS = 3;

// The ECN bits of a type of service (RFC 3168).
const ECN_MASK = 3;
const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;

/** INET_ECN_encapsulate (RFC 3168): the tunnel is told of ECN, but not that congestion has been experienced. */
export function outerCongestionBits({ etherType, typeOfService }: Frame): number {
  if (etherType !== ETHERTYPE_IPV4 && etherType !== ETHERTYPE_IPV6) return NOT_ECT;
  const bits = typeOfService & ECN_MASK;
  return bits === CE ? ECT_0 : bits;
}

/**
 * INET_ECN_decapsulate (RFC 6040): what the packet inside says from now on; undefined: congestion was experienced in the
 * tunnel, and the packet has no way to say so, so that it is lost.
 */
export function innerTypeOfService(inner: number, outer: number): number | undefined {
  const [innerBits, outerBits] = [inner & ECN_MASK, outer & ECN_MASK];
  if (innerBits === NOT_ECT) return outerBits === CE ? undefined : inner;
  if (outerBits === CE) return inner | CE;
  return outerBits === ECT_1 && innerBits === ECT_0 ? (inner & ~ECN_MASK) | ECT_1 : inner;
}

/**
 * What comes out of a tunnel waits for a poll (gro_cells_receive), which hands all of it over as a list: PREROUTING sees each
 * frame before the first one goes on, so that two of a new connection are both NEW. One that comes alone does not wait.
 *
 * Not modelled: what GRO does in there, segments made one and taken apart again.
 */
export class ReceiveCell {
  readonly #device: NetDevice;
  readonly #arrived: Frame[] = [];

  constructor(device: NetDevice) {
    this.#device = device;
  }

  receive(frame: Frame): void {
    const { cpus } = this.#device;
    if (!cpus.isBatching) return this.#device.deliverInTurn(frame);
    if (this.#arrived.push(frame) === 1) cpus.pollLater(() => this.#poll());
  }

  #poll(): void {
    const frames = this.#arrived.splice(0);
    this.#device.cpus.together(() => {
      for (const frame of frames) this.#device.deliver(frame);
    });
  }
}
