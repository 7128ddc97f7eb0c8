// The rules of a node, loaded and told as the commands of its backend do: iptables-restore and iptables-save -c, nft -f
// and nft -j list ruleset, ipset restore.

import { START } from '../../../engine/time.ts';
import type { NetworkNamespace } from '../../host/network-namespace.ts';
import { restoreIpsets } from '../../netfilter/ipset/ipset-text.ts';
import { parseIptablesSave, printIptablesSave, type SavedTable, saveTables } from '../../netfilter/iptables-save.ts';
import type { Netfilter } from '../../netfilter/netfilter.ts';
import { Nftables } from '../../netfilter/nft/nftables.ts';
import type { NftRuleset } from '../../netfilter/nft/syntax.ts';
import { type RuleTables, TABLE_NAMES } from '../../netfilter/rule-tables.ts';
import type { NodeRules } from '../case.ts';

/** Loads a node's rules as the backend's command would. Throws a CaseError for what is not modelled. */
export function loadRules(namespace: NetworkNamespace, rules: NodeRules, node: string): void {
  const { backend, ipset } = rules;
  const { tables, tables6, sets, nftables } = namespace.enableNetfilter();
  const now = namespace.cpus.instant;
  restoreIpsets(sets, ipset ?? '', { fileName: `rules.${node}.ipset`, now, exist: true });
  if (backend === 'nftnative') {
    for (const each of [tables, tables6]) replaceRules(each, []);
    if (!nftables.isEmpty) nftables.apply('flush ruleset');
    nftables.ruleset = readRuleset(rules, node);
    return;
  }
  if (!nftables.isEmpty) nftables.apply('flush ruleset');
  for (const each of [tables, tables6]) {
    if (each.backend === backend) continue;
    replaceRules(each, []);
    each.backend = backend;
  }
  const saved = readTables(rules, node);
  replaceRules(tables, saved[4]);
  replaceRules(tables6, saved[6]);
}

/** What was read stays for the next runs of a case: nothing that is counted or remembered is in it. */
const rulesets = new WeakMap<NodeRules, NftRuleset>();
const savedTables = new WeakMap<NodeRules, Readonly<Record<4 | 6, readonly SavedTable[]>>>();

function readRuleset(rules: NodeRules, node: string): NftRuleset {
  let ruleset = rulesets.get(rules);
  if (ruleset === undefined) {
    const fresh = new Nftables(() => START);
    fresh.apply(rules.text, { fileName: `rules.${node}.text` });
    rulesets.set(rules, (ruleset = fresh.ruleset));
  }
  return ruleset;
}

function readTables(rules: NodeRules, node: string): Readonly<Record<4 | 6, readonly SavedTable[]>> {
  let saved = savedTables.get(rules);
  if (saved === undefined) {
    const { text, text6 = '' } = rules;
    saved = {
      4: parseIptablesSave(text, { fileName: `rules.${node}.text`, family: 4 }),
      6: parseIptablesSave(text6, { fileName: `rules.${node}.text6`, family: 6 }),
    };
    savedTables.set(rules, saved);
  }
  return saved;
}

/**
 * Nothing of the earlier rules stays. Tables that these do not name are emptied first with legacy, deleted afterwards with
 * nft: in between, lists that both name are kept.
 */
function replaceRules(tables: RuleTables, saved: readonly SavedTable[]): void {
  const named = new Set(saved.map(({ name }) => name));
  const others = TABLE_NAMES.filter((name) => tables.isLoaded(name) && !named.has(name));
  if (tables.backend === 'legacy') for (const name of others) tables.replaceTable(name, []);
  for (const { name, chains } of saved) {
    tables.replaceTable(
      name,
      chains.map(({ chain }) => chain),
    );
  }
  if (tables.backend === 'nft') for (const name of others) tables.replaceTable(name, []);
}

/** Tables that the rules do not name are left out, as they are what earlier rules left behind. */
export function countersOf({ tables, tables6, nftables }: Netfilter, { backend, text, text6 = '' }: NodeRules): string {
  if (backend === 'nftnative') return nftables.listJson();
  const print = (of: RuleTables, rules: string): string => {
    const named = saveTables(of).filter(({ name }) => new RegExp(`^\\*${name}\\b`, 'm').test(rules));
    return printIptablesSave(named, { counters: true });
  };
  return print(tables, text) + print(tables6, text6);
}
