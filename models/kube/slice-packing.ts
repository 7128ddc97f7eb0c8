// Which endpoint goes into which EndpointSlice, with as few slices written as possible (reconcileByPortMapping of
// k8s.io/endpointslice). Slices are never evened out. The real controller takes new endpoints in random order, this one in
// the order given.

import type { Endpoint, EndpointSlice } from './objects.ts';

/** `--max-endpoints-per-slice`. */
export const ENDPOINTS_PER_SLICE = 100;

/** A slice as it shall be. */
export interface SliceDraft {
  /** The slice that it is now; undefined for a new one. */
  readonly slice: EndpointSlice | undefined;
  endpoints: Endpoint[];
  isChanged: boolean;
}

/** `plain` is the endpoint of a slice without its hints: those are given later. */
export type PlainEndpoint = (endpoint: Endpoint) => Endpoint;

/** The slices, all of the same ports, with these endpoints; one without any left is to be deleted. */
export function packSlices(
  slices: readonly EndpointSlice[],
  endpoints: readonly Endpoint[],
  plain: PlainEndpoint,
): SliceDraft[] {
  const missing = new Set(endpoints);
  const drafts = keepEndpoints(slices, missing, plain);
  const waiting = [...missing];
  // A slice that is written anyway costs nothing more; the fullest first.
  const written = drafts.filter(({ isChanged, endpoints: kept }) => isChanged && kept.length > 0);
  for (const draft of written.toSorted((a, b) => b.endpoints.length - a.endpoints.length)) fill(draft, waiting);
  while (waiting.length > 0) {
    const roomy = closestToFull(drafts, waiting.length);
    const draft = roomy ?? { slice: undefined, endpoints: [], isChanged: true };
    if (roomy === undefined) drafts.push(draft);
    fill(draft, waiting);
  }
  return drafts;
}

/** Endpoints that are still wanted stay where they are; what is left of `missing` is new. */
function keepEndpoints(slices: readonly EndpointSlice[], missing: Set<Endpoint>, plain: PlainEndpoint): SliceDraft[] {
  const wanted = new Set(missing);
  for (const { endpoints } of slices) for (const endpoint of endpoints) missing.delete(plain(endpoint));
  // Most endpoints of a large Service are the same objects as before; only the others are worth a text.
  const changed = new Map([...missing].map((endpoint) => [identityOf(endpoint), endpoint]));
  return slices.map((slice) => {
    let isChanged = false;
    const kept = slice.endpoints.flatMap((endpoint) => {
      if (wanted.delete(plain(endpoint))) return [plain(endpoint)]; // an endpoint that two slices have stays in the first
      const current = changed.get(identityOf(endpoint));
      if (current === undefined || !missing.delete(current)) {
        isChanged = true;
        return [];
      }
      if (!isSameEndpoint(current, plain(endpoint))) isChanged = true;
      return [current];
    });
    return { slice, endpoints: isChanged ? kept : [...slice.endpoints], isChanged };
  });
}

function fill(draft: SliceDraft, waiting: Endpoint[]): void {
  const room = ENDPOINTS_PER_SLICE - draft.endpoints.length;
  if (room <= 0 || waiting.length === 0) return;
  draft.endpoints.push(...waiting.splice(0, room));
  draft.isChanged = true;
}

/** The untouched slice that is fullest once all that wait are in it (getSliceToFill). */
function closestToFull(drafts: readonly SliceDraft[], waiting: number): SliceDraft | undefined {
  let best: SliceDraft | undefined;
  for (const draft of drafts) {
    const size = draft.endpoints.length;
    if (draft.isChanged || waiting >= ENDPOINTS_PER_SLICE || size + waiting > ENDPOINTS_PER_SLICE) continue;
    if (best === undefined || size > best.endpoints.length) best = draft;
  }
  return best;
}

/** What makes it another endpoint, rather than the same one in another condition (EndpointSet). */
const identityOf = ({ addresses, hostname, targetRef }: Endpoint): string =>
  `${addresses.join()} ${hostname} ${targetRef?.namespace}/${targetRef?.name}`;

/** EndpointsEqualBeyondHash; a condition that is absent is not the same as one that is true. */
const isSameEndpoint = (a: Endpoint, b: Endpoint): boolean =>
  a.nodeName === b.nodeName &&
  a.zone === b.zone &&
  a.targetRef?.uid === b.targetRef?.uid &&
  a.conditions.ready === b.conditions.ready &&
  a.conditions.serving === b.conditions.serving &&
  a.conditions.terminating === b.conditions.terminating;
