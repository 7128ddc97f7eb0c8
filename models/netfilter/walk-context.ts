// What the rules of one network namespace may ask about while a frame walks through them, beside the frame itself. One
// object per namespace, refilled at every hook: nothing is allocated per frame.

import type { RandomStream } from '../../engine/random.ts';
import { FREE, interpolateNs, type PiecewiseLinear } from '../cpu/cost-model.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { FlowRecorder } from '../packet/flow-recorder.ts';
import type { DeviceRef, Frame } from '../packet/frame.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import { type ConnectionQuery, NO_CONNECTIONS } from './connection-query.ts';
import { IpSets } from './ipset/ip-sets.ts';
import type { Ipvs } from './ipvs/ipvs.ts';
import type { Accounts } from './matches/nfacct.ts';
import type { Rule } from './rule.ts';
import { RuleMemories } from './rule-memories.ts';
import { NO_TABLE, type RuleTable } from './rule-table.ts';
import { NO_PORT } from './selector.ts';

/** Route types that `-m addrtype` knows, in the kernel's order. */
export const ADDRESS_TYPES = [
  'UNSPEC',
  'UNICAST',
  'LOCAL',
  'BROADCAST',
  'ANYCAST',
  'MULTICAST',
  'BLACKHOLE',
  'UNREACHABLE',
  'PROHIBIT',
  'THROW',
  'NAT',
  'XRESOLVE',
] as const;

export type AddressType = (typeof ADDRESS_TYPES)[number];

/** How the namespace would route a packet to an address. */
export interface RouteView {
  /** The address is one of the namespace's own. */
  readonly isLocal: boolean;
  readonly device: DeviceRef | undefined;
  /** Of the path as far as it is known. */
  readonly mtuBytes: number;
}

export interface WalkContextOptions {
  /** The network namespace's name, for journeys. */
  readonly namespace: string;
  /** Whose instant dates journeys and lists of `-m recent`; which of them it is counts for `-m connlimit`. */
  readonly cpus: Pick<CpuSet, 'instant' | 'current'>;
  /** For `-m statistic --mode random`. */
  readonly random: RandomStream;
  /** How the namespace's routing sees an address; with a device, by that device's addresses alone. */
  readonly addressType: (ip: Ip, family: IpFamily, device?: DeviceRef) => AddressType;
  /** Undefined without a route. Absent: nothing is known of routes. */
  readonly routeTo?: (ip: Ip, family: IpFamily) => RouteView | undefined;
  readonly mtuOf?: (device: DeviceRef) => number | undefined;
  /** Conntrack; absent where nothing is tracked. */
  readonly connections?: ConnectionQuery;
  readonly sets?: IpSets;
  /** One lookup in an ipset, by its elements; free if absent. */
  readonly ipsetNs?: PiecewiseLinear;
  /** Who writes ways down; nobody if absent. */
  readonly recorder?: FlowRecorder;
}

export class WalkContext {
  readonly namespace: string;
  readonly cpus: Pick<CpuSet, 'instant' | 'current'>;
  readonly random: RandomStream;
  readonly addressType: WalkContextOptions['addressType'];
  readonly routeTo: (ip: Ip, family: IpFamily) => RouteView | undefined;
  readonly mtuOf: (device: DeviceRef) => number | undefined;
  readonly connections: ConnectionQuery;
  readonly sets: IpSets;
  readonly recorder: FlowRecorder;
  /** What rules of `-m nfacct` have counted. */
  readonly accounts: Accounts = new Map();
  /** Virtual servers, where there have been any: for `-m ipvs`. */
  ipvs: Pick<Ipvs, 'connectionOf'> | undefined = undefined;

  /** The hook, as its builtin chains are called: `PREROUTING`. */
  hook = '';
  inDevice: DeviceRef | undefined = undefined;
  outDevice: DeviceRef | undefined = undefined;
  /** Their names; empty without a device, as the kernel compares them. */
  inName = '';
  outName = '';

  /** The table being walked. Its changes make what `nth` and `limit` remember start afresh. */
  table: RuleTable = NO_TABLE;
  /** What its rules remember by name. */
  memories = new RuleMemories();
  /** Set by a match that can neither pass nor fail: the walk ends, and the frame is dropped. */
  hotDrop = false;
  /** The frame's ports, or {@link NO_PORT} for a later fragment. */
  srcPort = NO_PORT;
  dstPort = NO_PORT;
  /** Chains entered by jumps and not left yet. */
  depth = 0;
  /** Chains of so many rules are walked by their index. */
  indexedFrom = 0;

  /** Rules examined since {@link enterHook}. The walk adds to it; netfilter charges for it. */
  rulesVisited = 0;
  /** What looking into ipsets has cost since {@link enterHook}; netfilter charges for it. */
  setLookupsNs = 0;
  readonly #ipsetNs: PiecewiseLinear;
  /** The rule whose target is left to netfilter, after a walk with the verdict TARGET. */
  decidingRule: Rule | undefined = undefined;

  constructor({
    namespace,
    cpus,
    random,
    addressType,
    routeTo = () => undefined,
    mtuOf = () => undefined,
    connections = NO_CONNECTIONS,
    sets = new IpSets(),
    ipsetNs = FREE.ipsetNs,
    recorder = new FlowRecorder(),
  }: WalkContextOptions) {
    this.namespace = namespace;
    this.cpus = cpus;
    this.random = random;
    this.addressType = addressType;
    this.routeTo = routeTo;
    this.mtuOf = mtuOf;
    this.connections = connections;
    this.sets = sets;
    this.#ipsetNs = ipsetNs;
    this.recorder = recorder;
  }

  /** An ipset of so many elements is searched. */
  chargeSetLookup(elements: number): void {
    this.setLookupsNs += interpolateNs(this.#ipsetNs, elements);
  }

  /** A frame has come to a hook; its tables are walked next. */
  enterHook(hook: string, inDevice: DeviceRef | undefined, outDevice: DeviceRef | undefined): void {
    this.hook = hook;
    this.inDevice = inDevice;
    this.outDevice = outDevice;
    this.inName = inDevice === undefined ? '' : inDevice.name;
    this.outName = outDevice === undefined ? '' : outDevice.name;
    this.rulesVisited = 0;
    this.setLookupsNs = 0;
    this.decidingRule = undefined;
  }

  /** Called by the walk. The table before may have changed the frame's ports (NAT). */
  enterTable(table: RuleTable, memories: RuleMemories, frame: Frame, indexedFrom: number): void {
    const isLaterFragment = frame.fragmentOffset > 0;
    this.table = table;
    this.memories = memories;
    this.srcPort = isLaterFragment ? NO_PORT : frame.srcPort;
    this.dstPort = isLaterFragment ? NO_PORT : frame.dstPort;
    this.depth = 0;
    this.hotDrop = false;
    this.indexedFrom = indexedFrom;
  }
}

/** What a match remembers, apart for each namespace: rules are shared between namespaces. */
export class NamespaceMemory<T> {
  readonly #memories = new WeakMap<WalkContext, T>();
  readonly #create: (context: WalkContext) => T;

  constructor(create: (context: WalkContext) => T) {
    this.#create = create;
  }

  of(context: WalkContext): T {
    let memory = this.#memories.get(context);
    if (memory === undefined) this.#memories.set(context, (memory = this.#create(context)));
    return memory;
  }
}
