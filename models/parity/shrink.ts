// The smallest case that still shows what a bigger one showed: greedy delta debugging. Whatever can be left out is left out,
// big parts before small ones, until nothing can go.
//
// Parts are: packets and their fields; nodes, pods and sysctls; tables, chains, rules and words of rules (shrink-rules.ts).
// A part may be needed by another, so that some of what is tried cannot be loaded; the predicate says no to it.

import type { NodeRules, ParityCase, ParityNode, Step, Topology } from './case.ts';
import { smallerIpset, smallerIptables, smallerNft } from './shrink-rules.ts';
import { withoutChunks } from './without-chunks.ts';

/** `differs` also answers for cases that cannot be run: with false. */
export async function shrinkCase(
  parityCase: ParityCase,
  differs: (candidate: ParityCase) => Promise<boolean>,
): Promise<ParityCase> {
  let smallest = parityCase;
  for (let before: ParityCase | undefined; before !== smallest; ) {
    before = smallest;
    for (const reduce of REDUCTIONS) smallest = await reduceFully(smallest, reduce, differs);
  }
  return smallest;
}

type Reduction = (parityCase: ParityCase) => Iterable<ParityCase>;

/**
 * What is left of anything when no smaller version of it will do. Goes on where something could go: what stood before it was
 * needed, and probably still is. Smaller versions are made one at a time: of a big ruleset there are thousands.
 */
export async function reduceFully<T>(
  whole: T,
  reduce: (value: T) => Iterable<T>,
  differs: (candidate: T) => Promise<boolean>,
): Promise<T> {
  let smallest = whole;
  for (let [from, to] = [0, Number.POSITIVE_INFINITY]; ; ) {
    const found = await firstOf(reduce(smallest), { from, to }, differs);
    if (found !== undefined) [smallest, from, to] = [found.candidate, found.position, Number.POSITIVE_INFINITY];
    else if (from > 0) [from, to] = [0, from];
    else return smallest;
  }
}

async function firstOf<T>(
  candidates: Iterable<T>,
  { from, to }: { readonly from: number; readonly to: number },
  differs: (candidate: T) => Promise<boolean>,
): Promise<{ readonly candidate: T; readonly position: number } | undefined> {
  let position = 0;
  for (const candidate of candidates) {
    if (position >= to) return undefined;
    if (position >= from && (await differs(candidate))) return { candidate, position };
    position++;
  }
  return undefined;
}

// ── packets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function* fewerPackets(parityCase: ParityCase): Iterable<ParityCase> {
  for (const packets of withoutChunks(parityCase.packets)) yield { ...parityCase, packets };
}

const OPTIONAL_FIELDS = [
  ...['autoreply', 'cpu', 'fragmentMtu', 'frag', 'pad', 'payload', 'df', 'ipid', 'tos', 'ttl', 'dmac'],
  ...['flags', 'seq', 'ack', 'win', 'type', 'code', 'id', 'seqn'],
];

function* simplerPackets(parityCase: ParityCase): Iterable<ParityCase> {
  for (const [index, step] of parityCase.packets.entries()) {
    if (!('from' in step)) continue;
    for (const field of OPTIONAL_FIELDS) {
      if (field in step) yield withStep(parityCase, index, omit(step, field));
    }
  }
}

const withStep = (parityCase: ParityCase, index: number, step: Step): ParityCase => ({
  ...parityCase,
  packets: parityCase.packets.map((other, i) => (i === index ? step : other)),
});

// ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function* fewerRules(parityCase: ParityCase): Iterable<ParityCase> {
  const { rules = {} } = parityCase;
  for (const smaller of smallerByNode(rules)) yield { ...parityCase, rules: smaller };
  for (const [index, step] of parityCase.packets.entries()) {
    if (!('rules' in step)) continue;
    for (const smaller of smallerByNode(step.rules)) yield withStep(parityCase, index, { rules: smaller });
  }
}

function* smallerByNode(rules: Readonly<Record<string, NodeRules>>): Iterable<Record<string, NodeRules>> {
  for (const [node, nodeRules] of Object.entries(rules)) {
    yield omit(rules, node);
    for (const smaller of smallerNodeRules(nodeRules)) yield { ...rules, [node]: smaller };
  }
}

function* smallerNodeRules(rules: NodeRules): Iterable<NodeRules> {
  const { text, text6, ipset } = rules;
  if (text6 !== undefined) yield omit(rules, 'text6');
  if (ipset !== undefined) yield omit(rules, 'ipset');
  const smaller = rules.backend === 'nftnative' ? smallerNft : smallerIptables;
  for (const candidate of smaller(text)) yield { ...rules, text: candidate };
  if (text6 !== undefined) for (const candidate of smaller(text6)) yield { ...rules, text6: candidate };
  if (ipset !== undefined) for (const candidate of smallerIpset(ipset)) yield { ...rules, ipset: candidate };
}

// ── topology ─────────────────────────────────────────────────────────────────────────────────────────────────────────

function* smallerTopology(parityCase: ParityCase): Iterable<ParityCase> {
  const { topology, packets, rules = {} } = parityCase;
  const used = new Set(Object.keys(rules));
  for (const step of packets) for (const name of namespacesOf(step)) used.add(name);
  for (const smaller of smallerTopologies(topology, used)) yield { ...parityCase, topology: smaller };
}

function namespacesOf(step: Step): string[] {
  if ('from' in step) return [step.from.split('/')[0] ?? '', step.dmac?.split('/')[0] ?? ''];
  if ('socket' in step) return [step.socket.in];
  return 'rules' in step ? Object.keys(step.rules) : [];
}

function* smallerTopologies(topology: Topology, used: ReadonlySet<string>): Iterable<Topology> {
  const { nodes } = topology;
  for (const option of ['overlay', 'fabric', 'cold'] as const) if (option in topology) yield omit(topology, option);
  for (const node of nodes) {
    const isUsed = used.has(node.name) || node.pods.some(({ name }) => used.has(name));
    if (!isUsed && nodes.length > 1) yield { ...topology, nodes: nodes.filter((other) => other !== node) };
    for (const smaller of smallerNodes(node, used)) {
      yield { ...topology, nodes: nodes.map((other) => (other === node ? smaller : other)) };
    }
  }
  if (nodes.some(({ podCIDR6 }) => podCIDR6 !== undefined)) yield { ...topology, nodes: nodes.map(withoutIpv6) };
}

function* smallerNodes(node: ParityNode, used: ReadonlySet<string>): Iterable<ParityNode> {
  for (const name of Object.keys(node.sysctls ?? {})) yield { ...node, sysctls: omit(node.sysctls ?? {}, name) };
  for (const option of ['sysctls', 'fabricMtu', 'bridge'] as const) if (option in node) yield omit(node, option);
  for (const pod of node.pods) {
    if (!used.has(pod.name)) yield { ...node, pods: node.pods.filter((other) => other !== pod) };
    for (const option of ['hairpin', 'stack'] as const) {
      if (option in pod) yield { ...node, pods: node.pods.map((other) => (other === pod ? omit(pod, option) : other)) };
    }
  }
}

const withoutIpv6 = (node: ParityNode): ParityNode => ({
  ...omit(omit(node, 'ip6'), 'podCIDR6'),
  pods: node.pods.map((pod) => omit(pod, 'ip6')),
});

function omit<T extends object>(record: T, key: string): T {
  const copy = { ...record };
  Reflect.deleteProperty(copy, key);
  return copy;
}

const REDUCTIONS: readonly Reduction[] = [fewerPackets, fewerRules, smallerTopology, simplerPackets];
