// How often rules matched, from the texts in which the tools print it: `iptables-save -c` (and `ip6tables-save -c`
// after it), `nft -j list ruleset`. Only what counts is read; what a rule says is not compared here.

export interface RuleCount {
  readonly packets: number;
  readonly bytes: number;
}

/** By `table CHAIN policy`, `table CHAIN 1`, `table CHAIN 2`, …: rules are numbered as by `iptables -L --line-numbers`. */
export type RuleCounts = ReadonlyMap<string, RuleCount>;

export function parseRuleCounts(text: string): RuleCounts {
  return text.trimStart().startsWith('{') ? parseNftCounts(text) : parseIptablesCounts(text);
}

function parseIptablesCounts(text: string): RuleCounts {
  const counts = new Map<string, RuleCount>();
  const rules = new Map<string, number>();
  const seenTables = new Set<string>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      // The second table of a name is of the other family.
      table = seenTables.has(line) ? `${line.slice(1)}6` : line.slice(1);
      seenTables.add(line);
    }
    const [, chain, packets, bytes] = /^:(\S+) (?:ACCEPT|DROP) \[(\d+):(\d+)\]/.exec(line) ?? [];
    if (chain !== undefined) counts.set(`${table} ${chain} policy`, { packets: Number(packets), bytes: Number(bytes) });
    const rule = /^\[(\d+):(\d+)\] -A (\S+)/.exec(line);
    if (rule === null) continue;
    const place = `${table} ${rule[3]}`;
    const number = (rules.get(place) ?? 0) + 1;
    rules.set(place, number);
    counts.set(`${place} ${number}`, { packets: Number(rule[1]), bytes: Number(rule[2]) });
  }
  return counts;
}

interface NftObject {
  readonly rule?: {
    readonly family: string;
    readonly table: string;
    readonly chain: string;
    readonly expr: readonly { readonly counter?: RuleCount | string }[];
  };
  readonly counter?: { readonly family: string; readonly table: string; readonly name: string } & RuleCount;
}

function parseNftCounts(text: string): RuleCounts {
  const counts = new Map<string, RuleCount>();
  const rules = new Map<string, number>();
  const { nftables }: { nftables: readonly NftObject[] } = JSON.parse(text);
  for (const { rule, counter } of nftables) {
    if (counter !== undefined) {
      const { family, table, name, packets, bytes } = counter;
      counts.set(`${family} ${table} counter ${name}`, { packets, bytes });
    }
    if (rule === undefined) continue;
    const place = `${rule.family} ${rule.table} ${rule.chain}`;
    const number = (rules.get(place) ?? 0) + 1;
    rules.set(place, number);
    for (const { counter: inline } of rule.expr) {
      if (inline === undefined || typeof inline === 'string') continue;
      counts.set(`${place} ${number}`, { packets: inline.packets, bytes: inline.bytes });
    }
  }
  return counts;
}
