// The file that flannel's daemon leaves for its plugin on every node, `/run/flannel/subnet.env`.

import { addressAt, formatIp, formatPrefix, type IpFamily, type Prefix, parseAnyPrefix } from '../packet/ip-address.ts';
import { failure } from './cni-error.ts';

export const SUBNET_ENV_PATH = '/run/flannel/subnet.env';

export interface SubnetEnv {
  /** Of each IP family: the cluster's pod range and the node's part of it. */
  readonly networks: readonly { readonly network: Prefix; readonly subnet: Prefix }[];
  readonly mtuBytes: number;
  /** The daemon masquerades what leaves the network, so that the plugin need not. */
  readonly ipMasq: boolean;
}

const PREFIX: Readonly<Record<IpFamily, string>> = { 4: 'FLANNEL', 6: 'FLANNEL_IPV6' };

/** The subnet is shown by its first usable address. */
export function printSubnetEnv({ networks, mtuBytes, ipMasq }: SubnetEnv): string {
  const lines = networks.flatMap(({ network, subnet }) => {
    const { family, length } = subnet;
    return [
      `${PREFIX[family]}_NETWORK=${formatPrefix(network)}`,
      `${PREFIX[family]}_SUBNET=${formatIp(addressAt(subnet, 1), family)}/${length}`,
    ];
  });
  return [...lines, `FLANNEL_MTU=${mtuBytes}`, `FLANNEL_IPMASQ=${ipMasq}`].map((line) => `${line}\n`).join('');
}

/** Throws a CniError for a file without the node's subnet, as it is before the daemon has one. */
export function readSubnetEnv(text: string | undefined, path: string): SubnetEnv {
  if (text === undefined) throw failure(`plugin flannel: no file ${path}: flannel's daemon has not written it`);
  const values = new Map(text.split('\n').map((line) => line.split('=') as [string, string]));
  const networks = ([4, 6] as const).flatMap((family) => {
    const [network, subnet] = [values.get(`${PREFIX[family]}_NETWORK`), values.get(`${PREFIX[family]}_SUBNET`)];
    return network && subnet ? [{ network: parseAnyPrefix(network), subnet: parseAnyPrefix(subnet) }] : [];
  });
  const mtuBytes = Number(values.get('FLANNEL_MTU'));
  if (networks.length === 0 || !Number.isInteger(mtuBytes))
    throw failure(`plugin flannel: ${path}: expected FLANNEL_NETWORK, FLANNEL_SUBNET and FLANNEL_MTU`);
  return { networks, mtuBytes, ipMasq: values.get('FLANNEL_IPMASQ') === 'true' };
}
