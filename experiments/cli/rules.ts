// podwire rules: what iptables-save would print on a node.

import { printIptablesSave, saveTables } from '../../models/netfilter/iptables-save.ts';
import { type Command, type CommandContext, examples, wholeNumber } from './command-line.ts';
import { addManifestOptions, clusterOf, type ManifestOptions, nodeIn } from './manifest-options.ts';

interface RulesOptions extends ManifestOptions {
  readonly node: string;
  readonly seed: number;
}

export function addRules(program: Command, context: CommandContext): void {
  addManifestOptions(program.command('rules'))
    .description('Print the iptables rules of a node, as iptables-save would.')
    .requiredOption('--node <name>', 'a Node of the manifests; without any there are node-1, node-2, …')
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .addHelpText(
      'after',
      examples(
        'podwire rules --node node-1',
        'podwire rules -f my-manifests.yaml --node node-2 | iptables-restore --test',
      ),
    )
    .action((options: RulesOptions) => {
      const cluster = clusterOf(options, context);
      cluster.start();
      const { netfilter } = nodeIn(cluster, options.node).machine.root;
      context.stdout.write(netfilter === undefined ? '' : printIptablesSave(saveTables(netfilter.tables)));
    });
}
