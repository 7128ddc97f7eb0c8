// The rules of a node as its tools printed them, to be put into as many namespaces as are wanted: iptables-save,
// ip6tables-save or nft list ruleset, told apart by how they begin, and ipset save.

import type { IpFamily } from '../../packet/ip-address.ts';
import { restoreIpsets } from '../ipset/ipset-text.ts';
import { parseIptablesSave } from '../iptables-save.ts';
import type { Netfilter } from '../netfilter.ts';
import { applyNftText } from '../nft/read-ruleset.ts';
import { EMPTY_RULESET } from '../nft/syntax.ts';

export interface RulesetText {
  readonly text: string;
  /** For messages. */
  readonly fileName: string;
}

export interface LoadableRules {
  readonly load: (netfilter: Netfilter) => void;
  /** What is not modelled and was read as a rule that matches nothing. */
  readonly notes: readonly string[];
}

/**
 * `family` says whose rules iptables text has. Throws a RuleTextError with file and line; with `lenient`, what is not
 * modelled becomes a note.
 */
export function readRules(
  { text, fileName }: RulesetText,
  { family, lenient }: { family: IpFamily; lenient: boolean },
): LoadableRules {
  if (!isIptablesSave(text)) {
    const notes: string[] = [];
    const report = lenient ? { lenient: (problem: string) => notes.push(problem) } : {};
    const ruleset = applyNftText(EMPTY_RULESET, text, { fileName, ...report });
    return { load: ({ nftables }) => (nftables.ruleset = ruleset), notes };
  }
  const saved = parseIptablesSave(text, { fileName, family, lenient });
  const tables = saved.map(({ name, chains }) => ({
    name,
    chains: new Map(chains.map(({ chain }) => [chain.name, chain])),
  }));
  return {
    load: (netfilter) => {
      const fresh = family === 6 ? netfilter.tables6 : netfilter.tables;
      for (const { name, chains } of tables) fresh.share(name, chains);
    },
    notes: saved.flatMap(({ notes = [] }) => notes),
  };
}

/** Rules that name sets must be loaded after them. */
export const readSets = ({ text, fileName }: RulesetText): LoadableRules => ({
  load: ({ sets }) => restoreIpsets(sets, text, { fileName, exist: true }),
  notes: [],
});

/** The first line that is no comment opens a table with a star. An empty text is a dump without tables. */
const isIptablesSave = (text: string): boolean => /^(?:\s*(?:#[^\n]*)?\n)*\s*(?:\*|$)/.test(text);
