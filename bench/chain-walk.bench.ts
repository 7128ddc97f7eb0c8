// A new connection's walk through KUBE-SERVICES to the last of its rules, on to the endpoint's DNAT: by the chain's index,
// and rule by rule as Linux does it. Both count the same rules visited; the index is why a simulated packet costs the same
// whatever the number of Services.

import { RandomStreams } from '../engine/random.ts';
import { START } from '../engine/time.ts';
import { TARGET, type Verdict } from '../models/netfilter/action.ts';
import { Chain } from '../models/netfilter/chain.ts';
import { Rule } from '../models/netfilter/rule.ts';
import { RuleTables } from '../models/netfilter/rule-tables.ts';
import { parseRule } from '../models/netfilter/rule-text.ts';
import { walk, walkLinear } from '../models/netfilter/walk.ts';
import { WalkContext } from '../models/netfilter/walk-context.ts';
import { Frame, PROTOCOL_TCP } from '../models/packet/frame.ts';
import { addressAt, formatIp, type Ip, parsePrefix } from '../models/packet/ip-address.ts';
import { measure } from './measure.ts';
import type { BenchReport } from './report.ts';

/** Eight rules are below INDEXED_FROM (walk.ts): both variants visit them one by one. */
const SERVICES = [8, 10, 100, 1_000, 10_000] as const;

export async function run(
  report: BenchReport,
  {
    sizes = SERVICES,
    rounds = 7,
    msPerRound = 60,
  }: { sizes?: readonly number[]; rounds?: number; msPerRound?: number } = {},
): Promise<void> {
  for (const services of sizes) {
    const walks = Math.min(2_000, Math.ceil(2_000_000 / services));
    const variants = { index: walker(services, walks, walk), 'every rule': walker(services, walks, walkLinear) };
    const measured = await measure(variants, { operationsPerCall: walks, rounds, msPerRound });
    for (const [variant, { nsPerOperation, samples, rsd }] of Object.entries(measured)) {
      report.add({
        bench: 'chain walk',
        case: `${services.toLocaleString('en')} services, last rule`,
        variant,
        unit: 'ns/walk',
        value: nsPerOperation,
        samples,
        rsd,
      });
    }
  }
}

/** Sends so many new connections through a ruleset of its own. */
function walker(services: number, walks: number, walkTable: typeof walk): () => void {
  const tables = tablesOf(services);
  const context = contextOf();
  const frame = frameTo(serviceIp(services - 1));
  return () => {
    let verdict: Verdict | undefined;
    for (let i = 0; i < walks; i++) {
      context.enterHook('PREROUTING', undefined, undefined);
      verdict = walkTable(tables, 'nat', 'PREROUTING', frame, context);
    }
    // PREROUTING's one rule, all of KUBE-SERVICES, and the DNAT.
    if (verdict !== TARGET || context.rulesVisited !== 1 + services + 1) {
      throw new Error(`walk of ${services} services ended with ${verdict} after ${context.rulesVisited} rules`);
    }
  };
}

function tablesOf(services: number): RuleTables {
  const rule = (text: string): Rule => new Rule(parseRule(text));
  const tables = new RuleTables();
  const toServices = rule('-m comment --comment "kubernetes service portals" -j KUBE-SERVICES');
  const serviceRules = Array.from({ length: services }, (_, i) =>
    rule(
      `-d ${formatIp(serviceIp(i))}/32 -p tcp -m comment --comment "default/web-${i}:http cluster IP" -m tcp --dport 80 -j ENDPOINT`,
    ),
  );
  tables.replaceChains('nat', [
    new Chain('PREROUTING', [toServices], 'ACCEPT'),
    new Chain('KUBE-SERVICES', serviceRules),
    new Chain('ENDPOINT', [rule('-p tcp -m tcp -j DNAT --to-destination 10.244.0.2:8080')]),
  ]);
  return tables;
}

const SERVICE_RANGE = parsePrefix('10.96.0.0/12');
const serviceIp = (index: number): Ip => addressAt(SERVICE_RANGE, index + 1);

const contextOf = (): WalkContext =>
  new WalkContext({
    namespace: 'node-1',
    cpus: { instant: START, current: 0 },
    random: new RandomStreams('bench').stream('netfilter'),
    addressType: () => 'UNICAST',
  });

function frameTo(dstIp: Ip): Frame {
  const frame = new Frame();
  frame.protocol = PROTOCOL_TCP;
  frame.srcPort = 40_000;
  frame.dstPort = 80;
  frame.dstIp = dstIp;
  frame.updateSize();
  return frame;
}
