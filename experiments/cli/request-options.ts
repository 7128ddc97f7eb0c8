// Options of the commands that send requests: who asks whom, by which protocol.

import type { Cluster } from '../../models/cluster.ts';
import type { Process } from '../../models/host/process.ts';
import { resolveTarget, type Target } from '../../models/kube/target.ts';
import { UserError } from '../harness/user-error.ts';
import { type Command, optionValue } from './command-line.ts';
import { addFamilyChoice, type FamilyChoice } from './manifest-options.ts';

export interface RequestOptions extends FamilyChoice {
  readonly from: string;
  readonly to: string;
  readonly protocol: 'tcp' | 'udp';
}

export function addRequestOptions(command: Command): Command {
  return addFamilyChoice(command, "IP family of the target's address, where it has two")
    .requiredOption('--from <sender>', 'a pod as NAMESPACE/NAME, a node, or outside: the client beyond the gateway')
    .requiredOption(
      '--to <target>',
      'a Service, pod, node or IP address, and :PORT as number or name (default: its first)',
    )
    .option('--protocol <protocol>', 'tcp or udp', optionValue(parseProtocol), 'tcp');
}

/** Sender and target in this cluster. Throws a UserError for one that it does not have. */
export function requestIn(
  cluster: Cluster,
  { from, to, protocol, family }: RequestOptions,
): { sender: Process; target: Target } {
  const sender = senderIn(cluster, from);
  const defaultNamespace = from.includes('/') ? from.slice(0, from.indexOf('/')) : 'default';
  const target = resolveTarget(cluster.api, to, {
    defaultNamespace,
    protocol: protocol === 'tcp' ? 'TCP' : 'UDP',
    family,
  });
  return { sender, target };
}

/** Throws a UserError that lists whom there is. */
export function senderIn(cluster: Cluster, name: string): Process {
  if (name === 'outside') return cluster.outside.client;
  const key = name.includes('/') ? name : `default/${name}`;
  const found =
    cluster.pods.find((pod) => pod.name === key) ?? cluster.nodes.find((node) => node.name === name)?.process;
  if (found !== undefined) return found;
  const names = ['outside', ...[...cluster.nodes, ...cluster.pods].map((candidate) => candidate.name)];
  const more = names.length > NAMES_SHOWN ? ', …' : '';
  throw new UserError(
    `--from ${name}: no pod ${key} runs, and no node has that name; there are: ${names.slice(0, NAMES_SHOWN).join(', ')}${more}`,
  );
}

const NAMES_SHOWN = 20;

function parseProtocol(text: string): 'tcp' | 'udp' {
  if (text !== 'tcp' && text !== 'udp') throw new RangeError('Expected tcp or udp.');
  return text;
}
