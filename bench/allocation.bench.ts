// What a packet leaves for the garbage collector, once all is compiled and all flows are known: bytes allocated per packet,
// and collections per million packets, of the cluster and the load of end-to-end.bench.ts.
//
// Bytes are what the heap grows by in a short slice of the run, if nothing was collected meanwhile. The other way to see them:
// node --expose-gc --trace-gc dist/bench/main.js --only allocation, where each line of a scavenge tells what it found.

import { constants, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { ms } from '../engine/time.ts';
import { buildEcho } from './end-to-end.bench.ts';
import type { BenchReport } from './report.ts';

const SIZES = [
  { nodes: 8, podsPerNode: 16 },
  { nodes: 64, podsPerNode: 16 },
] as const;

/** As many packets as the compiler needs until it has settled, twice. */
const WARM_UP_PACKETS = 400_000;
/** At 200 bytes each a tenth of the young generation: most slices have no collection. */
const PACKETS_PER_SLICE = 8_192;
const SLICES = 200;

export async function run(
  report: BenchReport,
  { sizes = SIZES, slices = SLICES }: { readonly sizes?: readonly Size[]; readonly slices?: number } = {},
): Promise<void> {
  for (const { nodes, podsPerNode } of sizes) {
    const { cluster, delivered } = buildEcho({ nodes, podsPerNode });
    const packetsPerMs = 2 * nodes * podsPerNode; // each pod asks once a millisecond
    cluster.runFor(ms(WARM_UP_PACKETS / packetsPerMs));
    const allocation = await allocationOf(() => {
      const before = delivered();
      cluster.runFor(ms(PACKETS_PER_SLICE / packetsPerMs));
      return delivered() - before;
    }, slices);
    cluster.assertConserved();
    const subject = { bench: 'allocation', case: `${nodes} nodes x ${podsPerNode} pods`, variant: 'udp, service' };
    const { bytesPerOperation, collectionsPerMillion, rsd } = allocation;
    report.add({ ...subject, unit: 'bytes/packet', value: bytesPerOperation, samples: slices, rsd });
    report.add({ ...subject, unit: 'collections/million packets', value: collectionsPerMillion, samples: slices });
  }
}

interface Size {
  readonly nodes: number;
  readonly podsPerNode: number;
}

export interface Allocation {
  /** Median over the slices in which nothing was collected. */
  readonly bytesPerOperation: number;
  /** Relative standard deviation between those slices; 0 if they allocate nothing. */
  readonly rsd: number;
  /** Of the young generation or of all. */
  readonly collectionsPerMillion: number;
}

/** `slice` does some work and tells how many operations that was. */
export async function allocationOf(slice: () => number, slices: number): Promise<Allocation> {
  const collections = new CollectionCounter();
  const bytes: number[] = [];
  let operations = 0;
  for (let i = 0; i < slices; i++) {
    const before = getHeapStatistics().used_heap_size;
    const done = slice();
    const grown = getHeapStatistics().used_heap_size - before;
    operations += done;
    if ((await collections.sinceLast()) === 0) bytes.push(grown / done);
  }
  collections.stop();
  const collectionsPerMillion = (collections.total * 1e6) / operations;
  if (bytes.length === 0) throw new Error(`something was collected in each of ${slices} slices; expected shorter ones`);
  const median = bytes.sort((a, b) => a - b)[bytes.length >> 1]!;
  const variance = bytes.reduce((sum, value) => sum + (value - median) ** 2, 0) / bytes.length;
  return { bytesPerOperation: median, rsd: median === 0 ? 0 : Math.sqrt(variance) / median, collectionsPerMillion };
}

class CollectionCounter {
  total = 0;
  #told = 0;
  readonly #observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (isCollection(entry)) this.total++;
  });

  constructor() {
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** Node tells of collections in turns of its event loop. */
  async sinceLast(): Promise<number> {
    await nextTurn();
    await nextTurn();
    const count = this.total - this.#told;
    this.#told = this.total;
    return count;
  }

  stop(): void {
    this.#observer.disconnect();
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** And not a step of one, as marking is. */
function isCollection(entry: PerformanceEntry): boolean {
  const { kind } = (entry as PerformanceEntry & { readonly detail: { readonly kind?: number } }).detail;
  return kind === constants.NODE_PERFORMANCE_GC_MINOR || kind === constants.NODE_PERFORMANCE_GC_MAJOR;
}
