// How many queries does one lookup cost, by the name and the search list?
//
// Expectation (kubernetes/kubernetes#33554, #14051; zalando-incubator/kubernetes-on-aws, post-mortem of January 2019: "10 DNS
// queries for every single DNS lookup of a cluster-external name"; resolv/res_query.c of glibc). Pods have ndots:5 and a
// search list of three domains, four with their node's. A name with fewer dots is tried in all of them first, A and AAAA
// each time:
// - a Service of the pod's own namespace is there in the first: 2 queries; one of another namespace in the second: 4;
// - its whole name has four dots, so it is tried in all s domains, and found at last: 2 (s + 1);
// - so is a name outside of the cluster; s of s + 1 answers are "no such name";
// - with a dot at its end, or ndots:1, it is asked for as it is: 2.

import { objectFrom } from '../models/kube/objects.ts';
import { NameLookups } from './name-lookups.ts';
import { constantRate, exactly, experiment, meanFinding, ms, s } from './podwire.ts';

const NAMES = ['web', 'web.shop', 'web.shop.svc.cluster.local', 'www.example.com', 'www.example.com.'] as const;
type Name = (typeof NAMES)[number];
const DOMAINS = [3, 4] as const;
const NDOTS = [5, 1] as const;
const LOOKUPS = 200;

export default experiment({
  name: 'ndots-amplification',
  question: 'How many DNS queries does one lookup cost, by the name and the search list?',
  factors: { name: NAMES, searchDomains: DOMAINS, ndots: NDOTS },
  replications: 3,
  warmUp: ms(0),
  duration: s(5),

  build({ name, searchDomains, ndots }, cluster) {
    cluster.addNodes(2);
    cluster.addDns({
      hostSearches: searchDomains === 4 ? ['corp.example'] : [],
      upstream: { names: { 'www.example.com': ['192.0.2.53'] } },
    });
    const ports = [{ port: 80 }];
    for (const namespace of ['default', 'shop'])
      cluster.apply([objectFrom('Service', { metadata: { name: 'web', namespace }, spec: { ports } })]);
    cluster.apply([
      objectFrom('Pod', {
        metadata: { name: 'client' },
        spec: {
          nodeName: 'node-1',
          dnsConfig: { options: [{ name: 'ndots', value: `${ndots}` }] },
          containers: [{ name: 'main' }],
        },
      }),
    ]);
    const lookups = new NameLookups();
    const arrivals = constantRate({ perSecond: 100 });
    lookups.begin(cluster, cluster.pod('default/client'), { name, arrivals, lookups: LOOKUPS });
    return { lookups, dns: cluster.dns };
  },

  measure: ({ lookups, dns }) => ({
    lookups: lookups.resolved,
    failed: lookups.failed,
    queriesPerLookup: lookups.queries / lookups.resolved,
    nameErrorFraction: lookups.nameErrors / lookups.queries,
    /** All that the upstream has to find out: CoreDNS remembers for 30 s. */
    upstreamQueries: dns.upstream.received,
    latencyP50Us: lookups.latency.quantileUs(0.5),
    latencyP99Us: lookups.latency.quantileUs(0.99),
  }),

  findings: (runs) =>
    DOMAINS.flatMap((searchDomains) =>
      NDOTS.flatMap((ndots) =>
        NAMES.flatMap((name) => {
          const cells = runs.at({ name, searchDomains, ndots });
          const tries = triesOf(name, { searchDomains, ndots });
          return meanFinding(
            `${name}, ${searchDomains} search domains, ndots:${ndots}: queries per lookup`,
            cells.map(({ queriesPerLookup }) => queriesPerLookup),
            exactly(2 * tries),
          );
        }),
      ),
    ),

  charts: [{ x: 'name', y: 'queriesPerLookup', by: 'searchDomains' }],
});

/** Names that are asked for until the right one. */
function triesOf(
  name: Name,
  { searchDomains, ndots }: { readonly searchDomains: number; readonly ndots: number },
): number {
  const dots = name.split('.').length - 1;
  const isAsIs = dots >= ndots || name.endsWith('.');
  switch (name) {
    case 'web':
      return 1;
    case 'web.shop':
      return isAsIs ? 3 : 2; // as it is there is no such name: then the first domain, and the second
    default:
      return isAsIs ? 1 : searchDomains + 1;
  }
}
