// A virtual server and the real servers behind it, as `ipvsadm -A` and `-a` make them.

import type { Ip, IpFamily } from '../../packet/ip-address.ts';
import { hashIpv6 } from '../../packet/ipv6-address.ts';
import type { Scheduler } from './schedulers/scheduler.ts';

/** What makes a virtual server another one. */
export interface VirtualAddress {
  readonly family: IpFamily;
  /** IP protocol number: TCP, UDP or SCTP. */
  readonly protocol: number;
  readonly ip: Ip;
  readonly port: number;
}

export interface VirtualServerSettings {
  readonly scheduler: SchedulerName;
  /** `-p`: a client keeps its real server for so long after its last new connection. Absent: no persistence. */
  readonly persistenceSeconds?: number;
  /** `-b mh-port`, `-b sh-port`: source hashing looks at the client's port, too. */
  readonly hashesPort?: boolean;
}

export const SCHEDULER_NAMES = ['rr', 'wrr', 'lc', 'wlc', 'sh', 'dh', 'mh', 'sed', 'nq'] as const;
export type SchedulerName = (typeof SCHEDULER_NAMES)[number];

export class VirtualServer implements VirtualAddress {
  readonly family: IpFamily;
  readonly protocol: number;
  readonly ip: Ip;
  readonly port: number;
  settings: VirtualServerSettings;
  scheduler: Scheduler;
  /** The latest first: `ip_vs_add_dest` puts a server at the head of the list. */
  readonly servers: RealServer[] = [];

  constructor({ family, protocol, ip, port }: VirtualAddress, settings: VirtualServerSettings, scheduler: Scheduler) {
    this.family = family;
    this.protocol = protocol;
    this.ip = ip;
    this.port = port;
    this.settings = settings;
    this.scheduler = scheduler;
  }

  find(ip: Ip, port: number): RealServer | undefined {
    return this.servers.find((server) => server.ip === ip && server.port === port);
  }
}

export class RealServer {
  readonly ip: Ip;
  readonly port: number;
  /** Its address as schedulers hash it. */
  readonly foldedIp: number;
  /** 0: no new connections, unless a client is bound to it by persistence. */
  weight: number;
  /** False once it has been deleted; connections may still refer to it. */
  isAvailable = true;
  activeConnections = 0;
  inactiveConnections = 0;
  /** Clients that are bound to it (templates of persistence). */
  persistentConnections = 0;

  constructor({ ip, port, weight, family = 4 }: { ip: Ip; port: number; weight: number; family?: IpFamily }) {
    this.ip = ip;
    this.port = port;
    this.foldedIp = foldIp(ip, family);
    this.weight = weight;
  }

  get connections(): number {
    return this.activeConnections + this.inactiveConnections;
  }
}

/** An address in 32 bits: that of IPv6 word by word, exclusive or (addr_fold in ip_vs_sh.c, ip_vs_dh.c and ip_vs_mh.c). */
export const foldIp = (ip: Ip, family: IpFamily): number => (family === 6 ? hashIpv6(ip) : ip);
