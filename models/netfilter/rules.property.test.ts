// Laws over random rules with every match and target: the index changes nothing, text that is read prints the same, and
// the real iptables prints the same too.

import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ms } from '../../engine/time.ts';
import type { IpFamily } from '../packet/ip-address.ts';
import { Chain, factsOfLists, RulesInOrder } from './chain.ts';
import { printIpsets, restoreIpsets } from './ipset/ipset-text.ts';
import { parseIptablesSave, printIptablesSave } from './iptables-save.ts';
import { family, RANDOM_RULE_SETS, rulesetAndFrames, ruleText } from './random-rules.fixture.ts';
import { Rule } from './rule.ts';
import { GroupedRules } from './rule-order.ts';
import { TABLE_NAMES, type TableName } from './rule-tables.ts';
import { parseRule } from './rule-text.ts';
import { frameOf, TestNamespace } from './rules.fixture.ts';
import { walk, walkLinear } from './walk.ts';

const REAL_TOOLS = [
  { command: 'iptables-legacy', family: 4 },
  { command: 'ip6tables-legacy', family: 6 },
  { command: 'iptables-nft', family: 4 },
  { command: 'ip6tables-nft', family: 6 },
] as const;

test('neither the index nor a list in common changes verdict, deciding rule, marks, rules visited or counters', () => {
  const walks = [walk, walk, walkLinear];
  fc.assert(
    fc.property(rulesetAndFrames(), ({ family, ruleset, frames }) => {
      const namespaces = walks.map(() => new TestNamespace('', { family }));
      for (const [i, { tables, sets }] of namespaces.entries()) {
        restoreIpsets(sets, RANDOM_RULE_SETS);
        tables.replaceChains('filter', i === 1 ? ruleset.map(inOrderOfItsOwn) : ruleset);
      }
      for (const fields of frames) {
        const [indexed, reordered, linear] = namespaces.map((namespace, i) => {
          const { tables, context } = namespace;
          const frame = frameOf(fields);
          namespace.wait(ms(700));
          context.enterHook('FORWARD', { name: 'eth0', index: 1 }, { name: 'cbr0', index: 2 });
          const verdict = walks[i]!(tables, 'filter', 'FORWARD', frame, context);
          return { verdict, rule: context.decidingRule?.text, visited: context.rulesVisited, mark: frame.mark };
        });
        expect(indexed).toEqual(linear);
        expect(reordered).toEqual(linear);
      }
      expect(new Set(namespaces.map(({ saved }) => saved)).size).toBe(1);
      expect(new Set(namespaces.map(({ sets }) => printIpsets(sets))).size).toBe(1);
    }),
    { numRuns: 300 },
  );
});

/** The same chain, of a list that has its rules two by two in reverse, but for the last. */
function inOrderOfItsOwn({ name, rules, policy }: Chain): Chain {
  const last = rules.slice(-1);
  const groups: (readonly Rule[])[] = [];
  for (let i = 0; i < rules.length - 1; i += 2) groups.unshift(rules.slice(i, Math.min(i + 2, rules.length - 1)));
  const order = Uint16Array.from(groups.keys()).reverse();
  const make = () => new GroupedRules(groups, last).ordered(order);
  return new Chain(name, new RulesInOrder(factsOfLists([rules]), make), policy);
}

test('a rule that is read prints the same text', () => {
  fc.assert(
    fc.property(
      family.chain((family) => fc.record({ family: fc.constant(family), text: ruleText(family) })),
      ({ family, text }) => {
        expect(new Rule(parseRule(text, { family })).text).toBe(text);
      },
    ),
    { numRuns: 2_000 },
  );
});

/** Loads the text with its sets, and returns what the tool then saves, without comments. */
function savedByReal(command: string, text: string): string {
  const saves = TABLE_NAMES.map((table) => `${command}-save -t ${table}`).join(' && ');
  const real = spawnSync(
    'unshare',
    ['-n', 'sh', '-c', `ipset restore <<'SETS'\n${RANDOM_RULE_SETS}SETS\n${command}-restore ${WAIT} && ${saves}`],
    { encoding: 'utf8', input: text, maxBuffer: 2 ** 28 },
  );
  expect(real.stderr).toBe('');
  return real.stdout.replace(/^#.*\n/gm, '');
}

/** The nft variant has no lock to wait for, and takes the option all the same. */
const WAIT = '-w 30';

/** In chains that no hook leads to, the kernel does not ask whether the hook suits match and target. */
function randomText(family: IpFamily): string {
  const rules = fc.sample(ruleText(family), { numRuns: 800, seed: 20 });
  const tables = TABLE_NAMES.map((table) => {
    const lines = rules.filter((rule) => tableOf(rule) === table).map((rule) => `-A RULES ${rule}`.trim());
    return [`*${table}`, ':OTHER - [0:0]', ':RULES - [0:0]', ...lines, 'COMMIT', ''].join('\n');
  });
  return tables.join('');
}

describe.for(REAL_TOOLS)('the real $command', ({ command, family }) => {
  test('reads and prints it the same', ({ skip }) => {
    const probe = spawnSync('unshare', ['-n', 'sh', '-c', `${command}-save -t filter && ipset list -n`], {
      encoding: 'utf8',
    });
    if (probe.status !== 0) skip(`needs root, ${command} and ipset: ${probe.error?.message ?? probe.stderr.trim()}`);
    const text = randomText(family);
    const saved = savedByReal(command, text);
    // Legacy prints what it was given; nft has words of its own for some of it, which are read and printed alike.
    if (command.endsWith('-legacy')) expect(saved.replace(/^:(?!OTHER|RULES).*\n/gm, '')).toBe(text);
    expect(printIptablesSave(parseIptablesSave(saved, { family }))).toBe(saved);
  });
});

const tableOf = (rule: string): TableName => {
  if (/-j (DNAT|SNAT|MASQUERADE|REDIRECT|NETMAP)/.test(rule)) return 'nat';
  if (/-j (CT|NOTRACK|TRACE)/.test(rule)) return 'raw';
  return /-j REJECT/.test(rule) ? 'filter' : 'mangle';
};
