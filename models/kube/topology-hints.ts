// Hints in EndpointSlices: which zone's or node's clients an endpoint is for. Two ways to them, as in k8s.io/endpointslice:
//
// - trafficDistribution: each ready endpoint is for its own zone, PreferSameNode also for its own node;
// - the annotation `service.kubernetes.io/topology-mode: Auto`: zones get endpoints in proportion to their CPUs, some from
//   other zones if need be, and no hints at all if an endpoint would be overloaded by more than 20 % (topologycache).
//
// Go walks its maps of zones in random order; here the order is that in which zones are first seen.

import { type Endpoint, isNodeReady, type Node, type Service } from './objects.ts';
import type { SliceDraft } from './slice-packing.ts';

export const ZONE_LABEL = 'topology.kubernetes.io/zone';

export type TrafficDistribution = NonNullable<Service['spec']['trafficDistribution']>;

/** How the endpoints of a Service are hinted; the annotation goes before trafficDistribution. */
export function hintModeOf({ metadata, spec }: Service): 'Auto' | TrafficDistribution | undefined {
  const mode = metadata.annotations[OLD_ANNOTATION] ?? metadata.annotations[ANNOTATION];
  return mode === 'Auto' || mode === 'auto' ? 'Auto' : spec.trafficDistribution;
}

const ANNOTATION = 'service.kubernetes.io/topology-mode';
const OLD_ANNOTATION = 'service.kubernetes.io/topology-aware-hints';

export type GiveHints = (endpoint: Endpoint, hints: Endpoint['hints']) => Endpoint;

/** Takes the hints off; a draft that had none stays as it is. */
export function removeHints(drafts: readonly SliceDraft[], give: GiveHints): void {
  for (const draft of drafts) rewrite(draft, () => undefined, give);
}

/** Hints of trafficDistribution (preferCloseHeuristic). An endpoint that is not ready keeps what it has. */
export function hintClose(drafts: readonly SliceDraft[], mode: TrafficDistribution, give: GiveHints): void {
  for (const draft of drafts) {
    rewrite(
      draft,
      ({ conditions, zone, nodeName, hints }) => {
        if (conditions.ready !== true) return hints;
        const forZones = zone === undefined ? undefined : [{ name: zone }];
        const forNodes = mode === 'PreferSameNode' && nodeName !== undefined ? [{ name: nodeName }] : undefined;
        return forZones === undefined && forNodes === undefined ? undefined : hintsFor(forZones, forNodes);
      },
      give,
    );
  }
}

type Names = readonly { readonly name: string }[] | undefined;

const hintsFor = (forZones: Names, forNodes?: Names): Endpoint['hints'] => ({
  ...(forZones && { forZones }),
  ...(forNodes && { forNodes }),
});

function rewrite(draft: SliceDraft, hintsOf: (endpoint: Endpoint) => Endpoint['hints'], give: GiveHints): void {
  for (const [index, endpoint] of draft.endpoints.entries()) {
    const hints = hintsOf(endpoint);
    if (isSameHints(hints, endpoint.hints)) continue;
    draft.endpoints[index] = give(endpoint, hints);
    draft.isChanged = true;
  }
}

const isSameHints = (a: Endpoint['hints'], b: Endpoint['hints']): boolean =>
  namesOf(a?.forZones) === namesOf(b?.forZones) && namesOf(a?.forNodes) === namesOf(b?.forNodes);

const namesOf = (names: Names): string => (names ?? []).map(({ name }) => name).join();

// ---- in proportion to CPUs -----------------------------------------------------------------------------------------

/** An endpoint may get this much more than its share of the traffic (overloadThreshold). */
const OVERLOAD_THRESHOLD = 0.2;

/** How many endpoints should be for a zone. */
export interface ZoneAllocation {
  readonly minimum: number;
  readonly maximum: number;
  readonly desired: number;
}

/** Shares of the CPUs by zone, and how many endpoints of each Service are for which zone. */
export class TopologyCache {
  #shares: ReadonlyMap<string, number> | undefined;
  /** By what the caller calls a Service and its address type. */
  readonly #hinted = new Map<string, ReadonlyMap<string, number>>();

  /** Control-plane nodes and nodes that are not ready do not count; one without zone or CPUs spoils the sum. */
  setNodes(nodes: Iterable<Node>): void {
    const milliCpus = new Map<string, number>();
    this.#shares = undefined;
    for (const node of nodes) {
      if (CONTROL_PLANE_LABELS.some((label) => label in node.metadata.labels) || !isNodeReady(node)) continue;
      const zone = node.metadata.labels[ZONE_LABEL];
      const cpus = milliCpusOf(node);
      if (zone === undefined || zone === '' || cpus === 0) return;
      milliCpus.set(zone, (milliCpus.get(zone) ?? 0) + cpus);
    }
    if (milliCpus.size < 2) return;
    const total = [...milliCpus.values()].reduce((sum, cpus) => sum + cpus);
    this.#shares = new Map([...milliCpus].map(([zone, cpus]) => [zone, cpus / total]));
  }

  /** Services, as the caller calls them, of which some zone has less than its minimum by now. */
  overloaded(): string[] {
    return [...this.#hinted].filter(([, hinted]) => this.#isOverloaded(hinted)).map(([service]) => service);
  }

  forget(service: string): void {
    this.#hinted.delete(service);
  }

  /**
   * Hints for all ready endpoints of a Service, or for none. Slices that are not written anyway stay as they are while
   * their hints are good enough (getAllocatedHintsByZone).
   */
  addHints(service: string, drafts: readonly SliceDraft[], give: GiveHints): void {
    const ready = drafts.flatMap(({ endpoints }) => endpoints).filter(({ conditions }) => conditions.ready === true);
    const allocations = this.allocations(ready.length);
    if (allocations === undefined || !this.#hint(service, drafts, allocations, give)) {
      this.forget(service);
      removeHints(drafts, give);
    }
  }

  /** By zone; undefined if there is too little to distribute, or it would overload an endpoint. */
  allocations(endpoints: number): Map<string, ZoneAllocation> | undefined {
    const shares = this.#shares;
    if (shares === undefined || shares.size > endpoints) return undefined;
    const wanted = [...shares].map(([zone, share]) => {
      const desired = share * endpoints;
      const minimum = Math.ceil(desired * (1 / (1 + OVERLOAD_THRESHOLD)));
      return { zone, minimum, desired: Math.max(desired, minimum) };
    });
    const spare = endpoints - wanted.reduce((sum, { minimum }) => sum + minimum, 0);
    if (spare < 0) return undefined;
    return new Map(wanted.map(({ zone, minimum, desired }) => [zone, { minimum, maximum: minimum + spare, desired }]));
  }

  #isOverloaded(hinted: ReadonlyMap<string, number>): boolean {
    if (hinted.size === 0) return false;
    if (this.#shares === undefined) return true;
    const total = [...hinted.values()].reduce((sum, count) => sum + count, 0);
    return [...this.#shares].some(
      ([zone, share]) => (hinted.get(zone) ?? -1) < Math.ceil(total * share * (1 / (1 + OVERLOAD_THRESHOLD))),
    );
  }

  /** False if an endpoint has no zone, or no zone got any. */
  #hint(
    service: string,
    drafts: readonly SliceDraft[],
    allocations: ReadonlyMap<string, ZoneAllocation>,
    give: GiveHints,
  ): boolean {
    const hinted = new Map<string, number>();
    const written: SliceDraft[] = [];
    for (const draft of drafts) {
      const own = draft.isChanged ? undefined : usableHints(draft, hinted, allocations);
      if (own === undefined) written.push(draft);
      else for (const [zone, count] of own) hinted.set(zone, (hinted.get(zone) ?? 0) + count);
    }
    // New slices before changed ones, those before ones whose hints are no good: the order of AddHints.
    const rank = ({ slice, isChanged }: SliceDraft) => (slice === undefined ? 0 : isChanged ? 1 : 2);
    const order = written.toSorted((a, b) => rank(a) - rank(b));
    const zoneOf = new Map<Endpoint, string>();
    for (const { endpoints } of order) {
      for (const endpoint of endpoints) {
        if (endpoint.conditions.ready !== true) continue;
        if (endpoint.zone === undefined || endpoint.zone === '') return false;
        hinted.set(endpoint.zone, (hinted.get(endpoint.zone) ?? 0) + 1);
        zoneOf.set(endpoint, endpoint.zone);
      }
    }
    redistribute(zoneOf, hinted, allocations);
    if (hinted.size === 0) return false;
    for (const draft of order) {
      rewrite(
        draft,
        (endpoint) => {
          const zone = zoneOf.get(endpoint);
          return zone === undefined ? endpoint.hints : hintsFor([{ name: zone }]);
        },
        give,
      );
    }
    this.#hinted.set(service, hinted);
    return true;
  }
}

const CONTROL_PLANE_LABELS = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'];

/** What the hints of an untouched slice come to; undefined if it must be written after all (getHintsByZone). */
function usableHints(
  { endpoints }: SliceDraft,
  hinted: ReadonlyMap<string, number>,
  allocations: ReadonlyMap<string, ZoneAllocation>,
): Map<string, number> | undefined {
  const own = new Map<string, number>();
  for (const { conditions, hints } of endpoints) {
    if (conditions.ready !== true) continue;
    if (hints?.forZones === undefined || hints.forZones.length === 0) return undefined;
    for (const { name } of hints.forZones) own.set(name, (own.get(name) ?? 0) + 1);
  }
  for (const [zone, count] of own) {
    const allocation = allocations.get(zone);
    if (allocation === undefined || count + (hinted.get(zone) ?? 0) > allocation.maximum) return undefined;
  }
  return own;
}

/** Endpoints of zones with more than they should have go to zones with less (redistributeHints). */
function redistribute(
  zoneOf: Map<Endpoint, string>,
  hinted: Map<string, number>,
  allocations: ReadonlyMap<string, ZoneAllocation>,
): void {
  const { giving, receiving } = givingAndReceiving(hinted, allocations);
  for (const [endpoint, from] of zoneOf) {
    const [to] = receiving.keys();
    if (giving.size === 0 || to === undefined) return;
    if (!giving.has(from)) continue;
    zoneOf.set(endpoint, to);
    takeOne(giving, from);
    takeOne(receiving, to);
    hinted.set(from, (hinted.get(from) ?? 0) - 1);
    hinted.set(to, (hinted.get(to) ?? 0) + 1);
  }
}

function takeOne(counts: Map<string, number>, zone: string): void {
  const left = (counts.get(zone) ?? 0) - 1;
  if (left > 0) counts.set(zone, left);
  else counts.delete(zone);
}

/** Whole endpoints that zones give and get (getGivingAndReceivingZones). */
function givingAndReceiving(
  hinted: ReadonlyMap<string, number>,
  allocations: ReadonlyMap<string, ZoneAllocation>,
): { giving: Map<string, number>; receiving: Map<string, number> } {
  const surplus = new Map<string, number>();
  const need = new Map<string, number>();
  for (const [zone, { desired }] of allocations) {
    const difference = (hinted.get(zone) ?? 0) - desired;
    if (difference > 0) surplus.set(zone, difference);
    else if (difference < 0) need.set(zone, -difference);
  }
  const giving = new Map<string, number>();
  const receiving = new Map<string, number>();
  for (;;) {
    const [from, toGive] = most(surplus);
    const [to, toGet] = most(need);
    if (from === undefined || to === undefined) break;
    if ((toGive < 1 && toGet < 1) || toGive < 0.5 || toGet < 0.5) break;
    giving.set(from, (giving.get(from) ?? 0) + 1);
    surplus.set(from, toGive - 1);
    receiving.set(to, (receiving.get(to) ?? 0) + 1);
    need.set(to, toGet - 1);
  }
  return { giving, receiving };
}

function most(counts: ReadonlyMap<string, number>): [zone: string | undefined, count: number] {
  let zone: string | undefined;
  let most = 0;
  for (const [candidate, count] of counts) {
    if (count <= most) continue;
    zone = candidate;
    most = count;
  }
  return [zone, most];
}

/** `4`, `0.5` or `3920m`. */
function milliCpusOf({ status }: Node): number {
  const [, count = '0', milli] = /^([0-9.]+)(m?)$/.exec(String(status.allocatable.cpu ?? 0)) ?? [];
  return Math.round(Number(count) * (milli === 'm' ? 1 : 1_000));
}
