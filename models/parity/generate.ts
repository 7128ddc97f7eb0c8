// Random parity cases. A seed, an index and the features decide a case: the same ones make the same case everywhere.
//
// A case has one of few networks (topologies.ts), rules on one or two of its nodes in the language of a backend, which load
// (iptables-rules.ts, nft-rules.ts, kube-rules.ts, network-rules.ts, sets.ts), and ten packets (packets.ts). What rules say and what packets
// hold is drawn from the same few words (words.ts). What features there are, and what they add, says features.ts.
//
// Where the kernel would toss a coin the generator forces it (probability 0 or 1, turns, ranges of one port), unless the
// feature `random` is asked for.

import { RandomStreams } from '../../engine/random.ts';
import type { NodeRules, ParityCase, ParityNode, RuleBackend, Step, Topology } from './case.ts';
import { Draw } from './generate/draw.ts';
import type { Feature } from './generate/features.ts';
import { drawIptables } from './generate/iptables-rules.ts';
import { drawNetworkRules } from './generate/network-rules.ts';
import { drawNft } from './generate/nft-rules.ts';
import { PacketDraw } from './generate/packets.ts';
import { drawSets } from './generate/sets.ts';
import { drawTopology, drawTunnelsOverIpv6 } from './generate/topologies.ts';
import { type Family, wordsOf } from './generate/words.ts';

export { backendsOf, FEATURES, type Feature, INGREDIENTS, isFeature } from './generate/features.ts';

const PACKETS = 10;
/** Three jiffies of 4 ms. */
const CONNLIMIT_PACE_MS = 12;

export interface GenerateOptions {
  readonly seed: number | string;
  /** Which of a seed's cases. */
  readonly index: number;
  readonly features: readonly Feature[];
  readonly backend: RuleBackend;
}

export function generateCase({ seed, index, features, backend }: GenerateOptions): ParityCase {
  const streams = new RandomStreams(String(seed));
  const draw = new Draw(streams.stream(`parity/${backend}/${index}`));
  const allowed = new Set(features);
  const drawn = drawTopology(draw, allowed);
  const topology =
    allowed.has('vxlan6') && allowed.has('ipv6')
      ? drawTunnelsOverIpv6(new Draw(streams.stream(`parity/vxlan6/${backend}/${index}`)), drawn)
      : drawn;
  const rules = drawRules(draw, { topology, features: allowed, backend });
  const words = familiesOf(topology).map((family) => wordsOf(topology, family));
  const packets = new PacketDraw(draw, { topology, words, features: allowed });
  const steps = Array.from({ length: PACKETS }, (): Step => {
    if (allowed.has('conntrack') && draw.chance(0.02)) return { flush: 'conntrack' };
    if (allowed.has('conntrack') && draw.chance(0.02)) {
      return { rules: drawRules(draw, { topology, features: withoutSets(allowed), backend }) };
    }
    return packets.next();
  });
  const loaded = [rules, ...steps.flatMap((step) => ('rules' in step ? [step.rules] : []))];
  const pace = loaded.some(countConnections) ? { paceMs: CONNLIMIT_PACE_MS } : {};
  return { name: `seed ${seed}, ${backend} case ${index}`, topology, rules, ...pace, packets: steps };
}

const countConnections = (rules: Readonly<Record<string, NodeRules>>): boolean =>
  Object.values(rules).some(({ text, text6 = '' }) => /-m connlimit\b/.test(text + text6));

interface RulesOptions {
  readonly topology: Topology;
  readonly features: ReadonlySet<Feature>;
  readonly backend: RuleBackend;
}

function drawRules(draw: Draw, { topology, features, backend }: RulesOptions): Record<string, NodeRules> {
  const [first, second] = draw.some(2, topology.nodes);
  const nodes = [first, ...(draw.chance(0.3) ? [second] : [])].flatMap((node) => node ?? []);
  return Object.fromEntries(
    nodes.map((node) => [node.name, drawNodeRules(draw, { node, topology, features, backend })]),
  );
}

function drawNodeRules(
  draw: Draw,
  { node, topology, features, backend }: RulesOptions & { readonly node: ParityNode },
): NodeRules {
  if (features.has('cni') && draw.chance(0.4)) return drawNetworkRules(draw, { node, backend });
  const drawn = familiesOf(topology).map((family) => {
    const words = wordsOf(topology, family);
    if (backend === 'nftnative') return { text: drawNft(draw, { words, features, sets: [] }), sets: '' };
    const { text, sets } = features.has('ipset') && draw.chance(0.5) ? drawSets(draw, words) : { text: '', sets: [] };
    return { text: drawIptables(draw, { words, features, sets }), sets: text };
  });
  const [ipv4, ipv6] = drawn;
  const ipset = drawn.map(({ sets }) => sets).join('');
  if (backend === 'nftnative') return { backend, text: drawn.map(({ text }) => text).join('') };
  return {
    ...{ backend, text: ipv4?.text ?? '' },
    ...(ipv6 === undefined ? {} : { text6: ipv6.text }),
    ...(ipset === '' ? {} : { ipset }),
  };
}

const familiesOf = ({ nodes }: Topology): Family[] =>
  nodes.every(({ podCIDR6 }) => podCIDR6 !== undefined) ? [4, 6] : [4];

/** Rules that come later ask no sets: those of the first ones are still there. */
const withoutSets = (features: ReadonlySet<Feature>): ReadonlySet<Feature> =>
  new Set([...features].filter((feature) => feature !== 'ipset'));
