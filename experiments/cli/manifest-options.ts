// Options of the commands that build a cluster from manifests, and the bundled manifests they take without any.

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from '../../models/cluster.ts';
import { type ManifestFile, readManifests } from '../../models/kube/manifests.ts';
import type { ClusterRanges } from '../../models/kube/ranges.ts';
import { YAML_LIMITS } from '../../models/kube/yaml-text.ts';
import { type Prefix, parsePrefix } from '../../models/packet/ip-address.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { messageOf, UserError } from '../harness/user-error.ts';
import { type Command, type CommandContext, collect, optionValue, wholeNumber } from './command-line.ts';

export interface ManifestOptions {
  readonly file: readonly string[];
  readonly nodes: number;
  readonly podRange?: Prefix;
  readonly serviceRange?: Prefix;
  readonly nodeRange?: Prefix;
}

export function addManifestOptions(command: Command): Command {
  return command
    .option('-f, --file <file>', 'manifests, YAML or JSON (may be repeated; default: the bundled shop)', collect, [])
    .option('--nodes <n>', 'nodes to make if the manifests have none', wholeNumber(), 3)
    .option('--pod-range <cidr>', 'addresses of pods', optionValue(parsePrefix))
    .option('--service-range <cidr>', 'ClusterIPs', optionValue(parsePrefix))
    .option('--node-range <cidr>', 'addresses of nodes', optionValue(parsePrefix));
}

/** Throws a UserError for a file that cannot be read or is too large to be a manifest. */
export function readManifestFiles({ file }: ManifestOptions): ManifestFile[] {
  const names = file.length > 0 ? file : [BUNDLED];
  return names.map((name) => {
    try {
      if (statSync(name).size > YAML_LIMITS.fileSize) throw new Error(`larger than ${YAML_LIMITS.fileSize / 1e6} MB`);
      return { name: name === BUNDLED ? 'shop.yaml' : name, text: readFileSync(name, 'utf8') };
    } catch (error) {
      throw new UserError(`cannot read ${name}: ${messageOf(error)}`);
    }
  });
}

export function rangesOf({ podRange, serviceRange, nodeRange }: ManifestOptions): Partial<ClusterRanges> {
  return {
    ...(podRange && { pod: podRange }),
    ...(serviceRange && { service: serviceRange }),
    ...(nodeRange && { node: nodeRange }),
  };
}

/** The cluster of the manifests; notes about them go to stderr. */
export function clusterOf(options: ManifestOptions & { readonly seed: number }, { stderr }: CommandContext): Cluster {
  const manifests = readManifests(readManifestFiles(options));
  const cluster = Cluster.fromManifests(manifests, {
    seed: String(options.seed),
    nodes: options.nodes,
    ranges: rangesOf(options),
  });
  for (const note of [...cluster.notes, ...cluster.schedulingNotes]) stderr.write(`note: ${note}\n`);
  return cluster;
}

const BUNDLED = join(PACKAGE_ROOT, 'experiments', 'manifests', 'shop.yaml');
