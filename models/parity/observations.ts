// An outcome as a list of things that can be compared: one per packet's verdict, frame at a tap, connection, counter.
// Two outcomes of one case agree if they have the same observations.
//
// Left out: address resolution (ARP, neighbor discovery, multicast listeners), which either side does when it needs to;
// the order of frames at different taps, since a frame that is copied to two ports is at both at once. What a side
// chooses by itself gets a name (chosen-values.ts).

import type { Capture, CapturedPacket, Outcome, ParityCase, StepOutcome } from './case.ts';
import { type CaseValues, ChosenValues, VXLAN_PORT } from './chosen-values.ts';
import { type ConntrackLine, parseConntrackLine } from './conntrack-lines.ts';
import { parseRuleCounts } from './rule-counts.ts';

export interface Observation {
  /** `step 2, n1/eth0, frame 1`; unique in an outcome. */
  readonly place: string;
  readonly summary: string;
  readonly fields: Readonly<Record<string, string>>;
}

export function observationsOf(parityCase: ParityCase, outcome: Outcome, values: CaseValues): Observation[] {
  return new Observer(parityCase, values).observe(outcome);
}

class Observer {
  readonly #case: ParityCase;
  readonly #chosen: ChosenValues;
  readonly #pods: ReadonlySet<string>;
  readonly #observations: Observation[] = [];

  constructor(parityCase: ParityCase, values: CaseValues) {
    this.#case = parityCase;
    this.#chosen = new ChosenValues(values);
    this.#pods = new Set(parityCase.topology.nodes.flatMap(({ pods }) => pods.map(({ name }) => name)));
  }

  observe({ steps, conntrack, counters }: Outcome): Observation[] {
    for (const [index, step] of steps.entries()) this.#observeStep(index, step);
    for (const { name } of this.#case.topology.nodes) {
      this.#observeConnections(name, conntrack[name] ?? []);
      if (counters[name] !== undefined) this.#observeCounters(name, counters[name]);
    }
    return this.#observations;
  }

  #observeStep(index: number, { captures, reply, socket }: StepOutcome): void {
    const place = `step ${index + 1}`;
    const step = this.#case.packets[index];
    const sender = step !== undefined && 'from' in step ? step.from : undefined;
    if (socket !== undefined) this.#add(place, `socket ${socket}`, { socket });
    if (captures !== undefined) {
      const frames = captures.filter((capture) => !isResolution(capture));
      if (sender !== undefined) {
        const verdict = this.#verdict(frames, sender.split('/')[0]!);
        this.#add(place, verdict, { verdict });
      }
      this.#observeFrames(place, frames);
    }
    if (reply !== undefined) {
      this.#observeFrames(
        `${place}, reply`,
        reply.filter((capture) => !isResolution(capture)),
      );
    }
  }

  #observeFrames(place: string, frames: readonly Capture[]): void {
    const byTap = new Map<string, Capture[]>();
    for (const frame of frames) {
      const tap = `${frame.ns}/${frame.dev}`;
      const seen = byTap.get(tap);
      if (seen === undefined) byTap.set(tap, [frame]);
      else seen.push(frame);
    }
    for (const tap of [...byTap.keys()].sort()) {
      for (const [i, frame] of byTap.get(tap)!.entries()) {
        const fields = this.#frameFields(frame);
        this.#add(`${place}, ${tap}, frame ${i + 1}`, summaryOf(frame.dir, fields), { dir: frame.dir, ...fields });
      }
    }
  }

  /** Where the packet came out, or what its sender heard of it. */
  #verdict(frames: readonly Capture[], sender: string): string {
    const arrivals = frames.filter(({ ns, dev, dir }) => dir === 'in' && dev === 'eth0' && this.#pods.has(ns));
    const answers = arrivals.filter(({ ns }) => ns === sender).map(describeAnswer);
    const receivers = arrivals.filter(({ ns, quoted }) => ns !== sender && quoted === undefined).map(({ ns }) => ns);
    const parts = [...new Set(receivers)].sort().map((pod) => `delivered to ${pod}`);
    return [...parts, ...answers.map((answer) => `${answer} to the sender`)].join(', ') || 'not delivered';
  }

  #frameFields(frame: Seen): Record<string, string> {
    const fields: Record<string, string> = {};
    for (const [key, value] of Object.entries(frame)) {
      if (value === undefined || OF_PLACE.has(key)) continue;
      if (key === 'quoted' || key === 'inner') {
        for (const [inner, text] of Object.entries(this.#frameFields(value))) fields[`${key} ${inner}`] = text;
      } else {
        fields[key] = this.#fieldText(key, value, frame);
      }
    }
    return fields;
  }

  #fieldText(key: string, value: string | number, frame: Seen): string {
    switch (key) {
      case 'sport':
        if (frame.dport === VXLAN_PORT) return this.#chosen.tunnelPort(Number(value));
        return this.#chosen.port(Number(value));
      case 'dport':
        return this.#chosen.port(Number(value));
      case 'id':
        return this.#chosen.icmpIdentifier(Number(value));
      case 'seq':
        return this.#chosen.sequence(Number(value), { isInitial: frame.flags?.includes('S') ?? false });
      case 'ack':
        return this.#chosen.sequence(Number(value), { isInitial: false });
      default:
        return String(value);
    }
  }

  /** Sorted by what is known of them, so that both sides name their ports in the same order. */
  #observeConnections(node: string, lines: readonly string[]): void {
    const connections = lines.map(parseConntrackLine);
    const sorted = connections.map((line) => ({ line, key: this.#sortKey(line) }));
    sorted.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    const seen = new Map<string, number>();
    for (const { line } of sorted) {
      const original = this.#tupleText(line.original);
      const name = `conntrack of ${node}, ${PROTOCOLS[line.protocol] ?? line.protocol} ${original}`;
      const count = (seen.get(name) ?? 0) + 1;
      seen.set(name, count);
      const fields = {
        ...(line.protocol === SCTP ? {} : ofState(line)),
        reply: this.#tupleText(line.reply),
        flags: flagsOf(line),
        mark: line.fields.mark ?? '0',
        zone: zonesOf(line.fields),
      };
      this.#add(count === 1 ? name : `${name} (${count})`, `${fields.reply} ${fields.flags}`, fields);
    }
  }

  #sortKey(line: ConntrackLine): string {
    const { protocol, original, reply, fields } = line;
    const words = [original, reply].flatMap((tuple) =>
      Object.entries(tuple).map(([key, value]) => {
        if (!PORTS.has(key)) return value;
        const port = Number(value);
        return isTunnelPort(tuple, key) ? this.#chosen.tunnelClass(port) : this.#chosen.portClass(port);
      }),
    );
    // One tuple may be there once in each zone; connections that chosen ports tell apart may be in different states.
    return [protocol, ...words, zonesOf(fields), line.protocol === SCTP ? '' : line.state, flagsOf(line)].join(' ');
  }

  #tupleText(tuple: Tuple): string {
    return Object.entries(tuple)
      .map(([key, value]) => {
        if (key === 'id') return `id=${this.#chosen.icmpIdentifier(Number(value))}`;
        if (!PORTS.has(key)) return `${key}=${value}`;
        const port = Number(value);
        return `${key}=${isTunnelPort(tuple, key) ? this.#chosen.tunnelPort(port) : this.#chosen.port(port)}`;
      })
      .join(' ');
  }

  /** Rules that counted nothing need no mention: the backends declare different chains. */
  #observeCounters(node: string, text: string): void {
    for (const [rule, { packets, bytes }] of parseRuleCounts(text)) {
      if (packets === 0 && bytes === 0) continue;
      this.#add(`counters of ${node}, ${rule}`, `${packets} packets, ${bytes} bytes`, {
        packets: String(packets),
        bytes: String(bytes),
      });
    }
  }

  #add(place: string, summary: string, fields: Readonly<Record<string, string>>): void {
    this.#observations.push({ place, summary, fields });
  }
}

const ofState = ({ timeoutSeconds, state }: ConntrackLine): Record<string, string> => ({
  ...(timeoutSeconds === undefined ? {} : { timeout: String(timeoutSeconds) }),
  ...(state === undefined ? {} : { state }),
});

const flagsOf = ({ protocol, flags }: ConntrackLine): string =>
  flags.filter((flag) => protocol !== SCTP || flag === 'UNREPLIED').join(' ');

/** The simulator tracks it without the states of an association. */
const SCTP = 132;

const zonesOf = (fields: ConntrackLine['fields']): string =>
  ['zone', 'zone-orig', 'zone-reply'].map((key) => fields[key] ?? '0').join(' ');

/** The hashed one: the other is where tunnels listen. */
const isTunnelPort = ({ sport, dport }: Tuple, key: string): boolean =>
  Number(key === 'sport' ? dport : sport) === VXLAN_PORT;

type Tuple = ConntrackLine['original'];
type Seen = CapturedPacket | Omit<Capture, 'ns' | 'dev' | 'dir'>;

/** Where and when, not what. */
const OF_PLACE: ReadonlySet<string> = new Set(['ns', 'dev', 'dir', 't']);
const PORTS: ReadonlySet<string> = new Set(['sport', 'dport']);
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

/** ARP, and of ICMPv6: multicast listeners, routers and neighbors. */
const isResolution = ({ arp, proto, type = 0 }: Capture): boolean =>
  arp !== undefined || (proto === 'icmpv6' && ((type >= 130 && type <= 136) || type === 143));

function describeAnswer({ proto, type, code, flags }: Capture): string {
  if (proto === 'icmp' || proto === 'icmpv6') return `${proto} ${type}/${code}`;
  return proto === 'tcp' ? `tcp [${flags}]` : String(proto);
}

function summaryOf(dir: string, fields: Readonly<Record<string, string>>): string {
  const { src, sport, dst, dport, proto, flags, type, code } = fields;
  const ends = [
    [src, sport],
    [dst, dport],
  ].map(([ip, port]) => (port === undefined ? ip : `${ip}:${port}`));
  const kind = flags !== undefined ? ` [${flags}]` : type !== undefined ? ` ${type}/${code}` : '';
  return `${dir} ${ends.join(' > ')} ${proto}${kind}`;
}
