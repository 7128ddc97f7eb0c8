// What each side chooses by itself: source ports of NAT, of sockets and of VXLAN, ICMP identifiers, initial sequence
// numbers. Two runs of one case agree if one's values can be renamed into the other's, so every outcome gets its own
// names for them, in the order in which they appear: `port 1 of 1024-65535`. The class of a port stays part of its
// name, because NAT keeps to it.
//
// What the case itself says (ports of its packets and rules) is no choice and keeps its value.

import type { ParityCase } from './case.ts';

export class ChosenValues {
  readonly #case: CaseValues;
  readonly #ports = new Map<number, string>();
  readonly #tunnelPorts = new Map<number, string>();
  readonly #identifiers = new Map<number, string>();
  /** Initial sequence numbers, as far as segments with SYN have shown them. */
  readonly #initials: number[] = [];

  constructor(caseValues: CaseValues) {
    this.#case = caseValues;
  }

  port(port: number): string {
    if (this.#case.ports.has(port)) return String(port);
    if (this.#case.isCrowded) return `a port of ${this.#classOf(port)}`;
    return named(this.#ports, port, (number) => `port ${number} of ${this.#classOf(port)}`);
  }

  /** The outer source port of VXLAN: a hash of the inner flow, which all ends have in common, as they are on one machine. */
  tunnelPort(port: number): string {
    return named(this.#tunnelPorts, port, (number) => `tunnel port ${number}`);
  }

  /** For sorting, like {@link portClass}. */
  tunnelClass(port: number): string {
    return this.#tunnelPorts.get(port) ?? 'tunnel';
  }

  /** For sorting: without naming a port that has no name yet. */
  portClass(port: number): string {
    if (this.#case.ports.has(port)) return String(port);
    return this.#ports.get(port) ?? this.#classOf(port);
  }

  icmpIdentifier(id: number): string {
    if (this.#case.identifiers.has(id)) return String(id);
    return named(this.#identifiers, id, (number) => `identifier ${number}`);
  }

  /** `initial 1 + 1`; numbers that the case gives stay, even if an initial one was drawn near them. */
  sequence(sequence: number, { isInitial }: { isInitial: boolean }): string {
    if (this.#case.sequences.has(sequence)) return String(sequence);
    const near = this.#initials.findIndex((initial) => (sequence - initial) >>> 0 < NEAR);
    if (near >= 0) return `initial ${near + 1} + ${(sequence - this.#initials[near]!) >>> 0}`;
    if (!isInitial) return String(sequence);
    this.#initials.push(sequence);
    return `initial ${this.#initials.length} + 0`;
  }

  #classOf(port: number): string {
    const range = this.#case.portRanges.find(({ first, last }) => port >= first && port <= last);
    if (range !== undefined) return `${range.first}-${range.last}`;
    // nf_nat_l4proto_unique_tuple; nothing is chosen between 512 and 599.
    if (port < 512) return '1-511';
    return port < 600 ? '512-599' : port < 1024 ? '600-1023' : '1024-65535';
  }
}

/** Of overlays of cases. */
export const VXLAN_PORT = 8472;

/**
 * Sequence numbers this close to an initial one belong to its direction of the connection: cases send little. With more,
 * numbers of crafted segments seem to belong to it now and then, and for as long as the kernel's clock, which initial
 * numbers follow, takes to go on (secure_tcp_seq), so that asking again does not help.
 */
const NEAR = 1 << 17;

function named<K>(names: Map<K, string>, key: K, make: (number: number) => string): string {
  let name = names.get(key);
  if (name === undefined) names.set(key, (name = make(names.size + 1)));
  return name;
}

/** Values that a case names. */
export interface CaseValues {
  readonly ports: ReadonlySet<number>;
  readonly portRanges: readonly { readonly first: number; readonly last: number }[];
  /**
   * So many ports are chosen that two are the same now and then, by chance and on one side only: a port is told by its class
   * alone.
   */
  readonly isCrowded: boolean;
  readonly identifiers: ReadonlySet<number>;
  readonly sequences: ReadonlySet<number>;
}

/** Sequence and acknowledgment numbers of packets and automatic replies that name none. */
const GIVEN_SEQUENCES = [0, 1, 500, 501, 1000, 1001];
const GIVEN_IDENTIFIER = 7;

export function valuesOf({ rules = {}, packets }: ParityCase): CaseValues {
  const ports = new Set([0, VXLAN_PORT]);
  const identifiers = new Set([GIVEN_IDENTIFIER]);
  const sequences = new Set(GIVEN_SEQUENCES);
  const texts = Object.values(rules).flatMap(({ text, text6 = '' }) => [text, text6]);
  for (const step of packets) {
    if ('from' in step) {
      for (const port of [step.sport, step.dport]) if (port !== undefined) ports.add(port);
      if (step.id !== undefined) identifiers.add(step.id);
      for (const number of [step.seq, step.ack]) if (number !== undefined) sequences.add(number);
    } else if ('rules' in step) {
      for (const { text, text6 = '' } of Object.values(step.rules)) texts.push(text, text6);
    } else if ('socket' in step && step.socket.do !== 'close') {
      ports.add(step.socket.port);
      if (step.socket.do === 'connect' && step.socket.sport !== undefined) ports.add(step.socket.sport);
    }
  }
  const lines = texts.join('\n');
  for (const [, port] of lines.matchAll(LONE_NUMBER)) if (Number(port) <= 65_535) ports.add(Number(port));
  const portRanges = [...lines.matchAll(RANGE)].map(([, first, last]) => ({
    first: Number(first),
    last: Number(last),
  }));
  return { ports, portRanges, isCrowded: false, identifiers, sequences };
}

/** A number that can be a port of a rule: `--dport 80`, `10.244.1.3:8080`, `{ 80, 443 }`. */
const LONE_NUMBER = /(?<=[ :,])(\d{1,5})(?=[\s,;:}]|$)/gm;
/** `--to-ports 5000-5003`, `:5000-5003`; a range of addresses has dots. */
const RANGE = /(?<=[ :])(\d{1,5})-(\d{1,5})(?=[\s,;}]|$)/gm;

/** The rules toss coins: the kernel's outcome is one of several. Of few ports two flows may draw the same, or not. */
export function tossesCoins(parityCase: ParityCase): boolean {
  const { rules = {}, packets } = parityCase;
  const loaded = [rules, ...packets.flatMap((step) => ('rules' in step ? [step.rules] : []))];
  const texts = loaded.flatMap((byNode) => Object.values(byNode).map(({ text, text6 = '' }) => text + text6));
  return texts.some((text) => COIN.test(text)) || valuesOf(parityCase).portRanges.length > 0;
}

/** A hash without a seed of its own is as good as a coin. */
const COIN = /--mode random|numgen random|\bjhash\b|\bsymhash\b/;
