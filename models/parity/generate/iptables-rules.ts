// Random text for iptables-restore that it accepts: every match and target in the tables and hooks that allow it.
//
// Chains call only chains that are finished before them, so that there are no loops; a chain belongs to one hook, because
// targets are checked against every hook that leads to them.

import type { Draw } from './draw.ts';
import type { Feature } from './features.ts';
import { drawKubeRules } from './kube-rules.ts';
import type { SetName } from './sets.ts';
import {
  DESTINATION_PORTS,
  drawAddress,
  drawNetwork,
  hostPrefix,
  MARKS,
  MASKED_MARKS,
  NODE_PORT,
  POD_PORTS,
  PORTS,
  SERVICE_PORTS,
  SOURCE_PORTS,
  type Words,
} from './words.ts';

export interface RuleWords {
  readonly words: Words;
  readonly features: ReadonlySet<Feature>;
  /** Loaded before the rules. */
  readonly sets: readonly SetName[];
}

type TableName = 'raw' | 'mangle' | 'nat' | 'filter';
type Hook = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';

const HOOKS: Readonly<Record<TableName, readonly Hook[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
};
/** Most packets of a case are forwarded. */
const MOST_RULES: Readonly<Record<Hook, number>> = { PREROUTING: 5, INPUT: 2, FORWARD: 6, OUTPUT: 2, POSTROUTING: 4 };

export function drawIptables(draw: Draw, rules: RuleWords): string {
  const { features } = rules;
  if (features.has('kube') && draw.chance(0.25)) return drawKubeRules(draw, rules);
  const possible: readonly (readonly [name: TableName, chance: number])[] = [
    ['raw', features.has('mangle') ? 0.3 : 0],
    ['mangle', features.has('mangle') ? 0.4 : 0],
    ['nat', features.has('nat') ? 0.8 : 0],
    ['filter', features.has('filter') ? 0.8 : 0],
  ];
  const tables = possible.flatMap(([name, chance]) => (draw.chance(chance) ? [name] : []));
  return tables.map((name) => new TableDraw(draw, name, rules).text()).join('');
}

class TableDraw {
  readonly #draw: Draw;
  readonly #table: TableName;
  readonly #rules: RuleWords;
  /** Finished user chains of each hook, with their rules. */
  readonly #chains = new Map<Hook, string[]>();
  readonly #declarations: string[] = [];
  readonly #lines: string[] = [];

  constructor(draw: Draw, table: TableName, rules: RuleWords) {
    this.#draw = draw;
    this.#table = table;
    this.#rules = rules;
  }

  text(): string {
    const draw = this.#draw;
    for (const hook of HOOKS[this.#table]) {
      const policy = this.#table === 'filter' && draw.chance(0.1) ? 'DROP' : 'ACCEPT';
      this.#declarations.push(`:${hook} ${policy} [0:0]`);
      this.#chains.set(hook, []);
    }
    for (const hook of HOOKS[this.#table]) {
      for (let i = draw.between(0, 2); i > 0; i--) this.#userChain(hook);
      this.#fill(hook, hook, draw.between(0, MOST_RULES[hook]));
    }
    return `*${this.#table}\n${[...this.#declarations, ...this.#lines].join('\n')}\nCOMMIT\n`;
  }

  #userChain(hook: Hook): void {
    const finished = this.#chains.get(hook) ?? [];
    const name = `${hook.slice(0, 4)}-${finished.length + 1}`;
    this.#declarations.push(`:${name} - [0:0]`);
    this.#fill(name, hook, this.#draw.between(1, 4));
    finished.push(name);
  }

  #fill(chain: string, hook: Hook, count: number): void {
    for (let i = 0; i < count; i++) {
      const special = this.#draw.chance(0.3) ? this.#wholeRule(hook) : undefined;
      this.#lines.push(`-A ${chain}${special ?? this.#matches(hook) + this.#target(hook)}`);
    }
  }

  /** Rules whose target asks for certain matches. */
  #wholeRule(hook: Hook): string | undefined {
    const draw = this.#draw;
    const { words } = this.#rules;
    const protocol = draw.pick(['tcp', 'udp', 'udp']);
    const service = ` -d ${hostPrefix(words, draw.pick(words.services))} -p ${protocol} -m ${protocol} --dport ${draw.pick(SERVICE_PORTS)}`;
    const port = draw.pick(POD_PORTS);
    const pod = draw.pick(words.pods);
    const translates = this.#table === 'nat' && (hook === 'PREROUTING' || hook === 'OUTPUT');
    const clamps = this.#table === 'mangle' && (hook === 'FORWARD' || hook === 'POSTROUTING');
    const whole: readonly (readonly [weight: number, rule: () => string])[] = [
      [
        translates ? 5 : 0,
        () => `${service} -j DNAT --to-destination ${words.family === 4 ? pod : `[${pod}]`}:${port}`,
      ],
      [translates ? 1 : 0, () => `${service} -j REDIRECT --to-ports ${port}`],
      [
        this.#table === 'nat' && hook === 'POSTROUTING' ? 1 : 0,
        () =>
          ` -p ${protocol} -j MASQUERADE --to-ports ${draw.pick(this.#rules.features.has('random') ? ['5000-5003'] : ['5000-5000', '600-600'])}`,
      ],
      [this.#table === 'filter' ? 1 : 0, () => ' -p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset'],
      [
        clamps ? 1 : 0,
        () =>
          ` -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS ${draw.pick(['--set-mss 1200', '--clamp-mss-to-pmtu'])}`,
      ],
    ];
    return whole.some(([weight]) => weight > 0) ? draw.weighted(whole) : undefined;
  }

  // ── matches ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #matches(hook: Hook): string {
    const draw = this.#draw;
    const parts = [this.#addresses(), this.#devices(hook), this.#protocol()];
    for (let i = draw.pick([0, 0, 1, 1, 2]); i > 0; i--) parts.push(this.#module(hook));
    // A module that stands twice is two matches, which is allowed and rarely meant.
    return [...new Set(parts)].join('');
  }

  #addresses(): string {
    const draw = this.#draw;
    const { words } = this.#rules;
    const not = () => (draw.chance(0.15) ? ' !' : '');
    const source = draw.chance(0.25) ? `${not()} -s ${drawNetwork(draw, words)}` : '';
    return source + (draw.chance(0.4) ? `${not()} -d ${drawNetwork(draw, words)}` : '');
  }

  #devices(hook: Hook): string {
    const draw = this.#draw;
    const device = () => (draw.chance(0.2) ? 'veth+' : draw.pick(this.#rules.words.devices));
    const not = () => (draw.chance(0.2) ? ' !' : '');
    const input = hook !== 'OUTPUT' && hook !== 'POSTROUTING' && draw.chance(0.12) ? `${not()} -i ${device()}` : '';
    const output = (hook === 'FORWARD' || hook === 'OUTPUT' || hook === 'POSTROUTING') && draw.chance(0.12);
    return input + (output ? `${not()} -o ${device()}` : '');
  }

  #protocol(): string {
    const draw = this.#draw;
    const ipv6 = this.#rules.words.family === 6;
    return draw.weighted<string>([
      [4, () => ''],
      [1, () => ` -p ${draw.pick(['tcp', 'udp'])}`],
      [4, () => this.#ports(draw.pick(['tcp', 'udp', 'udp']))],
      [1, () => ` -p tcp -m tcp ${draw.pick(TCP_FLAGS)}`],
      [1, () => ` -p ${draw.pick(['tcp', 'udp'])} -m multiport ${this.#portList()}`],
      [0.3, () => ` ! -p ${draw.pick(['tcp', 'udp'])}`],
      [
        this.#rules.features.has('icmp') ? 1 : 0.2,
        () =>
          ipv6
            ? ` -p ipv6-icmp -m icmp6${draw.chance(0.2) ? ' !' : ''} --icmpv6-type ${draw.pick(ICMP6_TYPES)}`
            : ` -p icmp -m icmp${draw.chance(0.2) ? ' !' : ''} --icmp-type ${draw.pick(ICMP_TYPES)}`,
      ],
    ]);
  }

  #ports(protocol: string): string {
    const draw = this.#draw;
    const range = () => draw.pick(['1:1023', '53:80', '5353:8443', '30000:32767', '1024:65535']);
    const not = draw.chance(0.15) ? ' !' : '';
    const ports = draw.weighted<string>([
      [6, () => `--dport ${draw.pick([...DESTINATION_PORTS, NODE_PORT])}`],
      [1, () => `--dport ${range()}`],
      [1, () => `--sport ${draw.pick(SOURCE_PORTS)}`],
      [0.5, () => `--sport ${range()}`],
    ]);
    return ` -p ${protocol} -m ${protocol}${not} ${ports}`;
  }

  #portList(): string {
    const draw = this.#draw;
    const list = [...draw.some(draw.between(1, 4), PORTS), ...(draw.chance(0.3) ? ['30000:32767'] : [])];
    return `${draw.chance(0.15) ? '! ' : ''}--${draw.pick(['dports', 'sports', 'ports'])} ${list.join(',')}`;
  }

  #module(hook: Hook): string {
    const draw = this.#draw;
    const { words, features, sets } = this.#rules;
    const allowed = (feature: Feature, weight: number): number => (features.has(feature) ? weight : 0);
    const not = draw.chance(0.2) ? '! ' : '';
    return draw.weighted<string>([
      [1, () => ` -m comment --comment "${draw.pick(['a rule', 'default/web:http -> 10.244.1.2:8080', 'plain'])}"`],
      [2, () => ` -m addrtype ${not}--${draw.pick(['dst-type', 'src-type'])} ${draw.pick(['LOCAL', 'UNICAST'])}`],
      [2, () => ` -m mark ${not}--mark ${draw.pick(MASKED_MARKS)}`],
      [1, () => this.#range()],
      [0.6, () => ` -m statistic --mode random ${not}--probability ${draw.pick(['0', '1'])}`],
      [this.#table === 'raw' ? 0 : allowed('conntrack', 6), () => this.#conntrack(not)],
      [
        this.#table === 'raw' ? 0 : allowed('conntrack', 1),
        () => ` -m connmark ${not}--mark ${draw.pick(MASKED_MARKS)}`,
      ],
      [allowed('bridge', 1.5), () => this.#physdev(hook, not)],
      [sets.length === 0 ? 0 : allowed('ipset', 5), () => this.#set(not)],
      [allowed('remember', 2), () => this.#remembering()],
      [allowed('random', 1), () => ' -m statistic --mode random --probability 0.50000000000'],
      [
        hook === 'PREROUTING' && (this.#table === 'raw' || this.#table === 'mangle') ? 1 : 0,
        () => ` -m rpfilter ${draw.pick(['--loose', '--validmark', '--invert', '--loose --invert'])}`,
      ],
      [words.family === 4 ? 0.5 : 0, () => ' -m addrtype --dst-type BROADCAST'],
    ]);
  }

  #conntrack(not: string): string {
    const draw = this.#draw;
    const { words } = this.#rules;
    const states = draw.some(draw.between(1, 3), CONNTRACK_STATES).join(',');
    const match = draw.weighted<string>([
      [8, () => `${not}--ctstate ${states}`],
      [1, () => `${not}--ctorigdst ${drawNetwork(draw, words)}`],
      [0.5, () => `${not}--ctreplsrc ${drawNetwork(draw, words)}`],
      [0.5, () => `--ctproto ${draw.pick([6, 17])} --ctorigdstport ${draw.pick(SERVICE_PORTS)}`],
      [0.5, () => `--ctdir ${draw.pick(['ORIGINAL', 'REPLY'])}`],
      [0.5, () => `${not}--ctstatus ${draw.pick(['SEEN_REPLY', 'ASSURED', 'CONFIRMED', 'NONE'])}`],
    ]);
    return ` -m conntrack ${match}`;
  }

  #physdev(hook: Hook, not: string): string {
    const draw = this.#draw;
    const device = draw.pick(['veth0', 'veth1', 'veth+', 'eth0']);
    const bridged = hook === 'FORWARD' || hook === 'POSTROUTING';
    return draw.weighted<string>([
      [hook === 'OUTPUT' || hook === 'POSTROUTING' ? 0 : 1, () => ` -m physdev ${not}--physdev-in ${device}`],
      [bridged ? 1 : 0, () => ` -m physdev ${not}--physdev-is-bridged`],
      [bridged ? 1 : 0, () => ` -m physdev --physdev-out ${device} --physdev-is-bridged`],
      [hook === 'OUTPUT' ? 1 : 0.5, () => ` -m physdev ${not}--physdev-is-in`],
    ]);
  }

  #range(): string {
    const { words } = this.#rules;
    const base = this.#draw.pick(words.family === 4 ? ['10.244.1.', '10.96.0.'] : ['fd00:10:244:1::', 'fd00:10:96::']);
    const which = this.#draw.pick(['src-range', 'dst-range']);
    return ` -m iprange${this.#draw.chance(0.2) ? ' !' : ''} --${which} ${base}1-${base}${this.#draw.pick(['2', '10', '99'])}`;
  }

  #set(not: string): string {
    const { name, directions } = this.#draw.pick(this.#rules.sets);
    return ` -m set ${not}--match-set ${name} ${this.#draw.pick(directions)}`;
  }

  /** Rates are so low that no token comes back while a case runs. */
  #remembering(): string {
    const draw = this.#draw;
    const number = this.#lines.length + 1;
    return draw.weighted<string>([
      [2, () => ` -m statistic --mode nth --every ${draw.between(2, 3)} --packet ${draw.between(0, 1)}`],
      [1, () => ` -m limit --limit 1/hour --limit-burst ${draw.between(1, 3)}`],
      [
        1,
        () =>
          ` -m hashlimit --hashlimit-${draw.pick(['upto', 'above'])} 1/hour --hashlimit-burst ${draw.between(1, 3)}` +
          ` --hashlimit-mode ${draw.pick(['srcip', 'dstip', 'srcip,dstport'])} --hashlimit-name h${number}`,
      ],
      [
        1,
        () =>
          ` -m recent --${draw.pick(['set', 'rcheck', 'update --seconds 60', 'rcheck --seconds 60 --reap'])} --name r1 --rsource`,
      ],
      [
        this.#table === 'raw' ? 0 : 0.5,
        () => ` -m connlimit --connlimit-${draw.pick(['above', 'upto'])} ${draw.between(0, 2)}`,
      ],
    ]);
  }

  // ── targets ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #target(hook: Hook): string {
    const draw = this.#draw;
    const chains = this.#chains.get(hook) ?? [];
    return draw.weighted<string>([
      [1, () => ''],
      [1.5, () => ' -j ACCEPT'],
      [1, () => ' -j RETURN'],
      [chains.length > 0 ? 3 : 0, () => ` -${draw.chance(0.75) ? 'j' : 'g'} ${draw.pick(chains)}`],
      [0.3, () => ' -j LOG --log-prefix "parity "'],
      [6, () => this.#ownTarget(hook)],
    ]);
  }

  #ownTarget(hook: Hook): string {
    switch (this.#table) {
      case 'raw':
        return this.#draw.weighted<string>([
          [2, () => ' -j CT --notrack'],
          [1, () => ' -j DROP'],
          [this.#rules.features.has('conntrack') ? 1 : 0, () => ` -j CT --zone ${this.#draw.between(1, 2)}`],
        ]);
      case 'mangle':
        return this.#mangleTarget();
      case 'nat':
        return this.#natTarget(hook);
      case 'filter':
        return this.#draw.weighted<string>([
          [2, () => ' -j DROP'],
          [2, () => ` -j REJECT --reject-with ${this.#draw.pick(this.#rules.words.family === 4 ? REJECTS : REJECTS6)}`],
          [1, () => ' -j ACCEPT'],
        ]);
    }
  }

  #mangleTarget(): string {
    const draw = this.#draw;
    const mark = draw.pick(MARKS);
    return draw.weighted<string>([
      [3, () => ` -j MARK ${draw.pick(['--set-xmark', '--set-mark'])} ${mark}${draw.chance(0.5) ? `/${mark}` : ''}`],
      [2, () => ` -j MARK --${draw.pick(['or-mark', 'and-mark', 'xor-mark'])} ${mark}`],
      [
        this.#rules.features.has('conntrack') ? 3 : 0,
        () =>
          ` -j CONNMARK ${draw.pick([`--set-xmark ${mark}/0xffffffff`, '--save-mark', '--restore-mark', `--save-mark --mask ${mark}`])}`,
      ],
      [0.5, () => ' -j DROP'],
    ]);
  }

  /** Without ports, which need a protocol (#wholeRule). */
  #natTarget(hook: Hook): string {
    const draw = this.#draw;
    const { words, features } = this.#rules;
    const mark = ` -j MARK --or-mark ${draw.pick(MARKS)}`;
    const random = features.has('random') && draw.chance(0.2) ? draw.pick([' --random', ' --random-fully']) : '';
    const pod = draw.pick(words.pods);
    const source = drawAddress(draw, words);
    switch (hook) {
      case 'PREROUTING':
      case 'OUTPUT':
        return draw.weighted<string>([
          [6, () => ` -j DNAT --to-destination ${pod}`],
          [1, () => ' -j REDIRECT'],
          [0.7, () => ` -j NETMAP --to ${hostPrefix(words, pod)}`],
          [1, () => mark],
          [
            features.has('random') ? 1 : 0,
            () => ` -j DNAT --to-destination ${addressRange(words)}${draw.pick(['', ' --persistent'])}`,
          ],
        ]);
      case 'INPUT':
        return draw.chance(0.5) ? ` -j SNAT --to-source ${source}` : mark;
      case 'POSTROUTING':
        return draw.weighted<string>([
          [4, () => ` -j MASQUERADE${random}`],
          [2, () => ` -j SNAT --to-source ${source}${random}`],
          [0.5, () => ` -j NETMAP --to ${hostPrefix(words, source)}`],
          [0.5, () => mark],
        ]);
      default:
        throw new RangeError(`the nat table has no hook ${hook}`);
    }
  }
}

const addressRange = ({ family }: Words): string =>
  family === 4 ? '10.244.1.2-10.244.1.3' : 'fd00:10:244:1::2-fd00:10:244:1::3';

const TCP_FLAGS = [
  '--tcp-flags FIN,SYN,RST,ACK SYN',
  '--tcp-flags SYN,RST SYN',
  '--tcp-flags RST RST',
  '! --tcp-flags ACK ACK',
];
const ICMP_TYPES = ['8', '0', '3', '3/3', '11', 'any'];
const ICMP6_TYPES = ['128', '129', '1', '1/4', '3'];
const CONNTRACK_STATES = ['NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED', 'DNAT', 'SNAT'];
const REJECTS = [
  'icmp-port-unreachable',
  'icmp-port-unreachable',
  'icmp-net-unreachable',
  'icmp-host-unreachable',
  'icmp-proto-unreachable',
  'icmp-net-prohibited',
  'icmp-host-prohibited',
  'icmp-admin-prohibited',
];
const REJECTS6 = ['icmp6-no-route', 'icmp6-adm-prohibited', 'icmp6-addr-unreachable', 'icmp6-port-unreachable'];
