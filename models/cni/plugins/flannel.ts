// The plugin `flannel`: makes a configuration of another plugin (`bridge`, if it does not say otherwise) from what
// flannel's daemon has written for this node, and runs that one (flannel-io/cni-plugin).

import { formatPrefix } from '../../packet/ip-address.ts';
import { invalidConfig } from '../cni-error.ts';
import type { CniHost } from '../cni-host.ts';
import type { PluginConfig } from '../network-config.ts';
import { map, text } from '../options.ts';
import { cniPlugin } from '../plugin.ts';
import { readSubnetEnv, SUBNET_ENV_PATH, type SubnetEnv } from '../subnet-env.ts';

export interface FlannelOptions {
  readonly subnetFile: string;
  readonly dataDir: string;
  readonly delegate: Readonly<Record<string, unknown>>;
}

export const flannel = cniPlugin<FlannelOptions>({
  type: 'flannel',
  options: {
    subnetFile: text(SUBNET_ENV_PATH),
    dataDir: text('/var/lib/cni/flannel'),
    delegate: map({}),
  },

  add(call) {
    const { host, options, network, containerId } = call;
    const env = readSubnetEnv(host.files.get(options.subnetFile), options.subnetFile);
    // The same for all containers, so that it is read once.
    const { config } = host.store(`${options.dataDir}/${network}`, () => ({
      config: delegateOf(options, { network, env }),
    }));
    host.files.set(scratchPath(options, containerId), JSON.stringify(config));
    return call.delegate(config).add();
  },

  /** Whatever the file of ADD says; without it there is nothing to undo. */
  del(call) {
    const path = scratchPath(call.options, call.containerId);
    const config = scratchOf(call.host, path);
    if (config === undefined) return;
    call.delegate(config).del();
    call.host.files.delete(path);
  },

  check(call) {
    const config = scratchOf(call.host, scratchPath(call.options, call.containerId));
    if (config === undefined) throw invalidConfig(`plugin flannel: container ${call.containerId} was not added`);
    call.delegate(config).check();
  },
});

/** Of a container: what it was connected with. */
const scratchPath = ({ dataDir }: FlannelOptions, containerId: string): string => `${dataDir}/${containerId}`;

function scratchOf({ files }: CniHost, path: string): PluginConfig | undefined {
  const written = files.get(path);
  return written === undefined ? undefined : (JSON.parse(written) as PluginConfig);
}

/** The configuration of the plugin that does the work. Throws a CniError for a delegate that names what is flannel's to say. */
export function delegateOf(
  { delegate }: Pick<FlannelOptions, 'delegate'>,
  { network, env: { networks, mtuBytes, ipMasq } }: { network: string; env: SubnetEnv },
): PluginConfig {
  for (const field of ['name', 'ipam'])
    if (field in delegate) throw invalidConfig(`plugin flannel: delegate: ${field} not allowed; flannel sets it`);
  const { type = 'bridge' } = delegate;
  if (typeof type !== 'string') throw invalidConfig('plugin flannel: delegate: type: expected the name of a plugin');
  return {
    name: network,
    type,
    ipMasq: !ipMasq,
    mtu: mtuBytes,
    ...(type === 'bridge' && { isGateway: true }),
    ...delegate,
    ipam: {
      type: 'host-local',
      ranges: networks.map(({ subnet }) => [{ subnet: formatPrefix(subnet) }]),
      routes: networks.map((own) => ({ dst: formatPrefix(own.network) })),
    },
  };
}
