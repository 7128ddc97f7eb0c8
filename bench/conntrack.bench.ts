// Finding and adding connections: conntrack's table against the obvious one, a Map from text to a record, with both
// directions of a connection as keys. The table is why a packet of an established connection costs what it does.

import { RandomStreams } from '../engine/random.ts';
import { invertPorts, packPorts } from '../models/netfilter/connection-tuple.ts';
import {
  ConntrackTable,
  KIND,
  ORIGINAL,
  REPLY,
  REPLY_TUPLE,
  TUPLES,
  WORDS_PER_ENTRY,
} from '../models/netfilter/conntrack-table.ts';
import { PROTOCOL_TCP } from '../models/packet/frame.ts';
import { formatIp, type Ip, parseIp } from '../models/packet/ip-address.ts';
import { measure } from './measure.ts';
import type { BenchReport } from './report.ts';

const SIZES = [100, 1_000, 10_000, 100_000, 1_000_000] as const;
/** A call of some 0.1 ms with the fast table, and 10 ms with the slow one at its largest. */
const OPERATIONS = 5_000;

interface Flow {
  readonly srcIp: Ip;
  readonly dstIp: Ip;
  readonly srcPort: number;
  readonly dstPort: number;
}

/** What both tables do. */
interface Candidate {
  add(flow: Flow): void;
  /** Removes what was added for the flow. */
  remove(flow: Flow): void;
  /** Not 0: it is there. */
  find(flow: Flow): number;
}

export async function run(
  report: BenchReport,
  {
    sizes = SIZES,
    rounds = 7,
    msPerRound = 60,
  }: { sizes?: readonly number[]; rounds?: number; msPerRound?: number } = {},
): Promise<void> {
  for (const size of sizes) {
    // In random order, so that a large table is not in the cache more than it would be in a large cluster.
    const flows = new RandomStreams('bench').stream('conntrack').shuffle(flowsOf(size));
    const table = filled(new TableCandidate(), flows);
    const map = filled(new MapCandidate(), flows);
    for (const [operation, act] of Object.entries(OPERATIONS_OF)) {
      const measurements = await measure(
        { 'conntrack table': inTurn(flows, table, act), 'Map with text keys': inTurn(flows, map, act) },
        { operationsPerCall: OPERATIONS, rounds, msPerRound },
      );
      for (const [variant, { nsPerOperation, samples, rsd }] of Object.entries(measurements)) {
        const name = `${operation}, ${size.toLocaleString('en')} connections`;
        report.add({ bench: 'conntrack', case: name, variant, unit: 'ns', value: nsPerOperation, samples, rsd });
      }
    }
  }
}

/** Each call goes on with the flows where the call before has stopped. */
function inTurn(flows: readonly Flow[], candidate: Candidate, act: Operation): () => void {
  let next = 0;
  return () => {
    for (let i = 0; i < OPERATIONS; i++) {
      act(candidate, flows[next]!);
      if (++next === flows.length) next = 0;
    }
  };
}

type Operation = (candidate: Candidate, flow: Flow) => void;

const OPERATIONS_OF: Readonly<Record<string, Operation>> = {
  lookup(candidate, flow) {
    if (candidate.find(flow) === 0) throw new Error(`the flow from port ${flow.srcPort} was not found`);
  },
  /** One connection goes and comes back, so that the size stays. */
  'remove and insert'(candidate, flow) {
    candidate.remove(flow);
    candidate.add(flow);
  },
};

function filled(candidate: Candidate, flows: readonly Flow[]): Candidate {
  for (const flow of flows) candidate.add(flow);
  return candidate;
}

/** Clients of many pods to one server, as a node sees them. */
function flowsOf(count: number): Flow[] {
  const server = parseIp('10.96.0.10');
  const firstClient = parseIp('10.244.0.2');
  return Array.from({ length: count }, (_, i) => ({
    srcIp: (firstClient + (i % 5_000)) as Ip,
    dstIp: server,
    srcPort: 32_768 + Math.floor(i / 5_000),
    dstPort: 80,
  }));
}

class TableCandidate implements Candidate {
  readonly #table = new ConntrackTable();

  add({ srcIp, dstIp, srcPort, dstPort }: Flow): void {
    const index = this.#table.allocate();
    const { words } = this.#table;
    const at = index * WORDS_PER_ENTRY;
    const ports = packPorts(srcPort, dstPort);
    words[at + TUPLES] = srcIp;
    words[at + TUPLES + 1] = dstIp;
    words[at + TUPLES + 2] = ports;
    words[at + REPLY_TUPLE] = dstIp;
    words[at + REPLY_TUPLE + 1] = srcIp;
    words[at + REPLY_TUPLE + 2] = invertPorts(PROTOCOL_TCP, ports);
    words[at + KIND] = PROTOCOL_TCP;
    this.#table.insertTuple(index, ORIGINAL);
    this.#table.insertTuple(index, REPLY);
  }

  remove(flow: Flow): void {
    const index = this.find(flow) >> 1;
    this.#table.removeTuple(index, ORIGINAL);
    this.#table.removeTuple(index, REPLY);
    this.#table.free(index);
  }

  find({ srcIp, dstIp, srcPort, dstPort }: Flow): number {
    return this.#table.find(srcIp, dstIp, packPorts(srcPort, dstPort), PROTOCOL_TCP);
  }
}

class MapCandidate implements Candidate {
  readonly #entries = new Map<string, { readonly original: string; readonly reply: string }>();

  add({ srcIp, dstIp, srcPort, dstPort }: Flow): void {
    const original = keyOf(srcIp, srcPort, dstIp, dstPort);
    const reply = keyOf(dstIp, dstPort, srcIp, srcPort);
    const entry = { original, reply };
    this.#entries.set(original, entry).set(reply, entry);
  }

  remove({ srcIp, dstIp, srcPort, dstPort }: Flow): void {
    const { original, reply } = this.#entries.get(keyOf(srcIp, srcPort, dstIp, dstPort))!;
    this.#entries.delete(original);
    this.#entries.delete(reply);
  }

  find({ srcIp, dstIp, srcPort, dstPort }: Flow): number {
    return this.#entries.has(keyOf(srcIp, srcPort, dstIp, dstPort)) ? 1 : 0;
  }
}

const keyOf = (srcIp: Ip, srcPort: number, dstIp: Ip, dstPort: number): string =>
  `tcp ${formatIp(srcIp)}:${srcPort} > ${formatIp(dstIp)}:${dstPort}`;
