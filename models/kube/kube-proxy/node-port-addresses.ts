// --nodeport-addresses: which addresses of a node serve node ports.

import type { IpFamily, Prefix } from '../../packet/ip-address.ts';

/** Without a range of the family all its addresses do, even if there are ranges of the other one. */
export function servesAllAddresses(ranges: readonly Prefix[], family: IpFamily): boolean {
  const ofFamily = ranges.filter((range) => range.family === family);
  return ofFamily.length === 0 || ofFamily.some(({ length }) => length === 0);
}
