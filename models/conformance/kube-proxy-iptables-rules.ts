// What kube-proxy in iptables mode feeds to iptables-restore: names of chains, probabilities, and whole rule sets.

import { z } from 'zod';
import { RandomStream } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import { endpointChainName, serviceChainNames } from '../kube/kube-proxy/chain-names.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier } from '../kube/kube-proxy/iptables.ts';
import { ServiceChainCache } from '../kube/kube-proxy/iptables-chain-cache.ts';
import { shareOf } from '../kube/kube-proxy/iptables-service-chains.ts';
import { ServiceTracker } from '../kube/kube-proxy/service-tracker.ts';
import { objectFrom } from '../kube/objects.ts';
import { Rule } from '../netfilter/rule.ts';
import { RuleTables, type TableName } from '../netfilter/rule-tables.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import { RuleTextError } from '../netfilter/words.ts';
import { addressAt, formatIp, type IpFamily, parsePrefix } from '../packet/ip-address.ts';
import { syncIptablesNode } from './iptables-node.ts';
import { recordedCase, remarks } from './recorded-case.ts';
import { serviceWithPorts } from './recorded-objects.ts';
import { compareLines, hasCasesWith, ruleFact } from './rule-facts.ts';
import { compareText, type Difference, defineSuite, type Tally } from './suite.ts';

/** `-A CHAIN RULE` */
const ruleLine = z.string().regex(/^-A \S+/, '-A CHAIN and a rule');
const ownerText = { servicePortName: z.string(), protocol: z.enum(['tcp', 'udp', 'sctp']) };
const hashTexts = { hashInput: z.string(), hash: z.string(), seenIn: z.string() };
const texts = <T extends Record<string, z.ZodType>>(fields: T) => z.object(fields).partial().shape;

const namingExample = z.discriminatedUnion(
  'kind',
  [
    z.strictObject({
      ...ownerText,
      ...texts(hashTexts),
      kind: z.literal('service'),
      chains: z.array(z.string()),
    }),
    z.strictObject({
      ...ownerText,
      ...texts(hashTexts),
      kind: z.literal('endpoint'),
      endpoint: z.string(),
      chain: z.string(),
    }),
  ],
  'an example of kind service or endpoint',
);
type NamingExample = z.output<typeof namingExample>;

const probabilityExample = z.strictObject({ n: z.int('a number of endpoints').min(1), text: z.string() });

const largeClusterExample = z.union(
  [z.strictObject({ withComment: ruleLine }), z.strictObject({ withoutComment: ruleLine })],
  'a rule withComment or withoutComment',
);
type LargeClusterExample = z.output<typeof largeClusterExample>;

const savedTable = z.strictObject({
  /** Chains that the sync declares, and thereby flushes. */
  chains: z.array(z.string()),
  rules: z.array(ruleLine),
  deletedChains: z.array(z.string()).default([]),
});
type SavedTable = z.output<typeof savedTable>;

const ruleCase = recordedCase.extend({
  snapshot: z.string().optional(),
  sync: z.enum(['full', 'partial']),
  expected: z.strictObject({ filter: savedTable, nat: savedTable }),
});
type RuleCase = z.output<typeof ruleCase>;

const chainFact = recordedCase.extend({
  snapshot: z.string().optional(),
  table: z.enum(['filter', 'nat']),
  chain: z.string(),
  rules: z.array(ruleLine),
});
type ChainFact = z.output<typeof chainFact>;

const { about, source, note } = remarks;
const content = z.strictObject({
  about: about.optional(),
  note,
  sources: z.record(z.string(), z.string()).optional(),
  ordering: z.string().optional(),
  naming: z
    .strictObject({
      algorithm: z.string().optional(),
      prefixes: z.record(z.string(), z.string()).optional(),
      examples: z.array(namingExample),
    })
    .default({ examples: [] }),
  probability: z
    .strictObject({ source, rule: z.string().optional(), examples: z.array(probabilityExample) })
    .default({ examples: [] }),
  largeCluster: z
    .strictObject({
      source,
      fact: z.string().optional(),
      thresholdEndpoints: z.int('a number of endpoints').min(1),
      examples: z.array(largeClusterExample),
    })
    .optional(),
  cases: z.array(ruleCase).default([]),
  chainFacts: z.array(chainFact).default([]),
});

export const kubeProxyIptablesRules = defineSuite({
  name: 'kube-proxy-iptables-rules',
  unit: 'facts',
  content: 'an object with naming, probability, largeCluster, cases with expected rules, or chainFacts',
  schema: content,
  recognises: (value) =>
    value instanceof Object &&
    ('probability' in value || 'largeCluster' in value || 'chainFacts' in value || hasCasesWith('expected', value)),
  check: ({ naming, probability, largeCluster, cases, chainFacts }, tally) => {
    for (const example of naming.examples) checkName(example, tally);
    for (const { n, text } of probability.examples) {
      tally.fact(`the first of ${n} endpoints`, compareText(text, shareOf(n).toFixed(10)));
    }
    for (const example of largeCluster?.examples ?? []) {
      checkLargeCluster(example, { threshold: largeCluster!.thresholdEndpoints, naming: naming.examples }, tally);
    }
    for (const recorded of cases) ruleFact('iptables', recorded, tally, () => ruleDifferences(recorded));
    for (const recorded of chainFacts) ruleFact('iptables', recorded, tally, () => chainDifferences(recorded));
  },
});

// ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function checkName(example: NamingExample, tally: Tally): void {
  const owner = { name: example.servicePortName, protocol: example.protocol };
  if (example.kind === 'endpoint') {
    const fact = `chain of ${owner.name} ${owner.protocol} at ${example.endpoint}`;
    tally.fact(fact, compareText(example.chain, endpointChainName(owner, example.endpoint)));
  } else {
    const { cluster, local, external, firewall } = serviceChainNames(owner);
    const got = [cluster, local, external, firewall].join(', ');
    tally.fact(`chains of ${owner.name} ${owner.protocol}`, compareText(example.chains.join(', '), got));
  }
}

// ── rule sets ────────────────────────────────────────────────────────────────────────────────────────────────────────

function ruleDifferences(recorded: RuleCase): Difference[] {
  const { config, expected, sync } = recorded;
  const { tables, report } = syncIptablesNode(recorded, { isFull: sync === 'full' });
  const { filter, nat } = expected;
  const written = filter.rules.length + nat.rules.length;
  const deleted = [...filter.deletedChains, ...nat.deletedChains];
  // A chain that is deleted is declared first.
  const declared = filter.chains.length + nat.chains.length - deleted.length;
  return [
    ...tableDifferences(tables, 'filter', filter, { family: config.ipFamily, isComplete: sync === 'full' }),
    ...tableDifferences(tables, 'nat', nat, { family: config.ipFamily, isComplete: sync === 'full' }),
    ...compareText(sync, report.kind, 'kind of sync'),
    ...compareText(`${declared}`, `${report.chainsWritten}`, 'chains written'),
    ...compareText(`${written}`, `${report.rulesWritten}`, 'rules written'),
    ...compareText(deleted.sort().join(), [...report.chainsDeleted].sort().join(), 'chains deleted'),
  ];
}

/** Chain by chain, after the sync. */
function tableDifferences(
  tables: RuleTables,
  table: TableName,
  { chains, rules, deletedChains }: SavedTable,
  { family, isComplete }: { readonly family: IpFamily; readonly isComplete: boolean },
): Difference[] {
  const remaining = chains.filter((name) => !deletedChains.includes(name));
  const differences = remaining.flatMap((name) => {
    const part = `table ${table}, chain ${name}`;
    if (tables.chain(table, name) === undefined) return compareText('the chain', 'no such chain', part);
    return compareLines(canonicalRules(rules, name, family), rulesOf(tables, table, name), { part, unit: 'rule' });
  });
  if (!isComplete) return differences;
  const own = ownChains(tables, table).join(', ');
  return [...differences, ...compareText([...remaining].sort().join(', '), own, `chains of table ${table}`)];
}

function chainDifferences(recorded: ChainFact): Difference[] {
  const { tables } = syncIptablesNode(recorded);
  const { table, chain, rules, config } = recorded;
  const expected = canonicalRules(rules, chain, config.ipFamily);
  return compareLines(expected, rulesOf(tables, table, chain), { part: `chain ${chain}`, unit: 'rule' });
}

/** The rules of one chain in iptables-save's words. */
function canonicalRules(lines: readonly string[], chain: string, family: IpFamily): readonly string[] {
  const ofChain = lines.filter((line) => line === `-A ${chain}` || line.startsWith(`-A ${chain} `));
  return inOrderOfServices(
    chain,
    ofChain.map((line) => canonicalRule(line.slice(`-A ${chain} `.length), family)),
  );
}

/** What cannot be read is compared as it is. */
function canonicalRule(text: string, family: IpFamily): string {
  try {
    return new Rule(parseRule(text, { family })).text;
  } catch (error) {
    if (error instanceof RuleTextError || error instanceof RangeError) return text;
    throw error;
  }
}

const rulesOf = (tables: RuleTables, table: TableName, chain: string): readonly string[] =>
  inOrderOfServices(chain, tables.chain(table, chain)?.rules.map(({ text }) => text) ?? []);

/** kube-proxy writes services into these in random order; the rules of one service have theirs. */
const SHARED_CHAINS = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-EXTERNAL-SERVICES', 'KUBE-PROXY-FIREWALL'];

function inOrderOfServices(chain: string, rules: readonly string[]): readonly string[] {
  if (!SHARED_CHAINS.includes(chain)) return rules;
  const serviceOf = (rule: string): string => /--comment "?([^ :"]+)/.exec(rule)?.[1] ?? '';
  const isLast = (rule: string): number => (rule.endsWith('-j KUBE-NODEPORTS') ? 1 : 0);
  return [...rules].sort((a, b) => isLast(a) - isLast(b) || compareWords(serviceOf(a), serviceOf(b)));
}

const compareWords = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** The chains that iptables-restore was given; the canary is made apart. */
const ownChains = (tables: RuleTables, table: TableName): string[] =>
  tables.chainNames(table).filter((name) => name.startsWith('KUBE-') && name !== 'KUBE-PROXY-CANARY');

// ── large clusters ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The rule of an endpoint, in a cluster that is just small enough for comments, or just too large. */
function checkLargeCluster(
  example: LargeClusterExample,
  { threshold, naming }: { readonly threshold: number; readonly naming: readonly NamingExample[] },
  tally: Tally,
): void {
  const line = 'withComment' in example ? example.withComment : example.withoutComment;
  const endpointCount = 'withComment' in example ? threshold : threshold + 1;
  const [, chain = '', text = ''] = /^-A (\S+) (.*)$/.exec(line) ?? [];
  const [, ip, port] = / --to-destination (\d+\.\d+\.\d+\.\d+):(\d+)$/.exec(text) ?? [];
  if (ip === undefined) return tally.notModelled('rules of large clusters that are not for one IPv4 endpoint');
  const endpoint = `${ip}:${port}`;
  const names = [FIRST_SERVICE, ...naming.map(({ servicePortName }) => servicePortName)];
  const isOwner = (name: string): boolean => endpointChainName({ name, protocol: 'tcp' }, endpoint) === chain;
  // Whose endpoint it is stands in a comment only. Of a service that nothing names, the chain has another name.
  const name = names.find(isOwner) ?? FIRST_SERVICE;
  const tables = largeCluster({ name, ip, port: Number(port), endpointCount });
  const got = rulesOf(tables, 'nat', endpointChainName({ name, protocol: 'tcp' }, endpoint)).at(-1);
  tally.fact(`in a cluster of ${endpointCount} endpoints: ${line}`, compareText(canonicalRule(text, 4), `${got}`));
}

const FIRST_SERVICE = 'ns1/svc1:p80';

/** The rules of a node in a cluster of one service, whose first endpoint this is. */
function largeCluster(options: {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly endpointCount: number;
}): RuleTables {
  const [namespace = '', name = '', portName = ''] = options.name.split(/[/:]/);
  const others = Array.from({ length: options.endpointCount - 1 }, (_, i) => formatIp(addressAt(OTHER_ENDPOINTS, i)));
  const slice = objectFrom('EndpointSlice', {
    metadata: { namespace, name, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: [options.ip, ...others].map((address) => ({ addresses: [address] })),
    ports: [{ name: portName, port: options.port }],
  });
  const tracker = new ServiceTracker();
  const service = serviceWithPorts({ namespace, name }, [{ name: portName || undefined, protocol: 'TCP' }]);
  tracker.apply({ type: 'ADDED', object: service });
  tracker.apply({ type: 'ADDED', object: slice });
  const tables = new RuleTables();
  new IptablesProxier({
    node: { name: 'node', zone: undefined, ips: [] },
    config: DEFAULT_IPTABLES_CONFIG,
    cache: new ServiceChainCache(),
    random: new RandomStream('large cluster'),
  }).sync(tables, tracker.snapshot(), START);
  return tables;
}

/** Of no recorded endpoint. */
const OTHER_ENDPOINTS = parsePrefix('10.128.0.0/9');
