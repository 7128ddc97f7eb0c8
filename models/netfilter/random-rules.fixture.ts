// For tests: random rules with every match and target, and frames that some of them match. Rules are text as iptables-save
// prints it.

import fc from 'fast-check';
import type { IpFamily } from '../packet/ip-address.ts';
import { Chain } from './chain.ts';
import { CT_DNAT, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED } from './conntrack-state.ts';
import { Rule } from './rule.ts';
import { parseRule } from './rule-text.ts';
import type { FrameFields } from './rules.fixture.ts';

/** A chain FORWARD with chains below it, and frames to send into it. */
export interface RulesetAndFrames {
  readonly family: IpFamily;
  readonly ruleset: Chain[];
  readonly frames: FrameFields[];
}

export const family: fc.Arbitrary<IpFamily> = fc.constantFrom(4, 6);

export const rulesetAndFrames = (): fc.Arbitrary<RulesetAndFrames> =>
  family.chain((family) =>
    fc.record({
      family: fc.constant(family),
      ruleset: chains(family),
      frames: fc.array(frameFields(family), { minLength: 1, maxLength: 12 }),
    }),
  );

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
/** What differs between the families. */
interface FamilyWords {
  readonly ip: fc.Arbitrary<string>;
  readonly network: fc.Arbitrary<string>;
  readonly ipRange: fc.Arbitrary<string>;
  readonly mask: fc.Arbitrary<string>;
  readonly rejectType: fc.Arbitrary<string>;
  readonly natRange: fc.Arbitrary<string>;
  readonly icmp: readonly [protocol: string, type: fc.Arbitrary<string>];
  readonly maskLengths: readonly [string, string];
  readonly hops: 'ttl' | 'hl';
  /** A hash:ip, a hash:net and a hash:ip,port. */
  readonly sets: readonly [string, string, string];
}

const ip4 = fc.integer({ min: 0, max: 5 }).map((host) => `10.96.0.${host}`);
const ip6 = fc.integer({ min: 1, max: 5 }).map((host) => `fd00:96::${host}`);
const FAMILIES: Readonly<Record<IpFamily, FamilyWords>> = {
  4: {
    ip: ip4,
    network: fc.oneof(
      ip4.map((address) => `${address}/32`),
      oneOf('10.0.0.0/8', '10.96.0.0/30'),
    ),
    ipRange: oneOf('10.96.0.1-10.96.0.3', '10.96.0.4-10.96.0.4'),
    mask: oneOf('255.255.255.255', '255.255.255.252'),
    rejectType: oneOf('icmp-port-unreachable', 'icmp-admin-prohibited', 'icmp-net-unreachable'),
    natRange: oneOf('10.96.0.1', '10.96.0.1-10.96.0.3:80-90', '10.96.0.1:8080', ':80'),
    icmp: ['-p icmp', phrase('-m icmp', not, '--icmp-type', oneOf('any', '8', '3', '3/4'))],
    maskLengths: ['30', '32'],
    hops: 'ttl',
    sets: ['IP', 'NET', 'IP_PORT'],
  },
  6: {
    ip: ip6,
    network: fc.oneof(
      ip6.map((address) => `${address}/128`),
      oneOf('fd00::/8', 'fd00:96::4/126'),
    ),
    ipRange: oneOf('fd00:96::1-fd00:96::3', 'fd00:96::4-fd00:96::4'),
    mask: oneOf('ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc'),
    rejectType: oneOf('icmp6-port-unreachable', 'icmp6-adm-prohibited', 'icmp6-no-route'),
    natRange: oneOf('fd00:96::1', '[fd00:96::1-fd00:96::3]:80-90', '[fd00:96::1]:8080', ':80'),
    icmp: ['-p ipv6-icmp', phrase('-m icmp6', not, '--icmpv6-type', oneOf('8', '3', '3/4', '255'))],
    maskLengths: ['126', '128'],
    hops: 'hl',
    sets: ['IP6', 'NET6', 'IP_PORT6'],
  },
};

const port = fc.integer({ min: 8_000, max: 8_004 });
const portRange = fc.oneof(port, oneOf('8000:8001', '8002:65535'));
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
/** Sets that rules name, for `ipset restore`. */
export const RANDOM_RULE_SETS = [
  'create IP hash:ip counters',
  'create NET hash:net',
  'create IP_PORT hash:ip,port',
  'create IP6 hash:ip family inet6 counters',
  'create NET6 hash:net family inet6',
  'create IP_PORT6 hash:ip,port family inet6',
  'create PORT bitmap:port range 8000-8010',
  ...[1, 2, 3].flatMap((host) => [
    `add IP 10.96.0.${host}`,
    `add IP6 fd00:96::${host}`,
    `add IP_PORT 10.96.0.${host},tcp:${8_000 + host}`,
    `add IP_PORT6 fd00:96::${host},udp:${8_000 + host}`,
    `add PORT ${8_000 + host}`,
  ]),
  'add NET 10.96.0.0/29',
  'add NET 10.96.0.2/31 nomatch',
  'add NET6 fd00:96::/64',
  'add NET6 fd00:96::2/127 nomatch',
  '',
].join('\n');

const side = oneOf('src', 'dst');
const number = fc.integer({ min: 0, max: 70 });

const moreMatchesFor = ({ ip, network, maskLengths, hops, sets }: FamilyWords): fc.Arbitrary<string>[] => [
  phrase('-m connmark', not, '--mark', mark),
  phrase('-m conntrack', maybe(phrase(not, '--ctproto', oneOf('6', '17'))), not, '--ctorigsrc', ip),
  phrase(
    '-m conntrack --ctstate NEW',
    not,
    '--ctrepldst',
    network.map((text) => text.replace(/\/(32|128)$/, '')),
  ),
  phrase(
    '-m conntrack',
    not,
    '--ctorigdstport',
    port,
    maybe(phrase(not, '--ctstatus', oneOf('NONE', 'ASSURED,CONFIRMED'))),
  ),
  phrase('-m conntrack', not, '--ctexpire', oneOf('5', '5:300'), oneOf('', '--ctdir ORIGINAL', '--ctdir REPLY')),
  phrase('-m length', not, '--length', oneOf('60', '40:80', '0:39', '61:65535')),
  phrase(
    `-m ${hops}`,
    fc.oneof(phrase(not, `--${hops}-eq`, number), phrase(oneOf(`--${hops}-lt`, `--${hops}-gt`), number)),
  ),
  phrase('-m tos', not, '--tos', oneOf('0x00/0xff', '0x10/0x3f')),
  phrase('-m dscp', not, '--dscp', oneOf('0x00', '0x2e')),
  phrase('-m mac', not, '--mac-source 02:00:00:00:00:01'),
  phrase('-m pkttype', not, '--pkt-type', oneOf('unicast', 'broadcast', 'multicast')),
  phrase(
    '-m hashlimit',
    oneOf('--hashlimit-upto', '--hashlimit-above'),
    oneOf('5/sec', '3/min'),
    '--hashlimit-burst',
    oneOf('1', '5'),
    maybe(phrase('--hashlimit-mode', oneOf('srcip', 'srcip,dstport', 'srcport,dstip'))),
    '--hashlimit-name',
    oneOf('ONE', 'TWO'),
    oneOf('', `--hashlimit-srcmask ${maskLengths[0]}`),
  ),
  phrase(
    '-m connlimit',
    oneOf('--connlimit-upto 1', '--connlimit-above 0'),
    '--connlimit-mask',
    oneOf(...maskLengths),
    oneOf('--connlimit-saddr', '--connlimit-daddr'),
  ),
  phrase('-m set', not, '--match-set', sets[0], side, oneOf('', '! --update-counters', '--packets-gt 3')),
  phrase('-m set', not, '--match-set', sets[1], side, oneOf('', '--return-nomatch')),
  fc.tuple(side, side).chain(([one, other]) => phrase('-m set', not, `--match-set ${sets[2]} ${one},${other}`)),
];

const matchesFor = ({ mask, ipRange }: FamilyWords): fc.Arbitrary<string>[] => [
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
    '--mask',
    mask,
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

/** By protocol: what may follow it. */
function matchesByProtocol(words: FamilyWords): ReadonlyMap<string, fc.Arbitrary<string>[]> {
  const common = [...matchesFor(words), ...moreMatchesFor(words)];
  const [icmpProtocol, icmpType] = words.icmp;
  return new Map([
    ['', common],
    ['! -p tcp', common],
    ['-p esp', common],
    ['-p tcp', [...common, multiport, phrase('-m tcp', ...ports, maybe(phrase(not, '--tcp-flags', flags)))]],
    ['-p udp', [...common, multiport, phrase('-m udp', ...ports)]],
    ['-p sctp', [...common, multiport, phrase('-m sctp', ...ports)]],
    [icmpProtocol, [...common, icmpType]],
  ]);
}

function targetOf(protocol: string, words: FamilyWords): fc.Arbitrary<string> {
  const hasPorts = /^-p (tcp|udp|sctp)$/.test(protocol);
  const natRange = hasPorts ? words.natRange : words.ip;
  const toPorts = hasPorts ? maybe(oneOf('--to-ports 80', '--to-ports 80-90')) : '';
  const random = oneOf('', '--random');
  const fully = oneOf('', '--random-fully');
  const persistent = oneOf('', '--persistent');
  return fc.oneof(
    oneOf('', '-j ACCEPT', '-j DROP', '-j RETURN', '-j NOTRACK', '-j CT --notrack', '-j LOG'),
    phrase('-j MARK --set-xmark', xmark),
    phrase('-j CONNMARK --set-xmark', xmark),
    phrase(
      '-j CONNMARK',
      oneOf('--save-mark', '--restore-mark'),
      '--nfmask 0xff --ctmask',
      oneOf('0xff', '0xffffffff'),
    ),
    phrase('-j CT', oneOf('--zone', '--zone-orig', '--zone-reply'), oneOf('5', 'mark')),
    phrase('-j TOS --set-tos', oneOf('0x10/0xff', '0x00/0x0f')),
    phrase('-j DSCP --set-dscp', oneOf('0x00', '0x2e')),
    phrase(
      '-j NFLOG',
      maybe(phrase('--nflog-prefix', oneOf('a', '"b c"'))),
      oneOf('', '--nflog-group 5'),
      oneOf('', '--nflog-size 80'),
    ),
    phrase('-j SET --add-set', words.sets[0], side, oneOf('', '--exist')),
    phrase('-j SET --del-set', words.sets[2], 'src,dst'),
    phrase('-j NETMAP --to', words.network),
    oneOf('-j TRACE', '-j ACCEPT'),
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
    phrase('-j REJECT --reject-with', words.rejectType),
    phrase('-j DNAT --to-destination', natRange, random, persistent),
    phrase('-j SNAT --to-source', natRange, random, fully, persistent),
    phrase('-j MASQUERADE', toPorts, random, fully),
    phrase('-j REDIRECT', toPorts, random),
  );
}

/** Goes to one of `below`, if it goes to a chain at all. */
export function ruleText(family: IpFamily, below: readonly string[] = ['OTHER']): fc.Arbitrary<string> {
  const words = FAMILIES[family];
  const { network } = words;
  return fc.constantFrom(...matchesByProtocol(words)).chain(([protocol, matches]) =>
    phrase(
      maybe(phrase(not, '-s', network)),
      fc.oneof(maybe(phrase(not, '-d', network)), phrase('-d', network)),
      maybe(phrase(not, '-i', device)),
      maybe(phrase(not, '-o', device)),
      protocol,
      fc.array(fc.oneof(...matches), { maxLength: 3 }).map((texts) => texts.join(' ')),
      below.length === 0
        ? targetOf(protocol, words)
        : fc.oneof(targetOf(protocol, words), phrase(oneOf('-j', '-g'), oneOf(...below))),
    ),
  );
}

/** FORWARD and chains below it, each of which goes only to chains further down. */
function chains(family: IpFamily): fc.Arbitrary<Chain[]> {
  const names = ['FORWARD', 'A', 'B', 'C'];
  return fc.tuple(
    ...names.map((name, i) =>
      fc.array(ruleText(family, names.slice(i + 1)), { maxLength: 40, size: 'max' }).map(
        (texts) =>
          new Chain(
            name,
            texts.map((text) => new Rule(parseRule(text, { family }))),
            i === 0 ? 'ACCEPT' : undefined,
          ),
      ),
    ),
  );
}

function frameFields(family: IpFamily): fc.Arbitrary<FrameFields> {
  const { ip } = FAMILIES[family];
  const bridgePort = fc.constantFrom(undefined, { name: 'eth0', index: 1 }, { name: 'cbr0', index: 2 });
  return fc.record({
    from: ip,
    to: ip,
    protocol: fc.constantFrom(6, 6, 17, family === 6 ? 58 : 1, 50),
    srcPort: port,
    dstPort: port,
    tcpFlags: fc.nat({ max: 63 }),
    icmpType: fc.constantFrom(3, 8),
    mark: fc.constantFrom(0, 1, 0x4000),
    ttl: fc.constantFrom(1, 64),
    typeOfService: fc.constantFrom(0, 0x10),
    fragmentOffset: fc.constantFrom(0, 0, 0, 1_480),
    conntrackState: fc.constantFrom(0, CT_NEW, CT_INVALID, CT_RELATED, CT_ESTABLISHED, CT_ESTABLISHED | CT_DNAT),
    physIn: bridgePort,
    physOut: bridgePort,
  });
}
