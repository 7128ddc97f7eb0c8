// podwire reach: who reaches whom. A packet is sent between every two pods, and between pods and the world outside; for a
// pair whose packet is refused, what NetworkPolicies say. If the two disagree, that is told, too.

import type { Cluster } from '../../models/cluster.ts';
import {
  judgeReachability,
  partiesOf,
  ReachabilitySampler,
  type ReachablePort,
  type ReachParty,
} from '../../models/cluster-reachability.ts';
import type { Refusal } from '../../models/kube/network-policy/evaluator.ts';
import type { IpFamily } from '../../models/packet/ip-address.ts';
import { UserError } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples, optionValue } from './command-line.ts';
import {
  addClusterChoice,
  addFamilyChoice,
  addManifestOptions,
  type ClusterChoice,
  clusterOf,
  type FamilyChoice,
  type ManifestOptions,
} from './manifest-options.ts';

interface ReachOptions extends ManifestOptions, ClusterChoice, FamilyChoice {
  readonly port: Omit<ReachablePort, 'family'>;
  readonly json?: true;
}

/** One client and one server. */
interface Pair {
  readonly from: string;
  readonly to: string;
  /** The packet came in. */
  readonly arrives: boolean;
  /** Of policies, as the evaluator reads them. */
  readonly refusals: readonly Refusal[];
}

export function addReach(program: Command, context: CommandContext): void {
  const command = addClusterChoice(addManifestOptions(program.command('reach')));
  addFamilyChoice(command, 'IP family of the connections')
    .description('Tell which pods reach which, by packets, and which NetworkPolicy is in the way of those that do not.')
    .option(
      '--port <port>',
      'of the servers, and its protocol: tcp, udp or sctp; whether a program listens there does not matter',
      optionValue(parsePort),
      parsePort('80/tcp'),
    )
    .option('--json', 'as JSON')
    .addHelpText('after', examples(...EXAMPLES))
    .action((options: ReachOptions) => {
      const cluster = clusterOf({ ...options, seed: 1 }, context);
      const port = { ...options.port, family: familyIn(cluster, options) };
      const parties = partiesOf(cluster, port.family);
      cluster.start();
      const arrivals = new ReachabilitySampler(cluster).sample(parties, port);
      cluster.assertConserved();
      const verdicts = judgeReachability(cluster, parties, port);
      const pairs = parties.map(({ name: from }, row) =>
        parties.map(({ name: to }, column): Pair => {
          const { refusals } = verdicts[row]![column]!;
          return { from, to, arrives: arrivals[row]![column]!, refusals };
        }),
      );
      const isDisputed = pairs.flat().some(disagrees);
      if (isDisputed) context.exitCode = 1;
      context.stdout.write(options.json ? toJson(port, pairs) : toText(port, parties, pairs));
    });
}

function familyIn({ ipFamilies }: Cluster, { family }: FamilyChoice): IpFamily {
  if (family !== undefined && !ipFamilies.includes(family))
    throw new UserError(`--family ${family}: the cluster has no IPv${family}`);
  return family ?? ipFamilies[0]!;
}

const EXAMPLES = [
  'podwire reach --port 8080/tcp                      # the bundled web shop, which has no policies',
  'podwire reach -f pods.yaml -f policies.yaml --port 53/udp',
  'podwire reach -f pods.yaml -f policies.yaml --ip-family dual --family 6 --json',
];

const PROTOCOLS = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as const;

function parsePort(text: string): Omit<ReachablePort, 'family'> {
  const [, digits, protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? [];
  const port = Number(digits);
  if (!(port >= 1 && port <= 65_535)) throw new RangeError('Expected a port from 1 to 65535 such as 80/tcp or 53/udp.');
  return { port, protocol: PROTOCOLS[protocol.toLowerCase() as keyof typeof PROTOCOLS] };
}

/** Something other than policies keeps packets back, or does not keep them back where it should. */
const disagrees = ({ arrives, refusals }: Pair): boolean => arrives !== (refusals.length === 0);

const describePort = ({ port, protocol, family }: ReachablePort): string => `${port}/${protocol} over IPv${family}`;

function toText(port: ReachablePort, parties: readonly ReachParty[], pairs: readonly (readonly Pair[])[]): string {
  const numberWidth = String(parties.length).length;
  const nameWidth = Math.max(...parties.map(({ name }) => name.length));
  const heads = Array.from({ length: numberWidth }, (_, digit) => {
    const digits = parties.map((_party, i) => String(i + 1).padStart(numberWidth)[digit]);
    return `${' '.repeat(numberWidth + nameWidth + 2)}${digits.join('')}`;
  });
  const rows = pairs.map((row, i) => {
    const cells = row.map(({ arrives }) => (arrives ? '.' : 'X'));
    return `${String(i + 1).padStart(numberWidth)} ${parties[i]!.name.padEnd(nameWidth)} ${cells.join('')}`;
  });
  const flat = pairs.flat();
  const lines = [
    `${describePort(port)}, from rows to columns: . reaches, X does not`,
    '',
    ...[...heads, ...rows],
    '',
    ...flat.flatMap((pair) => (pair.refusals.length > 0 ? linesAbout(pair) : [])),
    ...flat.filter(disagrees).map(dispute),
    `${flat.filter(({ arrives }) => arrives).length} of ${flat.length} reach`,
  ];
  return lines.map((line) => `${line}\n`).join('');
}

const linesAbout = ({ from, to, refusals }: Pair): string[] => [
  `${from} to ${to}`,
  ...refusals.flatMap(({ direction, pod, isolatedBy }) =>
    isolatedBy.flatMap(({ policy, missing }) =>
      missing.map((lack) => `  ${direction.toLowerCase()} of ${pod}: NetworkPolicy ${policy}: ${lack}`),
    ),
  ),
];

const dispute = ({ from, to, arrives }: Pair): string =>
  `${from} to ${to}: ${arrives ? 'policies refuse it, but the packet arrives' : 'policies allow it, but the packet does not arrive'}`;

function toJson({ port, protocol, family }: ReachablePort, pairs: readonly (readonly Pair[])[]): string {
  const flat = pairs.flat();
  const content = {
    ...{ port, protocol, family },
    reaches: Object.fromEntries(
      pairs.map((row) => [row[0]!.from, Object.fromEntries(row.map(({ to, arrives }) => [to, arrives]))]),
    ),
    refused: flat.flatMap(({ from, to, refusals }) => (refusals.length > 0 ? [{ from, to, refusals }] : [])),
    disputed: flat.filter(disagrees).map(({ from, to, arrives }) => ({ from, to, arrives })),
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}
