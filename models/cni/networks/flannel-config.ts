// flannel's own configuration, `net-conf.json`: the network, how it is cut for nodes, and the backend
// (pkg/subnet/config.go of flannel). In clusters of Kubernetes the cuts come from the nodes' podCIDR instead.

import {
  addressAt,
  addressBits,
  addressCount,
  contains,
  formatIp,
  type Ip,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
  prefix,
} from '../../packet/ip-address.ts';
import { invalidConfig } from '../cni-error.ts';

export interface NetConf {
  readonly Network?: string;
  readonly SubnetLen?: number;
  readonly SubnetMin?: string;
  readonly SubnetMax?: string;
  readonly EnableIPv4?: boolean;
  readonly EnableIPv6?: boolean;
  readonly IPv6Network?: string;
  readonly IPv6SubnetLen?: number;
  readonly IPv6SubnetMin?: string;
  readonly IPv6SubnetMax?: string;
  readonly Backend?: FlannelBackend;
}

export interface FlannelBackend {
  readonly Type?: 'vxlan' | 'host-gw' | 'udp';
  /** VXLAN network identifier. */
  readonly VNI?: number;
  /** 0: the kernel's. */
  readonly Port?: number;
  readonly Learning?: boolean;
  readonly GBP?: boolean;
  readonly DirectRouting?: boolean;
}

export const VXLAN_BACKEND = { VNI: 1, Port: 0, Learning: false, GBP: false, DirectRouting: false } as const;

/** For so long a node's subnet is its own without renewal (subnetTTL). Nodes here renew theirs as long as they are there. */
export const SUBNET_LEASE_HOURS = 24;

/** How a network is cut. */
export interface SubnetPlan {
  readonly network: Prefix;
  readonly subnetLength: number;
  readonly first: Ip;
  readonly last: Ip;
}

/** Of each family that the configuration has. Throws a CniError that says what is wrong. */
export function subnetPlans(conf: NetConf): readonly SubnetPlan[] {
  const plans: SubnetPlan[] = [];
  if (conf.EnableIPv4 !== false)
    plans.push(subnetPlan(conf.Network ?? '', { length: conf.SubnetLen, first: conf.SubnetMin, last: conf.SubnetMax }));
  if (conf.EnableIPv6 === true) {
    const { IPv6SubnetLen: length, IPv6SubnetMin: first, IPv6SubnetMax: last } = conf;
    plans.push(subnetPlan(conf.IPv6Network ?? '', { length, first, last }));
  }
  return plans;
}

interface SubnetWishes {
  readonly length: number | undefined;
  readonly first: string | undefined;
  readonly last: string | undefined;
}

/** The usual length of a node's subnet, and the longest prefix of a network that has room for several of them. */
const USUAL_LENGTH: Readonly<Record<IpFamily, number>> = { 4: 24, 6: 64 };

function subnetPlan(text: string, wishes: SubnetWishes): SubnetPlan {
  const network = parse(() => parseAnyPrefix(text));
  const { family, length } = network;
  const bits = addressBits(family);
  if (length > bits - 4)
    throw invalidConfig(`flannel: network ${text} is too small; expected a prefix length of at most ${bits - 4}`);
  const usual = USUAL_LENGTH[family];
  const subnetLength = wishes.length ?? (length <= usual - 2 ? usual : length + 2);
  if (subnetLength > bits - 2 || subnetLength < length + 2)
    throw invalidConfig(`flannel: SubnetLen ${subnetLength}: expected ${length + 2} to ${bits - 2}`);
  const subnets = 2 ** (subnetLength - length);
  const at = (wish: string | undefined, name: string, byDefault: number): Ip =>
    wish === undefined ? subnetAt(network, subnetLength, byDefault) : boundary(wish, name, network, subnetLength);
  // The first subnet is not used: its address is the network's.
  return {
    network,
    subnetLength,
    first: at(wishes.first, 'SubnetMin', 1),
    last: at(wishes.last, 'SubnetMax', subnets - 1),
  };
}

function boundary(text: string, name: string, network: Prefix, subnetLength: number): Ip {
  const { family, ip } = parse(() => parseAddress(text));
  if (family !== network.family || !contains(network, ip))
    throw invalidConfig(`flannel: ${name} ${text}: outside the network`);
  if (prefix(ip, subnetLength, family).net !== ip)
    throw invalidConfig(`flannel: ${name} ${text}: not on a subnet boundary; expected one of /${subnetLength}`);
  return ip;
}

function subnetAt(network: Prefix, subnetLength: number, index: number): Ip {
  const size = addressCount({ ...network, length: subnetLength });
  return addressAt(network, index * size);
}

function parse<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof RangeError ? invalidConfig(`flannel: ${error.message}`) : error;
  }
}

/** `10.244.1.0` */
export const formatSubnet = ({ network }: SubnetPlan, ip: Ip): string => formatIp(ip, network.family);
