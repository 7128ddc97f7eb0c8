// What kube-proxy in nftables mode feeds to nft: names of chains and sets, the table without Services, and whole tables.

import { z } from 'zod';
import { START } from '../../engine/time.ts';
import { nftEndpointNames, nftServiceNames } from '../kube/kube-proxy/nftables-names.ts';
import { Nftables } from '../netfilter/nft/nftables.ts';
import { RuleTextError } from '../netfilter/words.ts';
import { syncNftablesNode } from './nftables-node.ts';
import { type RecordedCase, recordedCase, remarks } from './recorded-case.ts';
import { compareLines, hasCasesWith, ruleFact } from './rule-facts.ts';
import { compareFields, compareText, type Difference, defineSuite, type Tally } from './suite.ts';

const command = z
  .string()
  .regex(/^add (table|set|map|chain|rule|element) /, 'add of a table, set, map, chain, rule or element');

const namingExample = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  port: z.string(),
  protocol: z.enum(['tcp', 'udp', 'sctp']),
  /** null: of the service port. */
  endpoint: z
    .string()
    .regex(/^(\d[\d.]*|\[[\da-f:]+\]):\d+$/, 'an endpoint such as 10.180.0.1:80')
    .nullable(),
  /** What the names have in common. */
  base: z.string(),
});
type NamingExample = z.output<typeof namingExample>;

const tableCase = recordedCase.extend({
  /** What the table has besides the base. */
  extra: z.array(command),
  staleChainsAged: z.boolean().default(false),
  transactionOperations: z.int('a number of commands').min(0).optional(),
});
type TableCase = z.output<typeof tableCase>;

const { about, source, note } = remarks;
const content = z.strictObject({
  about: about.optional(),
  source,
  note,
  comparison: z.string().optional(),
  naming: z
    .strictObject({ algorithm: z.string().optional(), examples: z.array(namingExample) })
    .default({ examples: [] }),
  /** What every table has. */
  base: z.array(command).default([]),
  cases: z.array(tableCase).default([]),
});

export const kubeProxyNftablesRules = defineSuite({
  name: 'kube-proxy-nftables-rules',
  unit: 'facts',
  content: 'an object with base, or cases with extra commands',
  schema: content,
  recognises: (value) => value instanceof Object && ('base' in value || hasCasesWith('extra', value)),
  check: ({ naming, base, cases }, tally) => {
    for (const example of naming.examples) checkNames(example, tally);
    const [first] = cases;
    if (first !== undefined) {
      const empty = withoutServices(first);
      ruleFact('nftables', empty, tally, () => tableDifferences(base, syncNftablesNode(empty).nftables));
    }
    for (const recorded of cases) {
      ruleFact('nftables', recorded, tally, () => caseDifferences(recorded, base));
    }
  },
});

function checkNames({ namespace, name, port, protocol, endpoint, base }: NamingExample, tally: Tally): void {
  const owner = { name: `${namespace}/${name}:${port}`, protocol };
  if (endpoint === null) {
    const { cluster, local, external, firewall } = nftServiceNames(owner);
    const expected = ['service', 'local', 'external', 'firewall'].map((kind) => `${kind}-${base}`).join(', ');
    const got = [cluster, local, external, firewall].join(', ');
    tally.fact(`chains of ${owner.name} ${protocol}`, compareText(expected, got));
  } else {
    const names = nftEndpointNames(owner, { address: endpoint, port: Number(endpoint.split(':').at(-1)) });
    const expected = { chain: `endpoint-${base}`, affinity: `affinity-${base}` };
    tally.fact(`names of ${owner.name} ${protocol} at ${endpoint}`, compareFields(expected, names));
  }
}

/** The base has settings in it: they are the same for all cases of a file. */
function withoutServices({ before: _, ...first }: TableCase): RecordedCase {
  return { ...first, id: 'base', about: 'the table without Services', services: [], endpointSlices: [] };
}

function caseDifferences(recorded: TableCase, base: readonly string[]): Difference[] {
  const { extra, staleChainsAged, transactionOperations } = recorded;
  const { nftables, report } = syncNftablesNode(recorded, { staleChainsAged });
  return [
    ...tableDifferences([...base, ...extra], nftables),
    ...(transactionOperations === undefined
      ? []
      : compareText(`${transactionOperations}`, `${report.operations}`, 'commands of the transaction')),
  ];
}

/** Sets, maps and chains as nft lists them; in which order they were made is not recorded. */
function tableDifferences(commands: readonly string[], nftables: Nftables): Difference[] {
  const wanted = new Nftables(() => START);
  try {
    wanted.apply(inOrder(commands).join('\n'));
  } catch (error) {
    if (!(error instanceof RuleTextError)) throw error;
    return compareText('what nft would take', error.message, 'the recorded commands');
  }
  const [expected, got] = [blocksOf(wanted), blocksOf(nftables)];
  return [...new Set([...expected.keys(), ...got.keys()])].flatMap((part) => {
    const [recorded, listed] = [expected.get(part), got.get(part)];
    if (recorded !== undefined && listed !== undefined) return compareLines(recorded, listed, { part, unit: 'line' });
    return compareText(presence(recorded), presence(listed), part);
  });
}

const presence = (block: readonly string[] | undefined): string => (block === undefined ? 'absent' : 'present');

/** The recorded commands stand in no order; what they refer to has to be there. */
const inOrder = (commands: readonly string[]): string[] =>
  [/^add table /, /^add (?:set|map|chain) /, /^add (?:rule|element) /].flatMap((kind) =>
    commands.filter((command) => kind.test(command)),
  );

/** What `nft list ruleset` prints within each pair of braces, by what it is of: `chain services`. */
function blocksOf(nftables: Nftables): Map<string, string[]> {
  const blocks = new Map<string, string[]>();
  let block: string[] = [];
  for (const line of nftables.list().split('\n')) {
    const [, title] = /^\t?((?:table|set|map|chain) .*) \{$/.exec(line) ?? [];
    if (title !== undefined) blocks.set(title, (block = []));
    else if (!/^\t?\}?$/.test(line)) block.push(line.trim());
  }
  return blocks;
}
