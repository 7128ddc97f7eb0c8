// A fact about the Linux kernel as a case that shows it, and what is to be seen then, in words. The words are checked
// against the simulator, against the recording of the kernel's answer, and against the kernel where it can be asked; and
// all that the case shows beside them is compared field by field.

import type { Capture, CapturedPacket, Outcome, ParityCase, RuleBackend, Step, StepOutcome } from '../case.ts';
import { ChosenValues, valuesOf } from '../chosen-values.ts';
import { parseConntrackLine } from '../conntrack-lines.ts';
import { parseRuleCounts } from '../rule-counts.ts';

export interface Fact {
  /** Also the name of its recording. */
  readonly name: string;
  /** What is so. */
  readonly says: string;
  readonly case: ParityCase;
  /** By step, what came to pods' devices; then what {@link watch} asks for. As {@link tell} tells it. */
  readonly shows: readonly string[];
  readonly watch?: Watch;
}

/** What else of an outcome is told. */
export interface Watch {
  /** The connections of this node. */
  readonly connectionsOf?: string;
  /** Counters by what they count: `INVALID` is at `n1 filter FORWARD 1`. */
  readonly counters?: Readonly<Record<string, string>>;
  /** False: the steps speak through what is watched. */
  readonly steps?: boolean;
}

/** An outcome in words: lines for steps, a line per connection, and a line of counters. */
export function tell(
  parityCase: ParityCase,
  outcome: Outcome,
  { connectionsOf, counters, steps = true }: Watch = {},
): string[] {
  const teller = new Teller(parityCase);
  const toldSteps = outcome.steps.flatMap((step, i) => teller.step(i + 1, step, parityCase.packets[i]));
  const connections = connectionsOf === undefined ? [] : (outcome.conntrack[connectionsOf] ?? []);
  return [
    ...(steps ? toldSteps : []),
    ...connections.map((line) => teller.connection(line)).sort(),
    ...(counters === undefined ? [] : [tellCounters(outcome, counters)]),
  ];
}

/** `2 NEW, 1 INVALID`: what counted nothing is not told. */
function tellCounters(outcome: Outcome, counters: Readonly<Record<string, string>>): string {
  const counted = Object.entries(counters).map(([label, place]) => ({ label, packets: packetsAt(outcome, place) }));
  const told = counted.filter(({ packets }) => packets > 0).map(({ label, packets }) => `${packets} ${label}`);
  return `counted: ${told.join(', ') || 'nothing'}`;
}

function packetsAt({ counters }: Outcome, place: string): number {
  const [node = '', ...rule] = place.split(' ');
  return parseRuleCounts(counters[node] ?? '').get(rule.join(' '))?.packets ?? 0;
}

class Teller {
  readonly #chosen: ChosenValues;
  readonly #pods: ReadonlySet<string>;

  constructor(parityCase: ParityCase) {
    this.#chosen = new ChosenValues(valuesOf(parityCase));
    this.#pods = new Set(parityCase.topology.nodes.flatMap(({ pods }) => pods.map(({ name }) => name)));
  }

  /** `1: p3 gets udp 10.244.1.2:40000 > 10.244.2.2:53 ttl 62`, a line per arrival; nothing of preparations. */
  step(number: number, { captures = [], reply = [], socket }: StepOutcome, step: Step | undefined): string[] {
    if (step === undefined || 'rules' in step || 'flush' in step) return [];
    if ('socket' in step && step.socket.do !== 'connect') return [];
    const told = this.#arrivals(captures);
    if (socket !== undefined) told.unshift(socket);
    if (told.length === 0) told.push('nothing arrives');
    return [
      ...told.map((line) => `${number}: ${line}`),
      ...this.#arrivals(reply).map((line) => `${number}, reply: ${line}`),
    ];
  }

  /** `udp 10.244.1.2:40000 > 10.96.0.10:53, answers 10.244.2.2:53 > 10.244.1.2:40000, 30 s ASSURED` */
  connection(line: string): string {
    const { protocol, original, reply, state, timeoutSeconds = 0, flags } = parseConntrackLine(line);
    const isTranslated = original.src !== reply.dst || original.dst !== reply.src || original.sport !== reply.dport;
    const answers = isTranslated ? `, answers ${this.#ends(reply)},` : '';
    const words = [state, roundTimeout(timeoutSeconds), ...flags].filter((word) => word !== undefined);
    const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`;
    return `${name} ${this.#ends(original)}${answers} ${words.join(' ')}`;
  }

  #ends({ src, sport, dst, dport }: Readonly<Record<string, string>>): string {
    const name = (ip: string | undefined, port: string | undefined): string | undefined =>
      port === undefined ? ip : `${ip}:${this.#chosen.port(Number(port))}`;
    return `${name(src, sport)} > ${name(dst, dport)}`;
  }

  /** Pod by pod, as a frame that is copied to two of them is at both at once. */
  #arrivals(captures: readonly Capture[]): string[] {
    return captures
      .filter(({ ns, dir, arp }) => dir === 'in' && arp === undefined && this.#pods.has(ns))
      .toSorted((a, b) => (a.ns < b.ns ? -1 : a.ns > b.ns ? 1 : 0))
      .map((capture) => `${capture.ns} gets ${this.#packet(capture)} ttl ${capture.ttl}`);
  }

  #packet(packet: Partial<CapturedPacket>): string {
    const { src, dst, sport, dport, proto, type, code, flags, frag, len, mtu, quoted } = packet;
    const from = sport === undefined ? src : `${src}:${this.#chosen.port(sport)}`;
    const to = dport === undefined ? dst : `${dst}:${this.#chosen.port(dport)}`;
    const kind = flags === undefined ? (type === undefined ? '' : ` ${type}/${code}`) : ` [${flags}]`;
    const size = frag === undefined ? '' : ` fragment of ${len} bytes`;
    const nextMtu = type === 3 && code === 4 ? ` mtu ${mtu}` : '';
    const about = quoted === undefined ? '' : ` about ${this.#packet(quoted)}`;
    return `${proto}${kind} ${from} > ${to}${size}${nextMtu}${about}`;
  }
}

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp' };

/** The kernel's clock goes on while a case runs: a timeout that has lost a second is told as it was. */
const roundTimeout = (seconds: number): string => `${seconds % 10 === 9 ? seconds + 1 : seconds} s`;

// ── networks and rules that facts share ──────────────────────────────────────────────────────────────────────────────

/** Facts that hold for both iptables are shown with both. */
export function withBackends(fact: Fact, backends: readonly RuleBackend[] = ['legacy', 'nft']): Fact[] {
  return backends.map((backend) => ({
    ...fact,
    name: backend === 'legacy' ? fact.name : `${fact.name}-${backend}`,
    case: { ...fact.case, rules: withBackend(fact.case.rules ?? {}, backend) },
  }));
}

const withBackend = (rules: NonNullable<ParityCase['rules']>, backend: RuleBackend): NonNullable<ParityCase['rules']> =>
  Object.fromEntries(Object.entries(rules).map(([node, nodeRules]) => [node, { ...nodeRules, backend }]));

/** `iptables-restore` text of a table: the rules without `-A`, builtin chains accept. */
export function table(
  name: 'raw' | 'mangle' | 'nat' | 'filter',
  rules: readonly string[],
  chains: readonly string[] = [],
): string {
  const own = chains.map((chain) => `:${chain} - [0:0]\n`);
  return `*${name}\n${BUILTIN[name].map((chain) => `:${chain} ACCEPT [0:0]\n`).join('')}${own.join('')}${rules
    .map((rule) => `-A ${rule}\n`)
    .join('')}COMMIT\n`;
}

const BUILTIN = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
} as const;

const P1 = { name: 'p1', ip: '10.244.1.2' };
const P2 = { name: 'p2', ip: '10.244.1.3' };
const P3 = { name: 'p3', ip: '10.244.2.2' };
const P4 = { name: 'p4', ip: '10.244.2.3' };
const N1 = { name: 'n1', ip: '192.168.1.1', podCIDR: '10.244.1.0/24', pods: [P1, P2] };
const N2 = { name: 'n2', ip: '192.168.1.2', podCIDR: '10.244.2.0/24', pods: [P3, P4] };

/** p1 and p2 on n1, p3 and p4 on n2. */
export const TWO_NODES = { nodes: [N1, N2] };
/** The same, with these settings on n1. */
export const twoNodes = (settings: Partial<ParityCase['topology']['nodes'][number]>): ParityCase['topology'] => ({
  nodes: [{ ...N1, ...settings }, N2],
});
/** The same, whose pods have stacks and sockets of their own. */
export const TWO_NODES_WITH_STACKS = {
  nodes: [N1, N2].map((node) => ({ ...node, pods: node.pods.map((pod) => ({ ...pod, stack: true })) })),
};

/** The same in both families. */
export const dualStack = (topology: ParityCase['topology']): ParityCase['topology'] => ({
  ...topology,
  nodes: topology.nodes.map((node, i) => ({
    ...node,
    ip6: `fd00:192:168:1::${i + 1}`,
    podCIDR6: `fd00:10:244:${i + 1}::/64`,
    pods: node.pods.map((pod, j) => ({ ...pod, ip6: `fd00:10:244:${i + 1}::${j + 2}` })),
  })),
});

/** From p1 to p3, unless said otherwise. */
export const udp = { from: 'p1', proto: 'udp', src: P1.ip, dst: P3.ip, sport: 40_000, dport: 53 } as const;
export const udp6 = { ...udp, src: 'fd00:10:244:1::2', dst: 'fd00:10:244:2::2' } as const;
export const tcp = { from: 'p1', proto: 'tcp', src: P1.ip, dst: P3.ip, sport: 40_000, dport: 80 } as const;
export const fromP2 = { from: 'p2', src: P2.ip } as const;
export const fromP3 = { from: 'p3', src: P3.ip, dst: P1.ip } as const;
