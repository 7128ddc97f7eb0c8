// Facts about how kube-controller-manager cuts the pod range for nodes, asked of the model's node IPAM.

import { Cluster } from '../cluster.ts';
import { podCidrsOf } from '../kube/objects.ts';
import { NODE_MASK_SIZE, PodCidrs } from '../kube/pod-cidrs.ts';
import { formatPrefix, parseAnyPrefix } from '../packet/ip-address.ts';
import { answerOf, type CaseInput, followedBy, type Questions } from './address-case.ts';

export const NODE_CIDR_QUESTIONS: Questions = {
  defaults: () => ({ nodeMaskIPv4: NODE_MASK_SIZE[4], nodeMaskIPv6: NODE_MASK_SIZE[6], flags: FLAGS }),
  block: (input) => ({ cidr: formatPrefix(cidrsOf(input).pieceAt(input.index)) }),
  sequence: (input) => (input.ops === undefined ? twice(input) : byOps(input)),
  invalid: (input) => {
    cidrsOf(input);
    return { accepted: true };
  },
  'dual-stack': ({ clusterCIDRs }) => {
    const [pod, secondaryPod] = clusterCIDRs.map(parseAnyPrefix);
    const cluster = new Cluster({ seed: 'node-cidr', ranges: { pod, secondaryPod } });
    cluster.addNodes(1);
    const node = cluster.api.get('Node', 'node-1')!;
    const firstNode = podCidrsOf(node);
    return { firstNode, podCIDRisFirst: node.spec.podCIDR === firstNode[0] };
  },
  capacity: (input) => (input.occupied === undefined ? wholeRange(input) : behindOccupied(input)),
  occupy: (input) => (input.ops === undefined ? indexesOf(input, input.occupy) : occupying(input)),
  index: (input) => ({ index: cidrsOf(input).indexesOf(parseAnyPrefix(input.cidr)).first }),
};

/** Of kube-controller-manager; the model has what they set as ranges and arguments. */
const FLAGS = [
  '--allocate-node-cidrs',
  '--cluster-cidr',
  '--node-cidr-mask-size',
  '--node-cidr-mask-size-ipv4',
  '--node-cidr-mask-size-ipv6',
];

const cidrsOf = ({ clusterCIDR, nodeMask }: CaseInput): PodCidrs => new PodCidrs(parseAnyPrefix(clusterCIDR), nodeMask);

/** The next piece, or `error`. */
function next(cidrs: PodCidrs, node: string): string {
  const piece = cidrs.allocate(node);
  return piece === undefined ? 'error' : formatPrefix(piece);
}

/** `add n1`, `delete n1`: the range of every node that was added. */
function byOps(input: CaseInput): Record<string, string> {
  const cidrs = cidrsOf(input);
  const given: Record<string, string> = {};
  for (const op of input.ops as string[]) {
    const [verb, node = ''] = op.split(' ');
    if (verb === 'add') given[node] = next(cidrs, node);
    else cidrs.release(node);
  }
  return given;
}

/** Two nodes, or one node twice if there is room for one only. */
function twice(input: CaseInput) {
  const cidrs = cidrsOf(input);
  const first = [next(cidrs, 'a'), next(cidrs, 'b')];
  if (!first.includes('error')) return { results: first };
  cidrs.release('a');
  return { results: [...first, 'release', next(cidrs, 'c'), next(cidrs, 'd')] };
}

function wholeRange(input: CaseInput) {
  const cidrs = cidrsOf(input);
  const all = (): string[] => {
    const given: string[] = [];
    for (;;) {
      const piece = next(cidrs, `n${given.length}`);
      if (piece === 'error') return given;
      given.push(piece);
    }
  };
  const before = all();
  for (let i = 0; i < before.length; i++) cidrs.release(`n${i}`);
  const isSame = all().join() === before.join();
  const afterReleaseAll = isSame ? `same ${before.length} in the same order` : 'others';
  return { blocks: before.length, ...followedBy('error'), afterReleaseAll };
}

function behindOccupied(input: CaseInput) {
  const cidrs = cidrsOf(input);
  cidrs.occupy(parseAnyPrefix(input.occupied));
  const given = next(cidrs, 'n');
  // From the first one on.
  return { next: given, triesSkipped: cidrs.indexesOf(parseAnyPrefix(given)).first };
}

function occupying(input: CaseInput) {
  const cidrs = cidrsOf(input);
  const occupiedAfterEach = (input.ops as string[]).map((op) => {
    const [verb, piece = ''] = op.split(' ');
    if (verb === 'occupy') cidrs.occupy(parseAnyPrefix(piece));
    else cidrs.free(parseAnyPrefix(piece));
    return cidrs.taken;
  });
  let allocatableThen = 0;
  while (next(cidrs, `n${allocatableThen}`) !== 'error') allocatableThen++;
  return { occupiedAfterEach, allocatableThen };
}

function indexesOf(input: CaseInput, piece: string): unknown {
  return answerOf(() => {
    const { first, last } = cidrsOf(input).indexesOf(parseAnyPrefix(piece));
    return { firstBlock: first, lastBlock: last };
  });
}
