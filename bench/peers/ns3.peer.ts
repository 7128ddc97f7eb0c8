// The cluster of bench/end-to-end.bench.ts against the nearest thing that ns-3 can simulate.

import { messageOf } from '../../experiments/harness/user-error.ts';
import type { Comparison, Contender, Missing, Subject } from './comparison.ts';
import { HOW_TO_BUILD, ns3Builds } from './ns3-build.ts';
import type { Workbench } from './workbench.ts';

/** Ratios to reach, by nodes. */
const TARGETS: Readonly<Record<number, number>> = { 8: 15, 64: 25 };

export async function ns3Subject(workbench: Workbench): Promise<Subject> {
  const remarks = [
    'ns-3: no NAT, no connection tracking, no packet filter and no CPU costs; pods are asked at their own addresses.' +
      " Podwire does all of that, with kube-proxy's rules on every node. Undisturbed: the rate that one in ten slices of 10,000" +
      ' packets surpassed, of 600 packets of ns-3, during which other programs of the machine disturbed least.',
  ];
  const builds = ns3Builds();
  const peers: (Missing | { name: string; program: string })[] = [];
  for (const build of 'missing' in builds ? [] : builds) {
    try {
      const program = await build.compile(workbench, 'ns3-cluster.cc', MODULES);
      if ((await workbench.figures(program, [2, 2, 100])).get('logging') !== 0) {
        remarks.push(
          `${build.name} is built with logging, whose tests cost time also when nothing is logged.` +
            ` For one without: ${HOW_TO_BUILD}`,
        );
      }
      peers.push({ name: build.name, program });
    } catch (error) {
      peers.push({ name: build.name, missing: messageOf(error) });
    }
  }
  if ('missing' in builds) peers.push({ name: 'ns-3', missing: builds.missing });
  // Of two builds the better one is the yardstick, which is one's own.
  const comparisons = peers.flatMap((peer, i) => compare(workbench, peer, { isYardstick: i === peers.length - 1 }));
  return { comparisons, remarks };
}

const MODULES = ['core', 'network', 'internet', 'bridge', 'traffic-control'];

function compare(
  workbench: Workbench,
  peer: Missing | { readonly name: string; readonly program: string },
  { isYardstick }: { isYardstick: boolean },
): Comparison[] {
  const { clusters, packets, packetsOfSlowPeers } = workbench.sizes;
  return clusters.flatMap(({ nodes, podsPerNode }) => {
    const contender: Contender | Missing =
      'missing' in peer
        ? peer
        : {
            name: peer.name,
            measure: () => workbench.figures(peer.program, [nodes, podsPerNode, packetsOfSlowPeers]),
          };
    const name = `${nodes} nodes x ${podsPerNode} pods`;
    const both = {
      unit: 'packets/s',
      podwire: workbench.podwire('Podwire', ['echo', nodes, podsPerNode, packets, 'udp', nodes]),
      peer: contender,
    };
    return [
      { ...both, case: name, figure: 'packets' },
      {
        ...both,
        case: `${name}, undisturbed`,
        figure: 'undisturbed',
        ...(isYardstick && nodes in TARGETS && { atLeast: TARGETS[nodes]! }),
      },
    ];
  });
}
