// Netfilter of one network namespace: what happens to a frame at each of the five hooks, in the kernel's order of
// priorities (hook-plan.ts), and what it costs.
//
// The nat table is walked for the first packet of a connection; later packets are translated from the connection's
// tuples. Frames are tracked as soon as any rule needs it, and a namespace without rules costs nothing.
//
// Rules may be iptables' and nftables' at once. Not modelled: the security table, user space queues, logging.

import type { RandomStream } from '../../engine/random.ts';
import type { CostModel } from '../cpu/cost-model.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import { formatProtocol, formatTuple } from '../packet/describe.ts';
import type { DropReason } from '../packet/drop-reason.ts';
import type { FlowRecorder, RuleVisits, UnsettledCounts } from '../packet/flow-recorder.ts';
import { type DeviceRef, ETHERNET_HEADER_BYTES, type Frame } from '../packet/frame.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import { type Ip, type IpFamily, LOOPBACK_IP, LOOPBACK_IPV6, withNetwork } from '../packet/ip-address.ts';
import type { JourneyStage } from '../packet/journey.ts';
import { ACCEPT, DROP, TARGET, type Verdict } from './action.ts';
import { isIcmp } from './connection-tuple.ts';
import {
  ALLOCATED,
  CONFIRMED_NEW,
  type ConfirmOutcome,
  Conntrack,
  type ConntrackSettings,
  FOR_ITS_ANSWER,
  isTranslated,
  JOINED,
  LOST,
  SKIPPED,
  TABLE_FULL,
  TRACKED,
  UNCHANGED,
} from './conntrack.ts';
import { CONNTRACK_STATE_BITS, CONNTRACK_STATES, CT_ESTABLISHED, CT_NEW, CT_RELATED } from './conntrack-state.ts';
import { FORWARD, HOOK_NAMES, HOOKS, type Hook, INPUT, OUTPUT, POSTROUTING, PREROUTING } from './hook.ts';
import {
  CONFIRM,
  DEFRAGMENT,
  type HookPlan,
  type HookStep,
  IPVS,
  IPVS_TIMERS,
  NFT,
  POLICY,
  planHook,
  Registrations,
  TRACK,
  TRANSLATE,
  WALK,
} from './hook-plan.ts';
import { IpSets } from './ipset/ip-sets.ts';
import { ENDED, Ipvs, LEAVES, PASSES, REFUSED, UNSERVED } from './ipvs/ipvs.ts';
import type { Accounts } from './matches/nfacct.ts';
import { DESTINATION, Nat, type NatMapping, type NatSide, SOURCE } from './nat.ts';
import { Nftables, type NftBaseChain } from './nft/nftables.ts';
import { NftWalk } from './nft/walk.ts';
import { RuleCosts } from './rule-costs.ts';
import { RuleTables } from './rule-tables.ts';
import type { TargetSpec } from './targets/registry.ts';
import { defaultRejectType, type RejectType } from './targets/reject.ts';
import { type BaseChain, walkBaseChain } from './walk.ts';
import { type AddressType, type RouteView, WalkContext } from './walk-context.ts';

export type { AddressType, Hook, RejectType, RouteView };
export { FORWARD, INPUT, OUTPUT, POSTROUTING, PREROUTING };

/** What netfilter asks of the IP stack that it is plugged into. */
export interface NetfilterStack {
  /** How routing sees the address; with a device, by that device's addresses alone (`--limit-iface-in`). */
  addressType(ip: Ip, family: IpFamily, device?: DeviceRef): AddressType;
  /** The source address of packets that leave by this device for `dstIp`; undefined if the stack has none. */
  masqueradeAddress(outDevice: DeviceRef, dstIp: Ip, family: IpFamily): Ip | undefined;
  /** The address to which REDIRECT sends packets that came in by this device; undefined if it has none. */
  redirectAddress(inDevice: DeviceRef, family: IpFamily): Ip | undefined;
  /**
   * Takes a fragment in. True: it was the last one missing, and the frame is the whole packet now. False: the packet is
   * not complete yet, and the frame belongs to the stack. Absent: fragments pass as they are.
   */
  defragment?(frame: Frame, hook: Hook): boolean;
  /** How a packet to the address would go; undefined without a route. Absent: rules that ask do not match. */
  routeTo?(ip: Ip, family: IpFamily): RouteView | undefined;
  /** Absent: not known. */
  mtuOf?(device: DeviceRef): number | undefined;
  /**
   * A packet that was made here has got another destination. False: there is no route to that, and the stack has dropped
   * the packet. Absent: the packet goes on.
   */
  reroute?(frame: Frame): boolean;
  /** For IPVS: see IpvsRoutes. Absent: no packet gets to a real server. */
  routeToServer?(frame: Frame, ip: Ip): DeviceRef | 'here' | undefined;
  /** A packet that IPVS sends to another host has passed OUTPUT: it leaves by POSTROUTING, as if it had been made here. */
  sendOn?(frame: Frame): void;
  /**
   * Answers the frame with an ICMP error, or a TCP reset that closes its connection (Conntrack.closeByReset) if it can be
   * sent. Netfilter drops the frame afterwards.
   */
  reject(frame: Frame, hook: Hook, rejectWith: RejectType, inDevice: DeviceRef | undefined): void;
}

export interface NetfilterOptions {
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  /** For what rules leave to chance: `-m statistic`. */
  readonly random: RandomStream;
  /** For NAT's choice of ports. */
  readonly natRandom: RandomStream;
  /** The network namespace's name, for journeys. */
  readonly namespace: string;
  readonly stack: NetfilterStack;
  readonly conntrack?: Partial<ConntrackSettings>;
}

export class Netfilter implements RuleVisits {
  /** What iptables has set up, and ip6tables. */
  readonly tables = new RuleTables();
  readonly tables6 = new RuleTables(6);
  /** What ipset has set up. */
  readonly sets = new IpSets();
  readonly nftables: Nftables;
  readonly conntrack: Conntrack;
  #ipvs: Ipvs | undefined;
  /** The latest packet that OUTPUT did not let pass has not been dropped: IPVS has sent it on. */
  #isSentOn = false;
  readonly #nat: Nat;
  readonly #cpus: CpuSet;
  readonly #costs: CostModel;
  readonly #frames: FrameStore;
  readonly #recorder: FlowRecorder;
  readonly #namespace: string;
  readonly #stack: NetfilterStack;
  readonly #context: WalkContext;
  readonly #nftWalk: NftWalk;
  readonly #registrations = new Registrations();
  readonly #registrations6 = new Registrations();
  // What the tables said when they last changed: the steps of each hook, by family.
  #isStale = true;
  #isIdle = true;
  #plans: readonly HookPlan[] = NO_PLANS;
  #plans6: readonly HookPlan[] = NO_PLANS;
  #ruleCosts: RuleCosts;
  #ruleCosts6: RuleCosts;
  readonly #nativeCosts: RuleCosts;
  /** Of the rule that has decided, after a walk with the verdict TARGET. */
  #target: TargetSpec | undefined;
  /** The context knows of the running hook: not before a table is walked, which established packets may not need. */
  #hasEntered = false;
  #rulesVisited = 0;
  readonly #expected = new Set<UnsettledCounts>();

  constructor({ cpus, frames, random, natRandom, namespace, stack, conntrack }: NetfilterOptions) {
    this.conntrack = new Conntrack(cpus, conntrack, cpus.costs.conntrackLookupNs);
    this.#nat = new Nat(this.conntrack, natRandom);
    this.#cpus = cpus;
    this.#costs = cpus.costs;
    this.#ruleCosts = this.#ruleCosts6 = RuleCosts.of(cpus.costs, 'legacy');
    this.#nativeCosts = RuleCosts.of(cpus.costs, 'native');
    this.#frames = frames;
    this.#recorder = frames.recorder;
    this.#namespace = namespace;
    this.#stack = stack;
    this.#context = new WalkContext({
      namespace,
      cpus,
      random,
      addressType: (ip, family, device) => stack.addressType(ip, family, device),
      routeTo: (ip, family) => stack.routeTo?.(ip, family),
      mtuOf: (device) => stack.mtuOf?.(device),
      sets: this.sets,
      ipsetNs: cpus.costs.ipsetNs,
      connections: this.conntrack,
      recorder: frames.recorder,
    });
    this.nftables = new Nftables(() => cpus.instant);
    for (const rules of [this.tables, this.tables6, this.nftables]) {
      rules.whenChanged = () => {
        this.#isStale = true;
        cpus.forgetWays();
      };
    }
    this.#nftWalk = new NftWalk({ context: this.#context, connections: this.conntrack, cpus });
  }

  /** What ipvsadm has set up. */
  get ipvs(): Ipvs {
    if (this.#ipvs === undefined) {
      this.#ipvs = new Ipvs({ cpus: this.#cpus, conntrack: this.conntrack, routes: this.#stack });
      this.#context.ipvs = this.#ipvs;
      this.#ipvs.whenChanged = () => {
        this.#isStale = true;
        this.#cpus.forgetWays();
      };
    }
    return this.#ipvs;
  }

  /** Asked once after {@link run} has said no to OUTPUT: has the packet been sent all the same? */
  takeSentOn(): boolean {
    const isSentOn = this.#isSentOn;
    this.#isSentOn = false;
    return isSentOn;
  }

  expect(counts: UnsettledCounts): void {
    this.#expected.add(counts);
  }

  addVisited(rules: number): void {
    this.#rulesVisited += rules;
  }

  /** Rules that packets have been compared with so far, in all tables. */
  get rulesVisited(): number {
    for (const counts of this.#expected) counts.settle();
    this.#expected.clear();
    return this.#rulesVisited;
  }

  /** What rules of `-m nfacct` have counted, by name, for both families. */
  get accounts(): Readonly<Accounts> {
    return this.#context.accounts;
  }

  /** True: the frame goes on. False: it has ended, dropped or rejected; do not touch it. */
  run(hook: Hook, frame: Frame, inDevice: DeviceRef | undefined, outDevice: DeviceRef | undefined): boolean {
    if (this.#isStale) this.#readTables();
    if (this.#isIdle) return true;
    // A frame that waited, or that answers one that did, may have outlived its connection's entry.
    if (frame.conntrackEntry !== 0 && !this.conntrack.isCurrent(frame.conntrackEntry)) frame.conntrackEntry = 0;
    this.#hasEntered = false;
    const plan = (frame.family === 6 ? this.#plans6 : this.#plans)[hook]!;
    for (let i = 0; i < plan.length; i++) {
      const step = plan[i]!;
      switch (step.kind) {
        case DEFRAGMENT:
          if (frame.isFragment && this.#stack.defragment?.(frame, hook) === false) return false;
          break;
        case WALK:
          if (!this.#passes(step.chain!, hook, frame, inDevice, outDevice)) return false;
          break;
        case POLICY:
          if (!this.#passesPolicy(step.chain!, hook, frame, inDevice, outDevice)) return false;
          break;
        case TRACK:
          if (!this.#track(frame)) return false;
          break;
        case TRANSLATE:
          if (!this.#translate(step, hook, frame, inDevice, outDevice)) return false;
          break;
        case CONFIRM:
          if (!this.confirm(frame)) return false;
          break;
        case NFT:
          if (!this.#isPassed(this.#walkNft(step.nft!, hook, frame, inDevice, outDevice), hook, frame, inDevice))
            return false;
          break;
        case IPVS:
          if (!this.#passIpvs(hook, frame, inDevice)) return false;
          break;
        case IPVS_TIMERS:
          this.#ipvs!.tidy();
          break;
      }
    }
    return true;
  }

  #readTables(): void {
    const { tables, tables6, nftables } = this;
    this.#isStale = false;
    this.#registrations.update(tables, nftables);
    this.#registrations6.update(tables6, nftables);
    const users = { tables, nftables, registrations: this.#registrations };
    const users6 = { tables: tables6, nftables, registrations: this.#registrations6 };
    const hasVirtualServers = (family: IpFamily): boolean => this.#ipvs?.isActive(family) === true;
    this.#plans = HOOKS.map((hook) => planHook(hook, { ...users, hasVirtualServers: hasVirtualServers(4) }));
    this.#plans6 = HOOKS.map((hook) => planHook(hook, { ...users6, hasVirtualServers: hasVirtualServers(6) }));
    this.#ruleCosts = RuleCosts.of(this.#costs, tables.backend);
    this.#ruleCosts6 = RuleCosts.of(this.#costs, tables6.backend);
    this.#isIdle = [...this.#plans, ...this.#plans6].every((plan) => plan.length === 0);
  }

  // ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #passesPolicy(
    chain: BaseChain,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): boolean {
    if (frame.journey !== undefined) return this.#passes(chain, hook, frame, inDevice, outDevice);
    const { use } = chain;
    this.#cpus.charge(this.#ruleCostsFor(frame).baseChainNs);
    use.counters.count(0, frame.sizeBytes - ETHERNET_HEADER_BYTES);
    if (this.#recorder.isRecording) this.#recorder.countedBy(use.counters, 0);
    return use.chain.policy !== 'DROP' || this.#drop(frame, 'NETFILTER_DROP');
  }

  #passes(
    chain: BaseChain,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): boolean {
    return this.#isPassed(this.#walk(chain, hook, frame, inDevice, outDevice), hook, frame, inDevice);
  }

  /** Does what a verdict outside nat says. */
  #isPassed(verdict: Verdict, hook: Hook, frame: Frame, inDevice: DeviceRef | undefined): boolean {
    switch (verdict) {
      case ACCEPT:
        return true;
      case DROP:
        return this.#drop(frame, 'NETFILTER_DROP');
      case TARGET: {
        const target = this.#target;
        if (target?.target !== 'REJECT')
          throw new Error(`${target?.target} where nothing is translated; the kernel would not load that rule`);
        this.#reject(target.rejectWith, frame, hook, inDevice);
        return this.#drop(frame, 'NETFILTER_DROP');
      }
    }
  }

  /** Walks a builtin chain and charges for it. */
  #walk(
    chain: BaseChain,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): Verdict {
    const context = this.#context;
    this.#enterHook(hook, inDevice, outDevice);
    const { rulesVisited: visitedBefore, setLookupsNs: lookupsNsBefore } = context;
    const costs = this.#ruleCostsFor(frame);
    this.#cpus.charge(costs.baseChainNs);
    const verdict = walkBaseChain(chain, frame, context);
    // The hook's tables together: they share the cache.
    const { rulesVisited, setLookupsNs } = context;
    this.#cpus.charge(setLookupsNs - lookupsNsBefore);
    if (rulesVisited !== visitedBefore) {
      this.#cpus.charge(costs.rulesNs(rulesVisited) - costs.rulesNs(visitedBefore));
      this.#rulesVisited += rulesVisited - visitedBefore;
      if (this.#recorder.isRecording) this.#recorder.visitedRules(this, rulesVisited - visitedBefore);
    }
    if (verdict === TARGET) this.#target = context.decidingRule?.spec.target;
    return verdict;
  }

  /** Walks a base chain of nftables and charges for it. */
  #walkNft(
    { state, chain }: NftBaseChain,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): Verdict {
    this.#enterHook(hook, inDevice, outDevice);
    this.#recorder.spoil(); // expressions do not say what they depend on
    const walk = this.#nftWalk;
    const verdict = walk.walk(state, chain, frame);
    const costs = this.#nativeCosts;
    this.#cpus.charge(costs.baseChainNs + costs.rulesNs(walk.rulesVisited) + walk.lookupsNs);
    this.#rulesVisited += walk.rulesVisited;
    this.#target = walk.target;
    return verdict;
  }

  #enterHook(hook: Hook, inDevice: DeviceRef | undefined, outDevice: DeviceRef | undefined): void {
    if (this.#hasEntered) return;
    this.#hasEntered = true;
    this.#context.enterHook(HOOK_NAMES[hook]!, inDevice, outDevice);
  }

  #ruleCostsFor({ family }: Frame): RuleCosts {
    return family === 6 ? this.#ruleCosts6 : this.#ruleCosts;
  }

  #reject(given: RejectType | undefined, frame: Frame, hook: Hook, inDevice: DeviceRef | undefined): void {
    this.#stack.reject(frame, hook, given ?? defaultRejectType(frame.family), inDevice);
  }

  #drop(frame: Frame, reason: DropReason): false {
    this.#frames.drop(frame, reason, this.#cpus.instant, this.#namespace);
    return false;
  }

  // ── virtual servers ────────────────────────────────────────────────────────────────────────────────────────────────

  #passIpvs(hook: Hook, frame: Frame, inDevice: DeviceRef | undefined): boolean {
    const ipvs = this.#ipvs!;
    const before = frame.journey === undefined ? '' : formatTuple(frame);
    this.#recorder.spoil(); // its connections are not followed by what is remembered of ways
    const outcome = ipvs.handle(hook, frame);
    if (frame.journey !== undefined && outcome !== ENDED && formatTuple(frame) !== before)
      this.#note(frame, 'ipvs', `${before} becomes ${formatTuple(frame)}`);
    switch (outcome) {
      case PASSES:
        return true;
      case LEAVES:
        this.#sendOn(hook, frame, ipvs);
        return false;
      case UNSERVED:
        this.#stack.reject(frame, hook, defaultRejectType(frame.family), inDevice);
        return this.#drop(frame, 'NETFILTER_DROP');
      case REFUSED:
        return this.#drop(frame, 'NETFILTER_DROP');
      case ENDED:
        return false;
    }
  }

  /** ip_vs_nat_send_or_cont: past all hooks that the packet has still before it, and through OUTPUT, perhaps again. */
  #sendOn(hook: Hook, frame: Frame, ipvs: Ipvs): void {
    const { outDevice } = ipvs;
    const passes = ipvs.whileLeaving(frame, () => this.run(OUTPUT, frame, undefined, outDevice));
    if (passes) this.#stack.sendOn?.(frame);
    this.#isSentOn = hook === OUTPUT;
  }

  // ── connection tracking ────────────────────────────────────────────────────────────────────────────────────────────

  #track(frame: Frame): boolean {
    const cpus = this.#cpus;
    const outcome = this.conntrack.track(frame);
    if (outcome === SKIPPED) return true;
    if (this.#recorder.isRecording) {
      this.#recorder.trackedBy(
        this.conntrack,
        frame,
        outcome === TRACKED && (frame.conntrackState & CT_ESTABLISHED) !== 0,
      );
    }
    cpus.charge(this.conntrack.lookupNs);
    if (outcome === TABLE_FULL) return this.#drop(frame, 'CONNTRACK_FULL');
    if (outcome === ALLOCATED) cpus.charge(this.#costs.conntrackNewNs);
    else if (isTranslated(frame)) cpus.charge(this.#costs.natNs);
    if (frame.journey !== undefined) {
      this.#note(frame, 'conntrack', `${stateName(frame)} ${formatProtocol(frame.protocol)} ${formatTuple(frame)}`);
    }
    return true;
  }

  /** The end of INPUT and POSTROUTING; br_netfilter asks for it, too. False: the frame has ended. */
  confirm(frame: Frame): boolean {
    const outcome = this.conntrack.confirm(frame);
    if (outcome !== UNCHANGED) this.#recorder.spoil();
    if (frame.journey !== undefined && outcome !== UNCHANGED) this.#note(frame, 'conntrack', CONFIRMATIONS[outcome]);
    return outcome !== LOST || this.#drop(frame, 'CONNTRACK_CLASH');
  }

  // ── address translation ────────────────────────────────────────────────────────────────────────────────────────────

  #translate(
    { side, natChains }: HookStep,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): boolean {
    if (frame.conntrackEntry === 0) return true;
    const before = frame.journey === undefined ? '' : formatTuple(frame);
    const { dstIp } = frame;
    if ((frame.conntrackState & CT_RELATED) !== 0 && isIcmp(frame.protocol)) {
      if (!this.#nat.translateError(frame, side)) return this.#drop(frame, 'NETFILTER_DROP');
    } else {
      // RELATED is also a reset made here for a connection that is not confirmed: nobody has asked the rules yet.
      const mayDecide = (frame.conntrackState & (CT_NEW | CT_RELATED)) !== 0;
      const isUndecided = mayDecide && !this.#nat.isDecided(frame, side);
      if (isUndecided && !this.#decide(side, natChains, hook, frame, inDevice, outDevice))
        return this.#drop(frame, 'NETFILTER_DROP');
      if (hook === POSTROUTING && outDevice !== undefined && this.#nat.endIfMoved(frame, outDevice))
        return this.#drop(frame, 'NETFILTER_DROP');
      this.#nat.translate(frame, side);
    }
    if (frame.journey !== undefined && formatTuple(frame) !== before) {
      this.#note(frame, 'nat', `${before} becomes ${formatTuple(frame)}`);
    }
    // nf_nat_ipv4_local_fn: at once, so that later tables do not see what has no route.
    if (hook === OUTPUT && frame.dstIp !== dstIp && this.#stack.reroute?.(frame) === false) return false;
    return true;
  }

  /** The first packet asks the rules. False: they drop it, or want an address that the stack does not have. */
  #decide(
    side: NatSide,
    natChains: readonly HookStep[],
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): boolean {
    const verdict = this.#askNatChains(natChains, hook, frame, inDevice, outDevice);
    if (verdict === DROP) return false;
    if (verdict === TARGET && this.#target?.target === 'REJECT') {
      // Chains of nftables may do that even here.
      this.#reject(this.#target.rejectWith, frame, hook, inDevice);
      return false;
    }
    const mapping = verdict === TARGET ? this.#mapping(side, hook, frame, inDevice, outDevice) : KEEP_ADDRESSES;
    if (mapping === undefined) return false;
    // The choice comes first: until the connection is confirmed, another CPU may choose the same.
    this.#nat.decide(frame, side, mapping);
    if (verdict === TARGET) this.#cpus.charge(this.#newTranslationNs(side, mapping));
    return true;
  }

  /** In turn, until one drops the frame or translates it (nf_nat_inet_fn). */
  #askNatChains(
    natChains: readonly HookStep[],
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): Verdict {
    for (const { nft, chain } of natChains) {
      const verdict =
        nft === undefined
          ? this.#walk(chain!, hook, frame, inDevice, outDevice)
          : this.#walkNft(nft, hook, frame, inDevice, outDevice);
      if (verdict !== ACCEPT) return verdict;
    }
    return ACCEPT;
  }

  #newTranslationNs(side: NatSide, { randomFully }: NatMapping): number {
    if (side === DESTINATION) return this.#costs.dnatNewNs;
    return randomFully ? this.#costs.snatRandomFullyNewNs : this.#costs.snatNewNs;
  }

  /** What the deciding rule's target maps to here and now. */
  #mapping(
    side: NatSide,
    hook: Hook,
    frame: Frame,
    inDevice: DeviceRef | undefined,
    outDevice: DeviceRef | undefined,
  ): NatMapping | undefined {
    const target = this.#target;
    switch (target?.target) {
      case 'DNAT':
        if (side === DESTINATION) return target;
        break;
      case 'SNAT':
        if (side === SOURCE) return target;
        break;
      case 'MASQUERADE': {
        if (hook !== POSTROUTING || outDevice === undefined) break;
        const minIp = this.#stack.masqueradeAddress(outDevice, frame.dstIp, frame.family);
        return minIp === undefined ? undefined : { ...target, minIp, deviceIndex: outDevice.index };
      }
      case 'NETMAP': {
        const { to } = target;
        const from = side === SOURCE ? frame.srcIp : frame.dstIp;
        return { minIp: withNetwork(from, to) };
      }
      case 'REDIRECT': {
        if (side !== DESTINATION) break;
        const { family } = frame;
        const loopback = family === 6 ? LOOPBACK_IPV6 : LOOPBACK_IP;
        const minIp = hook === OUTPUT ? loopback : inDevice && this.#stack.redirectAddress(inDevice, family);
        return minIp === undefined ? undefined : { ...target, minIp };
      }
    }
    throw new Error(`${target?.target} in chain ${HOOK_NAMES[hook]} of table nat; the kernel would not load that rule`);
  }

  #note(frame: Frame, stage: JourneyStage, text: string): void {
    frame.journey?.add({ at: this.#cpus.instant, namespace: this.#namespace, stage, text });
  }
}

const NO_PLANS: readonly HookPlan[] = HOOKS.map(() => []);

/** No rule has anything to say: only the port may change, to keep tuples unique. */
const KEEP_ADDRESSES: NatMapping = {};

const CONFIRMATIONS: Readonly<Record<Exclude<ConfirmOutcome, typeof UNCHANGED>, string>> = {
  [CONFIRMED_NEW]: 'confirmed',
  [JOINED]: 'joins the entry that another CPU has confirmed',
  [FOR_ITS_ANSWER]: 'confirmed for its answer; another CPU has confirmed another translation',
  [LOST]: 'another connection has this tuple',
};

const stateName = ({ conntrackState }: Frame): string =>
  CONNTRACK_STATES.find((state) => (conntrackState & CONNTRACK_STATE_BITS[state]) !== 0) ?? 'untracked';
