// podwire trace: the journey of one request and of its answer, stage by stage; on demand as JSON and as a capture.

import { type Instant, inUs, ms, s } from '../../engine/time.ts';
import type { Cluster } from '../../models/cluster.ts';
import type { Journey } from '../../models/packet/journey.ts';
import { formatJourney, journeyToJson } from '../../models/packet/journey-text.ts';
import type { Load } from '../../models/workload/load.ts';
import { type GivenCosts, readCosts } from '../harness/given-costs.ts';
import { captureOf, writeCapture } from './capture.ts';
import { type Command, type CommandContext, examples, wholeNumber } from './command-line.ts';
import {
  addClusterChoice,
  addManifestOptions,
  type ClusterChoice,
  clusterOf,
  type ManifestOptions,
} from './manifest-options.ts';
import { addRequestOptions, type RequestOptions, requestIn } from './request-options.ts';

interface TraceOptions extends ManifestOptions, ClusterChoice, RequestOptions {
  readonly seed: number;
  readonly all?: true;
  readonly json?: true;
  readonly pcap?: string;
  readonly cost?: GivenCosts;
}

export function addTrace(program: Command, context: CommandContext): void {
  addRequestOptions(addClusterChoice(addManifestOptions(program.command('trace'))))
    .description('Follow one request and its answer through every device, hook, chain and rule.')
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .option('--all', 'every frame: ARP and neighbor discovery, bare acknowledgements, copies that a bridge floods')
    .option('--json', 'journeys as JSON')
    .option('--pcap <file>', 'also write a pcapng with an interface per device')
    .option('--cost <file>', 'what packet work costs, from podwire calibrate (default: the shipped figures)', readCosts)
    .addHelpText('after', examples(...EXAMPLES))
    .action((options: TraceOptions) => {
      const cluster = clusterOf(options, context);
      const load = traceRequest(cluster, options);
      const journeys = cluster.frames.journeys.filter((journey) => options.all === true || isTold(journey));
      if (options.json) context.stdout.write(`${JSON.stringify(journeys.map(journeyToJson), undefined, 2)}\n`);
      else context.stdout.write(`${journeys.map(formatJourney).join('\n')}\n${outcomeOf(load)}\n`);
    });
}

const EXAMPLES = [
  'podwire trace --from shop/orders-db-0 --to shop/catalog:80',
  'podwire trace --from outside --to node-1:30080 --pcap node-port.pcapng',
  'podwire trace -f my-manifests.yaml --from outside --to http://shop.example.com/cart --header "x-version: 2"',
  'podwire trace --from shop/orders-db-0 --to outside:443',
  'podwire trace --from node-1 --to shop/metrics:statsd --protocol udp --json',
  'podwire trace --ip-family dual --from shop/orders-db-0 --to shop/catalog:80 --family 6',
  'podwire trace -f my-manifests.yaml --from my-pod --to my-service',
];

/** Sends one request and lets the run go on until it has ended, and its connection has been closed. */
function traceRequest(cluster: Cluster, options: TraceOptions): Load {
  const { protocol, pcap } = options;
  const { sender, target, http } = requestIn(cluster, options);
  cluster.start();
  cluster.frames.followAll();
  const capture = pcap === undefined ? undefined : captureOf(cluster);
  const load = cluster.closedLoop(sender, {
    to: target,
    protocol,
    requests: 1,
    thinkTime: ms(0),
    ...(http && { http }),
  });
  for (let second = 1; second <= LONGEST_TRACE_SECONDS && (load.started === 0 || load.outstanding > 0); second++) {
    cluster.run(s(second) as number as Instant);
  }
  cluster.runFor(ms(100));
  cluster.assertConserved();
  if (capture !== undefined && pcap !== undefined) writeCapture(pcap, capture);
  return load;
}

/** Longer than a client waits for an answer. */
const LONGEST_TRACE_SECONDS = 30;

/** Frames that carry the conversation: no questions about neighbors, no bare acknowledgements, no copies for others. */
function isTold({ title, steps }: Journey): boolean {
  if (title.startsWith('arp') || title.includes(' icmpv6 neighbor ') || title.endsWith('tcp [.]')) return false;
  return steps.at(-1)?.text !== 'OTHERHOST';
}

function outcomeOf(load: Load): string {
  const [server] = load.perServer.keys();
  if (server === undefined)
    return `no answer: ${[...load.failures.keys()].join(', ') || 'the request is still under way'}`;
  const connect = load.connect.count === 0 ? '' : ` (connect ${inUs(load.connect.max).toFixed(1)} µs)`;
  return `answered by ${server} after ${inUs(load.latency.max).toFixed(1)} µs${connect}`;
}
