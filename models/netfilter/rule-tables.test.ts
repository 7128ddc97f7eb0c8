import { expect, test } from 'vitest';
import { Chain } from './chain.ts';
import { printIptablesSave } from './iptables-save.ts';
import { RecentList } from './matches/recent.ts';
import { Rule } from './rule.ts';
import { RuleTables } from './rule-tables.ts';
import { parseRule } from './rule-text.ts';
import { frameOf, TestNamespace } from './rules.fixture.ts';

const rule = (text: string): Rule => new Rule(parseRule(text));
const chain = (name: string, ...rules: string[]): Chain => new Chain(name, rules.map(rule));
const base = (...chains: Chain[]): Map<string, Chain> => new Map(chains.map((each) => [each.name, each]));

test('a fresh namespace has builtin chains that accept, and no table in use', () => {
  const tables = new RuleTables();
  expect(tables.chainNames('nat')).toEqual(['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING']);
  expect(tables.chain('filter', 'FORWARD')).toMatchObject({ rules: [], policy: 'ACCEPT' });
  expect(tables.chain('filter', 'PREROUTING')).toBeUndefined();
  expect(tables.isLoaded('filter')).toBe(false);
  expect(printIptablesSave(tables)).toBe('');
});

test('chains are listed builtin first, then by name, own and shared together', () => {
  const tables = new RuleTables();
  tables.share('nat', base(chain('KUBE-SVC-B'), chain('KUBE-SERVICES')));
  tables.replaceChains('nat', [chain('CNI-1'), chain('KUBE-SVC-A'), new Chain('INPUT', [], 'ACCEPT')]);
  expect(tables.chainNames('nat').slice(4)).toEqual(['CNI-1', 'KUBE-SERVICES', 'KUBE-SVC-A', 'KUBE-SVC-B']);
});

test('an own chain hides the shared one of its name, for this namespace only', () => {
  const shared = base(chain('SERVICES', '-j ACCEPT'), chain('OTHER'));
  const one = new RuleTables();
  const two = new RuleTables();
  for (const tables of [one, two]) tables.share('nat', shared);
  one.appendRule('nat', 'SERVICES', rule('-j DROP'));
  two.deleteChain('nat', 'OTHER');
  expect(one.chain('nat', 'SERVICES')?.rules.map(({ text }) => text)).toEqual(['-j ACCEPT', '-j DROP']);
  expect(two.chain('nat', 'SERVICES')).toBe(shared.get('SERVICES'));
  expect(one.chain('nat', 'OTHER')).toBe(shared.get('OTHER'));
  expect(two.chain('nat', 'OTHER')).toBeUndefined();
  expect(two.chainNames('nat').slice(4)).toEqual(['SERVICES']);
});

test('a new base takes the place of the old one, and brings deleted chains back', () => {
  const tables = new RuleTables();
  tables.share('nat', base(chain('A'), chain('B')));
  tables.deleteChain('nat', 'A');
  tables.share('nat', base(chain('A'), chain('C')));
  expect(tables.chainNames('nat').slice(4)).toEqual(['A', 'C']);
});

test('a table that is replaced keeps what both name; without chains it stays registered with legacy, and not with nft', () => {
  const tables = new RuleTables();
  tables.share('nat', base(chain('OLD', '-m recent --set --name SEEN')));
  tables.replaceChains('nat', [chain('OWN'), new Chain('INPUT', [rule('-j OWN')], 'ACCEPT')]);
  const seen = new RecentList();
  tables.memories.recentLists.set('SEEN', seen);
  tables.replaceTable('nat', [chain('NEW', '-m recent --rcheck --name SEEN')]);
  expect(tables.chainNames('nat').slice(4)).toEqual(['NEW']);
  expect(tables.chain('nat', 'INPUT')?.rules).toEqual([]);
  expect(tables.memories.recentLists.get('SEEN')).toBe(seen);
  tables.replaceTable('nat', []);
  expect(tables.memories.recentLists.size).toBe(0);
  expect(tables.isRegistered('nat', 'PREROUTING')).toBe(true);
  tables.backend = 'nft';
  tables.replaceTable('nat', []);
  expect([tables.isRegistered('nat', 'PREROUTING'), tables.isLoaded('nat')]).toEqual([false, false]);
});

test('counters stay with a rule when its chain is edited, when others are replaced, and when a base keeps the chain', () => {
  const kept = chain('KEPT', '-p tcp', '-p udp');
  const node = new TestNamespace();
  node.tables.share('filter', base(kept, chain('GONE', '-p tcp')));
  for (const name of ['KEPT', 'GONE']) node.tables.appendRule('filter', 'INPUT', rule(`-j ${name}`));
  node.walk(frameOf(), 'filter', 'INPUT');
  expect(node.saved).toContain('[1:60] -A GONE -p tcp\n');

  node.tables.share('filter', base(kept, chain('GONE', '-p tcp')));
  node.tables.prependRule('filter', 'INPUT', rule('-p icmp'));
  node.tables.setPolicy('filter', 'INPUT', 'DROP');
  node.tables.prependRule('filter', 'KEPT', rule('-p icmp'));
  node.tables.appendRule('filter', 'KEPT', rule('-p esp'));
  expect(node.saved).toBe(`*filter
:INPUT DROP [1:60]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:GONE - [0:0]
:KEPT - [0:0]
[0:0] -A INPUT -p icmp
[1:60] -A INPUT -j KEPT
[1:60] -A INPUT -j GONE
[0:0] -A GONE -p tcp
[0:0] -A KEPT -p icmp
[1:60] -A KEPT -p tcp
[0:0] -A KEPT -p udp
[0:0] -A KEPT -p esp
COMMIT
`);
  node.tables.replaceChains('filter', [chain('KEPT', '-p tcp')]);
  expect(node.saved).toContain('[0:0] -A KEPT -p tcp\n');
  expect(node.saved).toContain('[1:60] -A INPUT -j KEPT\n');
});

test('a long chain counts every one of its rules', () => {
  const rules = Array.from({ length: 500 }, (_, i) => `-A FORWARD -d 10.0.${i >> 8}.${i & 255}/32`);
  const node = new TestNamespace(['*filter', ':FORWARD ACCEPT [0:0]', ...rules, 'COMMIT'].join('\n'));
  for (let i = 0; i < 500; i++) {
    for (let times = i % 3; times > 0; times--) {
      node.walk(frameOf({ to: `10.0.${i >> 8}.${i & 255}` }), 'filter', 'FORWARD');
    }
  }
  const counters = node.tables.counters('filter', 'FORWARD');
  for (let i = 0; i < 500; i++) expect(counters?.packets(i)).toBe(i % 3);
  node.tables.prependRule('filter', 'FORWARD', rule('-p udp'));
  expect(node.tables.counters('filter', 'FORWARD')?.bytes(1 + 200)).toBe(2 * 60); // 200 % 3 = 2
});

test('tracking is wanted as long as some rule asks for it', () => {
  const tables = new RuleTables();
  expect(tables.needsConntrack).toBe(false);
  tables.replaceChains('nat', [chain('EMPTY', '-p tcp -j ACCEPT')]);
  expect(tables.needsConntrack).toBe(false); // a nat table alone does not track
  tables.share('nat', base(chain('SEP', '-p tcp -j DNAT --to-destination 10.244.0.1:80')));
  expect(tables.needsConntrack).toBe(true);
  tables.share('nat', base(chain('SEP')));
  expect(tables.needsConntrack).toBe(false);
  tables.appendRule('filter', 'FORWARD', rule('-m conntrack --ctstate NEW'));
  expect(tables.needsConntrack).toBe(true);
  tables.replaceChains('filter', [new Chain('FORWARD', [], 'ACCEPT')]);
  expect(tables.needsConntrack).toBe(false);
  tables.appendRule('raw', 'PREROUTING', rule('-j CT --notrack'));
  expect(tables.needsConntrack).toBe(false); // Linux 6.18: no entries appear, in either backend
});

test('what cannot be is refused', () => {
  const tables = new RuleTables();
  expect(() => tables.deleteChain('nat', 'KUBE-SERVICES')).toThrow('table nat has no chain KUBE-SERVICES to delete');
  expect(() => tables.deleteChain('nat', 'OUTPUT')).toThrow('chain OUTPUT of table nat is builtin; cannot delete it');
  expect(() => tables.appendRule('raw', 'FORWARD', rule(''))).toThrow('table raw has no chain FORWARD');
  expect(() => tables.replaceChains('filter', [chain('INPUT')])).toThrow(
    'chain INPUT of table filter has no policy; expected one on builtin chains only',
  );
  expect(() => tables.replaceChains('filter', [new Chain('X', [], 'DROP')])).toThrow(
    'chain X of table filter has a policy; expected one on builtin chains only',
  );
});
