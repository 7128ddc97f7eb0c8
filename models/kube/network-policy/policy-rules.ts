// NetworkPolicies as rules and sets of one IP family, in the manner of kube-router: a chain per policy and direction that
// marks what the policy admits, sets of the addresses that its peers stand for, and on the pod's node a chain per isolated
// pod and direction that asks its policies one after the other and refuses what none of them has marked.
//
//   FORWARD, OUTPUT ─▶ KUBE-POLICY ─▶ KUBE-POD-EG-…, then KUBE-POD-IN-… ─▶ KUBE-POL-EG-…, KUBE-POL-IN-…
//
// What comes from the node itself, kubelet probes first of all, or goes to it, is not judged: OUTPUT leads there only with what
// IPVS sends on for others.

import { START } from '../../../engine/time.ts';
import { Chain } from '../../netfilter/chain.ts';
import { readElements } from '../../netfilter/ipset/element-text.ts';
import type { SetSide } from '../../netfilter/ipset/ip-set.ts';
import { IpSets } from '../../netfilter/ipset/ip-sets.ts';
import { DEFAULT_MAX_ELEMENTS, type SetType } from '../../netfilter/ipset/set-type.ts';
import type { Protocol } from '../../netfilter/protocol.ts';
import { type MatchSpec, Rule, type RuleSpec, type TargetSpec } from '../../netfilter/rule.ts';
import {
  addressBits,
  type IpFamily,
  type Prefix,
  parseAddress,
  parseAnyPrefix,
  prefix,
} from '../../packet/ip-address.ts';
import { containerPortNamed } from '../endpoint-slices.ts';
import { base32OfSha256 } from '../kube-proxy/chain-names.ts';
import { keyOf, type Labels, type Namespace, type NetworkPolicy, type Pod } from '../objects.ts';
import {
  addressOfPod,
  DIRECTIONS,
  type Direction,
  groupBy,
  hasPolicies,
  isolates,
  isPeer,
  labelsOfNamespace,
  type PolicyObjects,
  type PolicyPeer,
  type PolicyPort,
  peersOf,
  rulesOf,
  selects,
} from './policy-objects.ts';

/** What happens to a connection that policies have come to refuse: it goes on, or ends with its next packet. */
export const ESTABLISHED_CHOICES = ['kept', 'cut'] as const;
export type EstablishedChoice = (typeof ESTABLISHED_CHOICES)[number];

/** Where FORWARD and OUTPUT lead. */
export const POLICY_CHAIN = 'KUBE-POLICY';

export const isPolicyChain = (name: string): boolean => /^KUBE-(POLICY$|POD-(IN|EG)-|POL-(IN|EG)-)/.test(name);
export const isPolicySet = (name: string): boolean => /^KUBE-(SRC|DST|PORT)-|^KUBE-PODS-[46]$/.test(name);

/** The pods of a node that its rules know, for nodes that let nothing pass to and from others. */
const knownPodsSet = (family: IpFamily): string => `KUBE-PODS-${family}`;

/** Says that a policy admits the packet. Of kube-router; kube-proxy's bits are 14 and 15. */
const ADMITTED = 0x1_0000;

/** The rules and sets of all policies of a cluster at one time. Chains of policies are the same on every node. */
export class PolicyRules {
  readonly family: IpFamily;
  readonly sets = new IpSets();
  readonly policyChains: readonly Chain[];
  readonly #objects: PolicyObjects;
  readonly #namespaces: ReadonlyMap<string, Namespace>;
  readonly #policiesByNamespace: ReadonlyMap<string, readonly NetworkPolicy[]>;

  constructor(objects: PolicyObjects, family: IpFamily) {
    this.family = family;
    this.#objects = { ...objects, pods: objects.pods.filter(hasPolicies) };
    this.#namespaces = new Map(objects.namespaces.map((namespace) => [namespace.metadata.name, namespace]));
    this.#policiesByNamespace = groupBy(objects.policies, ({ metadata }) => metadata.namespace);
    this.policyChains = objects.policies.flatMap((policy) =>
      DIRECTIONS.filter((direction) => isolates(policy, direction)).map((direction) =>
        this.#policyChain(policy, direction),
      ),
    );
  }

  // ── policies ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Marks what the policy admits. */
  #policyChain(policy: NetworkPolicy, direction: Direction): Chain {
    const specs = rulesOf(policy, direction).flatMap((rule, i): RuleSpec[] => {
      const peers = this.#peerMatches(policy, direction, i, peersOf(rule));
      const ports = rule.ports.length === 0 ? [{ matches: [] }] : rule.ports.map((port) => this.#portMatches(port));
      return ports.flatMap(({ matches, ...protocol }) =>
        peers.map((peer) => ({ ...protocol, matches: [...peer, ...matches], target: setMark(ADMITTED) })),
      );
    });
    return this.#chain(policyChainName(policy, direction), specs);
  }

  /** One for all pods among the peers, and one for each block of addresses: holes in one are none in another. */
  #peerMatches(policy: NetworkPolicy, direction: Direction, rule: number, peers: readonly PolicyPeer[]): MatchSpec[][] {
    if (peers.length === 0) return [[]];
    const side = direction === 'Ingress' ? 'src' : 'dst';
    const nameOf = (what: string) =>
      `KUBE-${side.toUpperCase()}-${this.#hash(`${keyOf(policy)} ${direction} ${rule} ${what}`)}`;
    const blocks = peers.flatMap(({ ipBlock }) => ipBlock ?? []).filter(({ cidr }) => this.#isOwn(cidr));
    const names = blocks.map((block, i) => this.#addSet(nameOf(`block ${i}`), 'hash:net', elementsOfBlock(block)));
    if (peers.some(({ ipBlock }) => ipBlock === undefined))
      names.push(this.#addSet(nameOf('pods'), 'hash:ip', this.#addressesOf(peers, policy)));
    return names.map((name) => [setMatch(name, [side])]);
  }

  #addressesOf(peers: readonly PolicyPeer[], { metadata }: NetworkPolicy): string[] {
    const namespaceLabels = (name: string): Labels => labelsOfNamespace(name, this.#namespaces.get(name));
    const place = { policyNamespace: metadata.namespace, namespaceLabels };
    return this.#objects.pods
      .filter((pod) => peers.some((peer) => isPeer(peer, pod, place)))
      .flatMap((pod) => addressOfPod(pod, this.family) ?? []);
  }

  #portMatches({ protocol, port, endPort }: PolicyPort): { protocol: Protocol; matches: MatchSpec[] } {
    const match = protocol.toLowerCase() as Lowercase<PolicyPort['protocol']>;
    if (port === undefined) return { protocol: match, matches: [] };
    if (typeof port === 'number')
      return { protocol: match, matches: [{ match, dstPorts: { first: port, last: endPort ?? port } }] };
    return { protocol: match, matches: [setMatch(this.#namedPortSet(port, protocol), ['dst', 'dst'])] };
  }

  /** Where each pod has the port: what a name means is the business of the pod that is connected to. */
  #namedPortSet(name: string, protocol: PolicyPort['protocol']): string {
    const elements = this.#objects.pods.flatMap((pod) => {
      const [address, port] = [addressOfPod(pod, this.family), containerPortNamed(pod, name, protocol)];
      return address === undefined || port === undefined ? [] : [`${address},${protocol.toLowerCase()}:${port}`];
    });
    return this.#addSet(`KUBE-PORT-${this.#hash(`${name} ${protocol}`)}`, 'hash:ip,port', elements);
  }

  #addSet(name: string, type: SetType, elements: readonly string[]): string {
    if (this.sets.find(name) === undefined) fillSet(this.sets, { name, type, family: this.family, elements });
    return name;
  }

  // ── pods of a node ─────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * {@link POLICY_CHAIN} and the chains of these pods, which are on the node. Nothing passes to and from other pods of a
   * closed range.
   */
  chainsOfNode(
    pods: readonly Pod[],
    { established, closedRange }: { readonly established: EstablishedChoice; readonly closedRange: Prefix | undefined },
  ): Chain[] {
    const jumps: RuleSpec[] = [];
    const chains: Chain[] = [];
    // A packet between two pods of the node has to leave the one before it comes to the other.
    for (const direction of ['Egress', 'Ingress'] as const)
      for (const pod of pods) {
        const [address, policies] = [addressOfPod(pod, this.family), this.#isolating(pod, direction)];
        if (address === undefined || policies.length === 0) continue;
        const chain = this.#podChain(pod, address, direction, policies);
        chains.push(chain);
        jumps.push({ ...ofPod(address, direction), target: { target: 'jump', chain: chain.name } });
      }
    const last = closedRange === undefined ? [] : dropUnknown(closedRange);
    return [this.#chain(POLICY_CHAIN, [...unjudged(this.family, established), ...jumps, ...last]), ...chains];
  }

  /** The set that a closed range needs. */
  setOfKnownPods(pods: readonly Pod[]): IpSets {
    const sets = new IpSets();
    const elements = pods.flatMap((pod) => addressOfPod(pod, this.family) ?? []);
    fillSet(sets, { name: knownPodsSet(this.family), type: 'hash:ip', family: this.family, elements });
    return sets;
  }

  #isolating(pod: Pod, direction: Direction): NetworkPolicy[] {
    const policies = this.#policiesByNamespace.get(pod.metadata.namespace) ?? [];
    return policies.filter((policy) => isolates(policy, direction) && selects(policy, pod));
  }

  #podChain(pod: Pod, address: string, direction: Direction, policies: readonly NetworkPolicy[]): Chain {
    const self = ofPod(address, direction === 'Ingress' ? 'Egress' : 'Ingress');
    return this.#chain(podChainName(pod, direction), [
      { ...self, matches: [comment('a pod reaches itself')], target: { target: 'RETURN' } },
      { target: setMark(0) },
      ...policies.flatMap((policy): RuleSpec[] => [
        {
          matches: [comment(`policy ${keyOf(policy)}`)],
          target: { target: 'jump', chain: policyChainName(policy, direction) },
        },
        { matches: [{ match: 'mark', value: ADMITTED, mask: ADMITTED }], target: { target: 'RETURN' } },
      ]),
      { matches: [comment(`${direction} of pod ${keyOf(pod)}`)], target: { target: 'REJECT' } },
    ]);
  }

  // ── details ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #chain(name: string, specs: readonly RuleSpec[]): Chain {
    return new Chain(
      name,
      specs.map((spec) => this.#rule(spec)),
    );
  }

  #rule(spec: RuleSpec): Rule {
    return new Rule(this.family === 4 ? spec : { ...spec, family: this.family });
  }

  /** Sets of both families share one space of names. */
  #hash(text: string): string {
    return base32OfSha256(`${text} IPv${this.family}`, HASH_CHARACTERS);
  }

  #isOwn(cidr: string): boolean {
    return parseAnyPrefix(cidr).family === this.family;
  }
}

/** So that names of chains fit into 28 characters, and those of sets into 31. */
const HASH_CHARACTERS = 16;

const shortOf = (direction: Direction): string => (direction === 'Ingress' ? 'IN' : 'EG');

const policyChainName = (policy: NetworkPolicy, direction: Direction): string =>
  `KUBE-POL-${shortOf(direction)}-${base32OfSha256(keyOf(policy), HASH_CHARACTERS)}`;

const podChainName = (pod: Pod, direction: Direction): string =>
  `KUBE-POD-${shortOf(direction)}-${base32OfSha256(keyOf(pod), HASH_CHARACTERS)}`;

/** XT_MAX_COMMENT_LEN, without its terminating zero: a name and its namespace may be longer. */
const LONGEST_COMMENT = 255;
const comment = (text: string): MatchSpec => ({ match: 'comment', comment: text.slice(0, LONGEST_COMMENT) });

const setMatch = (set: string, sides: readonly SetSide[]): Extract<MatchSpec, { match: 'set' }> => ({
  match: 'set',
  set,
  sides,
});

/** In place of the bit as it is. */
const setMark = (value: number): TargetSpec => ({ target: 'MARK', value, mask: ADMITTED });

/** What goes out from the pod, or in to it. */
function ofPod(address: string, direction: Direction): Pick<RuleSpec, 'source' | 'destination'> {
  const { family, ip } = parseAddress(address);
  const pod = prefix(ip, addressBits(family), family);
  return direction === 'Egress' ? { source: pod } : { destination: pod };
}

/**
 * What policies have no say about: neighbor discovery, which br_netfilter shows ip6tables; answers, and errors about a
 * connection; and, if they are kept, packets of connections that were let in once.
 */
function unjudged(family: IpFamily, established: EstablishedChoice): RuleSpec[] {
  const target: TargetSpec = { target: 'RETURN' };
  const discovery = [NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT].map(
    (type): RuleSpec => ({ protocol: 'ipv6-icmp', matches: [{ match: 'icmp6', type }], target }),
  );
  return [
    ...(family === 6 ? discovery : []),
    ...(established === 'kept'
      ? [{ matches: [{ match: 'conntrack', states: ['RELATED', 'ESTABLISHED'] } satisfies MatchSpec], target }]
      : [
          { matches: [{ match: 'conntrack', states: ['RELATED'] } satisfies MatchSpec], target },
          {
            matches: [{ match: 'conntrack', states: ['ESTABLISHED'], direction: 'REPLY' } satisfies MatchSpec],
            target,
          },
        ]),
  ];
}

function dropUnknown(podRange: Prefix): RuleSpec[] {
  const isUnknown = (side: SetSide): MatchSpec => ({
    ...setMatch(knownPodsSet(podRange.family), [side]),
    negated: true,
  });
  return [
    { source: podRange, matches: [isUnknown('src')], target: { target: 'DROP' } },
    { destination: podRange, matches: [isUnknown('dst')], target: { target: 'DROP' } },
  ];
}

/** RFC 4861. */
const NEIGHBOR_SOLICITATION = 135;
const NEIGHBOR_ADVERTISEMENT = 136;

interface Filling {
  readonly name: string;
  readonly type: SetType;
  readonly family: IpFamily;
  /** As `ipset` spells them; `nomatch` may follow. */
  readonly elements: readonly string[];
}

function fillSet(sets: IpSets, { name, type, family, elements }: Filling): void {
  const large = elements.length > DEFAULT_MAX_ELEMENTS ? { maxElements: elements.length } : {};
  const options = { family, ...large };
  const set = sets.create(name, type, options);
  for (const text of elements) {
    const [element = '', nomatch] = text.split(' ');
    for (const read of readElements(element, type, options)!)
      set.add(nomatch === undefined ? read : { ...read, nomatch: true }, { exist: true, now: START });
  }
}

/** Sets of networks have no network of length 0: two halves stand for it. */
function elementsOfBlock({ cidr, except }: NonNullable<PolicyPeer['ipBlock']>): string[] {
  const { family, length } = parseAnyPrefix(cidr);
  const halves = family === 4 ? ['0.0.0.0/1', '128.0.0.0/1'] : ['::/1', '8000::/1'];
  return [...(length === 0 ? halves : [cidr]), ...except.map((hole) => `${hole} nomatch`)];
}
