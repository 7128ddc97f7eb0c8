// kube-proxy in nftables mode: keeps table kube-proxy of one node and one family in line with the Services of the cluster.
// Behaviour of kube-proxy 1.35.
//
// Not modelled: two Services that claim one address and port (an error in nft; here the last one has it), failures of nft.
// When a sync happens and how long it takes is not decided here (kube-proxy.ts).

import { type Instant, s } from '../../../engine/time.ts';
import { elementLookup, keyTextOf, setOfElements } from '../../netfilter/nft/element-index.ts';
import { LayeredMap } from '../../netfilter/nft/layered-map.ts';
import type { Nftables } from '../../netfilter/nft/nftables.ts';
import type { NftChain, NftSet, NftTable, SetElement } from '../../netfilter/nft/syntax.ts';
import { giveFacts } from '../../netfilter/nft/table-facts.ts';
import type { IpFamily, Prefix } from '../../packet/ip-address.ts';
import type { LocalDetector } from './local-detector.ts';
import {
  changeBetween,
  isSameElement,
  type NftChainCache,
  operationsOf,
  type PortChange,
  type PortRules,
  type SharedTables,
  type SharedVersion,
  TableChanges,
} from './nftables-chain-cache.ts';
import { NFT_TABLE_NAME, NODE_PORT_IPS, nftFamilyOf, SERVICE_MAPS } from './nftables-fixed-table.ts';
import { type NodePortAddresses, servedOf, servesAllAddresses } from './node-port-addresses.ts';
import { type ProxyNode, variesByNode } from './port-on-node.ts';
import type { ServicePort } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

export interface NftablesConfig {
  readonly family: IpFamily;
  readonly masqueradeAll: boolean;
  readonly masqueradeBit: number;
  readonly localDetector: LocalDetector;
  /** The cluster's ServiceCIDRs; those of the other family mean nothing. */
  readonly serviceRanges: readonly Prefix[];
  /**
   * --nodeport-addresses: node addresses in these ranges serve node ports. `primary`, unlike in iptables mode the default,
   * is the first of the node; 0.0.0.0/0 or ::/0, and no range of the family, is all of them. Loopback never does.
   */
  readonly nodePortAddresses: NodePortAddresses;
}

/** What kube-proxy does without flags. */
export const DEFAULT_NFTABLES_CONFIG: NftablesConfig = {
  family: 4,
  masqueradeAll: false,
  masqueradeBit: 14,
  localDetector: { mode: 'None' },
  serviceRanges: [],
  nodePortAddresses: 'primary',
};

/** What one sync has handed to nft. */
export interface NftSyncReport {
  /** A partial sync leaves out the chains of services that have not changed, and elements of maps that are the same. */
  readonly kind: 'full' | 'partial';
  /** Commands of the transaction. */
  readonly operations: number;
  /** Chains that are not used any more, emptied. */
  readonly chainsEmptied: readonly string[];
  /** Chains that earlier syncs have emptied, in a transaction of their own. */
  readonly chainsDeleted: readonly string[];
}

export class NftablesProxier {
  readonly #config: NftablesConfig;
  readonly #shared: SharedTables;
  #node: ProxyNode;
  #nodePortIps: NftSet | undefined;
  #version: SharedVersion | undefined;
  /** What this node has otherwise than {@link #version}. */
  readonly #own = new Map<ServicePort, PortRules>();
  /** Chains that are empty and will be deleted, and since when. */
  readonly #stale = new Map<string, { readonly chain: NftChain; readonly since: Instant }>();
  #needsFullSync = true;

  constructor(options: {
    readonly node: ProxyNode;
    readonly config: NftablesConfig;
    readonly cache: NftChainCache;
  }) {
    const { node, config, cache } = options;
    this.#config = config;
    this.#shared = cache.tablesWith({ ...config, servesNodePortsEverywhere: servesAllAddresses(config) });
    this.#node = node;
    this.#nodePortIps = this.#setOfNodePortIps();
  }

  /** The node has other labels or addresses: the next sync writes everything. */
  updateNode(node: ProxyNode): void {
    this.#node = node;
    this.#nodePortIps = this.#setOfNodePortIps();
    this.#needsFullSync = true;
  }

  /** The last sync has failed: the next one writes everything. */
  needFullSync(): void {
    this.#needsFullSync = true;
  }

  nextKind(nftables: Nftables): NftSyncReport['kind'] {
    const table = nftables.table(nftFamilyOf(this.#config.family), NFT_TABLE_NAME);
    return this.#needsFullSync || table === undefined || this.#version === undefined ? 'full' : 'partial';
  }

  /** Makes the table serve these services. */
  sync(nftables: Nftables, services: ServiceSnapshot, now: Instant): NftSyncReport {
    const before = nftables.table(nftFamilyOf(this.#config.family), NFT_TABLE_NAME);
    const chainsDeleted = this.#forgetStaleChains(now);
    const version = this.#shared.version(services, this.#node.zone);
    const isFull = before === undefined || this.nextKind(nftables) === 'full';
    const change = isFull ? { gone: [], added: version.varying } : changeTo(version, this.#version!);
    const gone = change.gone.map((port) => this.#own.get(port) ?? this.#shared.elsewhere(port, this.#node.zone));
    if (isFull) this.#own.clear();
    for (const port of change.gone) this.#own.delete(port);
    const added = change.added.map((port) => this.#take(port));
    this.#version = version;
    this.#needsFullSync = false;

    const changes = this.#changesOf(version);
    for (const name of this.#stale.keys()) if (changes.chain(name) !== undefined) this.#stale.delete(name);
    const unsure = isFull ? serviceChainsIn(before) : namesOfChains(gone);
    const chainsEmptied = unsure.filter((name) => changes.chain(name) === undefined && !this.#stale.has(name));
    for (const name of chainsEmptied) {
      this.#stale.set(name, { chain: { ...before!.chains.get(name)!, rules: [] }, since: now });
    }
    for (const { chain } of this.#stale.values()) changes.addChain(chain);
    const content = changes.apply((base, own) => new LayeredMap(base, own));
    const table: NftTable = { ...this.#shared.fixed, ...content, nextHandle: this.#shared.nextHandle };
    const operations = isFull
      ? chainsEmptied.length + this.#fullOperations(version, content)
      : chainsEmptied.length +
        operationsOf(added) +
        elementOperations([...gone, ...added], before, table) +
        affinitySetsGone(gone, table);
    if (operations > 0 || chainsDeleted.length > 0) {
      giveFacts(table, this.#shared.facts);
      nftables.replaceTable(table);
    }
    return { kind: isFull ? 'full' : 'partial', operations, chainsEmptied, chainsDeleted };
  }

  /** The port's rules on this node. */
  #take(port: ServicePort): PortRules {
    const shared = this.#shared.elsewhere(port, this.#node.zone);
    const rules = variesByNode(port) ? this.#shared.onNode(port, this.#node) : shared;
    if (rules !== shared) this.#own.set(port, rules);
    return rules;
  }

  /** What makes this node's table of the one that all have. */
  #changesOf(version: SharedVersion): TableChanges {
    const changes = new TableChanges(version, this.#shared.fixed);
    for (const port of this.#own.keys()) changes.remove(this.#shared.elsewhere(port, this.#node.zone));
    for (const rules of this.#own.values()) changes.add(rules);
    if (this.#nodePortIps !== undefined) changes.addSet(this.#nodePortIps);
    return changes;
  }

  #fullOperations({ operations }: SharedVersion, { elements }: Pick<SharedVersion, 'elements'>): number {
    const hidden = [...this.#own.keys()].map((port) => this.#shared.elsewhere(port, this.#node.zone));
    const ports = operations - operationsOf(hidden) + operationsOf([...this.#own.values()]);
    return this.#shared.fixedCommands + ports + SERVICE_MAPS.reduce((sum, map) => sum + elements[map].size, 0);
  }

  /** The kernel may still refer to a chain for a moment after the last rule that led to it is gone. */
  #forgetStaleChains(now: Instant): string[] {
    const names = [...this.#stale].filter(([, { since }]) => now - since > STALE_CHAIN_AGE).map(([name]) => name);
    for (const name of names) this.#stale.delete(name);
    return names;
  }

  #setOfNodePortIps(): NftSet | undefined {
    const spec = this.#shared.fixed.sets.get(NODE_PORT_IPS);
    if (spec === undefined) return undefined;
    const elements: SetElement[] = servedOf(this.#node.ips, this.#config).map((ip) => ({
      key: [{ first: ip, last: ip }],
    }));
    return setOfElements(spec, new Map(elements.map((element) => [keyTextOf(element), element])));
  }
}

const STALE_CHAIN_AGE = s(1);

const changeTo = (version: SharedVersion, before: SharedVersion): PortChange => {
  if (version.number === before.number) return NO_CHANGE;
  return version.since?.number === before.number
    ? version.since.change
    : changeBetween(before.services, version.services);
};

const NO_CHANGE: PortChange = { gone: [], added: [] };

/** Names of chains that belong to Services have slashes, others have none. */
const serviceChainsIn = (table: NftTable | undefined): string[] =>
  [...(table?.chains.keys() ?? [])].filter((name) => name.includes('/'));

const namesOfChains = (rules: readonly PortRules[]): string[] =>
  rules.flatMap(({ chains }) => chains.map(({ name }) => name));

// ── what it costs nft ────────────────────────────────────────────────────────────────────────────────────────────────

/** An element is added or deleted; one that has another verdict now, both. */
function elementOperations(rules: readonly PortRules[], before: NftTable, after: NftTable): number {
  const counted = new Set<string>();
  let operations = 0;
  for (const { map, key, element } of rules.flatMap(({ entries }) => entries)) {
    if (counted.has(`${map} ${key}`)) continue;
    counted.add(`${map} ${key}`);
    const [was, is] = [find(before, map, element), find(after, map, element)];
    if (!isSameElement(was, is)) operations += was === undefined || is === undefined ? 1 : 2;
  }
  return operations;
}

function find({ sets }: NftTable, map: string, { key }: SetElement): SetElement | undefined {
  const set = sets.get(map);
  return set && elementLookup(set).find(key.map(({ first }) => first));
}

const affinitySetsGone = (gone: readonly PortRules[], { sets }: NftTable): number =>
  gone.flatMap(({ affinitySets }) => affinitySets).filter(({ name }) => !sets.has(name)).length;
