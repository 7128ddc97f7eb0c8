// How much memory a cluster takes, before it is built: what a run cannot hold should end with a message, not in the middle
// of the work with V8's "heap out of memory".

import { freemem } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import type { ClusterIpFamily } from '../models/kube/ranges.ts';
import { UserError } from './harness/user-error.ts';

export interface ClusterSize {
  readonly nodes: number;
  readonly pods: number;
  readonly services: number;
  readonly endpoints: number;
  readonly ipFamily: ClusterIpFamily;
}

/**
 * Of one cluster, built and not yet running: heap after a garbage collection, measured on Node 20 (`podwire run scale`, and
 * clusters with fewer pods per node) and rounded up by ten per cent or more. A pod has a server, a Service a Deployment; one
 * without pods takes half as much.
 */
const BYTES = { base: 10e6, node: 39e3, pod: 5.9e3, service: 15e3, endpoint: 0.95e3 };

/** As many times as much as in IPv4. */
const FAMILY_FACTORS = { ipv4: 1, ipv6: 1.9, dual: 2.15 } as const;

/** V8 needs room for what is garbage already: beyond this share of its limit it collects all the time. */
const USABLE_FRACTION = 0.8;

export const estimatedBytes = ({ nodes, pods, services, endpoints, ipFamily }: ClusterSize): number =>
  BYTES.base +
  FAMILY_FACTORS[ipFamily] *
    (nodes * BYTES.node + pods * BYTES.pod + services * BYTES.service + endpoints * BYTES.endpoint);

/** What this process may still allocate. */
export function availableBytes(): number {
  const { heap_size_limit, used_heap_size } = getHeapStatistics();
  return Math.min(USABLE_FRACTION * heap_size_limit - used_heap_size, freemem());
}

/** Throws a UserError with the estimate if the cluster is too large for the memory given. */
export function checkMemory(size: ClusterSize, available: number = availableBytes()): void {
  const needed = estimatedBytes(size);
  if (needed <= available) return;
  const { nodes, pods, services, endpoints } = size;
  const count = (number: number): string => number.toLocaleString('en-US');
  throw new UserError(
    `${count(nodes)} nodes, ${count(pods)} pods and ${count(services)} Services with ${count(endpoints)} endpoints ` +
      `take about ${gigabytes(needed)} of memory, and ${gigabytes(available)} are left; ` +
      `expected a smaller cluster, fewer --workers, or NODE_OPTIONS=--max-old-space-size=${Math.ceil(needed / USABLE_FRACTION / 2 ** 20)} (MB) on a machine that has them`,
  );
}

const gigabytes = (bytes: number): string => `${(Math.max(0, bytes) / 1e9).toFixed(1)} GB`;
