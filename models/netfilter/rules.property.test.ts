// Laws over random rules with every match and target: the index changes nothing, text that is read prints the same, and
// the real iptables prints the same too.

import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ms } from '../../engine/time.ts';
import { Chain } from './chain.ts';
import { CT_DNAT, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED } from './conntrack-state.ts';
import { Rule } from './rule.ts';
import { TABLE_NAMES, type TableName } from './rule-tables.ts';
import { parseRule } from './rule-text.ts';
import { type FrameFields, frameOf, TestNamespace } from './rules.fixture.ts';
import { walk, walkLinear } from './walk.ts';

test('the index changes neither verdict, deciding rule, marks, rules visited nor counters', () => {
  const walks = [walk, walkLinear];
  fc.assert(
    fc.property(chains(), fc.array(frameFields(), { minLength: 1, maxLength: 12 }), (ruleset, frames) => {
      const namespaces = walks.map(() => new TestNamespace());
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
    fc.property(ruleText(), (text) => {
      expect(new Rule(parseRule(text)).text).toBe(text);
    }),
    { numRuns: 2_000 },
  );
});

test('the real iptables reads and prints it the same', ({ skip }) => {
  const probe = spawnSync('unshare', ['-n', 'iptables-legacy-save', '-t', 'filter'], { encoding: 'utf8' });
  if (probe.status !== 0) skip(`needs root and iptables-legacy: ${probe.error?.message ?? probe.stderr.trim()}`);

  const rules = fc.sample(ruleText(), { numRuns: 800, seed: 20 });
  const text = TABLE_NAMES.map((table) => {
    // In chains that no hook leads to, the kernel does not ask whether the hook suits match and target.
    const lines = rules.filter((rule) => tableOf(rule) === table).map((rule) => `-A RULES ${rule}`.trim());
    return [`*${table}`, ':OTHER - [0:0]', ':RULES - [0:0]', ...lines, 'COMMIT', ''].join('\n');
  });
  const commands = ['iptables-legacy-restore -w 30', ...TABLE_NAMES.map((table) => `iptables-legacy-save -t ${table}`)];
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

// ── random rules, as text ────────────────────────────────────────────────────────────────────────────────────────────

/** Words with a blank between them; empty ones vanish. */
const phrase = (...parts: (string | fc.Arbitrary<string | number>)[]): fc.Arbitrary<string> =>
  fc
    .tuple(...parts.map((part) => (typeof part === 'string' ? fc.constant(part) : part)))
    .map((words) => words.filter((word) => word !== '').join(' '));
const maybe = (text: fc.Arbitrary<string>): fc.Arbitrary<string> => fc.oneof(fc.constant(''), text);
const oneOf = <T extends string | number>(...values: T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const oneOrMoreOf = (...values: string[]): fc.Arbitrary<string> =>
  fc.subarray(values, { minLength: 1 }).map((some) => some.join(','));

// Few values, so that rules and frames meet.
const not = oneOf('', '!');
const ip = fc.integer({ min: 0, max: 5 }).map((host) => `10.96.0.${host}`);
const network = fc.oneof(
  ip.map((address) => `${address}/32`),
  oneOf('10.0.0.0/8', '10.96.0.0/30'),
);
const port = fc.integer({ min: 8_000, max: 8_004 });
const portRange = fc.oneof(port, oneOf('8000:8001', '8002:65535'));
const ipRange = oneOf('10.96.0.1-10.96.0.3', '10.96.0.4-10.96.0.4');
const device = oneOf('eth0', 'eth+', 'cbr0', 'veth12345678901');
const mark = oneOf('0x1', '0x4000/0x4000', '0x80000000/0xc0000000', '0x4000/0x0');
const xmark = oneOf('0x1/0xffffffff', '0x4000/0x4000', '0x4000/0x0', '0x0/0xffffbfff', '0xffffffff/0xff');
const word = oneOf('web-1_x', 'a', '"b c"', '""', '"it\\\'s \\"so\\\\"', '"default/web:http"');
/** Eleven decimals of a number of 31 bits. */
const probability = fc.oneof(
  oneOf('0.00000000000', '0.33333333349', '0.50000000000', '1.00000000000', '0.00024414062', '0.00073242188'),
  fc.nat({ max: 2 ** 31 - 1 }).map((bits) => (bits / 2 ** 31).toFixed(11)),
);
const addressTypes = oneOf('LOCAL', 'UNICAST', 'MULTICAST');
const flags = oneOf('FIN,SYN,RST,ACK SYN', 'ACK ACK', 'FIN,SYN,RST,PSH,ACK,URG NONE', 'NONE NONE');

const ports = [maybe(phrase(not, '--sport', portRange)), maybe(phrase(not, '--dport', portRange))];
const multiport = phrase(
  '-m multiport',
  not,
  oneOf('--sports', '--dports', '--ports'),
  oneOf('8000', '8001,8003:8010'),
);
const common: fc.Arbitrary<string>[] = [
  phrase('-m comment --comment', word),
  phrase(
    '-m conntrack',
    not,
    '--ctstate',
    oneOrMoreOf('INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'UNTRACKED', 'SNAT', 'DNAT'),
  ),
  phrase('-m state', not, '--state', oneOrMoreOf('INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'UNTRACKED')),
  phrase('-m mark', not, '--mark', mark),
  phrase('-m addrtype', not, '--src-type', addressTypes, maybe(phrase(not, '--dst-type', addressTypes))),
  phrase('-m addrtype', not, '--dst-type', addressTypes),
  phrase('-m statistic --mode random', not, '--probability', probability),
  phrase('-m statistic --mode nth', not, '--every', oneOf('3 --packet 2', '1 --packet 0', '4 --packet 1')),
  phrase(
    '-m recent',
    not,
    oneOf(
      '--set',
      '--remove',
      '--rcheck',
      '--rcheck --seconds 2 --reap',
      '--update --seconds 3',
      '--update --hitcount 2',
    ),
    oneOf('--name ONE', '--name TWO'),
    oneOf('--mask 255.255.255.255', '--mask 255.255.255.252'),
    oneOf('--rsource', '--rdest'),
  ),
  phrase(
    '-m physdev',
    not,
    '--physdev-in',
    device,
    maybe(phrase(not, '--physdev-out', device)),
    maybe(phrase(not, '--physdev-is-bridged')),
  ),
  phrase('-m physdev', not, '--physdev-is-in', maybe(phrase(not, '--physdev-is-out'))),
  phrase(
    '-m limit --limit',
    oneOf('5/min', '1/sec', '3/hour', '1000/sec'),
    maybe(oneOf('--limit-burst 1', '--limit-burst 2')),
  ),
  phrase('-m iprange', not, '--src-range', ipRange, maybe(phrase(not, '--dst-range', ipRange))),
];
const matchesOf: Readonly<Record<string, fc.Arbitrary<string>[]>> = {
  '': common,
  '! -p tcp': common,
  '-p esp': common,
  '-p tcp': [...common, multiport, phrase('-m tcp', ...ports, maybe(phrase(not, '--tcp-flags', flags)))],
  '-p udp': [...common, multiport, phrase('-m udp', ...ports)],
  '-p sctp': [...common, multiport, phrase('-m sctp', ...ports)],
  '-p icmp': [...common, phrase('-m icmp', not, '--icmp-type', oneOf('any', '8', '3', '3/4'))],
};

function targetOf(protocol: string): fc.Arbitrary<string> {
  const hasPorts = /^-p (tcp|udp|sctp)$/.test(protocol);
  const natRange = hasPorts ? oneOf('10.96.0.1', '10.96.0.1-10.96.0.3:80-90', '10.96.0.1:8080', ':80') : ip;
  const toPorts = hasPorts ? maybe(oneOf('--to-ports 80', '--to-ports 80-90')) : '';
  const random = oneOf('', '--random');
  const fully = oneOf('', '--random-fully');
  const persistent = oneOf('', '--persistent');
  return fc.oneof(
    oneOf('', '-j ACCEPT', '-j DROP', '-j RETURN', '-j NOTRACK', '-j CT --notrack', '-j LOG'),
    phrase('-j MARK --set-xmark', xmark),
    phrase(
      '-j LOG',
      maybe(
        phrase(
          '--log-prefix',
          word.filter((text) => text !== '""'),
        ),
      ),
      oneOf('', '--log-level 7'),
      oneOf('', '--log-uid'),
    ),
    phrase('-j REJECT --reject-with', oneOf('icmp-port-unreachable', 'icmp-admin-prohibited', 'icmp-net-unreachable')),
    phrase('-j DNAT --to-destination', natRange, random, persistent),
    phrase('-j SNAT --to-source', natRange, random, fully, persistent),
    phrase('-j MASQUERADE', toPorts, random, fully),
    phrase('-j REDIRECT', toPorts, random),
  );
}

/** Goes to one of `below`, if it goes to a chain at all. */
function ruleText(below: readonly string[] = ['OTHER']): fc.Arbitrary<string> {
  return fc.constantFrom(...Object.keys(matchesOf)).chain((protocol) =>
    phrase(
      maybe(phrase(not, '-s', network)),
      fc.oneof(maybe(phrase(not, '-d', network)), phrase('-d', network)),
      maybe(phrase(not, '-i', device)),
      maybe(phrase(not, '-o', device)),
      protocol,
      fc.array(fc.oneof(...matchesOf[protocol]!), { maxLength: 3 }).map((matches) => matches.join(' ')),
      below.length === 0
        ? targetOf(protocol)
        : fc.oneof(targetOf(protocol), phrase(oneOf('-j', '-g'), oneOf(...below))),
    ),
  );
}

/** FORWARD and chains below it, each of which goes only to chains further down. */
function chains(): fc.Arbitrary<Chain[]> {
  const names = ['FORWARD', 'A', 'B', 'C'];
  return fc.tuple(
    ...names.map((name, i) =>
      fc.array(ruleText(names.slice(i + 1)), { maxLength: 40, size: 'max' }).map(
        (texts) =>
          new Chain(
            name,
            texts.map((text) => new Rule(parseRule(text))),
            i === 0 ? 'ACCEPT' : undefined,
          ),
      ),
    ),
  );
}

function frameFields(): fc.Arbitrary<FrameFields> {
  const bridgePort = fc.constantFrom(undefined, { name: 'eth0', index: 1 }, { name: 'cbr0', index: 2 });
  return fc.record({
    from: ip,
    to: ip,
    protocol: fc.constantFrom(6, 6, 17, 1, 50),
    srcPort: port,
    dstPort: port,
    tcpFlags: fc.nat({ max: 63 }),
    icmpType: fc.constantFrom(3, 8),
    mark: fc.constantFrom(0, 1, 0x4000),
    fragmentOffset: fc.constantFrom(0, 0, 0, 1_480),
    conntrackState: fc.constantFrom(0, CT_NEW, CT_INVALID, CT_RELATED, CT_ESTABLISHED, CT_ESTABLISHED | CT_DNAT),
    physIn: bridgePort,
    physOut: bridgePort,
  });
}
