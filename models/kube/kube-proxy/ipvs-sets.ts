// The ipsets of kube-proxy in IPVS mode: what its few iptables rules know of Services. All of them exist, also the empty
// ones. Names, types and comments are those of kube-proxy 1.30 (pkg/proxy/ipvs/ipset.go).

import { START } from '../../../engine/time.ts';
import { NO_NETWORK } from '../../netfilter/ipset/element-store.ts';
import { type IpSet, type NewElement, NO_NET, portPart } from '../../netfilter/ipset/ip-set.ts';
import type { IpSets } from '../../netfilter/ipset/ip-sets.ts';
import type { SetType } from '../../netfilter/ipset/set-type.ts';
import { PROTOCOL_NUMBERS } from '../../netfilter/protocol.ts';
import type { Ip, IpFamily, Prefix } from '../../packet/ip-address.ts';
import type { ServiceProtocol } from './service-ports.ts';

const SETS = {
  'KUBE-LOOP-BACK': ['hash:ip,port,ip', 'Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose'],
  'KUBE-CLUSTER-IP': ['hash:ip,port', 'Kubernetes service cluster ip + port for masquerade purpose'],
  'KUBE-EXTERNAL-IP': ['hash:ip,port', 'Kubernetes service external ip + port for masquerade and filter purpose'],
  'KUBE-EXTERNAL-IP-LOCAL': ['hash:ip,port', 'Kubernetes service external ip + port with externalTrafficPolicy=local'],
  'KUBE-LOAD-BALANCER': ['hash:ip,port', 'Kubernetes service lb portal'],
  'KUBE-LOAD-BALANCER-FW': [
    'hash:ip,port',
    'Kubernetes service load balancer ip + port for load balancer with sourceRange',
  ],
  'KUBE-LOAD-BALANCER-LOCAL': [
    'hash:ip,port',
    'Kubernetes service load balancer ip + port with externalTrafficPolicy=local',
  ],
  'KUBE-LOAD-BALANCER-SOURCE-IP': [
    'hash:ip,port,ip',
    'Kubernetes service load balancer ip + port + source IP for packet filter purpose',
  ],
  'KUBE-LOAD-BALANCER-SOURCE-CIDR': [
    'hash:ip,port,net',
    'Kubernetes service load balancer ip + port + source cidr for packet filter purpose',
  ],
  'KUBE-NODE-PORT-TCP': ['bitmap:port', 'Kubernetes nodeport TCP port for masquerade purpose'],
  'KUBE-NODE-PORT-LOCAL-TCP': ['bitmap:port', 'Kubernetes nodeport TCP port with externalTrafficPolicy=local'],
  'KUBE-NODE-PORT-UDP': ['bitmap:port', 'Kubernetes nodeport UDP port for masquerade purpose'],
  'KUBE-NODE-PORT-LOCAL-UDP': ['bitmap:port', 'Kubernetes nodeport UDP port with externalTrafficPolicy=local'],
  'KUBE-NODE-PORT-SCTP-HASH': [
    'hash:ip,port',
    "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  ],
  'KUBE-NODE-PORT-LOCAL-SCTP-HASH': [
    'hash:ip,port',
    "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
  ],
  'KUBE-HEALTH-CHECK-NODE-PORT': ['bitmap:port', 'Kubernetes health check node port'],
  'KUBE-IPVS-IPS': ['hash:ip', ''],
} as const satisfies Record<string, readonly [type: SetType, comment: string]>;

export type IpvsSetName = keyof typeof SETS;

export const IPVS_SET_NAMES = Object.keys(SETS) as readonly IpvsSetName[];

/** As ipset knows it: sets of IPv6 stand beside those of IPv4, and a name has 31 characters at most (NewIPSet). */
export const nameOfSet = (set: IpvsSetName, family: IpFamily): string =>
  family === 6 ? set.replace('KUBE-', 'KUBE-6-').slice(0, 31) : set;

/** What the rules that ask the set say of it. */
export const commentOf = (set: IpvsSetName): string => SETS[set][1];

/** What a service port puts into a set. */
export interface SetEntry {
  readonly set: IpvsSetName;
  readonly element: NewElement;
}

const entry = (set: IpvsSetName, parts: readonly number[]): SetEntry => ({
  set,
  element: { parts, net: NO_NET, length: NO_NETWORK },
});

export interface PortAt {
  readonly ip: Ip;
  readonly port: number;
  readonly protocol: ServiceProtocol;
}

const protocolPart = ({ protocol, port }: PortAt): number => portPart(PROTOCOL_NUMBERS[protocol], port);

/** Of sets with an address and a port, and of those with another address, or with a range of addresses. */
export const ipPort = (set: IpvsSetName, at: PortAt): SetEntry => entry(set, [at.ip, protocolPart(at)]);
export const ipPortIp = (set: IpvsSetName, at: PortAt, ip: Ip): SetEntry => entry(set, [at.ip, protocolPart(at), ip]);
export const ipPortNet = (set: IpvsSetName, at: PortAt, { net, length }: Prefix): SetEntry => ({
  set,
  element: { parts: [at.ip, protocolPart(at)], net, length },
});
/** Of sets of ports, and of sets of addresses. */
export const single = (set: IpvsSetName, part: number): SetEntry => entry(set, [part]);

/** The sets of one node and IP family, with how many service ports want each element. */
export class IpvsSets {
  readonly #family: IpFamily;
  readonly #counts = new Map<string, number>();
  readonly #sizes = new Map<IpvsSetName, number>();

  constructor(family: IpFamily) {
    this.#family = family;
  }

  /** `ipset create -exist` for each; what an earlier kube-proxy has left in them goes (syncIPSetEntries). */
  ensure(sets: IpSets): void {
    const hash = this.#family === 6 ? { family: this.#family } : {};
    for (const set of IPVS_SET_NAMES) {
      const [type] = SETS[set];
      const name = nameOfSet(set, this.#family);
      const known = sets.find(name);
      if (known !== undefined) known.flush();
      else sets.create(name, type, type === 'bitmap:port' ? { range: { first: 0, last: 65_535 } } : hash);
    }
  }

  isEmpty(set: IpvsSetName): boolean {
    return (this.#sizes.get(set) ?? 0) === 0;
  }

  add(sets: IpSets, { set, element }: SetEntry): void {
    const key = keyOf(set, element);
    const count = this.#counts.get(key) ?? 0;
    this.#counts.set(key, count + 1);
    if (count > 0) return;
    this.#sizes.set(set, (this.#sizes.get(set) ?? 0) + 1);
    this.#named(sets, set).add(element, { exist: true, now: START });
  }

  remove(sets: IpSets, { set, element }: SetEntry): void {
    const key = keyOf(set, element);
    const count = this.#counts.get(key)!;
    if (count > 1) {
      this.#counts.set(key, count - 1);
      return;
    }
    this.#counts.delete(key);
    this.#sizes.set(set, this.#sizes.get(set)! - 1);
    this.#named(sets, set).delete(element, START);
  }

  #named(sets: IpSets, set: IpvsSetName): IpSet {
    return sets.named(nameOfSet(set, this.#family));
  }
}

const keyOf = (set: IpvsSetName, { parts, net, length }: NewElement): string =>
  `${set} ${parts.join()} ${net}/${length}`;
