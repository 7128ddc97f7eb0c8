// Options of the commands that build a cluster from manifests, and the bundled manifests they take without any.

import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../../models/cluster.ts';
import type { DnsChoice } from '../../models/cluster-dns.ts';
import { CNI_NETWORK_NOTES, CNI_NETWORKS, type CniNetworkName } from '../../models/cni/networks/registry.ts';
import { PROXY_MODE_NOTES, PROXY_MODES, type ProxyMode } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { type ManifestFile, readManifests } from '../../models/kube/manifests.ts';
import { CLUSTER_IP_FAMILIES, type ClusterIpFamily, type ClusterRanges } from '../../models/kube/ranges.ts';
import { YAML_LIMITS } from '../../models/kube/yaml-text.ts';
import { type IpFamily, type Prefix, parseAnyPrefix } from '../../models/packet/ip-address.ts';
import type { GivenCosts } from '../harness/given-costs.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { cannot, UserError } from '../harness/user-error.ts';
import {
  type Command,
  type CommandContext,
  collect,
  inWords,
  oneOf,
  optionValue,
  wholeNumber,
} from './command-line.ts';

export interface ManifestOptions {
  readonly file?: readonly string[];
  readonly nodes: number;
  /** One, or one of each IP family. */
  readonly podRange?: readonly Prefix[];
  readonly serviceRange?: readonly Prefix[];
  readonly nodeRange?: readonly Prefix[];
  readonly force?: boolean;
}

export function addManifestOptions(command: Command): Command {
  return command
    .option(
      '-f, --file <file>',
      'manifests, YAML or JSON; may be repeated, - is stdin (default: the bundled web shop)',
      collect,
    )
    .option('--nodes <n>', 'nodes to make if the manifests have none', wholeNumber(), 3)
    .option(
      '--pod-range <cidr>',
      'addresses of pods; two ranges with a comma are dual stack (default: around those of the manifests, or 10.244.0.0/16)',
      ranges,
    )
    .option('--service-range <cidr>', 'ClusterIPs, one range or two (default: likewise, or 10.96.0.0/12)', ranges)
    .option(
      '--node-range <cidr>',
      'addresses of nodes, one range or two (default: likewise, or 192.168.0.0/16)',
      ranges,
    )
    .option('--force', 'take ranges of pods, Services and nodes that overlap: see what happens');
}

/** Of commands that look at one cluster. */
export interface ClusterChoice {
  readonly proxy: ProxyMode;
  /** If absent: the families of the ranges and of the manifests' addresses, or IPv4. */
  readonly ipFamily?: ClusterIpFamily;
  readonly cni: CniNetworkName;
}

/** {@link ClusterChoice}. For `podwire run` these are factors. */
export const addClusterChoice = (command: Command): Command =>
  command
    .option(
      '--proxy <mode>',
      `kube-proxy's mode: ${inWords(PROXY_MODES)} (${Object.values(PROXY_MODE_NOTES).join('; ')})`,
      oneOf(PROXY_MODES),
      'iptables',
    )
    .option(
      '--ip-family <families>',
      `of nodes, pods and Services: ${inWords(CLUSTER_IP_FAMILIES)} (default: those of ranges and manifests)`,
      oneOf(CLUSTER_IP_FAMILIES),
    )
    .option(
      '--cni <network>',
      `the network of pods: ${CNI_NETWORKS.map((name) => `${name} (${CNI_NETWORK_NOTES[name]})`).join(', ')}`,
      oneOf(CNI_NETWORKS),
      'bridge',
    );

/** Where a dual-stack cluster has one of each IP family. */
export interface FamilyChoice {
  readonly family?: IpFamily;
}

export const addFamilyChoice = (command: Command, what: string): Command =>
  command.option('--family <family>', `${what}: 4 or 6 (default: the cluster's first)`, optionValue(parseFamily));

function parseFamily(text: string): IpFamily {
  if (text !== '4' && text !== '6') throw new RangeError('Expected 4 or 6.');
  return text === '6' ? 6 : 4;
}

/** Throws a UserError for a file that cannot be read or is too large to be a manifest. */
export function readManifestFiles({ file = [] }: ManifestOptions): ManifestFile[] {
  if (file.length === 0) return [{ name: 'shop.yaml', text: readText(BUNDLED) }];
  return file.map((name) =>
    name === '-' ? { name: 'stdin', text: readText('/dev/stdin') } : { name, text: readText(name) },
  );
}

export function rangesOf({ podRange, serviceRange, nodeRange }: ManifestOptions): Partial<ClusterRanges> {
  const [pod, secondaryPod] = podRange ?? [];
  const [service, secondaryService] = serviceRange ?? [];
  const [node, secondaryNode] = nodeRange ?? [];
  const all = { pod, secondaryPod, service, secondaryService, node, secondaryNode };
  return Object.fromEntries(Object.entries(all).filter(([, range]) => range !== undefined));
}

/**
 * The cluster of the manifests; notes about them go to stderr. It is that of the first replication of `podwire run`: pods
 * that a controller makes have the same names there.
 */
export function clusterOf(
  options: ManifestOptions &
    Partial<ClusterChoice> & { readonly seed: number; readonly cost?: GivenCosts; readonly dns?: DnsChoice },
  { stderr }: CommandContext,
  files: readonly ManifestFile[] = readManifestFiles(options),
): Cluster {
  const cluster = Cluster.fromManifests(readManifests(files), {
    seed: `${options.seed}/1`,
    nodes: options.nodes,
    ranges: rangesOf(options),
    ...(options.cost && { costs: options.cost.costs }),
    ...(options.proxy && { proxy: options.proxy }),
    ...(options.force && { force: true }),
    ...(options.ipFamily && { ipFamily: options.ipFamily }),
    ...(options.dns && { dns: options.dns }),
    ...(options.cni && { cni: options.cni }),
  });
  for (const note of [...cluster.notes, ...cluster.schedulingNotes]) stderr.write(`note: ${note}\n`);
  return cluster;
}

/** Throws a UserError that lists the nodes. */
export function nodeIn(cluster: Cluster, name: string): Cluster['nodes'][number] {
  const node = cluster.nodes.find((candidate) => candidate.name === name);
  if (node !== undefined) return node;
  const names = cluster.nodes.map((candidate) => candidate.name).join(', ') || 'none';
  throw new UserError(`--node ${name}: no such node; there are: ${names}`);
}

const BUNDLED = join(PACKAGE_ROOT, 'experiments', 'manifests', 'shop.yaml');

const ranges = optionValue((text: string) => {
  const texts = text.split(',');
  try {
    if (texts.length <= 2 && texts.every((one) => one.includes('/'))) return texts.map(parseAnyPrefix);
  } catch {
    // what is wrong with it is said below
  }
  throw new RangeError('Expected a range of addresses, or two, for example 10.96.0.0/12,fd00:10:96::/112.');
});

/** Reads as far as the limit: a device or a pipe may have no end, and has no size to look at before. */
function readText(file: string): string {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    const descriptor = openSync(file, 'r');
    try {
      for (;;) {
        const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
        const read = readSync(descriptor, chunk);
        if (read === 0) return Buffer.concat(chunks).toString('utf8');
        chunks.push(chunk.subarray(0, read));
        size += read;
        if (size > YAML_LIMITS.fileSize) throw new Error(`larger than ${YAML_LIMITS.fileSize / 1e6} MB`);
      }
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw cannot('read', file, error);
  }
}

const CHUNK_BYTES = 1 << 20;
