// podwire conntrack: the connections that a node tracks after some requests, as the conntrack tool prints them.

import { after, type Duration, ms, START } from '../../engine/time.ts';
import type { Cluster } from '../../models/cluster.ts';
import type { Machine } from '../../models/host/machine.ts';
import { type ConntrackFilter, matchesFilter, parseConntrackFilter } from '../../models/netfilter/conntrack-filter.ts';
import { formatConntrack, formatConntrackStatistics } from '../../models/netfilter/conntrack-text.ts';
import { type Command, type CommandContext, duration, examples, optionValue, wholeNumber } from './command-line.ts';
import {
  addClusterChoice,
  addManifestOptions,
  type ClusterChoice,
  clusterOf,
  type ManifestOptions,
  nodeIn,
} from './manifest-options.ts';
import { addRequestOptions, type RequestOptions, requestIn } from './request-options.ts';

interface ConntrackOptions extends ManifestOptions, ClusterChoice, RequestOptions {
  readonly node: string;
  readonly requests: number;
  readonly at?: Duration;
  readonly output?: 'extended';
  readonly filter?: ConntrackFilter;
  readonly stats?: true;
  readonly count?: true;
  readonly seed: number;
}

export function addConntrack(program: Command, context: CommandContext): void {
  addRequestOptions(addClusterChoice(addManifestOptions(program.command('conntrack'))))
    .description('Print the connections that a node tracks after some requests, as conntrack -L would.')
    .requiredOption('--node <name>', 'a Node of the manifests; without any there are node-1, node-2, …')
    .option('--requests <n>', 'one after the other, each on a connection of its own', wholeNumber(), 1)
    .option('--at <time>', 'when to look, for example 500ms (default: 100 ms after the last answer)', duration)
    .option('-o, --output <form>', 'extended: with the family in front', optionValue(readOutput))
    .option(
      '--filter <options>',
      "only some connections, in the tool's own words: '-p udp --orig-dst 10.96.0.10'",
      readFilter,
    )
    .option('-S, --stats', 'what each CPU has counted, as conntrack -S')
    .option('-C, --count', 'the number of entries, as conntrack -C')
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .addHelpText('after', examples(...EXAMPLES))
    .action((options: ConntrackOptions) => {
      const cluster = clusterOf(options, context);
      const { machine } = nodeIn(cluster, options.node);
      sendRequests(cluster, options);
      context.stdout.write(printed(machine, cluster, options));
    });
}

const EXAMPLES = [
  'podwire conntrack --from shop/orders-db-0 --to shop/catalog:80 --node node-3',
  'podwire conntrack --from outside --to node-1:30080 --node node-1 --requests 3 --at 2m',
  "podwire conntrack --from shop/orders-db-0 --to shop/catalog:80 --node node-3 --filter '-p tcp --state TIME_WAIT'",
];

function sendRequests(cluster: Cluster, options: ConntrackOptions): void {
  const { protocol, requests, at } = options;
  const { sender, target, http } = requestIn(cluster, options);
  cluster.start();
  const how = { requests, thinkTime: ms(0), keepAlive: false, ...(http && { http }) };
  const load = cluster.closedLoop(sender, { to: target, protocol, ...how });
  if (at !== undefined) return cluster.run(after(START, at));
  do cluster.runFor(ms(100));
  while (load.started < requests || load.outstanding > 0);
  cluster.runFor(ms(100));
}

function printed(
  { root, cpus }: Machine,
  cluster: Cluster,
  { output, filter, stats, count }: ConntrackOptions,
): string {
  const conntrack = root.netfilter?.conntrack;
  if (conntrack === undefined) return '';
  if (stats)
    return formatConntrackStatistics(Array.from({ length: cpus.count }, (_, cpu) => conntrack.statisticsOf(cpu)));
  if (count) return `${conntrack.count}\n`;
  const { now } = cluster.sim;
  const entries = conntrack.list().filter((entry) => filter === undefined || matchesFilter(entry, filter));
  return entries.map((entry) => `${formatConntrack(entry, now, { extended: output === 'extended' })}\n`).join('');
}

const readFilter = optionValue(parseConntrackFilter);

function readOutput(text: string): 'extended' {
  if (text !== 'extended') throw new RangeError('Expected extended.');
  return text;
}
