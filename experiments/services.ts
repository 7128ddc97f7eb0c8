// What do the Services of these manifests cost their clients, and how do requests spread over the endpoints?
//
// Expectation: a request within its node is fastest, one from outside slowest; every endpoint of a Service gets its equal
// share, because kube-proxy's probabilities 1/n, 1/(n-1), … make it so, or a random number below n in nftables mode; in IPVS
// mode they take turns.

import { ms, s } from '../engine/time.ts';
import { Cluster } from '../models/cluster.ts';
import { type ManifestFile, readManifests } from '../models/kube/manifests.ts';
import { parseRanges, type RangeTexts } from '../models/kube/ranges.ts';
import { PcapngWriter } from '../models/packet/pcapng.ts';
import { CLUSTER_FACTORS } from './cluster-factors.ts';
import { type Experiment, experimentsOn } from './harness/experiment.ts';
import { Survey } from './service-survey.ts';

/** Plain data: it crosses to the workers. */
export interface ServicesOptions {
  readonly files: readonly ManifestFile[];
  /** Nodes to make if the manifests have none. */
  readonly nodes: number;
  readonly ranges: RangeTexts;
  /** Requests per second from each client to each service port. */
  readonly perSecond: number;
  readonly durationMs: number;
  /** Absolute path of a capture at the nodes' network interfaces; none if undefined. */
  readonly pcap: string | undefined;
}

export default function services(options: ServicesOptions): Experiment {
  const { files, nodes, perSecond, durationMs, pcap } = options;
  const ranges = parseRanges(options.ranges);
  const experiment = experimentsOn(
    (run) => Cluster.fromManifests(readManifests(files), { ...run, nodes, ranges }),
    CLUSTER_FACTORS,
  );
  return experiment({
    name: 'services',
    question: 'How long do requests to each Service take, and how do they spread over its endpoints?',
    factors: {},
    replications: 1,
    warmUp: ms(200),
    duration: ms(durationMs),
    divisible: pcap === undefined ? true : 'a capture has the packets of all nodes in their order',

    build(_levels, cluster) {
      const capture = pcap === undefined ? undefined : captureAtNics(cluster);
      return { survey: new Survey(cluster, { perSecond }), capture };
    },

    measure({ survey }, cluster) {
      const { latency, connect } = survey.all;
      return {
        requests: survey.requests,
        failed: survey.failed,
        unanswered: survey.unanswered,
        requestsPerSecond: (survey.requests * s(1)) / ms(durationMs),
        latencyP50Us: latency.quantileUs(0.5),
        latencyP90Us: latency.quantileUs(0.9),
        latencyP99Us: latency.quantileUs(0.99),
        connectP50Us: connect.quantileUs(0.5),
        connectP99Us: connect.quantileUs(0.99),
        rulesVisitedPerRequest: cluster.rulesVisited / survey.requests,
      };
    },

    tables: ({ survey }) => ({
      latency: survey.latencyRows(),
      load: survey.loadRows(),
      failures: survey.failureRows(),
    }),
    files: ({ capture }) => (capture === undefined || pcap === undefined ? {} : { [pcap]: capture.bytes() }),
  });
}

function captureAtNics(cluster: Cluster): PcapngWriter {
  const capture = new PcapngWriter();
  for (const { machine } of cluster.nodes) {
    const nic = machine.root.deviceNamed('eth0');
    nic.tap = capture.addTap(nic);
  }
  return capture;
}
