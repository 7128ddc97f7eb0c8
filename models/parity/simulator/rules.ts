// The rules of a node, loaded and told as the commands of its backend do: iptables-restore and iptables-save -c, nft -f
// and nft -j list ruleset, ipset restore.

import type { NetworkNamespace } from '../../host/network-namespace.ts';
import { restoreIpsets } from '../../netfilter/ipset/ipset-text.ts';
import { parseIptablesSave, printIptablesSave, type SavedTable, saveTables } from '../../netfilter/iptables-save.ts';
import type { Netfilter } from '../../netfilter/netfilter.ts';
import { type RuleTables, TABLE_NAMES } from '../../netfilter/rule-tables.ts';
import type { NodeRules } from '../case.ts';

/** Loads a node's rules as the backend's command would. Throws a CaseError for what is not modelled. */
export function loadRules(namespace: NetworkNamespace, { backend, text, text6, ipset }: NodeRules, node: string): void {
  const { tables, tables6, sets, nftables } = namespace.enableNetfilter();
  const now = namespace.cpus.instant;
  restoreIpsets(sets, ipset ?? '', { fileName: `rules.${node}.ipset`, now, exist: true });
  if (backend === 'nftnative') {
    for (const each of [tables, tables6]) replaceRules(each, []);
    return nftables.apply(`flush ruleset; ${text}`, { fileName: `rules.${node}.text` });
  }
  if (!nftables.isEmpty) nftables.apply('flush ruleset');
  for (const each of [tables, tables6]) {
    if (each.backend === backend) continue;
    replaceRules(each, []);
    each.backend = backend;
  }
  replaceRules(tables, parseIptablesSave(text, { fileName: `rules.${node}.text`, family: 4 }));
  replaceRules(tables6, parseIptablesSave(text6 ?? '', { fileName: `rules.${node}.text6`, family: 6 }));
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
