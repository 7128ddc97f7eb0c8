// Chains, sets and elements that the nodes of a cluster have in common are one object each, made once, and so are the Maps
// that hold them: a node's table is the shared one with a few changes. The shared table follows the Services version by
// version, and a version costs what changed since the one before.

import { IPV4_ADDR, IPV6_ADDR } from '../../netfilter/nft/datatype.ts';
import { keyTextOf, setOfElements } from '../../netfilter/nft/element-index.ts';
import { withChanges } from '../../netfilter/nft/layered-map.ts';
import { readRule } from '../../netfilter/nft/read-rule.ts';
import type { NftChain, NftRule, NftSet, NftTable, SetElement } from '../../netfilter/nft/syntax.ts';
import { factsOf, type TableFacts } from '../../netfilter/nft/table-facts.ts';
import { TokenReader, tokenize } from '../../netfilter/nft/tokens.ts';
import { DYNAMIC_SET_SIZE } from '../../netfilter/nft/transaction.ts';
import { EndpointLists } from './endpoint-lists.ts';
import {
  type FixedTableSettings,
  fixedTable,
  nftFamilyOf,
  SERVICE_MAPS,
  type ServiceMap,
} from './nftables-fixed-table.ts';
import { nftEndpointNames } from './nftables-names.ts';
import { mapEntries, type NftServiceOptions, serviceChains } from './nftables-service-rules.ts';
import { PortOnNode, type ProxyNode, variesByNode } from './port-on-node.ts';
import { type Endpoint, isSamePort, type ServicePort } from './service-ports.ts';
import type { ServiceSnapshot } from './service-tracker.ts';

export type SharedTableSettings = FixedTableSettings & NftServiceOptions;

/** Everything that one service port adds to a node's table. Immutable. */
export interface PortRules {
  readonly chains: readonly NftChain[];
  readonly affinitySets: readonly NftSet[];
  readonly entries: readonly KeyedEntry[];
  /** Commands that write the chains and sets. */
  readonly operations: number;
}

export interface KeyedEntry {
  readonly map: ServiceMap;
  /** Of the element, as text. */
  readonly key: string;
  readonly element: SetElement;
}

/** One for all proxiers of a cluster. */
export class NftChainCache {
  readonly #tables = new Map<string, SharedTables>();

  tablesWith(settings: SharedTableSettings): SharedTables {
    const key = JSON.stringify(settings);
    let tables = this.#tables.get(key);
    if (tables === undefined) this.#tables.set(key, (tables = new SharedTables(settings)));
    return tables;
  }
}

/** The table, at one state of the Services, of a node of some zone that hosts no endpoint. */
export interface SharedVersion {
  readonly number: number;
  readonly services: ServiceSnapshot;
  /** What has changed since that version of the same zone. */
  readonly since: { readonly number: number; readonly change: PortChange } | undefined;
  /** Ports for which each node has to look for itself. */
  readonly varying: readonly ServicePort[];
  /** Commands for the chains and sets of all ports. */
  readonly operations: number;
  readonly chains: ReadonlyMap<string, NftChain>;
  readonly sets: ReadonlyMap<string, NftSet>;
  readonly elements: Readonly<Record<ServiceMap, ReadonlyMap<string, SetElement>>>;
}

export interface PortChange {
  readonly gone: readonly ServicePort[];
  readonly added: readonly ServicePort[];
}

export function changeBetween(before: ServiceSnapshot, after: ServiceSnapshot): PortChange {
  return {
    gone: before.ports.filter((port) => !after.has(port)),
    added: after.ports.filter((port) => !before.has(port)),
  };
}

/** The tables of proxiers with the same settings. */
export class SharedTables {
  readonly fixed: NftTable;
  readonly fixedCommands: number;
  readonly facts: TableFacts;
  readonly #compiler: PortCompiler;
  readonly #byPort = new WeakMap<ServicePort, PortVariants>();
  /** The latest of each service port, for proxiers whose snapshots come from different watchers. */
  readonly #latest = new Map<string, PortVariants>();
  readonly #zones = new Map<string | undefined, Zone>();
  #versions = 0;

  constructor(settings: SharedTableSettings) {
    const { table, commands } = fixedTable(settings);
    this.fixed = table;
    this.fixedCommands = commands;
    this.facts = factsOf(table);
    this.#compiler = new PortCompiler(settings, table.nextHandle);
  }

  /** Of the next object that a table gets. */
  get nextHandle(): number {
    return this.#compiler.nextHandle;
  }

  onNode(port: ServicePort, node: ProxyNode): PortRules {
    let variants = this.#byPort.get(port);
    if (variants === undefined) this.#byPort.set(port, (variants = this.#variantsOf(port)));
    return variants.on(node);
  }

  /** What {@link version} has of the port: what a node without endpoints of its own would have. */
  elsewhere(port: ServicePort, zone: string | undefined): PortRules {
    const { elsewhere } = this.#zone(zone);
    let rules = elsewhere.get(port);
    if (rules === undefined) elsewhere.set(port, (rules = this.onNode(port, { name: '', zone, ips: [] })));
    return rules;
  }

  version(services: ServiceSnapshot, zone: string | undefined): SharedVersion {
    const versions = this.#zone(zone);
    let version = versions.known.get(services);
    if (version === undefined) {
      version = this.#follow(versions.latest, services, zone);
      versions.known.set(services, version);
      versions.latest = version;
    }
    return version;
  }

  #zone(name: string | undefined): Zone {
    let zone = this.#zones.get(name);
    if (zone === undefined) {
      this.#zones.set(name, (zone = { latest: undefined, known: new WeakMap(), elsewhere: new WeakMap() }));
    }
    return zone;
  }

  #variantsOf(port: ServicePort): PortVariants {
    const key = `${port.name}/${port.protocol}`;
    const latest = this.#latest.get(key);
    if (latest !== undefined && isSamePort(latest.port, port)) return latest;
    const variants = new PortVariants(port, this.#compiler, latest);
    this.#latest.set(key, variants);
    return variants;
  }

  #follow(before: SharedVersion | undefined, services: ServiceSnapshot, zone: string | undefined): SharedVersion {
    const change =
      before === undefined ? { gone: [], added: services.ports } : changeBetween(before.services, services);
    const changes = new TableChanges(before ?? this.#empty(), this.fixed);
    const gone = change.gone.map((port) => this.elsewhere(port, zone));
    const added = change.added.map((port) => this.elsewhere(port, zone));
    for (const rules of gone) changes.remove(rules);
    for (const rules of added) changes.add(rules);
    return {
      number: ++this.#versions,
      services,
      since: before && { number: before.number, change },
      varying: this.#varying(before?.varying ?? [], change),
      operations: (before?.operations ?? 0) + operationsOf(added) - operationsOf(gone),
      ...changes.apply(withChanges),
    };
  }

  #varying(before: readonly ServicePort[], { gone, added }: PortChange): readonly ServicePort[] {
    const come = added.filter((port) => variesByNode(port));
    const leave = new Set(gone.filter((port) => variesByNode(port)));
    if (come.length === 0 && leave.size === 0) return before;
    return [...before.filter((port) => !leave.has(port)), ...come];
  }

  #empty(): TableContent {
    const { chains, sets } = this.fixed;
    return { chains, sets, elements: recordOfMaps(() => NO_ELEMENTS) };
  }
}

interface Zone {
  latest: SharedVersion | undefined;
  readonly known: WeakMap<ServiceSnapshot, SharedVersion>;
  readonly elsewhere: WeakMap<ServicePort, PortRules>;
}

/** Commands that write chains and sets. */
export const operationsOf = (ports: readonly PortRules[]): number =>
  ports.reduce((sum, { operations }) => sum + operations, 0);

const NO_ELEMENTS: ReadonlyMap<string, SetElement> = new Map();

const recordOfMaps = <T>(of: (map: ServiceMap) => T): Record<ServiceMap, T> =>
  Object.fromEntries(SERVICE_MAPS.map((map) => [map, of(map)])) as Record<ServiceMap, T>;

// ── changes of a table ───────────────────────────────────────────────────────────────────────────────────────────────

type TableContent = Pick<SharedVersion, 'chains' | 'sets' | 'elements'>;

/** `withChanges` for the next version of a Map, `LayeredMap` for one of several that have the same base. */
type Layering = <V>(
  base: ReadonlyMap<string, V>,
  changes: ReadonlyMap<string, V | undefined>,
) => ReadonlyMap<string, V>;

/** Takes the rules of service ports out of a table and puts others in: first all that go, then all that come. */
export class TableChanges {
  readonly #before: TableContent;
  readonly #fixed: NftTable;
  readonly #chains = new Map<string, NftChain | undefined>();
  readonly #sets = new Map<string, NftSet | undefined>();
  readonly #elements: Readonly<Record<ServiceMap, Map<string, SetElement | undefined>>>;

  /** `fixed` has the service maps without elements. */
  constructor(before: TableContent, fixed: NftTable) {
    this.#before = before;
    this.#fixed = fixed;
    this.#elements = recordOfMaps(() => new Map());
  }

  remove({ chains, affinitySets, entries }: PortRules): void {
    for (const { name } of chains) this.#chains.set(name, undefined);
    for (const { name } of affinitySets) this.#sets.set(name, undefined);
    for (const { map, key } of entries) this.#elements[map].set(key, undefined);
  }

  add({ chains, affinitySets, entries }: PortRules): void {
    for (const chain of chains) put(this.#before.chains, this.#chains, chain.name, chain);
    for (const set of affinitySets) put(this.#before.sets, this.#sets, set.name, set);
    for (const { map, key, element } of entries) {
      const known = this.#before.elements[map].get(key);
      put(this.#before.elements[map], this.#elements[map], key, isSameElement(known, element) ? known! : element);
    }
  }

  /** As it stands after the changes so far. */
  chain(name: string): NftChain | undefined {
    return this.#chains.has(name) ? this.#chains.get(name) : this.#before.chains.get(name);
  }

  addChain(chain: NftChain): void {
    put(this.#before.chains, this.#chains, chain.name, chain);
  }

  addSet(set: NftSet): void {
    this.#sets.set(set.name, set);
  }

  apply(layering: Layering): TableContent {
    const layered: Layering = (base, changes) => (changes.size === 0 ? base : layering(base, changes));
    const { chains, sets, elements } = this.#before;
    const after = recordOfMaps((map) => layered(elements[map], this.#elements[map]));
    for (const map of SERVICE_MAPS) {
      if (after[map] !== elements[map]) this.#sets.set(map, setOfElements(this.#fixed.sets.get(map)!, after[map]));
    }
    return { chains: layered(chains, this.#chains), sets: layered(sets, this.#sets), elements: after };
  }
}

/** What is there already and stays is no change. */
function put<V>(before: ReadonlyMap<string, V>, changes: Map<string, V | undefined>, key: string, value: V): void {
  if (before.get(key) === value) changes.delete(key);
  else changes.set(key, value);
}

/** Same verdict for the same key. */
export function isSameElement(a: SetElement | undefined, b: SetElement | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.data?.kind !== 'verdict' || b.data?.kind !== 'verdict') return a.data === b.data;
  const [one, other] = [a.data.verdict, b.data.verdict];
  return one.code === other.code && chainOf(one) === chainOf(other);
}

const chainOf = (verdict: { readonly code: string; readonly chain?: string }): string | undefined => verdict.chain;

// ── from text to rules ───────────────────────────────────────────────────────────────────────────────────────────────

/** The rules of one service port, by what tells nodes apart. */
class PortVariants {
  readonly port: ServicePort;
  readonly #compiler: PortCompiler;
  readonly #variants = new Map<string, PortRules>();
  readonly #chains = new Map<string, NftChain>();
  readonly #entries = new Map<string, KeyedEntry>();
  /** By endpoint. They outlive changes of the Service: `add set` leaves one alone that is there, with its elements. */
  readonly #affinitySets: ReadonlyMap<string, NftSet>;
  readonly #lists = new EndpointLists();

  constructor(port: ServicePort, compiler: PortCompiler, before: PortVariants | undefined) {
    this.port = port;
    this.#compiler = compiler;
    const seconds = port.affinityTimeoutSeconds;
    const earlier =
      before !== undefined && before.port.affinityTimeoutSeconds === seconds ? before.#affinitySets : undefined;
    const setOf = (endpoint: Endpoint): NftSet =>
      earlier?.get(endpoint.address) ?? compiler.affinitySet(port, endpoint);
    this.#affinitySets = new Map(
      seconds === undefined ? [] : port.endpoints.map((endpoint) => [endpoint.address, setOf(endpoint)]),
    );
  }

  on(node: ProxyNode): PortRules {
    const on = new PortOnNode(this.port, node);
    const variant = `${this.#lists.numberOf(on.usable.cluster)} ${this.#lists.numberOf(on.usable.local)} ${on.nodeIsInSourceRanges}`;
    let rules = this.#variants.get(variant);
    if (rules === undefined) this.#variants.set(variant, (rules = this.#compile(on)));
    return rules;
  }

  #compile(on: PortOnNode): PortRules {
    const chains = serviceChains(on, this.#compiler.settings).map(({ name, rules }) =>
      known(this.#chains, [name, ...rules].join('\n'), () => this.#compiler.chain(name, rules)),
    );
    const affinitySets = on.usable.reachable.flatMap(({ address }) => this.#affinitySets.get(address) ?? []);
    return {
      chains,
      affinitySets,
      // A chain is added and flushed before its rules are; a set is added.
      operations: chains.reduce((sum, { rules }) => sum + 2 + rules.length, affinitySets.length),
      entries: mapEntries(on).map(({ map, element }) => {
        const key = keyTextOf(element);
        return known(this.#entries, `${map} ${key} ${JSON.stringify(element.data)}`, () => ({ map, key, element }));
      }),
    };
  }
}

function known<V>(values: Map<string, V>, key: string, make: () => V): V {
  let value = values.get(key);
  if (value === undefined) values.set(key, (value = make()));
  return value;
}

/** Chains from text. Their handles are unique in a cluster, though the kernel would count in every table. */
class PortCompiler {
  readonly settings: SharedTableSettings;
  nextHandle: number;

  constructor(settings: SharedTableSettings, nextHandle: number) {
    this.settings = settings;
    this.nextHandle = nextHandle;
  }

  chain(name: string, rules: readonly string[]): NftChain {
    return { name, handle: this.nextHandle++, rules: rules.map((text) => this.#rule(text)) };
  }

  #rule(text: string): NftRule {
    const reader = new TokenReader(tokenize(text, 'kube-proxy'), 'kube-proxy');
    return { ...readRule(reader, { family: nftFamilyOf(this.settings.family) }), handle: this.nextHandle++ };
  }

  affinitySet(port: ServicePort, endpoint: Endpoint): NftSet {
    return {
      name: nftEndpointNames(port, endpoint).affinity,
      keyTypes: [port.family === 6 ? IPV6_ADDR : IPV4_ADDR],
      flags: ['dynamic', 'timeout'],
      timeoutMs: 1_000 * (port.affinityTimeoutSeconds ?? 0),
      size: DYNAMIC_SET_SIZE,
      elements: [],
      handle: this.nextHandle++,
    };
  }
}
