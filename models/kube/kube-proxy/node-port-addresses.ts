// --nodeport-addresses: which addresses of a node serve node ports.

import { contains, type Ip, type IpFamily, type Prefix } from '../../packet/ip-address.ts';

/** Ranges, of both families; or `primary`, the first address of the node. */
export type NodePortAddresses = readonly Prefix[] | 'primary';

export interface NodePortAddressSettings {
  readonly family: IpFamily;
  readonly nodePortAddresses: NodePortAddresses;
}

/** Without a range of the family all its addresses do, even if there are ranges of the other one. */
export function servesAllAddresses({ nodePortAddresses, family }: NodePortAddressSettings): boolean {
  if (nodePortAddresses === 'primary') return false;
  const ofFamily = nodePortAddresses.filter((range) => range.family === family);
  return ofFamily.length === 0 || ofFamily.some(({ length }) => length === 0);
}

/** Of a node's addresses, those that serve where not all do. */
export function servedOf(ips: readonly Ip[], { nodePortAddresses, family }: NodePortAddressSettings): readonly Ip[] {
  if (nodePortAddresses === 'primary') return ips.slice(0, 1);
  return ips.filter((ip) => nodePortAddresses.some((range) => range.family === family && contains(range, ip)));
}
