import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RuleTextError } from '../words.ts';
import { printRuleset } from './print.ts';
import { applyNftText } from './read-ruleset.ts';
import { randomTable } from './rulesets.fixture.ts';
import { EMPTY_RULESET } from './syntax.ts';

const recorded = (name: string): string => readFileSync(join(import.meta.dirname, 'testdata', name), 'utf8');
const read = (text: string) => applyNftText(EMPTY_RULESET, text, { fileName: 'test.nft' });
const canonical = (text: string): string => printRuleset(read(text));

describe('what nft 1.0.6 lists is read, and prints the same', () => {
  test.each(['every-form.nft', 'sets-and-families.nft', 'kube-proxy.nft'])('%s', (name) => {
    expect(canonical(recorded(name))).toBe(recorded(name));
  });
});

test("kube-proxy's commands make the table that nft lists", () => {
  expect(canonical(recorded('kube-proxy-commands.nft'))).toBe(recorded('kube-proxy.nft'));
});

test.each([
  ['mark set mark or 0x4000', 'meta mark set meta mark | 0x00004000'],
  ['mark and 0x4000 == 0 return', 'meta mark & 0x00004000 == 0x00000000 return'],
  ['tcp flags & (fin|syn|rst|ack) == syn accept', 'tcp flags syn / fin,syn,rst,ack accept'],
  ['tcp flags & syn == 0', 'tcp flags ! syn'],
  ['tcp flags & (syn|ack) != 0', 'tcp flags syn,ack'],
  ['meta l4proto tcp tcp dport 80', 'tcp dport 80'],
  ['ip protocol tcp tcp dport ssh', 'tcp dport 22'],
  ['meta l4proto tcp dnat to 10.0.0.1:80', 'meta l4proto tcp dnat to 10.0.0.1:80'],
  ['meta l4proto tcp reject with tcp reset', 'reject with tcp reset'],
  ['reject with icmp type port-unreachable', 'reject'],
  ['ip daddr { 172.30.0.0/16 } drop', 'ip daddr 172.30.0.0/16 drop'],
  ['ip saddr { 10.0.0.0/8, 10.1.0.0/16, 10.2.3.4 }', 'ip saddr { 10.0.0.0/8 }'],
  ['ip saddr != { 10.0.0.0/25, 10.0.0.128/25, 10.1.1.1 }', 'ip saddr != { 10.0.0.0/24, 10.1.1.1 }'],
  ['ip saddr { 127.0.0.0/8, 128.0.0.0/8 }', 'ip saddr { 127.0.0.0-128.255.255.255 }'],
  ['ip saddr { 10.0.0.1, 10.0.0.1 }', 'ip saddr { 10.0.0.1 }'],
  ['iifname { "a*", "ab*", "abc" }', 'iifname { "a*" }'],
  ['ip saddr { 255.0.0.0/8, 0.0.0.0/8 }', 'ip saddr { 0.0.0.0/8, 255.0.0.0/8 }'],
  ['tcp dport { 1-5, 6, 8, 9, 10-12, 20-30, 25 }', 'tcp dport { 1-6, 8-12, 20-30 }'],
  ['tcp dport { 443, 80 } accept', 'tcp dport { 80, 443 } accept'],
  ['iifname { eth1, "eth0", cali* }', 'iifname { "cali*", "eth0", "eth1" }'],
  ['ct state { new, established } accept', 'ct state { established, new } accept'],
  ['ct original saddr 10.0.0.1', 'ct original ip saddr 10.0.0.1'],
  ['limit rate 60/minute burst 5 packets', 'limit rate 60/minute'],
  ['counter accept comment "the end"', 'counter packets 0 bytes 0 accept comment "the end"'],
])('%s is printed %s', (rule, printed) => {
  expect(canonical(`table ip t {\n chain c {\n${rule}\n}\n}`)).toContain(`\t\t${printed}\n`);
});

test('priorities have names where a hook has them', () => {
  const priorityOf = (hook: string, priority: string): string =>
    /priority (.*); policy/.exec(
      canonical(`table ip t {\nchain c { type filter hook ${hook} priority ${priority}; }\n}`),
    )![1]!;
  expect(priorityOf('prerouting', '-110')).toBe('dstnat - 10');
  expect(priorityOf('output', '-110')).toBe('-110');
  expect(priorityOf('postrouting', 'srcnat + 10')).toBe('srcnat + 10');
  expect(priorityOf('postrouting', '111')).toBe('111');
  expect(priorityOf('forward', '-147')).toBe('mangle + 3');
  expect(priorityOf('forward', '0')).toBe('filter');
});

describe('a transaction', () => {
  const before = read(`
    table ip t {
      set s { type ipv4_addr; elements = { 10.0.0.1 }; }
      chain a {
        accept
      }
      chain b {
        jump a
      }
    }`);

  test('adds, inserts, replaces and deletes', () => {
    const after = applyNftText(
      before,
      `
      add rule ip t b drop
      insert rule t b counter
      add element ip t s { 10.0.0.3, 10.0.0.2 comment "second" }
      delete element ip t s { 10.0.0.1 }
      flush chain ip t a
      destroy chain ip t nothing
      `,
    );
    expect(printRuleset(after)).toBe(
      [
        'table ip t {',
        '\tset s {',
        '\t\ttype ipv4_addr',
        '\t\telements = { 10.0.0.2 comment "second", 10.0.0.3 }',
        '\t}',
        '',
        '\tchain a {',
        '\t}',
        '',
        '\tchain b {',
        '\t\tcounter packets 0 bytes 0',
        '\t\tjump a',
        '\t\tdrop',
        '\t}',
        '}',
        '',
      ].join('\n'),
    );
  });

  test('leaves what it does not touch as the same objects, and happens as a whole or not at all', () => {
    const after = applyNftText(before, 'add rule ip t b drop');
    expect(after.tables.get('ip t')?.chains.get('a')).toBe(before.tables.get('ip t')?.chains.get('a'));
    expect(() => applyNftText(before, 'flush ruleset\nadd rule ip t b drop')).toThrow('there is no table ip t');
    expect(printRuleset(before)).toContain('jump a');
  });
});

test('handles are those that the kernel gives: chains first, then objects, sets and rules', () => {
  const table = read(`
    table ip t {
      set s { type ipv4_addr; }
      counter hits { }
      chain c {
        ip saddr @s accept
        tcp dport { 80, 443 } accept
        accept
      }
    }`).tables.get('ip t');
  expect(table?.chains.get('c')?.handle).toBe(1);
  expect(table?.objects.get('hits')?.handle).toBe(2);
  expect(table?.sets.get('s')?.handle).toBe(3);
  expect(table?.chains.get('c')?.rules.map(({ handle }) => handle)).toEqual([4, 6, 7]); // 5 is the set in the rule
});

test('variables and included files', () => {
  const files: Readonly<Record<string, string>> = { 'pods.nft': 'define pods = { 10.244.1.0/24, 10.244.2.0/24 }\n' };
  const ruleset = applyNftText(
    EMPTY_RULESET,
    'include "pods.nft"\ndefine web = 80\ntable ip t {\nchain c {\nip saddr $pods tcp dport $web accept\n}\n}',
    { include: (name) => files[name] },
  );
  expect(printRuleset(ruleset)).toContain('ip saddr { 10.244.1.0-10.244.2.255 } tcp dport 80 accept');
});

describe('an error names file, line, and what was expected', () => {
  const inChain = (rule: string): string => `table ip t {\n\tchain c {\n\t\t${rule}\n\t}\n}\n`;
  test.each([
    ['tcp dport 70000', 'test.nft:3: found "70000" after "dport"; expected a value of type inet_service'],
    ['ip saddr 10.0.0.256', 'test.nft:3: found "10.0.0.256" after "saddr"; expected a value of type ipv4_addr'],
    ['jump nowhere', 'table ip t has no chain nowhere'],
    ['ip saddr @nothing accept', 'there is no set @nothing'],
    ['dnat to 10.0.0.1:80', 'transport protocol mapping is only valid after a transport protocol match'],
    ['ip6 saddr ::1', 'test.nft:3: ip6 saddr in a table of family ip'],
    ['tcp dport 90-80', 'range 90-80 ends before it begins'],
    ['meta random 5', 'test.nft:3: meta random is not modelled'],
    ['queue num 1', 'test.nft:3: queue is not modelled'],
    ['@th,0,16 80', 'a raw payload expression is not modelled'],
    ['log prefix "no end', 'a quotation does not end'],
    ['accept accept extra', 'expected an expression or a statement'],
  ])('%s', (rule, message) => {
    expect(() => read(inChain(rule))).toThrow(message);
  });

  test('about tables and chains', () => {
    expect(() => read('table bridge t {\n}')).toThrow('test.nft:1: family bridge is not modelled');
    expect(() => read('table netdev t {\n}')).toThrow('family netdev is not modelled');
    expect(() => read('table ip t {\nchain c { type nat hook forward priority 0; }\n}')).toThrow(
      'type nat has no hook forward',
    );
    expect(() => read('table ip t {\nchain c { type nat hook input priority raw; }\n}')).toThrow('before conntrack');
    expect(() => read('table ip t {\nchain a {\njump b\n}\nchain b {\njump a\n}\n}')).toThrow('leads back to itself');
    expect(() => read('add rule ip t c accept')).toThrow('test.nft:1: there is no table ip t');
    expect(() => read('define a = $b')).toThrow('variable $b is not defined');
  });

  test('about statements that do not suit the base chain that leads to them', () => {
    const at = (type: string, hook: string, rule: string) => () =>
      read(`table ip t {\nchain x {\n${rule}\n}\nchain c {\ntype ${type} hook ${hook} priority 0;\njump x\n}\n}`);
    expect(at('filter', 'forward', 'masquerade')).toThrow(
      'chain x, rule 1: masquerade is not for type filter, hook forward',
    );
    expect(at('nat', 'postrouting', 'dnat to 10.0.0.1')).toThrow('dnat is not for type nat, hook postrouting');
    expect(at('nat', 'input', 'snat to 10.0.0.1')).not.toThrow();
    expect(at('filter', 'postrouting', 'reject')).toThrow('reject is not for');
    expect(at('filter', 'output', 'fib saddr . iif oif missing drop')).toThrow('fib oif is not for');
    expect(() => read('table ip t {\nchain x {\nmasquerade\n}\n}')).not.toThrow(); // nothing leads there
  });

  test('and jumps are at most 16 deep', () => {
    const chain = (count: number): string =>
      Array.from({ length: count }, (_, i) => `chain c${i} {\n${i === 0 ? 'accept' : `jump c${i - 1}`}\n}\n`).join('');
    expect(() => read(`table ip t {\n${chain(16)}}`)).not.toThrow();
    expect(() => read(`table ip t {\n${chain(17)}}`)).toThrow('expected less than 16');
  });
});

test('lenient reading reports what is not modelled, and keeps a rule that matches nothing', () => {
  const problems: string[] = [];
  const ruleset = applyNftText(EMPTY_RULESET, 'table ip t {\nchain c {\nmeta random 5 accept\ndrop\n}\n}', {
    fileName: 'test.nft',
    lenient: (problem) => problems.push(problem),
  });
  expect(problems).toEqual(['test.nft:3: meta random is not modelled; the rule matches nothing']);
  expect(ruleset.tables.get('ip t')?.chains.get('c')?.rules).toHaveLength(2);
});

test('what is printed is read the same', () => {
  fc.assert(
    fc.property(randomTable(), (text) => {
      const printed = canonical(text);
      expect(canonical(printed)).toBe(printed);
    }),
    { numRuns: 300 },
  );
});

test('the real nft lists it the same', ({ skip }) => {
  const probe = spawnSync('unshare', ['-n', 'nft', 'list', 'ruleset'], { encoding: 'utf8' });
  if (probe.status !== 0) skip(`needs root and nft: ${probe.error?.message ?? probe.stderr.trim()}`);
  for (const text of fc.sample(randomTable(), { numRuns: 60, seed: 7 })) {
    const real = spawnSync('unshare', ['-n', 'sh', '-c', 'nft -f - && nft list ruleset'], {
      encoding: 'utf8',
      input: text,
    });
    expect(real.stderr, text).toBe('');
    expect(canonical(text), text).toBe(real.stdout);
    const again = spawnSync('unshare', ['-n', 'sh', '-c', 'nft -f - && nft list ruleset'], {
      encoding: 'utf8',
      input: real.stdout,
    });
    expect(again.stdout).toBe(real.stdout);
  }
}, 120_000);

test('any text is read or refused, never more than that', () => {
  const words = recorded('every-form.nft').split(/(\s+|[{}();,])/);
  const text = fc.oneof(
    fc.string({ maxLength: 80 }),
    fc.array(fc.constantFrom(...words), { maxLength: 30 }).map((parts) => parts.join('')),
    fc
      .array(fc.constantFrom(...words), { maxLength: 12 })
      .map((parts) => `table ip t {\nchain c {\n${parts.join(' ')}\n}\n}`),
    fc.tuple(fc.nat({ max: 12_000 }), fc.nat({ max: 60 }), fc.constantFrom(...words)).map(([at, length, word]) => {
      const whole = recorded('every-form.nft');
      return whole.slice(0, at) + word + whole.slice(at + length);
    }),
  );
  fc.assert(
    fc.property(text, (rules) => {
      try {
        canonical(rules);
      } catch (error) {
        if (!(error instanceof RuleTextError)) throw error;
        expect(error.message).toMatch(/^test\.nft:\d+: /);
      }
    }),
    { numRuns: 2_000 },
  );
}, 60_000);
