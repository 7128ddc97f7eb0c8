// Where the first packet of a connection can go by a node's rules: every outcome, whichever way the coins of
// `-m statistic` fall. It takes the hooks that Linux takes for it, with NAT done in place and no stack around.

import { RandomStream } from '../../engine/random.ts';
import { START } from '../../engine/time.ts';
import { ACCEPT, DROP, TARGET } from '../netfilter/action.ts';
import { CT_DNAT, CT_NEW } from '../netfilter/conntrack-state.ts';
import type { TargetSpec } from '../netfilter/rule.ts';
import type { BuiltinChain, RuleTables, TableName } from '../netfilter/rule-tables.ts';
import { walk } from '../netfilter/walk.ts';
import { WalkContext } from '../netfilter/walk-context.ts';
import { Frame, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../packet/frame.ts';
import { formatIp, type Ip, parseIp } from '../packet/ip-address.ts';
import { Journey } from '../packet/journey.ts';

export interface Flow {
  readonly srcIP: string;
  readonly dstIP: string;
  readonly dstPort: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
}

export interface FlowOutcome {
  readonly verdict: 'ACCEPT' | 'DROP' | 'REJECT';
  /** `10.244.1.5:8080`; undefined if the destination was not translated. */
  readonly endpoint: string | undefined;
  readonly masqueraded: boolean;
  /** A rule accepted it, not the policy of a builtin chain. */
  readonly byRule: boolean;
}

/** `isLocal` tells the node's own addresses, loopback included. */
export function exploreFlow(tables: RuleTables, flow: Flow, isLocal: (ip: Ip) => boolean): FlowOutcome[] {
  const outcomes: FlowOutcome[] = [];
  let coins: boolean[] | undefined = [];
  while (coins !== undefined) {
    const random = new TossedCoins(coins);
    outcomes.push(new FirstPacket(tables, flow, { random, isLocal }).travel());
    coins = nextToss(random.tossed);
  }
  return outcomes;
}

/** Coins fall as given, then always heads. */
class TossedCoins extends RandomStream {
  readonly tossed: boolean[] = [];
  readonly #given: readonly boolean[];

  constructor(given: readonly boolean[]) {
    super('not drawn from');
    this.#given = given;
  }

  override chance31(): boolean {
    const heads = this.#given[this.tossed.length] ?? true;
    this.tossed.push(heads);
    return heads;
  }
}

/** The next way in which the coins can fall: the last heads becomes tails. Undefined after all tails. */
function nextToss(tossed: readonly boolean[]): boolean[] | undefined {
  const last = tossed.lastIndexOf(true);
  return last < 0 ? undefined : [...tossed.slice(0, last), false];
}

const PROTOCOLS = { TCP: PROTOCOL_TCP, UDP: PROTOCOL_UDP, SCTP: PROTOCOL_SCTP };

class FirstPacket {
  readonly #tables: RuleTables;
  readonly #isLocal: (ip: Ip) => boolean;
  readonly #context: WalkContext;
  readonly #frame = new Frame();
  readonly #journey = new Journey(0);

  constructor(tables: RuleTables, flow: Flow, node: { random: RandomStream; isLocal: (ip: Ip) => boolean }) {
    this.#tables = tables;
    this.#isLocal = node.isLocal;
    this.#context = new WalkContext({
      namespace: 'node',
      cpus: { instant: START },
      random: node.random,
      addressType: (ip) => (node.isLocal(ip) ? 'LOCAL' : 'UNICAST'),
    });
    this.#frame.srcIp = parseIp(flow.srcIP);
    this.#frame.dstIp = parseIp(flow.dstIP);
    this.#frame.srcPort = 40_000;
    this.#frame.dstPort = flow.dstPort;
    this.#frame.protocol = PROTOCOLS[flow.protocol];
    this.#frame.conntrackState = CT_NEW;
    this.#frame.journey = this.#journey;
  }

  travel(): FlowOutcome {
    const isOwn = this.#isLocal(this.#frame.srcIp);
    const translation = this.#walk('nat', isOwn ? 'OUTPUT' : 'PREROUTING');
    const endpoint = translation === undefined ? undefined : this.#translate(translation);
    const staysHere = this.#isLocal(this.#frame.dstIp);
    const filters: BuiltinChain[] = isOwn ? ['OUTPUT'] : staysHere ? [] : ['FORWARD'];
    for (const hook of staysHere ? [...filters, 'INPUT' as const] : filters) {
      const judgement = this.#walk('filter', hook);
      if (judgement === undefined) continue;
      const verdict = judgement.target === 'DROP' ? 'DROP' : 'REJECT';
      return { verdict, endpoint, masqueraded: false, byRule: true };
    }
    const byRule = this.#journey.steps.at(-1)?.stage === 'rule';
    const masqueraded = !staysHere && this.#walk('nat', 'POSTROUTING')?.target === 'MASQUERADE';
    return { verdict: 'ACCEPT', endpoint, masqueraded, byRule };
  }

  /** Undefined if the packet goes on as it is. */
  #walk(table: TableName, hook: BuiltinChain): TargetSpec | undefined {
    this.#context.enterHook(hook, undefined, undefined);
    switch (walk(this.#tables, table, hook, this.#frame, this.#context)) {
      case ACCEPT:
        return undefined;
      case DROP:
        return { target: 'DROP' };
      case TARGET:
        return this.#context.decidingRule?.spec.target;
    }
  }

  #translate(target: TargetSpec): string {
    if (target.target !== 'DNAT' || target.minIp === undefined || target.minPort === undefined) {
      throw new Error(`${target.target} in nat before routing; expected DNAT to one endpoint`);
    }
    this.#frame.dstIp = target.minIp;
    this.#frame.dstPort = target.minPort;
    this.#frame.conntrackState |= CT_DNAT;
    return `${formatIp(target.minIp)}:${target.minPort}`;
  }
}
