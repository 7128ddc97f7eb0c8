// ARP of one network namespace (RFC 826): asks who has an address, answers for its own, and keeps what it hears in the
// neighbor table.
//
// Not modelled: proxy ARP, gratuitous ARP locks.

import type { RandomStream } from '../../engine/random.ts';
import type { NetDevice } from '../link/net-device.ts';
import { ARP_REPLY, ARP_REQUEST, ETHERTYPE_ARP, type Frame } from '../packet/frame.ts';
import { ANY_IP, formatIp, type Ip } from '../packet/ip-address.ts';
import { BROADCAST_MAC, type Mac, ZERO_MAC } from '../packet/mac.ts';
import { type AddressResolution, type NeighborStack, NeighborTable } from './neighbor-table.ts';

/** What ARP needs of the IP stack it belongs to. */
export interface ArpStack extends NeighborStack {
  /** Source address for an ARP request that leaves by `device`. */
  addressOn(device: NetDevice, towards: Ip): Ip;
  isLocal(ip: Ip): boolean;
}

export class Arp implements AddressResolution {
  readonly family = 4;
  readonly neighbors: NeighborTable;
  readonly #stack: ArpStack;

  constructor(stack: ArpStack, random: RandomStream) {
    this.#stack = stack;
    this.neighbors = new NeighborTable(stack, this, random);
  }

  /** Takes an ARP packet that came in by `device`; the frame ends here. */
  receive(frame: Frame, device: NetDevice): void {
    const { srcIp: ip, srcMac: mac, dstIp, arpOperation, dstMac } = frame;
    if (arpOperation === ARP_REQUEST && this.#stack.isLocal(dstIp)) {
      if (ip !== ANY_IP) this.neighbors.learn(device, { ip, mac, state: 'STALE', create: true });
      this.#reply(device, { ip: dstIp, toIp: ip, toMac: mac });
    } else {
      const state = arpOperation === ARP_REPLY && dstMac === device.mac ? 'REACHABLE' : 'STALE';
      this.neighbors.learn(device, { ip, mac, state, create: false });
    }
    this.#stack.frames.deliver(frame);
  }

  solicit(device: NetDevice, ip: Ip, mac: Mac | undefined): void {
    const request = this.#packet(device, { operation: ARP_REQUEST, targetIp: ip, targetMac: ZERO_MAC });
    request.srcIp = this.#stack.addressOn(device, ip);
    request.dstMac = mac ?? BROADCAST_MAC;
    device.transmit(request);
  }

  #reply(device: NetDevice, { ip, toIp, toMac }: { ip: Ip; toIp: Ip; toMac: Mac }): void {
    const reply = this.#packet(device, { operation: ARP_REPLY, targetIp: toIp, targetMac: toMac });
    reply.srcIp = ip;
    reply.dstMac = toMac;
    device.transmit(reply);
  }

  #packet(
    device: NetDevice,
    { operation, targetIp, targetMac }: { operation: number; targetIp: Ip; targetMac: Mac },
  ): Frame {
    const frame = this.#stack.frames.allocate();
    frame.etherType = ETHERTYPE_ARP;
    frame.arpOperation = operation;
    frame.arpTargetMac = targetMac;
    frame.srcMac = device.mac;
    frame.dstIp = targetIp;
    frame.updateSize();
    if (frame.journey !== undefined)
      frame.journey.title = `arp ${operation === ARP_REQUEST ? 'who-has' : 'reply to'} ${formatIp(targetIp)}`;
    return frame;
  }
}
