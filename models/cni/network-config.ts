// A network configuration list, as runtimes find it in /etc/cni/net.d (CNI specification, section 1): the plugins of a
// network in the order in which they are added, each with its options.

import { CNI_ERROR, CniError, invalidConfig } from './cni-error.ts';
import { show } from './options.ts';

/** What one plugin is given on its standard input, before the runtime adds to it. */
export interface PluginConfig {
  readonly type: string;
  readonly ipam?: PluginConfig;
  readonly dns?: Dns;
  readonly args?: { readonly cni?: { readonly ips?: readonly string[] } };
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [option: string]: unknown;
}

export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

export interface NetworkConfigList {
  readonly cniVersion: string;
  readonly name: string;
  readonly disableCheck?: boolean;
  readonly plugins: readonly PluginConfig[];
}

/** Versions of the specification whose configurations are understood. */
export const CNI_VERSIONS: readonly string[] = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];

/** Reads a list, or the configuration of a single plugin. `source`: of the value, for messages. Throws a CniError. */
export function readNetworkConfigList(value: unknown, source: string): NetworkConfigList {
  if (!isMap(value))
    throw new CniError(CNI_ERROR.decoding, `${source}: expected a network configuration, got ${show(value)}`);
  const { cniVersion = '0.1.0', name, disableCheck, disableGC, plugins = [value], ...others } = value;
  if (typeof cniVersion !== 'string' || !CNI_VERSIONS.includes(cniVersion))
    throw new CniError(
      CNI_ERROR.incompatibleVersion,
      `${source}: cniVersion: expected one of ${CNI_VERSIONS.join(', ')}, got ${show(cniVersion)}`,
    );
  if (typeof name !== 'string' || !NAME.test(name))
    throw invalidConfig(
      `${source}: name: expected letters, digits, ".", "_" and "-", a letter or digit first, got ${show(name)}`,
    );
  const [unknown] = value.plugins === undefined ? [] : Object.keys(others);
  if (unknown !== undefined)
    throw new CniError(CNI_ERROR.unsupportedField, `${source}: ${unknown}: expected only known fields`);
  if (!Array.isArray(plugins) || plugins.length === 0)
    throw invalidConfig(`${source}: plugins: expected at least one plugin, got ${show(plugins)}`);
  for (const [i, plugin] of plugins.entries()) {
    if (!isMap(plugin) || typeof plugin.type !== 'string')
      throw invalidConfig(`${source}: plugins[${i}].type: expected the name of a plugin, got ${show(plugin)}`);
  }
  return { cniVersion, name, ...(disableCheck === true && { disableCheck }), plugins };
}

/** What the plugin gets of the capabilities' arguments: those that it declares; the declaration itself it does not get. */
export function withRuntimeConfig(
  { capabilities = {}, ...config }: PluginConfig,
  provided: Readonly<Record<string, unknown>>,
): PluginConfig {
  const runtimeConfig = Object.fromEntries(
    Object.entries(provided).filter(([name, value]) => capabilities[name] === true && value !== undefined),
  );
  return Object.keys(runtimeConfig).length === 0
    ? (config as PluginConfig)
    : ({ ...config, runtimeConfig } as PluginConfig);
}

const NAME = /^[a-zA-Z0-9][\w.-]*$/;

const isMap = (value: unknown): value is Record<string, unknown> => value instanceof Object && !Array.isArray(value);
