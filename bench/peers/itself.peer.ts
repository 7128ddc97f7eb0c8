// Podwire against itself: what must cost little beside what it is compared with. Rows for more: one function each.

import type { Comparison, Subject } from './comparison.ts';
import type { Workbench } from './workbench.ts';

export async function itselfSubject(workbench: Workbench): Promise<Subject> {
  const remarks = [
    'Podwire against itself: the same requests and responses, over kept TCP connections and over UDP; with established' +
      ' UDP flows in a cluster of many Services and of few, and as many clients in the largest cluster and a middling one.',
    'Undisturbed: the rate that one in ten slices of 10,000 packets surpassed, during which other programs of the machine' +
      ' disturbed least; the larger cluster needs more of the cache that all of them share.',
  ];
  return {
    comparisons: [tcpBesideUdp(workbench), manyServicesBesideFew(workbench), ...largestBesideMiddling(workbench)],
    remarks,
  };
}

function tcpBesideUdp(workbench: Workbench): Comparison {
  const { nodes, podsPerNode } = workbench.sizes.clusters[0]!;
  const { packets } = workbench.sizes;
  return {
    case: `${nodes} nodes x ${podsPerNode} pods by TCP, undisturbed`,
    unit: 'messages/s',
    figure: 'undisturbed',
    podwire: workbench.podwire('Podwire, TCP', ['echo', nodes, podsPerNode, packets, 'tcp', nodes]),
    peer: workbench.podwire('Podwire', ['echo', nodes, podsPerNode, packets, 'udp', nodes]),
    atLeast: 0.3,
  };
}

const FEW_SERVICES = 10;

function manyServicesBesideFew(workbench: Workbench): Comparison {
  const { nodes, podsPerNode } = workbench.sizes.clusters[0]!;
  const { packets, manyServices } = workbench.sizes;
  const contender = (services: number) =>
    workbench.podwire(`Podwire, ${services.toLocaleString('en')} Services`, [
      ...['echo', nodes, podsPerNode, packets, 'udp', services],
    ]);
  return {
    case: `${nodes} nodes x ${podsPerNode} pods, ${manyServices.toLocaleString('en')} Services, undisturbed`,
    unit: 'packets/s',
    figure: 'undisturbed',
    podwire: contender(manyServices),
    peer: contender(FEW_SERVICES),
    atLeast: 0.9,
  };
}

/**
 * As many clients ask as often in both, so that the cluster is all that differs. Building it takes longer than what is measured.
 * What packets meet in the larger one comes from the cache that all programs of the machine share, so that the others' part
 * in the result is large: the slices that they left alone are compared, too.
 */
function largestBesideMiddling(workbench: Workbench): Comparison[] {
  const { largest, packets } = workbench.sizes;
  const middling = workbench.sizes.clusters[1]!;
  const clients = middling.nodes * middling.podsPerNode;
  const name = `${largest.nodes.toLocaleString('en')} nodes x ${largest.podsPerNode} pods, ${clients.toLocaleString('en')} clients`;
  const both = {
    unit: 'packets/s',
    podwire: workbench.podwire('Podwire', [
      ...['echo', largest.nodes, largest.podsPerNode, packets, 'udp', largest.nodes, clients],
    ]),
    peer: workbench.podwire(`Podwire, ${middling.nodes} x ${middling.podsPerNode}`, [
      ...['echo', middling.nodes, middling.podsPerNode, packets, 'udp', middling.nodes],
    ]),
  };
  return [
    { ...both, case: name, figure: 'packets' },
    { ...both, case: `${name}, undisturbed`, figure: 'undisturbed', atLeast: 0.35 },
  ];
}
