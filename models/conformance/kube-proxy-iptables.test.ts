// kube-proxy's recorded rules and packet outcomes (README.md) against ours. Left out: IPv6, nftables,
// and a feature gate that can no longer be turned off.

import { describe, expect, test } from 'vitest';
import { RandomStream } from '../../engine/random.ts';
import {
  DEFAULT_IPTABLES_CONFIG,
  type IptablesConfig,
  IptablesProxier,
  type SyncReport,
} from '../kube/kube-proxy/iptables.ts';
import { ServiceChainCache } from '../kube/kube-proxy/iptables-chain-cache.ts';
import { shareOf } from '../kube/kube-proxy/iptables-service-chains.ts';
import { ServiceTracker } from '../kube/kube-proxy/service-tracker.ts';
import { describeObject, type EndpointSlice, type KubeObject, objectFrom, type Service } from '../kube/objects.ts';
import { Rule } from '../netfilter/rule.ts';
import { RuleTables, type TableName } from '../netfilter/rule-tables.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import { type Ip, isIpv4, isLoopback, parseIp, parsePrefix } from '../packet/ip-address.ts';
import { exploreFlow } from './flow-explorer.ts';
import {
  type RecordedCase,
  type RecordedConfig,
  type RecordedObjects,
  type RecordedTable,
  readFlowCases,
  readIptablesRuleFacts,
} from './kube-proxy-facts.ts';

const { cases, chainFacts, probability } = readIptablesRuleFacts();
const isModelled = ({ mode, config }: { mode: string; config: RecordedConfig }): boolean =>
  mode === 'iptables' && config.ipFamily === 'IPv4' && config.featureGates.LoadBalancerIPMode !== false;

describe('recorded rules', () => {
  test.each(cases.filter(isModelled))('$id: $about', (recorded) => {
    const { tables, report } = syncedNode(recorded);
    const filter = recordedChains(recorded.expected.filter);
    const nat = recordedChains(recorded.expected.nat);
    for (const [table, chains] of [
      ['filter', filter],
      ['nat', nat],
    ] as const) {
      for (const [name, rules] of chains) {
        expect({ name, rules: comparable(name, rulesOf(tables, table, name)) }).toEqual({ name, rules });
      }
      if (recorded.sync === 'full') expect(ownChains(tables, table)).toEqual([...chains.keys()].sort());
    }
    expect({ ...report, chainsDeleted: [...report.chainsDeleted].sort() }).toMatchObject({
      kind: recorded.sync,
      chainsWritten: filter.size + nat.size,
      rulesWritten: [...filter.values(), ...nat.values()].flat().length,
      chainsDeleted: recorded.expected.nat.deletedChains ?? [],
    });
  });

  test.each(chainFacts.filter(isModelled))('$id: $about', (recorded) => {
    const { tables } = syncedNode(recorded);
    const ours = rulesOf(tables, recorded.table, recorded.chain);
    expect(ours).toEqual(recorded.rules.map((line) => canonicalLine(line)?.rule));
  });

  test.each(probability.examples)('the first of $n endpoints gets $text of the connections', ({ n, text }) => {
    expect(shareOf(n).toFixed(10)).toBe(text);
  });
});

describe('recorded flows', () => {
  for (const recorded of readFlowCases().filter(isModelled)) {
    describe(recorded.id, () => {
      test.each(recorded.flows)('$about', (flow) => {
        const { tables } = syncedNode(recorded);
        const ownIps = ipv4(recorded.config.nodeIPs);
        const outcomes = exploreFlow(tables, flow, (ip) => ownIps.includes(ip) || isLoopback(ip));
        const { expect: expected } = flow;
        if ('endpoints' in expected) {
          expect(new Set(outcomes.map(({ endpoint }) => endpoint))).toEqual(new Set(expected.endpoints));
          expect(outcomes.some(({ masqueraded }) => masqueraded)).toBe(flow.masquerade);
          expect(outcomes.every(({ verdict }) => verdict === 'ACCEPT')).toBe(true);
        } else {
          const verdict = expected.verdict === 'ACCEPT-UNCHANGED' ? 'ACCEPT' : expected.verdict;
          const byRule = verdict !== 'ACCEPT' || expected.explicitAccept === true;
          expect(outcomes).toEqual([{ verdict, endpoint: undefined, masqueraded: false, byRule }]);
        }
      });
    });
  }
});

/** Syncs what was there before, if anything was, and then what is recorded. */
function syncedNode(recorded: RecordedCase): { tables: RuleTables; report: SyncReport } {
  const { config, before = { services: [], endpointSlices: [] } } = recorded;
  const proxier = new IptablesProxier({
    node: { name: config.nodeName, zone: undefined, ips: ipv4(config.nodeIPs) },
    config: configOf(config),
    cache: new ServiceChainCache(),
    random: new RandomStream(recorded.id),
  });
  const tables = new RuleTables();
  const tracker = new ServiceTracker();
  const [earlier, now] = [objectsOf(before), objectsOf(recorded)];
  if (earlier.length > 0) {
    for (const object of earlier) tracker.apply({ type: 'ADDED', object });
    proxier.sync(tables, tracker.snapshot());
  }
  const isGone = (object: KubeObject): boolean =>
    !now.some((other) => describeObject(other) === describeObject(object));
  for (const object of earlier.filter(isGone)) tracker.apply({ type: 'DELETED', object });
  for (const object of now) tracker.apply({ type: 'MODIFIED', object });
  return { tables, report: proxier.sync(tables, tracker.snapshot()) };
}

const objectsOf = ({ services, endpointSlices }: RecordedObjects): (Service | EndpointSlice)[] => [
  ...services.map((manifest) => objectFrom('Service', manifest)),
  ...endpointSlices.map((manifest) => objectFrom('EndpointSlice', manifest)),
];

function configOf(recorded: RecordedConfig): IptablesConfig {
  const { localDetector: detector } = recorded;
  return {
    ...DEFAULT_IPTABLES_CONFIG,
    masqueradeAll: recorded.masqueradeAll,
    localDetector:
      detector.kind === 'none' ? { mode: 'None' } : { mode: 'ClusterCIDR', cidr: parsePrefix(detector.cidr) },
    nodePortAddresses: (recorded.nodePortAddresses ?? []).filter((range) => !range.includes(':')).map(parsePrefix),
    localhostNodePorts: recorded.localhostNodePorts,
    tcpBeLiberal: recorded.conntrackTCPLiberal,
    randomFully: recorded.iptablesHasRandomFully ?? false,
  };
}

const ipv4 = (addresses: readonly string[]): Ip[] => addresses.filter(isIpv4).map(parseIp);

/** The rules that are left after the sync, by chain, in iptables-save's words. */
function recordedChains({ chains, rules, deletedChains = [] }: RecordedTable): Map<string, readonly string[]> {
  const remaining = chains.filter((name) => !deletedChains.includes(name));
  const lines = rules.map(canonicalLine);
  return new Map(
    remaining.map((name) => [
      name,
      comparable(
        name,
        lines.flatMap((line) => (line?.chain === name ? [line.rule] : [])),
      ),
    ]),
  );
}

/**
 * Undefined for a rule that is not modelled: accounting (nfacct) of node ports on loopback, in front of the rule that
 * serves node ports everywhere.
 */
function canonicalLine(line: string): { chain: string; rule: string } | undefined {
  const [, chain = '', text = ''] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
  const nfacct = / -m nfacct --nfacct-name (\S+)/.exec(text);
  if (nfacct?.[1] === 'localhost_nps_accepted_pkts') return undefined;
  return { chain, rule: new Rule(parseRule(text.replace(nfacct?.[0] ?? '', ''))).text };
}

/** kube-proxy writes services into these chains in random order. */
const comparable = (chain: string, rules: readonly string[]): readonly string[] =>
  chain === 'KUBE-SERVICES' || chain === 'KUBE-NODEPORTS' ? [...rules].sort() : rules;

const rulesOf = (tables: RuleTables, table: TableName, chain: string): string[] =>
  tables.chain(table, chain)?.rules.map(({ text }) => text) ?? [];

/** The chains that iptables-restore was given; the canary is made apart. */
const ownChains = (tables: RuleTables, table: TableName): string[] =>
  tables.chainNames(table).filter((name) => name.startsWith('KUBE-') && name !== 'KUBE-PROXY-CANARY');
