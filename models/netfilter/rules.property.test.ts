// Laws over random rules with every match and target: the index changes nothing, text that is read prints the same, and
// the real iptables prints the same too.

import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ms } from '../../engine/time.ts';
import { family, rulesetAndFrames, ruleText } from './random-rules.fixture.ts';
import { Rule } from './rule.ts';
import { TABLE_NAMES, type TableName } from './rule-tables.ts';
import { parseRule } from './rule-text.ts';
import { frameOf, TestNamespace } from './rules.fixture.ts';
import { walk, walkLinear } from './walk.ts';

const REAL_TOOLS = [
  { command: 'iptables-legacy', family: 4 },
  { command: 'ip6tables-legacy', family: 6 },
] as const;

test('the index changes neither verdict, deciding rule, marks, rules visited nor counters', () => {
  const walks = [walk, walkLinear];
  fc.assert(
    fc.property(rulesetAndFrames(), ({ family, ruleset, frames }) => {
      const namespaces = walks.map(() => new TestNamespace('', { family }));
      for (const { tables } of namespaces) tables.replaceChains('filter', ruleset);
      for (const fields of frames) {
        const [indexed, linear] = namespaces.map((namespace, i) => {
          const { tables, context } = namespace;
          const frame = frameOf(fields);
          namespace.wait(ms(700));
          context.enterHook('FORWARD', { name: 'eth0', index: 1 }, { name: 'cbr0', index: 2 });
          const verdict = walks[i]!(tables, 'filter', 'FORWARD', frame, context);
          return { verdict, rule: context.decidingRule?.text, visited: context.rulesVisited, mark: frame.mark };
        });
        expect(indexed).toEqual(linear);
      }
      expect(namespaces[0]!.saved).toBe(namespaces[1]!.saved);
    }),
    { numRuns: 300 },
  );
});

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

test.for(REAL_TOOLS)('the real $command reads and prints it the same', ({ command, family }, { skip }) => {
  const probe = spawnSync('unshare', ['-n', `${command}-save`, '-t', 'filter'], { encoding: 'utf8' });
  if (probe.status !== 0) skip(`needs root and ${command}: ${probe.error?.message ?? probe.stderr.trim()}`);

  const rules = fc.sample(ruleText(family), { numRuns: 800, seed: 20 });
  const text = TABLE_NAMES.map((table) => {
    // In chains that no hook leads to, the kernel does not ask whether the hook suits match and target.
    const lines = rules.filter((rule) => tableOf(rule) === table).map((rule) => `-A RULES ${rule}`.trim());
    return [`*${table}`, ':OTHER - [0:0]', ':RULES - [0:0]', ...lines, 'COMMIT', ''].join('\n');
  });
  const commands = [`${command}-restore -w 30`, ...TABLE_NAMES.map((table) => `${command}-save -t ${table}`)];
  const real = spawnSync('unshare', ['-n', 'sh', '-c', commands.join(' && ')], {
    encoding: 'utf8',
    input: text.join(''),
  });
  expect(real.stderr).toBe('');
  expect(real.stdout.replace(/^(#|:(?!OTHER|RULES)).*\n/gm, '')).toBe(text.join(''));
});

const tableOf = (rule: string): TableName => {
  if (/-j (DNAT|SNAT|MASQUERADE|REDIRECT)/.test(rule)) return 'nat';
  if (/-j (CT|NOTRACK)/.test(rule)) return 'raw';
  return /-j REJECT/.test(rule) ? 'filter' : 'mangle';
};
