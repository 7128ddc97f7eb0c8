// podwire rules: what iptables-save, nft list ruleset or ipset save would print on a node.

import type { ProxyMode } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { printIpsets } from '../../models/netfilter/ipset/ipset-text.ts';
import { printIptablesSave, saveTables } from '../../models/netfilter/iptables-save.ts';
import type { Netfilter } from '../../models/netfilter/netfilter.ts';
import type { IpFamily } from '../../models/packet/ip-address.ts';
import { type Command, type CommandContext, examples, wholeNumber } from './command-line.ts';
import {
  addClusterChoice,
  addFamilyChoice,
  addManifestOptions,
  type ClusterChoice,
  clusterOf,
  type FamilyChoice,
  type ManifestOptions,
  nodeIn,
} from './manifest-options.ts';

interface RulesOptions extends ManifestOptions, ClusterChoice, FamilyChoice {
  readonly node: string;
  readonly seed: number;
  readonly sets?: true;
}

export function addRules(program: Command, context: CommandContext): void {
  addFamilyChoice(
    addClusterChoice(addManifestOptions(program.command('rules'))),
    'in iptables mode, IP family of the tables',
  )
    .description(
      'Print the rules of kube-proxy and of NetworkPolicies on a node, as iptables-save or nft list ruleset would.',
    )
    .requiredOption('--node <name>', 'a Node of the manifests; without any there are node-1, node-2, …')
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .option('--sets', 'the ipsets that rules of NetworkPolicies name, as ipset save prints them')
    .addHelpText(
      'after',
      examples(
        'podwire rules --node node-1',
        'podwire rules -f my-manifests.yaml --node node-2 | iptables-restore --test',
        'podwire rules --node node-1 --ip-family dual --family 6 | ip6tables-restore --test',
        'podwire rules --node node-1 --proxy nftables | nft --check -f -',
      ),
    )
    .action((options: RulesOptions) => {
      const cluster = clusterOf(options, context);
      cluster.start();
      const { netfilter } = nodeIn(cluster, options.node).machine.root;
      const { proxy, family = cluster.ipFamilies[0], sets } = options;
      if (netfilter === undefined) return;
      context.stdout.write(sets ? printIpsets(netfilter.sets) : textOf(netfilter, { proxy, family }));
    });
}

/** What nodes have in iptables besides, whatever the mode, is the network plugin's. */
const textOf = (
  { tables, tables6, nftables }: Netfilter,
  { proxy, family }: { proxy: ProxyMode; family: IpFamily | undefined },
): string => (proxy === 'nftables' ? nftables.list() : printIptablesSave(saveTables(family === 6 ? tables6 : tables)));
