// A load balancer that passes packets on as they are (ipMode VIP): to the MAC of a node, with the addresses that the client
// has sent them with. The node answers the client directly. Everything else that comes in by the device is for the
// machine itself.
//
// The next hop must be on the device's link. Real ones tunnel or rewrite below IP, which no packet shows at either end.
// Not modelled: ICMP errors about packets of a flow, and fragments, which have no ports (both are left to the machine).

import type { NetDevice } from '../link/net-device.ts';
import { steeringHash } from '../packet/flow-hash.ts';
import { type Frame, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { formatIp, type IpAddress, type IpFamily } from '../packet/ip-address.ts';
import { hashOf } from '../transport/socket-table.ts';
import type { BackendPool } from './backend-pool.ts';
import { stackOf } from './ip-setup.ts';
import type { NetworkNamespace } from './network-namespace.ts';

export type BalancedProtocol = 'TCP' | 'UDP' | 'SCTP';

/** An address and port that clients ask. */
export interface Frontend extends IpAddress {
  readonly protocol: BalancedProtocol;
  readonly port: number;
}

const NUMBERS = { TCP: PROTOCOL_TCP, UDP: PROTOCOL_UDP, SCTP: PROTOCOL_SCTP } as const;

export class PacketBalancer {
  readonly #namespace: NetworkNamespace;
  readonly #pools = new Map<string, BackendPool>();

  /** Stands between the device and the namespace's IP stack from now on. */
  constructor(namespace: NetworkNamespace, device: NetDevice) {
    this.#namespace = namespace;
    const { stack } = namespace;
    device.receiver = {
      receive: (frame, from) => {
        const pool = device.isAddressedBy(frame) ? this.#poolOf(frame) : undefined;
        if (pool === undefined) stack.receive(frame, from);
        else this.#pass(frame, device, pool);
      },
    };
  }

  add(frontend: Frontend, pool: BackendPool): void {
    this.#pools.set(keyOf(frontend.family, frontend.ip, NUMBERS[frontend.protocol], frontend.port), pool);
  }

  remove({ family, ip, protocol, port }: Frontend): void {
    this.#pools.delete(keyOf(family, ip, NUMBERS[protocol], port));
  }

  #poolOf({ family, dstIp, protocol, dstPort, isFragment }: Frame): BackendPool | undefined {
    return isFragment ? undefined : this.#pools.get(keyOf(family, dstIp, protocol, dstPort));
  }

  #pass(frame: Frame, device: NetDevice, pool: BackendPool): void {
    const { stack, cpus, name } = this.#namespace;
    const { family, srcIp: ip, srcPort: port, dstIp } = frame;
    cpus.charge(cpus.costs.forwardNs);
    if (frame.ttl <= 1) return stack.drop(frame, 'IP_TTL');
    const hash = pool.affinity === 'None' ? steeringHash(frame) : hashOf(family, dstIp, 0, ip, 0);
    const backend = pool.choose({ ip, port }, hash, cpus.instant);
    if (backend === undefined) return stack.drop(frame, 'NO_BACKEND');
    frame.ttl--;
    frame.receivedOn = device;
    if (frame.journey !== undefined) {
      const text = `${formatIp(frame.dstIp, family)}: ${backend.name}, one of ${pool.healthy.length} healthy nodes`;
      frame.journey.add({ at: cpus.instant, namespace: name, stage: 'route', device: device.name, text });
    }
    stackOf(this.#namespace, family).neighbors.output(frame, device, backend.ip);
  }
}

const keyOf = (family: IpFamily, ip: number, protocol: number, port: number): string =>
  `${family} ${ip} ${protocol} ${port}`;
