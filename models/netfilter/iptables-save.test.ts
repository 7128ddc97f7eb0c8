import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { IpFamily } from '../packet/ip-address.ts';
import { parseIptablesSave, printIptablesSave, restoreTables } from './iptables-save.ts';
import { RuleTables, TABLE_NAMES } from './rule-tables.ts';
import { frameOf, TestNamespace, unindent } from './rules.fixture.ts';

const read = (file: string): string => readFileSync(join(import.meta.dirname, 'testdata', file), 'utf8');

/** What a fresh namespace saves after it has restored the text. */
function restored(text: string, family: IpFamily = 4, fileName = 'rules'): string {
  const tables = new RuleTables(family);
  restoreTables(tables, parseIptablesSave(text, { fileName, family }));
  return printIptablesSave(tables);
}

describe.each<[given: string, saved: string, family: IpFamily]>([
  ['spellings.rules', 'every-option.rules', 4],
  ['spellings6.rules', 'every-option6.rules', 6],
  ['kube-proxy.rules', 'kube-proxy.saved.rules', 4],
])('%s', (given, saved, family) => {
  test(`is saved as ${saved}, which is saved as it is`, () => {
    expect(restored(read(given), family, given)).toBe(read(saved));
    expect(restored(read(saved), family, saved)).toBe(read(saved));
  });

  test('and the real iptables agrees', ({ skip }) => {
    const command = family === 6 ? 'ip6tables-legacy' : 'iptables-legacy';
    const probe = spawnSync('unshare', ['-n', `${command}-save`, '-t', 'filter'], { encoding: 'utf8' });
    if (probe.status !== 0) skip(`needs root and ${command}: ${probe.error?.message ?? probe.stderr.trim()}`);
    const commands = [`${command}-restore -w 30`, ...TABLE_NAMES.map((table) => `${command}-save -t ${table}`)].join(
      ' && ',
    );
    for (const input of [read(given), read(saved)]) {
      const real = spawnSync('unshare', ['-n', 'sh', '-c', commands], { encoding: 'utf8', input });
      expect(real.stderr).toBe('');
      // Asking for a table creates it: the real one shows tables that the text does not have.
      const empty = /\*\w+\n(:.* ACCEPT .*\n)+COMMIT\n/g;
      expect(real.stdout.replace(/^#.*\n/gm, '').replace(empty, '')).toBe(read(saved));
      const dryRun = spawnSync('unshare', ['-n', `${command}-restore`, '-w', '30', '--test'], {
        encoding: 'utf8',
        input,
      });
      expect([dryRun.status, dryRun.stderr]).toEqual([0, '']);
    }
  });
});

test('counters are read and printed', () => {
  const text = unindent(`
    *nat
    :PREROUTING ACCEPT [12:3456]
    :POSTROUTING DROP [0:0]
    :OTHER - [0:0]
    [7:420] -A PREROUTING -p tcp -j OTHER
    [0:0] -A OTHER -m comment --comment none
    [9007199254740991:1] -A OTHER
    COMMIT
  `);
  const tables = parseIptablesSave(text);
  expect(printIptablesSave(tables, { counters: true })).toBe(text);
  expect(printIptablesSave(tables)).toBe(text.replace(/^\[.*?\] /gm, '').replace('[12:3456]', '[0:0]'));
  const { chain, counters } = tables[0]!.chains[0]!;
  expect([counters?.packets(0), counters?.bytes(0)]).toEqual([7, 420]);
  expect(counters?.packets(chain.rules.length)).toBe(12); // the policy
  expect(restored(text)).toContain(':PREROUTING ACCEPT [0:0]'); // restoring does not restore counters
});

test('a hundred thousand services are read', () => {
  const services = Array.from(
    { length: 100_000 },
    (_, i) =>
      `-A KUBE-SERVICES -d 10.${96 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32 -p tcp -m comment --comment "ns/service-${i}:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-${i}`,
  );
  const declared = services.map((_, i) => `:KUBE-SVC-${i} - [0:0]`);
  const text = ['*nat', ':PREROUTING ACCEPT [0:0]', ':KUBE-SERVICES - [0:0]', ...declared, ...services, 'COMMIT'];
  const node = new TestNamespace(text.join('\n'));
  expect(node.tables.chain('nat', 'KUBE-SERVICES')?.rules).toHaveLength(100_000);
  node.walk(frameOf(), 'nat', 'PREROUTING');
});

describe('wrong text is refused with its place and what was expected', () => {
  const inFilter = (line: string): string => `*filter\n:INPUT ACCEPT [0:0]\n:FOO - [0:0]\n${line}\nCOMMIT\n`;
  test.each<[line: string, message: string]>([
    [
      '-A INPUT -p tcp --dport hppt',
      'found "hppt" after "--dport"; expected a port from 0 to 65535 or a range FIRST:LAST of ports',
    ],
    [
      '-A INPUT -p tcp --dport',
      'found the end of the line after "--dport"; expected a port from 0 to 65535 or a range FIRST:LAST of ports',
    ],
    [
      '-A INPUT -s 10.0.0.0/33',
      'found "10.0.0.0/33" after "-s"; expected an IPv4 address or ADDRESS/LENGTH, or some with commas between them',
    ],
    ['-A INPUT -p tpc', 'found "tpc" after "-p"; expected a protocol: all, a number up to 255, or a name such as tcp'],
    [
      '-A INPUT --dport 80',
      'unknown option "--dport"; expected -s -d -i -o -p -f -m -j -g or an option of a match or target named before it',
    ],
    [
      '-A INPUT -p udp -m comment --comment x --syn',
      'unknown option "--syn"; expected -s -d -i -o -p -f -m -j -g or an option of -m comment',
    ],
    [
      '-A INPUT -m conntrack --ctstate FRESH',
      'found "FRESH" after "--ctstate"; expected states of INVALID, NEW, RELATED, ESTABLISHED, UNTRACKED, SNAT, DNAT',
    ],
    ['-A INPUT -m conntrack', '-m conntrack is not complete; expected --ctstate or another option'],
    ['-A INPUT -m statistic --mode nth --every 3', '-m statistic is not complete; expected --every and --packet'],
    ['-A INPUT -m comment ! --comment x', '"!" does not go with --comment'],
    ['-A INPUT -m comment --comment "no end', 'a quotation does not end; expected " before the end of the line'],
    ['-A INPUT -m tcp --dport 80', 'rule "-m tcp --dport 80": -m tcp needs -p tcp'],
    ['-A INPUT -j REJECT --reject-with tcp-reset', 'rule "-j REJECT --reject-with tcp-reset": tcp-reset needs -p tcp'],
    [
      '-A INPUT -i very-long-device-name',
      'rule "-i very-long-device-name": "very-long-device-name" is no device name; expected 1 to 15 characters without blank or slash',
    ],
    ['-A INPUT -j MASQUERADE', 'MASQUERADE in table filter; expected it in nat'],
    ['-A INPUT -j TPROXY', 'no chain or target TPROXY in table filter'],
    ['-A BAR -j ACCEPT', 'found "BAR" after "-A"; expected a chain that is declared in table filter'],
    ['-I INPUT -j ACCEPT', 'found "-I"; expected -A CHAIN or [PACKETS:BYTES] -A CHAIN'],
    [':FOO - [0:0]', 'chain FOO is declared twice in table filter'],
    [
      ':BAR ACCEPT [0:0]',
      'found "ACCEPT" after ":BAR"; expected - for chain BAR, which is not builtin in table filter',
    ],
    [':FORWARD REJECT [0:0]', 'found "REJECT" after ":FORWARD"; expected one of ACCEPT, DROP'],
    ['*nat', 'table filter is not finished; expected COMMIT'],
    ['COMMIT now', 'found "now" after "COMMIT"; expected the end of the line'],
  ])('%s', (line, message) => {
    expect(() => parseIptablesSave(inFilter(line), { fileName: 'node-1.rules' })).toThrow(`node-1.rules:4: ${message}`);
  });

  test('outside of a table, and at the end', () => {
    expect(() => parseIptablesSave('# nothing\n-A INPUT\n', { fileName: 'x' })).toThrow(
      'x:2: found "-A"; expected a table: *raw, *mangle, *nat or *filter',
    );
    expect(() => parseIptablesSave('*security\n', { fileName: 'x' })).toThrow(
      'x:1: found "*security"; expected *raw, *mangle, *nat or *filter',
    );
    expect(() => parseIptablesSave('*nat\n\n', { fileName: 'x' })).toThrow(
      'x:3: the text ends in table nat; expected COMMIT',
    );
  });
});

test('with lenient, what is not modelled matches nothing, keeps its text, and is noted', () => {
  const text = unindent(`
    *filter
    :INPUT ACCEPT [0:0]
    :FORWARD ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    -A INPUT -p tcp -m u32 --u32 "0x0=0x1" -j DROP
    -A INPUT -j TPROXY
    -A INPUT -m owner --suppl-groups -j DROP
    -A INPUT -p tcp -j ACCEPT
    COMMIT
  `);
  expect(() => parseIptablesSave(text, { fileName: 'dump' })).toThrow(
    'dump:5: match u32 is not modelled; expected one of',
  );
  const [table] = parseIptablesSave(text, { fileName: 'dump', lenient: true });
  expect(table?.notes?.map((note) => note.split(';')[0])).toEqual([
    'dump:5: match u32 is not modelled',
    'dump:7: unknown option "--suppl-groups"',
    'dump:6: no chain or target TPROXY in table filter',
  ]);
  const node = new TestNamespace();
  restoreTables(node.tables, [table!]);
  expect(node.walk(frameOf(), 'filter', 'INPUT')).toBe('ACCEPT');
  expect(node.saved).toContain('[0:0] -A INPUT -p tcp -m u32 --u32 "0x0=0x1" -j DROP\n[0:0] -A INPUT -j TPROXY\n');
  expect(node.saved).toContain('[1:60] -A INPUT -p tcp -j ACCEPT\n');
  expect(() => parseIptablesSave('*filter\n-A INPUT -p tcp --dport x\nCOMMIT', { lenient: true })).toThrow(':2: '); // wrong
});

test('a rule that a hook leads to must suit that hook', () => {
  const inNat = (rules: string): string => `*nat\n:PREROUTING ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n${rules}COMMIT\n`;
  const parse = (rules: string) => () => parseIptablesSave(inNat(rules));
  expect(parse('-A B -j MASQUERADE\n-A A -j B\n')).not.toThrow(); // nothing leads there
  expect(parse('-A B -j MASQUERADE\n-A A -j B\n-A PREROUTING -p tcp -j A\n')).toThrow(
    'iptables-save:5: -j MASQUERADE in chain B, which PREROUTING leads to; expected it only under POSTROUTING',
  );
  expect(parse('-A A -j B\n-A B -j A\n')).not.toThrow();
  expect(parse('-A A -j B\n-A B -g A\n-A PREROUTING -j A\n')).toThrow(
    'iptables-save:6: a loop: chain A leads back to itself',
  );
  expect(parse('-A A -j PREROUTING\n')).toThrow(
    'iptables-save:5: a jump to PREROUTING; expected a chain that is not builtin',
  );
});
