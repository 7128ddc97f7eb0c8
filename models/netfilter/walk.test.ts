import { expect, test } from 'vitest';
import { PROTOCOL_UDP } from '../packet/frame.ts';
import { Journey } from '../packet/journey.ts';
import { CT_ESTABLISHED, CT_NEW } from './conntrack-state.ts';
import { Rule } from './rule.ts';
import { parseRule } from './rule-text.ts';
import { frameOf, TestNamespace } from './rules.fixture.ts';

test('the first rule that decides wins, and without one the policy', () => {
  const node = new TestNamespace(`
    *filter
    :FORWARD DROP [0:0]
    -A FORWARD -p udp -j DROP
    -A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT
    -A FORWARD -p tcp -j DROP
    COMMIT
  `);
  expect(node.walk(frameOf({ dstPort: 80 }), 'filter', 'FORWARD')).toBe('ACCEPT');
  expect(node.walk(frameOf({ dstPort: 81 }), 'filter', 'FORWARD')).toBe('DROP');
  expect(node.walk(frameOf({ protocol: 50 }), 'filter', 'FORWARD')).toBe('DROP');
  expect(node.saved).toBe(
    `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [1:60]
:OUTPUT ACCEPT [0:0]
[0:0] -A FORWARD -p udp -j DROP
[1:60] -A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT
[1:60] -A FORWARD -p tcp -j DROP
COMMIT
`,
  );
});

test('a jump comes back to the rule after it, a goto to the rule after the jump before it', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    :JUMPED - [0:0]
    :WENT - [0:0]
    -A INPUT -j JUMPED
    -A INPUT -m comment --comment after-jump
    -A JUMPED -g WENT
    -A JUMPED -m comment --comment after-goto
    -A WENT -p udp -j RETURN
    -A WENT -m comment --comment end-of-went
    COMMIT
  `);
  node.walk(frameOf({ protocol: PROTOCOL_UDP }), 'filter', 'INPUT');
  node.walk(frameOf(), 'filter', 'INPUT');
  expect(node.saved).toContain(`:INPUT ACCEPT [2:120]`);
  expect(node.saved).toContain(`[2:120] -A INPUT -m comment --comment after-jump`);
  expect(node.saved).toContain(`[0:0] -A JUMPED -m comment --comment after-goto`);
  expect(node.saved).toContain(`[1:60] -A WENT -m comment --comment end-of-went`);
});

test('a goto in a builtin chain leads to the policy', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT DROP [0:0]
    :WENT - [0:0]
    -A INPUT -g WENT
    -A INPUT -j ACCEPT
    -A WENT -p udp
    COMMIT
  `);
  expect(node.walk(frameOf(), 'filter', 'INPUT')).toBe('DROP');
  expect(node.context.rulesVisited).toBe(2);
});

test('RETURN in a builtin chain leads to the policy', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT DROP [0:0]
    -A INPUT -j RETURN
    -A INPUT -j ACCEPT
    COMMIT
  `);
  expect(node.walk(frameOf(), 'filter', 'INPUT')).toBe('DROP');
});

test('every rule looked at is charged, in chains that were returned from too', () => {
  const services = Array.from({ length: 1_000 }, (_, i) => `-A SERVICES -d 10.96.${i >> 8}.${i & 255}/32 -j ACCEPT`);
  const node = new TestNamespace(`
    *filter
    :OUTPUT ACCEPT [0:0]
    :EMPTY - [0:0]
    :SERVICES - [0:0]
    :THREE - [0:0]
    -A OUTPUT -j EMPTY
    -A OUTPUT -p tcp -j THREE
    -A OUTPUT -j SERVICES
    -A THREE -p udp
    -A THREE -j RETURN
    -A THREE -p tcp
    ${services.join('\n')}
    COMMIT
  `);
  node.walk(frameOf({ to: '10.96.1.2' }), 'filter', 'OUTPUT');
  expect(node.context.rulesVisited).toBe(3 + 0 + 2 + (256 + 2 + 1)); // OUTPUT, EMPTY, THREE, SERVICES up to its own
  node.walk(frameOf({ to: '10.97.0.1' }), 'filter', 'OUTPUT');
  expect(node.context.rulesVisited).toBe(3 + 0 + 2 + 1_000);
});

test('a mark set by one rule is seen by the next, and stays on the frame', () => {
  const node = new TestNamespace(`
    *nat
    :POSTROUTING ACCEPT [0:0]
    :MARK-MASQ - [0:0]
    :POST - [0:0]
    -A POSTROUTING -s 10.0.0.1/32 -j MARK-MASQ
    -A POSTROUTING -j POST
    -A MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    -A POST -m mark ! --mark 0x4000/0x4000 -j RETURN
    -A POST -j MARK --set-xmark 0x4000/0x0
    -A POST -j MASQUERADE --random-fully
    COMMIT
  `);
  const marked = frameOf({ from: '10.0.0.1', mark: 1 });
  expect(node.walk(marked, 'nat', 'POSTROUTING')).toBe('-j MASQUERADE --random-fully');
  expect(marked.mark).toBe(1); // 0x4001 with bit 0x4000 flipped
  expect(node.walk(frameOf({ from: '10.0.0.9' }), 'nat', 'POSTROUTING')).toBe('ACCEPT');
});

test('a journey tells which rules matched, by number, and the policy', () => {
  const node = new TestNamespace(`
    *filter
    :FORWARD DROP [0:0]
    :POLICY - [0:0]
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A FORWARD -j POLICY
    -A POLICY -p udp -j ACCEPT
    COMMIT
  `);
  const first = frameOf({ conntrackState: CT_NEW, journey: new Journey(1) });
  const later = frameOf({ conntrackState: CT_ESTABLISHED, journey: new Journey(2) });
  node.walk(first, 'filter', 'FORWARD');
  node.walk(later, 'filter', 'FORWARD');
  expect(first.journey?.steps).toEqual([
    {
      at: 0,
      namespace: 'node-1',
      stage: 'rule',
      hook: 'FORWARD',
      table: 'filter',
      chain: 'FORWARD',
      ruleNumber: 2,
      text: '-j POLICY',
    },
    {
      at: 0,
      namespace: 'node-1',
      stage: 'hook',
      hook: 'FORWARD',
      table: 'filter',
      chain: 'FORWARD',
      text: 'policy DROP',
    },
  ]);
  expect(later.journey?.steps.map(({ text }) => text)).toEqual([
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
  ]);
});

test('jumping to a chain that is gone, or in a circle, names the rule', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    :A - [0:0]
    :B - [0:0]
    -A INPUT -j A
    -A A -p tcp -j B
    COMMIT
  `);
  node.tables.appendRule('filter', 'B', new Rule(parseRule('-j A')));
  expect(() => node.walk(frameOf(), 'filter', 'INPUT')).toThrow(
    /chain [AB], .*table filter of node-1 has a loop of jumps/,
  );
  node.tables.deleteChain('filter', 'B');
  expect(() => node.walk(frameOf(), 'filter', 'INPUT')).toThrow(
    'rule 1 of chain A, "-p tcp -j B": table filter of node-1 has no chain of that name',
  );
});
