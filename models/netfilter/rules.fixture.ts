// For tests: a network namespace that has rules and nothing else, and frames to send into them.

import { RandomStreams } from '../../engine/random.ts';
import { after, type Duration, START } from '../../engine/time.ts';
import { ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, PROTOCOL_TCP } from '../packet/frame.ts';
import { formatIp, type Ip, type IpFamily, parseAddress } from '../packet/ip-address.ts';
import { ACCEPT, DROP } from './action.ts';
import { IpSets } from './ipset/ip-sets.ts';
import { parseIptablesSave, printIptablesSave, restoreTables } from './iptables-save.ts';
import { type BuiltinChain, RuleTables, type TableName } from './rule-tables.ts';
import { walk } from './walk.ts';
import { type AddressType, WalkContext } from './walk-context.ts';

export interface FrameFields extends Partial<Omit<Frame, 'srcIp' | 'dstIp'>> {
  readonly from?: string;
  readonly to?: string;
}

/** A TCP segment of 60 bytes from 10.0.0.1:40000 to 10.0.0.2:80, where the fields do not say otherwise; or of IPv6. */
export function frameOf({ from = '10.0.0.1', to = '10.0.0.2', ...fields }: FrameFields = {}): Frame {
  const frame = new Frame();
  frame.protocol = PROTOCOL_TCP;
  frame.srcPort = 40_000;
  frame.dstPort = 80;
  const { family, ip: srcIp } = parseAddress(from);
  frame.family = family;
  frame.etherType = family === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  frame.srcIp = srcIp;
  frame.dstIp = parseAddress(to).ip;
  frame.payloadBytes = 20;
  frame.updateSize();
  return Object.assign(frame, fields);
}

export class TestNamespace {
  readonly tables: RuleTables;
  readonly clock = { instant: START, current: 0 };
  readonly sets = new IpSets();
  readonly context: WalkContext;

  /** `tables` as iptables-save prints them; a table that is not closed by COMMIT gets one. */
  constructor(
    tables = '',
    { local = [], seed = 'test', family = 4 }: { local?: readonly string[]; seed?: string; family?: IpFamily } = {},
  ) {
    this.tables = new RuleTables(family);
    this.context = new WalkContext({
      namespace: 'node-1',
      cpus: this.clock,
      sets: this.sets,
      random: new RandomStreams(seed).stream('netfilter'),
      addressType: (ip: Ip): AddressType => (local.includes(formatIp(ip, family)) ? 'LOCAL' : 'UNICAST'),
    });
    restoreTables(this.tables, parseIptablesSave(unindent(tables), { family }));
  }

  /** Walks one table of one hook: ACCEPT, DROP, or the text of the rule whose target is to be executed. */
  walk(frame: Frame, table: TableName, hook: BuiltinChain, devices: { in?: string; out?: string } = {}): string {
    const deviceOf = (name: string | undefined) => (name === undefined ? undefined : { name, index: 1 });
    this.context.enterHook(hook, deviceOf(devices.in), deviceOf(devices.out));
    const verdict = walk(this.tables, table, hook, frame, this.context);
    if (verdict === ACCEPT) return 'ACCEPT';
    return verdict === DROP ? 'DROP' : this.context.decidingRule!.text;
  }

  wait(delay: Duration): void {
    this.clock.instant = after(this.clock.instant, delay);
  }

  /** `iptables-save -c`. */
  get saved(): string {
    return printIptablesSave(this.tables, { counters: true });
  }
}

/** Rules written in an indented template string, without its blank lines. */
export const unindent = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => `${line}\n`)
    .join('');
