// podwire rules: what iptables-save, nft list ruleset or ipset save would print on a node; in IPVS mode also what ipvsadm
// and ipset list.

import { listServices } from '../../models/host/ebpf/service-map.ts';
import { type NodeRules, PROXY_MODE_NOTES, type ProxyMode } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { listIpsets, printIpsets } from '../../models/netfilter/ipset/ipset-text.ts';
import { printIptablesSave, saveTables } from '../../models/netfilter/iptables-save.ts';
import { listIpvs } from '../../models/netfilter/ipvs/ipvs-text.ts';
import { printProtocol } from '../../models/netfilter/protocol.ts';
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
    'in iptables and IPVS mode, IP family of the tables',
  )
    .description(
      'Print the rules of kube-proxy and of NetworkPolicies on a node, as iptables-save or nft list ruleset would; in IPVS mode as ipvsadm -Ln, ipset list and iptables-save would; of the eBPF-style replacement, its table.',
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
        'podwire rules --node node-1 --proxy ipvs',
      ),
    )
    .action((options: RulesOptions) => {
      const cluster = clusterOf(options, context);
      cluster.start();
      const { proxy, family = cluster.ipFamilies[0]!, sets } = options;
      const { rules } = nodeIn(cluster, options.node);
      context.stdout.write(sets ? printIpsets(rules.sets) : textOf(rules, { proxy, family }));
    });
}

/** What nodes have in iptables besides, whatever the mode, is the network plugin's. */
function textOf(rules: NodeRules, { proxy, family }: { proxy: ProxyMode; family: IpFamily }): string {
  const { nftables, sets, ipvs, ebpf } = rules;
  const iptables = printIptablesSave(saveTables(family === 6 ? rules.tables6 : rules.tables));
  switch (proxy) {
    case 'iptables':
      return iptables;
    case 'nftables':
      return nftables.list();
    case 'ipvs':
      return [
        ['ipvsadm -Ln', listIpvs(ipvs)],
        ['ipset list', listIpsets(sets)],
        [family === 6 ? 'ip6tables-save' : 'iptables-save', iptables],
      ]
        .map(([command, text]) => `# ${command}\n${text}`)
        .join('\n');
    case 'ebpf':
      return `# ${PROXY_MODE_NOTES.ebpf}\n${listServices(ebpf.services, printProtocol)}`;
  }
}
