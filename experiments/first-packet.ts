// How long does the first packet of a connection take, by number of Services and mode of kube-proxy?
//
// Expectation (KEP-3866, chart "first packet round trip time"; read off its bars). In iptables mode the packet goes down the
// list of all Services to its own, which may stand anywhere: quantile q is later by q times the number of Services times
// the cost of a rule. In nftables mode it finds its Service in a map, and their number makes no difference.
//
//   ms               p01    p50    p90    p99
//   iptables  5,000  0.018  0.049  0.120  0.156
//   iptables 10,000  0.010  0.061  0.187  0.262
//   iptables 30,000  0.041  0.274  0.490  0.715
//   nftables, all    0.010  0.014  0.021  0.037
//
// iptables writes its rules for either of two engines of the kernel: the legacy one, or nf_tables (iptables-nft, the default of
// today's distributions), which takes three times as long for a rule (models/cpu/calibration.json).
//
// The machine of the chart is not the one that the costs here were measured on, and it does not say which engine it ran, so the shape
// is what should come out, and the times within a quarter only if that machine is as fast.

import { experiment, Load, meanFinding, near, poisson, s } from './podwire.ts';

const ENGINES = ['iptables', 'iptables-nft'] as const;
const SERVICES = [5_000, 10_000, 30_000] as const;
/** So many of the Services are asked, in turn; where they stand in the list is drawn anew for each run. */
const ASKED = 400;

export default experiment({
  name: 'first-packet',
  question: 'How long does the first packet of a connection take, by number of Services and mode of kube-proxy?',
  factors: { services: SERVICES, proxy: [...ENGINES, 'nftables'] },
  replications: 3,
  warmUp: s(0),
  duration: s(6),

  build({ services, proxy }, cluster) {
    cluster.addNodes(1, { proxy: proxy === 'nftables' ? 'nftables' : 'iptables' });
    if (proxy === 'iptables-nft') cluster.node('node-1').machine.root.enableNetfilter().tables.backend = 'nft';
    const web = cluster.addDeployment({ name: 'web', replicas: 1 });
    for (let i = 0; i < ASKED; i++) cluster.addService({ name: `web-${i}`, port: 80, selects: web });
    for (let i = ASKED; i < services; i++) cluster.addService({ name: `idle-${i}`, port: 80, endpoints: 1 });
    const client = cluster.addPod({ name: 'client', node: 'node-1' });
    const load = new Load();
    // 200 connections per second, so few that they hardly wait for each other, and not in step as users would fall into.
    const arrivals = poisson({ perSecond: 200 / ASKED });
    for (let i = 0; i < ASKED; i++) cluster.openLoop(client, { to: cluster.resolve(`web-${i}:80`), arrivals, load });
    return load;
  },

  measure: ({ connect, completed, failed }, cluster) => ({
    connections: completed,
    failed,
    firstPacketP01Us: connect.quantileUs(0.01),
    firstPacketP50Us: connect.quantileUs(0.5),
    firstPacketP90Us: connect.quantileUs(0.9),
    firstPacketP99Us: connect.quantileUs(0.99),
    rulesPerConnection: cluster.rulesVisited / completed,
  }),

  findings: (runs) => [
    ...meanFinding(
      'nftables: median at 30,000 Services over median at 5,000',
      runs.pairs(
        { services: 5_000, proxy: 'nftables' },
        { services: 30_000, proxy: 'nftables' },
        (few, many) => many.firstPacketP50Us / few.firstPacketP50Us,
      ),
      near(1, { within: 0.05 }),
    ),
    ...ENGINES.flatMap((proxy) =>
      SERVICES.flatMap((services) => {
        const cells = runs.at({ services, proxy });
        const rules = cells.map(({ rulesPerConnection }) => rulesPerConnection / (services / 2));
        const { p50Us, p90Us, p99Us } = CHART[services];
        const name = `${proxy}, ${services.toLocaleString('en-US')} Services`;
        const [medians, p90s, p99s] = [
          cells.map(({ firstPacketP50Us }) => firstPacketP50Us),
          cells.map(({ firstPacketP90Us }) => firstPacketP90Us),
          cells.map(({ firstPacketP99Us }) => firstPacketP99Us),
        ];
        return [
          ...meanFinding(`${name}: rules visited, over half the Services`, rules, near(1, { within: 0.2 })),
          ...meanFinding(`${name}: median (us), of the chart`, medians, asInChart(p50Us)),
          ...meanFinding(`${name}: 90th percentile (us), of the chart`, p90s, asInChart(p90Us)),
          ...meanFinding(`${name}: 99th percentile (us), of the chart`, p99s, asInChart(p99Us)),
        ];
      }),
    ),
  ],

  charts: [
    { x: 'services', y: 'firstPacketP50Us', by: 'proxy' },
    { x: 'services', y: 'firstPacketP99Us', by: 'proxy' },
  ],
});

/** The part of the chart about iptables mode. */
const CHART = {
  5000: { p50Us: 49, p90Us: 120, p99Us: 156 },
  10000: { p50Us: 61, p90Us: 187, p99Us: 262 },
  30000: { p50Us: 274, p90Us: 490, p99Us: 715 },
} as const;

const asInChart = (valueUs: number) => near(valueUs, { within: 0.25 * valueUs });
