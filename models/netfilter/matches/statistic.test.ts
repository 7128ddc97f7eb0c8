import { expect, test } from 'vitest';
import { Rule } from '../rule.ts';
import { parseRule } from '../rule-text.ts';
import { frameOf, TestNamespace } from '../rules.fixture.ts';

const chainOf = (...rules: string[]): string =>
  ['*nat', ':OUTPUT ACCEPT [0:0]', ...rules.map((rule) => `-A OUTPUT ${rule}`), 'COMMIT'].join('\n');

const pick = (node: TestNamespace): string => node.walk(frameOf(), 'nat', 'OUTPUT');

test('probabilities 1/3, 1/2, 1 give each of three endpoints its third', () => {
  const endpoint = (number: number) => `-j DNAT --to-destination 10.244.0.${number}`;
  const node = new TestNamespace(
    chainOf(
      `-m statistic --mode random --probability 0.3333333333 ${endpoint(1)}`,
      `-m statistic --mode random --probability 0.5000000000 ${endpoint(2)}`,
      endpoint(3),
    ),
  );
  const connections = 30_000;
  const counts = new Map<string, number>();
  for (let i = 0; i < connections; i++) {
    const rule = pick(node).slice(-1);
    counts.set(rule, (counts.get(rule) ?? 0) + 1);
  }
  const expected = connections / 3;
  const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  expect(counts.size).toBe(3);
  expect(chiSquare).toBeLessThan(13.8); // 0.1 % of fair coins are worse (2 degrees of freedom)
});

test('nth matches the frame numbered `packet` of every round, and starts afresh when its table is changed', () => {
  const node = new TestNamespace(
    chainOf('-m statistic --mode nth --every 3 --packet 2 -j DNAT --to-destination 10.244.0.1'),
  );
  const verdicts = () => Array.from({ length: 4 }, () => (pick(node) === 'ACCEPT' ? '-' : 'x')).join('');
  expect(verdicts()).toBe('--x-');
  expect(verdicts()).toBe('-x--');
  node.tables.appendRule('nat', 'OUTPUT', new Rule(parseRule('-j ACCEPT')));
  expect(verdicts()).toBe('--x-'); // without the change: x--x
  node.tables.backend = 'nft'; // changes rules one by one
  node.tables.appendRule('nat', 'OUTPUT', new Rule(parseRule('-j ACCEPT')));
  expect(verdicts()).toBe('-x--');
});

test('two namespaces that share a rule count apart', () => {
  const one = new TestNamespace(chainOf('-m statistic --mode nth --every 2 --packet 0 -j DROP'));
  const two = new TestNamespace();
  two.tables.replaceChains('nat', [one.tables.chain('nat', 'OUTPUT')!]);
  expect([pick(one), pick(two), pick(one), pick(two)]).toEqual(['DROP', 'DROP', 'ACCEPT', 'ACCEPT']);
});

test('a match to the right of nth is asked only when nth has passed, one to the left always', () => {
  const node = new TestNamespace(
    chainOf('-p tcp -m statistic --mode nth --every 2 --packet 0 -m tcp --dport 443 -j DROP', '-j ACCEPT'),
  );
  const walk = (dstPort: number): string => node.walk(frameOf({ dstPort }), 'nat', 'OUTPUT');
  expect(walk(80)).toBe('ACCEPT'); // nth counts this frame, the port then stops it
  expect(walk(443)).toBe('ACCEPT'); // second of the round
  expect(walk(443)).toBe('DROP');
});
