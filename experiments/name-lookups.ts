// Programs that look a name up again and again, each time as a new process does: no thread of theirs has learnt anything,
// and every lookup has sockets of its own.

import { Histogram } from '../engine/stats/histogram.ts';
import { between, type Instant } from '../engine/time.ts';
import type { Cluster } from '../models/cluster.ts';
import type { ResolverOptions } from '../models/cluster-dns.ts';
import type { SentQuery } from '../models/dns/stub-exchange.ts';
import type { Process } from '../models/host/process.ts';
import type { IpFamily } from '../models/packet/ip-address.ts';
import type { Arrivals } from '../models/workload/arrivals.ts';

export interface LookupPlan extends Omit<ResolverOptions, 'onQuery'> {
  readonly name: string;
  /** Default: both, as getaddrinfo() without hints. */
  readonly families?: readonly IpFamily[];
  readonly arrivals: Arrivals;
  /** No lookup begins after so many. */
  readonly lookups?: number;
}

/** One that has ended. */
export interface EndedLookup {
  readonly began: Instant;
  readonly ended: Instant;
  readonly isResolved: boolean;
}

export class NameLookups {
  readonly latency = new Histogram();
  started = 0;
  resolved = 0;
  failed = 0;
  queries = 0;
  /** Queries that were answered with "no such name". */
  nameErrors = 0;
  readonly #onEnd: (lookup: EndedLookup) => void;

  constructor({ onEnd = () => {} }: { readonly onEnd?: (lookup: EndedLookup) => void } = {}) {
    this.#onEnd = onEnd;
  }

  /** Begins lookups at the arrivals of the plan, from now on. */
  begin(cluster: Cluster, process: Process, { name, families, arrivals, lookups, ...options }: LookupPlan): void {
    const { place } = process;
    const random = place.random(`lookups/${process.name}`);
    let left = lookups ?? Number.POSITIVE_INFINITY;
    const next = (): void => {
      if (left-- <= 0) return;
      this.#lookUp(cluster, process, { name, families, options });
      place.schedule(arrivals(random), next, undefined);
    };
    place.schedule(arrivals(random), next, undefined);
  }

  #lookUp(
    cluster: Cluster,
    process: Process,
    {
      name,
      families,
      options,
    }: { readonly name: string; readonly families: readonly IpFamily[] | undefined; readonly options: ResolverOptions },
  ): void {
    const queries: SentQuery[] = [];
    const resolver = cluster.resolverOf(process, { ...options, onQuery: (query) => queries.push(query) });
    const began = process.place.now;
    this.started++;
    resolver.lookup(name, families === undefined ? {} : { families }, ({ status }) => {
      const ended = process.place.now;
      const isResolved = status === 'ok';
      if (isResolved) this.resolved++;
      else this.failed++;
      this.latency.record(between(began, ended));
      this.queries += queries.length;
      this.nameErrors += queries.filter(({ answer }) => answer?.rcode === 'NXDOMAIN').length;
      this.#onEnd({ began, ended, isResolved });
    });
  }
}
