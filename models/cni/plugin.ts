// The contract of the Container Network Interface (CNI specification 1.1) for plugins that run in the simulator: what a
// real one gets by environment variables and standard input comes as one value, and what it would do by netlink and
// iptables it does to the node's network namespaces.
//
// A plugin is one value in one file: its type, its options, and what it does on ADD, DEL and CHECK. It keeps nothing
// itself: the kernel has what it made, and what it would write to disk goes to the host's store.

import type { NetworkNamespace } from '../host/network-namespace.ts';
import type { CniHost } from './cni-host.ts';
import type { PluginConfig } from './network-config.ts';
import type { Options } from './options.ts';
import type { CniResult } from './result.ts';

/** What a plugin of a chain is called with. */
export interface CniCall<O = unknown> {
  /** CNI_CONTAINERID */
  readonly containerId: string;
  /** CNI_IFNAME: the interface inside, `eth0` in Kubernetes. */
  readonly ifName: string;
  /** CNI_NETNS; undefined where it is gone, which only DEL can cope with. */
  readonly namespace: NetworkNamespace | undefined;
  /** The network's name. */
  readonly network: string;
  readonly cniVersion: string;
  /** Standard input: the plugin's part of the configuration, with the arguments of its capabilities in `runtimeConfig`. */
  readonly config: PluginConfig;
  /** The plugin's own options, checked and complete. */
  readonly options: O;
  /** Of the plugins before; on DEL and CHECK of the whole chain. */
  readonly prevResult: CniResult | undefined;
  readonly host: CniHost;
  /** Runs the IPAM plugin that the configuration names; undefined if it names none. */
  readonly ipam: Delegate | undefined;
  /** Runs another plugin with a configuration of this one's making. */
  readonly delegate: (config: PluginConfig) => Delegate;
}

/** A plugin that is run by another one, with the same container and interface. */
export interface Delegate {
  add(): CniResult;
  del(): void;
  check(): void;
}

export interface CniPlugin<O = unknown> {
  readonly type: string;
  readonly options: Options<O>;
  add(call: CniCall<O>): CniResult;
  /** Idempotent: deleting what is not there is fine. */
  del(call: CniCall<O>): void;
  /** Throws a CniError that says what is missing. */
  check(call: CniCall<O>): void;
  /** Frees what belongs to none of these attachments (`containerId/ifName`). */
  gc?(call: GcCall<O>): void;
  /** Throws a CniError if ADD would fail now. */
  status?(call: Pick<GcCall<O>, 'config' | 'options' | 'host'>): void;
}

export interface GcCall<O = unknown> extends Pick<CniCall<O>, 'network' | 'config' | 'options' | 'host'> {
  readonly validAttachments: readonly Attachment[];
}

export interface Attachment {
  readonly containerId: string;
  readonly ifName: string;
}

/** A plugin for a registry, with its options forgotten: `export default cniPlugin({ type: 'mine', … })`. */
export const cniPlugin = <O>(plugin: CniPlugin<O>): CniPlugin => plugin as unknown as CniPlugin;
