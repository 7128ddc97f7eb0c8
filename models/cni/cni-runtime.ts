// What libcni does for a kubelet on one node: runs the plugins of a network's list for a container, each with the result of
// the one before it; keeps the last result for DEL, which runs them backwards, and for CHECK
// (CNI specification, sections 3 and 4).

import { appended } from '../../engine/appended.ts';
import type { NetworkNamespace } from '../host/network-namespace.ts';
import { formatIp, type IpAddress } from '../packet/ip-address.ts';
import { CNI_ERROR, CniError, failure } from './cni-error.ts';
import type { CniHost } from './cni-host.ts';
import { type NetworkConfigList, type PluginConfig, withRuntimeConfig } from './network-config.ts';
import { readOptions } from './options.ts';
import { type CniCommand, checkParameters } from './parameters.ts';
import type { Attachment, CniCall, CniPlugin, Delegate } from './plugin.ts';
import { findPlugin } from './plugins/registry.ts';
import { type CniResult, sandboxPath } from './result.ts';

export interface AttachmentCall extends Attachment {
  readonly namespace: NetworkNamespace | undefined;
  /** Arguments of capabilities, by name: `portMappings`, `bandwidth`. Plugins get those that they declare. */
  readonly capabilities?: Readonly<Record<string, unknown>>;
  /** Addresses that the container must have, one of each family at most (`args.cni.ips`). */
  readonly requestedIps?: readonly IpAddress[];
}

interface Known {
  readonly ifName: string;
  readonly result: CniResult;
  readonly capabilities: Readonly<Record<string, unknown>>;
}

interface Step {
  readonly plugin: CniPlugin;
  readonly config: PluginConfig;
  /** What the plugin is given where a container brings nothing that it declares: of most pods. */
  readonly plain: PluginConfig;
}

export class CniRuntime {
  readonly host: CniHost;
  readonly list: NetworkConfigList;
  readonly #own: readonly CniPlugin[];
  readonly #steps: readonly Step[];
  /** The cache of results, by the attachment's containerId, which is a text that there is already. */
  readonly #known = new Map<string, readonly Known[]>();
  /** By configuration: read once. */
  readonly #options = new WeakMap<PluginConfig, unknown>();

  /** Throws a CniError for an unknown plugin or option, before anything is connected. */
  constructor(host: CniHost, list: NetworkConfigList, plugins: readonly CniPlugin[] = []) {
    this.host = host;
    this.list = list;
    this.#own = plugins;
    this.#steps = list.plugins.map((config) => ({
      plugin: findPlugin(config.type, plugins),
      config,
      plain: withRuntimeConfig(config, NO_CAPABILITIES),
    }));
    for (const { plugin, config } of this.#steps) {
      this.#optionsOf(plugin, config);
      if (config.ipam?.type !== undefined) this.#optionsOf(findPlugin(config.ipam.type, plugins), config.ipam);
    }
  }

  /** Connects a container; what was done is undone where a plugin fails. */
  add(attachment: AttachmentCall): CniResult {
    checkParameters('ADD', environmentOf('ADD', attachment));
    if (this.#find(attachment) !== undefined)
      throw failure(
        `container ${attachment.containerId} has ${attachment.ifName} in ${this.list.name} already; expected DEL first`,
      );
    let prevResult: CniResult | undefined;
    try {
      for (const step of this.#steps) prevResult = step.plugin.add(this.#call(step, attachment, prevResult));
    } catch (error) {
      this.#undo(attachment, prevResult);
      throw error;
    }
    const { containerId, ifName, capabilities = NO_CAPABILITIES } = attachment;
    const known = { ifName, result: prevResult!, capabilities };
    this.#known.set(containerId, appended(this.#known.get(containerId) ?? [], known));
    return prevResult!;
  }

  /** Disconnects a container, if it is connected; stops at the first plugin that fails. */
  del(attachment: AttachmentCall): void {
    checkParameters('DEL', environmentOf('DEL', attachment));
    const { result, capabilities = NO_CAPABILITIES } = this.#find(attachment) ?? {};
    const call = { capabilities, ...attachment };
    for (const step of this.#steps.toReversed()) step.plugin.del(this.#call(step, call, result));
    this.#forget(attachment);
  }

  #find({ containerId, ifName }: Attachment): Known | undefined {
    return this.#known.get(containerId)?.find((known) => known.ifName === ifName);
  }

  #forget({ containerId, ifName }: Attachment): void {
    const others = this.#known.get(containerId)?.filter((known) => known.ifName !== ifName) ?? [];
    if (others.length > 0) this.#known.set(containerId, others);
    else this.#known.delete(containerId);
  }

  /** Throws a CniError if something of what ADD made is missing. */
  check(attachment: AttachmentCall): void {
    if (this.list.disableCheck === true) return;
    checkParameters('CHECK', environmentOf('CHECK', attachment));
    const known = this.#find(attachment);
    if (known === undefined)
      throw new CniError(
        CNI_ERROR.unknownContainer,
        `container ${attachment.containerId} has no ${attachment.ifName} in ${this.list.name}`,
      );
    const call = { capabilities: known.capabilities, ...attachment };
    for (const step of this.#steps) step.plugin.check(this.#call(step, call, known.result));
  }

  /** Frees what belongs to other attachments than these. Goes on where a plugin fails, and reports all at the end. */
  gc(validAttachments: readonly Attachment[]): void {
    const problems: string[] = [];
    const valid = new Set(validAttachments.map(keyOf));
    for (const [containerId, attachments] of [...this.#known])
      for (const { ifName } of attachments)
        if (!valid.has(keyOf({ containerId, ifName }))) this.#forget({ containerId, ifName });
    for (const { plugin, config } of this.#steps) {
      const parts = [{ plugin, config }];
      if (config.ipam?.type !== undefined)
        parts.unshift({ plugin: findPlugin(config.ipam.type, this.#own), config: config.ipam });
      for (const part of parts) {
        try {
          const collected = { ...part.config, 'cni.dev/valid-attachments': validAttachments.map(attachmentText) };
          const options = this.#optionsOf(part.plugin, part.config);
          part.plugin.gc?.({ network: this.list.name, config: collected, options, host: this.host, validAttachments });
        } catch (error) {
          if (!(error instanceof CniError)) throw error;
          problems.push(error.message);
        }
      }
    }
    if (problems.length > 0) throw failure(problems.join('; '));
  }

  /** Throws a CniError if a plugin says that it cannot connect containers now. */
  status(): void {
    for (const { plugin, config } of this.#steps)
      plugin.status?.({ config, options: this.#optionsOf(plugin, config), host: this.host });
  }

  #undo(attachment: AttachmentCall, prevResult: CniResult | undefined): void {
    for (const step of this.#steps.toReversed()) {
      try {
        step.plugin.del(this.#call(step, attachment, prevResult));
      } catch (error) {
        if (!(error instanceof CniError)) throw error; // the first failure is the one that counts
      }
    }
  }

  #call(step: Step, attachment: AttachmentCall, prevResult: CniResult | undefined): CniCall {
    const given = this.#given(step, attachment);
    return this.#pluginCall(step.plugin, {
      config: step.config,
      given,
      attachment,
      prevResult,
      network: this.list.name,
    });
  }

  #given({ config, plain }: Step, { requestedIps = [], capabilities = NO_CAPABILITIES }: AttachmentCall): PluginConfig {
    if (requestedIps.length === 0 && capabilities === NO_CAPABILITIES) return plain;
    const ips = requestedIps.map(({ family, ip }) => formatIp(ip, family));
    const own = withRuntimeConfig(config, { ...capabilities, ...(ips.length > 0 && { ips }) });
    return ips.length === 0 ? own : { ...own, args: { ...own.args, cni: { ...own.args?.cni, ips } } };
  }

  /** `config` is the one that options are known by, `given` what this call adds to it. */
  #pluginCall(
    plugin: CniPlugin,
    {
      config,
      given,
      attachment: { containerId, ifName, namespace },
      prevResult,
      network,
    }: {
      config: PluginConfig;
      given: PluginConfig;
      attachment: AttachmentCall;
      prevResult: CniResult | undefined;
      network: string;
    },
  ): CniCall {
    const { host } = this;
    const { cniVersion } = this.list;
    const delegate = (delegated: PluginConfig): Delegate =>
      delegateTo(findPlugin(delegated.type, this.#own), (found) =>
        this.#pluginCall(found, {
          config: delegated,
          given: { ...delegated, args: given.args, runtimeConfig: given.runtimeConfig } as PluginConfig,
          attachment: { containerId, ifName, namespace },
          prevResult,
          network: (delegated.name as string | undefined) ?? network,
        }),
      );
    const { ipam } = config;
    // Whole literals: what a spread makes has a hidden class of its own each time, and there are two calls per pod.
    const callOf = (options: unknown, ipamDelegate: Delegate | undefined): CniCall => ({
      containerId,
      ifName,
      namespace,
      network,
      cniVersion,
      config: given,
      options,
      prevResult,
      host,
      ipam: ipamDelegate,
      delegate,
    });
    const ipamCall = (found: CniPlugin): CniCall => callOf(this.#optionsOf(found, ipam!), undefined);
    const ipamDelegate = ipam?.type === undefined ? undefined : delegateTo(findPlugin(ipam.type, this.#own), ipamCall);
    return callOf(this.#optionsOf(plugin, config), ipamDelegate);
  }

  #optionsOf(plugin: CniPlugin, config: PluginConfig): unknown {
    let options = this.#options.get(config);
    if (options === undefined) {
      options = readOptions(plugin.options as Parameters<typeof readOptions>[0], config, `plugin ${plugin.type}`);
      this.#options.set(config, options);
    }
    return options;
  }
}

const NO_CAPABILITIES: Readonly<Record<string, unknown>> = {};

/** What a real plugin would find in its environment. */
const environmentOf = (command: CniCommand, { containerId, ifName, namespace }: AttachmentCall) => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: containerId,
  CNI_IFNAME: ifName,
  CNI_NETNS: namespace === undefined ? '' : sandboxPath(namespace.name),
});

const attachmentText = ({ containerId, ifName }: Attachment) => ({ containerID: containerId, ifname: ifName });

const keyOf = ({ containerId, ifName }: Attachment): string => `${containerId}/${ifName}`;

const delegateTo = (plugin: CniPlugin, callOf: (plugin: CniPlugin) => CniCall): Delegate => ({
  add: () => plugin.add(callOf(plugin)),
  del: () => plugin.del(callOf(plugin)),
  check: () => plugin.check(callOf(plugin)),
});
