// kube-proxy in iptables mode: keeps the tables of one node in line with the Services of the cluster. Behaviour of
// kube-proxy 1.30.
//
// One proxier serves one family; a dual-stack node has two. When a sync happens, how long it takes and whether
// iptables-restore fails is not decided here (kube-proxy.ts).

import type { RandomStream } from '../../../engine/random.ts';
import { between, type Duration, type Instant, s } from '../../../engine/time.ts';
import { Chain } from '../../netfilter/chain.ts';
import type { RuleTables, TableName } from '../../netfilter/rule-tables.ts';
import { EndpointComments, isLargeCluster } from './endpoint-comments.ts';
import type { ServiceChainCache, ServiceRules } from './iptables-chain-cache.ts';
import { ofFamily } from './iptables-dispatch.ts';
import { jumpsOf, servesLoopback } from './iptables-fixed-chains.ts';
import { chainOptions, type IptablesConfig, type RuleSet, writeRules } from './iptables-rule-set.ts';
import type { ProxyNode } from './port-on-node.ts';
import { ServiceOrder } from './service-order.ts';
import type { ServicePort } from './service-ports.ts';
import { NO_SERVICES, type ServiceSnapshot } from './service-tracker.ts';

export type { IptablesConfig } from './iptables-rule-set.ts';

/** What kube-proxy does without flags on a current Linux. */
export const DEFAULT_IPTABLES_CONFIG: IptablesConfig = {
  family: 4,
  masqueradeAll: false,
  masqueradeBit: 14,
  randomFully: true,
  localDetector: { mode: 'None' },
  nodePortAddresses: [],
  localhostNodePorts: true,
  tcpBeLiberal: false,
  accounts: [],
};

/** What one sync has handed to iptables-restore. */
export interface SyncReport {
  /** A partial sync leaves out the chains of services that have not changed. */
  readonly kind: 'full' | 'partial';
  readonly chainsWritten: number;
  readonly rulesWritten: number;
  /** Chains of services and endpoints that are gone. */
  readonly chainsDeleted: readonly string[];
  /**
   * Metric sync_proxy_rules_no_local_endpoints_total: service ports whose traffic from inside, and from outside, is
   * dropped here because of policy Local.
   */
  readonly noLocalEndpoints: { readonly internal: number; readonly external: number };
}

/** Names of service chains: those that all nodes have in common, and further ones. */
interface ChainNames {
  readonly shared: ReadonlySet<string>;
  readonly own: readonly string[];
}

interface Written extends Pick<SyncReport, 'kind' | 'noLocalEndpoints'> {
  /** Service chains that there were and that might have to go. */
  readonly before: ChainNames;
  readonly ruleSet: RuleSet;
}

export class IptablesProxier {
  readonly #config: IptablesConfig;
  readonly #cache: ServiceChainCache;
  readonly #order: ServiceOrder;
  readonly #comments = new EndpointComments();
  #node: ProxyNode;
  readonly #syncPeriod: Duration;
  #services = NO_SERVICES;
  #needsFullSync = true;
  /** Service chains that no rule leads to any more, and that wait to be deleted. */
  #stale: readonly string[] = [];
  /** When stale chains were last looked for. */
  #cleanedUpAt: Instant | undefined;

  /** `random` belongs to this node alone. */
  constructor(options: {
    readonly node: ProxyNode;
    readonly config: IptablesConfig;
    readonly cache: ServiceChainCache;
    readonly random: RandomStream;
    /** `--iptables-sync-period`: how long stale chains of a large cluster are left alone. */
    readonly syncPeriod?: Duration;
  }) {
    this.#node = options.node;
    this.#config = { ...options.config, localhostNodePorts: servesLoopback(options.config) };
    this.#cache = options.cache;
    this.#order = new ServiceOrder(options.random);
    this.#syncPeriod = options.syncPeriod ?? s(30);
  }

  /** The node has other labels or addresses: the next sync writes all rules. */
  updateNode(node: ProxyNode): void {
    this.#node = node;
    this.#needsFullSync = true;
  }

  /** The last sync has failed: the next one writes all rules. */
  needFullSync(): void {
    this.#needsFullSync = true;
  }

  nextKind(tables: RuleTables): SyncReport['kind'] {
    return this.#needsFullSync || isCanaryGone(tables) ? 'full' : 'partial';
  }

  /** Makes the tables serve these services. Chains of others stay, and so do their rules in the builtin chains. */
  sync(tables: RuleTables, services: ServiceSnapshot, now: Instant): SyncReport {
    const known = this.#services;
    const { kind, before, ruleSet, noLocalEndpoints } = this.write(tables, services, now);
    const written = ruleSet.byPort.filter((_rules, i) => kind === 'full' || !known.has(services.ports[i]!));
    return {
      kind,
      ...countWritten(ruleSet, written),
      chainsDeleted: [...new Set([...before.shared, ...before.own])].filter(
        (name) => tables.chain('nat', name) === undefined,
      ),
      noLocalEndpoints,
    };
  }

  /** The same without the counts of chains and rules, which take a look at every rule. */
  write(tables: RuleTables, services: ServiceSnapshot, now: Instant): Written {
    const kind = this.nextKind(tables);
    const isWritten = (port: ServicePort): boolean => kind === 'full' || !this.#services.has(port);
    const before: ChainNames =
      kind === 'full'
        ? { shared: NO_NAMES, own: tables.chainNames('nat').filter(isServiceChain) }
        : { shared: this.#chainsBesides(services), own: this.#stale };
    if (kind === 'full') this.#comments.writeAll(services);
    else this.#comments.write(services, isWritten);
    const ruleSet = writeRules({
      node: this.#node,
      services,
      config: this.#config,
      cache: this.#cache,
      comments: this.#comments,
      order: this.#order,
    });
    const kept = this.#isCleanupDue(services, now) ? [] : staleChains(tables, ruleSet, before);
    installChains(tables, ruleSet, { before, kept });
    this.#stale = kept.map(({ name }) => name);
    if (kind === 'full') installJumps(tables, this.#config, this.#cache);
    this.#services = services;
    this.#needsFullSync = false;
    return { kind, before, ruleSet, noLocalEndpoints: noLocalEndpointsOf(ruleSet) };
  }

  /** To know all chains it takes an iptables-save, which is dear in a large cluster. */
  #isCleanupDue(services: ServiceSnapshot, now: Instant): boolean {
    const at = this.#cleanedUpAt;
    if (isLargeCluster(services) && at !== undefined && between(at, now) <= this.#syncPeriod) return false;
    this.#cleanedUpAt = now;
    return true;
  }

  /** The chains that this node has for service ports which are not, or no longer the same, in the snapshot. */
  #chainsBesides(services: ServiceSnapshot): ReadonlySet<string> {
    // With or without comments: the names are the same.
    const options = chainOptions(this.#config, { endpointComments: this.#comments.usual });
    return this.#cache.servicesWith(options).chainNames(services.missing(this.#services), this.#node);
  }
}

const NO_NAMES: ReadonlySet<string> = new Set();

const isServiceChain = (name: string): boolean => /^KUBE-(SVC|SVL|EXT|FW|SEP)-/.test(name);

/** Of the chains of these names, those that are there and that the rules do not have any more. */
function staleChains(tables: RuleTables, ruleSet: RuleSet, names: ChainNames): Chain[] {
  const { sharedServiceChains: shared } = ruleSet;
  const own = new Set(ruleSet.ownServiceChains.map(({ name }) => name));
  const gone = [...namesBeside(shared, names.shared), ...names.own.filter((name) => !shared.has(name))];
  return [...new Set(gone)].flatMap((name) => (own.has(name) ? [] : (tables.chain('nat', name) ?? [])));
}

/** By the names. All nodes ask the same, and of a Service with thousands of endpoints one chain may be gone. */
const latestBeside = new WeakMap<
  ReadonlySet<string>,
  { readonly chains: ReadonlyMap<string, Chain>; readonly beside: readonly string[] }
>();

/** Those of the names that none of the chains has. */
function namesBeside(chains: ReadonlyMap<string, Chain>, names: ReadonlySet<string>): readonly string[] {
  let latest = latestBeside.get(names);
  if (latest?.chains !== chains) {
    latest = { chains, beside: [...names].filter((name) => !chains.has(name)) };
    latestBeside.set(names, latest);
  }
  return latest.beside;
}

function installChains(
  tables: RuleTables,
  ruleSet: RuleSet,
  { before, kept }: { readonly before: ChainNames; readonly kept: readonly Chain[] },
): void {
  const stay = new Set([...ruleSet.ownServiceChains, ...kept].map(({ name }) => name));
  const own = new Set(before.own);
  // The rest are in the base alone, which goes as a whole.
  for (const name of tables.touchedChains('nat'))
    if ((own.has(name) || before.shared.has(name)) && !stay.has(name)) tables.deleteChain('nat', name);
  // Before the base goes that they may be of: so they keep what they have counted.
  if (kept.length > 0) tables.replaceChains('nat', kept);
  tables.share('nat', ruleSet.sharedServiceChains);
  tables.replaceChains('nat', [...ruleSet.nat, ...ruleSet.ownServiceChains]);
  tables.replaceChains('filter', ruleSet.filter);
}

/** Empty chains that kube-proxy looks for: if someone has flushed the tables, they are gone, and so are its rules. */
const CANARY_CHAIN = 'KUBE-PROXY-CANARY';
const CANARY_TABLES: readonly TableName[] = ['mangle', 'nat', 'filter'];

const isCanaryGone = (tables: RuleTables): boolean =>
  CANARY_TABLES.some((table) => tables.chain(table, CANARY_CHAIN) === undefined);

function installJumps(tables: RuleTables, config: IptablesConfig, cache: ServiceChainCache): void {
  for (const table of CANARY_TABLES) tables.replaceChains(table, [new Chain(CANARY_CHAIN, [])]);
  for (const { table, from, rule: spec } of jumpsOf(config)) {
    const rule = cache.rule(ofFamily(config.family, spec));
    const present = tables.chain(table, from)?.rules ?? [];
    if (!present.some(({ text }) => text === rule.text)) tables.prependRule(table, from, rule);
  }
}

function countWritten({ filter, nat }: RuleSet, services: readonly ServiceRules[]) {
  const everySync = [...filter, ...nat];
  const chains = services.map(({ clusterChains, nodeChains }) => clusterChains.length + nodeChains.length);
  return {
    chainsWritten: everySync.length + sum(chains),
    rulesWritten: sum(everySync.map(({ rules }) => rules.length)) + sum(services.map(({ ruleCount }) => ruleCount)),
  };
}

/** Counted once for all nodes that have the same rules. */
const knownNoLocalEndpoints = new WeakMap<RuleSet['byPort'], SyncReport['noLocalEndpoints']>();

function noLocalEndpointsOf({ byPort }: RuleSet): SyncReport['noLocalEndpoints'] {
  let known = knownNoLocalEndpoints.get(byPort);
  if (known === undefined) knownNoLocalEndpoints.set(byPort, (known = countNoLocalEndpoints(byPort)));
  return known;
}

function countNoLocalEndpoints(byPort: RuleSet['byPort']): SyncReport['noLocalEndpoints'] {
  let [internal, external] = [0, 0];
  for (const { lacksLocalEndpoints } of byPort) {
    if (lacksLocalEndpoints.internal) internal++;
    if (lacksLocalEndpoints.external) external++;
  }
  return { internal, external };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
