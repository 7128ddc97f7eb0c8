// Random tables for `nft -f`: base chains at every hook, rules of matches, statements and verdicts, sets and verdict maps.

import type { Draw } from './draw.ts';
import type { RuleWords } from './iptables-rules.ts';
import { drawKubeTable } from './kube-rules.ts';
import { DESTINATION_PORTS, drawAddress, MARKS, NODE_PORT, POD_PORTS, SERVICE_PORTS, SOURCE_PORTS } from './words.ts';

type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';

interface BaseChain {
  readonly type: 'filter' | 'nat';
  readonly hook: Hook;
  /** A name where the hook has it. */
  readonly priority: string;
  readonly rules: number;
}

export function drawNft(draw: Draw, rules: RuleWords): string {
  if (rules.features.has('kube') && draw.chance(0.25)) return drawKubeTable(draw, rules);
  return new TableDraw(draw, rules).text();
}

class TableDraw {
  readonly #draw: Draw;
  readonly #rules: RuleWords;
  readonly #family: 'ip' | 'ip6';
  /** Of the table: `inet` takes both families. */
  readonly #tableFamily: string;
  readonly #chains: string[] = [];
  readonly #sets: string[] = [];

  constructor(draw: Draw, rules: RuleWords) {
    this.#draw = draw;
    this.#rules = rules;
    this.#family = rules.words.family === 4 ? 'ip' : 'ip6';
    this.#tableFamily = draw.chance(0.3) ? 'inet' : this.#family;
  }

  text(): string {
    const draw = this.#draw;
    this.#addSets();
    const bases = BASE_CHAINS.filter((base) => draw.chance(this.#chanceOf(base)));
    for (const base of bases) this.#addBase(base);
    return `table ${this.#tableFamily} t${this.#family === 'ip' ? 4 : 6} {\n${[...this.#sets, ...this.#chains].join('')}}\n`;
  }

  #chanceOf({ type, priority, hook }: BaseChain): number {
    const { features } = this.#rules;
    if (type === 'nat') return features.has('nat') ? 0.6 : 0;
    if (priority === 'raw' || priority === 'mangle') return features.has('mangle') ? 0.3 : 0;
    return features.has('filter') ? (hook === 'forward' ? 0.8 : 0.4) : 0;
  }

  #addSets(): void {
    const { words } = this.#rules;
    const draw = this.#draw;
    const type = words.family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const addresses = draw.some(3, [...words.pods, ...words.services]);
    const pairs = draw
      .some(3, words.services)
      .map((ip) => `${ip} . ${draw.pick(['tcp', 'udp'])} . ${draw.pick(SERVICE_PORTS)}`);
    this.#sets.push(
      block('set addresses', [`type ${type}`, `elements = { ${addresses.join(', ')} }`]),
      block('set networks', [
        `type ${type}`,
        'flags interval',
        `elements = { ${words.networks.slice(1, 3).join(', ')} }`,
      ]),
      block('set services', [`type ${type} . inet_proto . inet_service`, `elements = { ${pairs.join(', ')} }`]),
    );
  }

  #addBase({ type, hook, priority, rules }: BaseChain): void {
    const draw = this.#draw;
    const name = `${type}-${hook}-${priority.replace('-', 'at-')}`;
    const callees: string[] = [];
    for (let i = draw.between(0, 2); i > 0; i--) {
      const callee = `${name}-${i}`;
      this.#chains.push(block(`chain ${callee}`, this.#lines({ type, hook, callees, count: draw.between(1, 4) })));
      callees.push(callee);
    }
    const policy = type === 'filter' && priority === 'filter' && draw.chance(0.1) ? 'drop' : 'accept';
    const head = `type ${type} hook ${hook} priority ${priority}; policy ${policy};`;
    this.#chains.push(
      block(`chain ${name}`, [head, ...this.#lines({ type, hook, callees, count: draw.between(1, rules) })]),
    );
  }

  #lines({ count, ...place }: Place & { readonly count: number }): string[] {
    return Array.from({ length: count }, () => this.#rule(place));
  }

  #rule(place: Place): string {
    const draw = this.#draw;
    const counter = draw.chance(0.9) ? ['counter'] : [];
    const verdict = this.#verdict(place);
    // A verdict that names a protocol is a match, too.
    const matches = OF_TRANSPORT.test(verdict) ? [] : this.#matches(place);
    return [...matches, ...counter, verdict].filter((part) => part !== '').join(' ') || 'counter';
  }

  // ── matches ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** At most one of a transport protocol: nft refuses rules that cannot match. */
  #matches(place: Place): string[] {
    const draw = this.#draw;
    const others = Array.from({ length: draw.between(0, 2) }, () => this.#match(place));
    return [...new Set(draw.chance(0.5) ? [...others, this.#transport()] : others)];
  }

  #match({ hook }: Place): string {
    const draw = this.#draw;
    const { words, features } = this.#rules;
    const ip = this.#family;
    const not = draw.chance(0.2) ? '!= ' : '';
    const hasInput = hook === 'prerouting' || hook === 'input' || hook === 'forward';
    const hasOutput = hook === 'forward' || hook === 'output' || hook === 'postrouting';
    return draw.weighted<string>([
      [4, () => `${ip} daddr ${not}${drawAddress(draw, words)}`],
      [2, () => `${ip} saddr ${not}${drawAddress(draw, words)}`],
      [1, () => `${ip} ${draw.pick(['saddr', 'daddr'])} ${not}${draw.pick(words.networks.slice(0, 4))}`],
      [1, () => `${ip} ${draw.pick(['saddr', 'daddr'])} ${not}${this.#range()}`],
      [1, () => `${ip} ${draw.pick(['saddr', 'daddr'])} ${not}@${draw.pick(['addresses', 'networks'])}`],
      [1, () => `${ip} ${draw.pick(['saddr', 'daddr'])} ${not}{ ${draw.some(2, words.pods).join(', ')} }`],
      [1, () => `meta mark & ${draw.pick(MARKS)} ${draw.pick(['==', '!='])} 0`],
      [hasInput ? 1 : 0, () => `iifname ${not}${draw.pick(['"veth*"', ...words.devices.map((name) => `"${name}"`)])}`],
      [hasOutput ? 0.7 : 0, () => `oifname ${not}${draw.pick(words.devices.map((name) => `"${name}"`))}`],
      [1, () => `fib ${draw.pick(['daddr', 'saddr'])} type ${not}${draw.pick(['local', 'unicast'])}`],
      [features.has('conntrack') ? 4 : 0, () => this.#conntrack(not)],
      [features.has('remember') ? 1 : 0, () => this.#remembering()],
      [features.has('random') ? 0.7 : 0, () => 'numgen random mod 2 == 0'],
    ]);
  }

  /** From a network's first address on, to where packets may go to or come from. */
  #range(): string {
    const draw = this.#draw;
    const { words } = this.#rules;
    const base = words.family === 4 ? '10.244.1.' : 'fd00:10:244:1::';
    const range = `${base}1-${base}${draw.pick(['2', '3', '10', '99'])}`;
    return draw.chance(0.5) ? range : `{ ${range}, ${draw.pick(words.services)} }`;
  }

  #transport(): string {
    const draw = this.#draw;
    const { words, features } = this.#rules;
    const not = draw.chance(0.2) ? '!= ' : '';
    const protocol = draw.pick(['tcp', 'udp', 'udp']);
    return draw.weighted<string>([
      [3, () => `${protocol} dport ${not}${draw.pick([...DESTINATION_PORTS, NODE_PORT])}`],
      [1, () => `${protocol} dport ${not}{ ${draw.some(3, DESTINATION_PORTS).join(', ')} }`],
      [1, () => `${protocol} ${draw.pick(['sport', 'dport'])} ${not}${draw.pick(['1-1023', '1024-65535', '53-80'])}`],
      [0.5, () => `${protocol} sport ${not}${draw.pick(SOURCE_PORTS)}`],
      [1, () => `${this.#family} daddr . meta l4proto . th dport @services`],
      [1, () => `meta l4proto ${not}${draw.pick(['tcp', 'udp', '{ tcp, udp }'])}`],
      [0.7, () => `tcp flags & (syn | ack) == ${draw.pick(['syn', 'ack', 'syn | ack'])}`],
      [
        features.has('icmp') ? 0.7 : 0,
        () => (words.family === 4 ? 'icmp type echo-request' : 'icmpv6 type echo-request'),
      ],
    ]);
  }

  #conntrack(not: string): string {
    const draw = this.#draw;
    const { words } = this.#rules;
    const states = draw.some(draw.between(1, 2), ['new', 'established', 'related', 'invalid', 'untracked']);
    return draw.weighted<string>([
      [6, () => `ct state ${states.join(',')}`],
      [1, () => `ct state ${draw.chance(0.5) ? '!= ' : ''}${states[0]}`],
      [1, () => `ct status ${draw.pick(['dnat', 'snat', 'assured'])}`],
      [1, () => `ct direction ${draw.pick(['original', 'reply'])}`],
      [1, () => `ct mark & ${draw.pick(MARKS)} ${draw.pick(['==', '!='])} 0`],
      [1, () => `ct original ${this.#family} daddr ${not}${draw.pick([...words.services, ...words.pods])}`],
    ]);
  }

  /** Rates are so low that no token comes back while a case runs. */
  #remembering(): string {
    const draw = this.#draw;
    return draw.weighted<string>([
      [2, () => `numgen inc mod ${draw.between(2, 3)} ${draw.between(0, 1)}`],
      [1, () => `limit rate 1/hour burst ${draw.between(1, 3)} packets`],
    ]);
  }

  // ── verdicts and statements ────────────────────────────────────────────────────────────────────────────────────────

  #verdict(place: Place): string {
    const draw = this.#draw;
    const { callees } = place;
    return draw.weighted<string>([
      [1, () => ''],
      [1.5, () => 'accept'],
      [0.7, () => 'return'],
      [callees.length > 0 ? 3 : 0, () => `${draw.pick(['jump', 'goto'])} ${draw.pick(callees)}`],
      [callees.length > 0 ? 1 : 0, () => this.#verdictMap(callees)],
      [2, () => this.#mark()],
      [6, () => (place.type === 'nat' ? this.#nat(place.hook) : this.#filter(place.hook))],
    ]);
  }

  #verdictMap(callees: readonly string[]): string {
    const draw = this.#draw;
    const verdict = () =>
      draw.pick([`jump ${draw.pick(callees)}`, `goto ${draw.pick(callees)}`, 'accept', 'return', 'continue']);
    const [first, second] = draw.some(2, DESTINATION_PORTS);
    const states = `new : ${verdict()}, established : ${verdict()}`;
    return draw.weighted<string>([
      [2, () => `udp dport vmap { ${first} : ${verdict()}, ${second} : ${verdict()} }`],
      [1, () => `meta l4proto vmap { tcp : ${verdict()}, udp : ${verdict()} }`],
      [this.#rules.features.has('conntrack') ? 1 : 0, () => `ct state vmap { ${states} }`],
      [
        this.#rules.features.has('remember') ? 1 : 0,
        () => `numgen inc mod 2 vmap { 0 : ${verdict()}, 1 : ${verdict()} }`,
      ],
    ]);
  }

  #mark(): string {
    const mark = this.#draw.pick(MARKS);
    const connection = this.#rules.features.has('conntrack');
    return this.#draw.weighted<string>([
      [2, () => `meta mark set ${mark}`],
      [1, () => `meta mark set mark ${this.#draw.pick(['or', 'and', 'xor'])} ${mark}`],
      [connection ? 1 : 0, () => `ct mark set ${mark}`],
      [connection ? 1 : 0, () => this.#draw.pick(['ct mark set mark', 'meta mark set ct mark'])],
    ]);
  }

  #filter(hook: Hook): string {
    const draw = this.#draw;
    const rejects = hook === 'input' || hook === 'forward' || hook === 'output';
    const family = this.#family === 'ip' ? 'icmp' : 'icmpv6';
    const kind = draw.pick(this.#family === 'ip' ? REJECTS : REJECTS6);
    return draw.weighted<string>([
      [1, () => 'drop'],
      [
        rejects ? 1 : 0,
        () => (this.#tableFamily === 'inet' ? 'reject with icmpx port-unreachable' : `reject with ${family} ${kind}`),
      ],
      [rejects ? 0.5 : 0, () => 'reject'],
      [rejects ? 0.5 : 0, () => 'meta l4proto tcp reject with tcp reset'],
      [hook === 'prerouting' || hook === 'output' ? 0.5 : 0, () => 'notrack'],
      [hook === 'forward' ? 0.5 : 0, () => 'tcp flags syn tcp option maxseg size set 1200'],
    ]);
  }

  #nat(hook: Hook): string {
    const draw = this.#draw;
    const { words, features } = this.#rules;
    const to = this.#tableFamily === 'inet' ? `${this.#family} to` : 'to';
    const pod = draw.pick(words.pods);
    const bracketed = words.family === 4 ? pod : `[${pod}]`;
    const random = features.has('random') && draw.chance(0.3) ? draw.pick([' random', ' fully-random']) : '';
    const ported = `meta l4proto ${draw.pick(['tcp', 'udp', '{ tcp, udp }'])}`;
    switch (hook) {
      case 'prerouting':
      case 'output':
        return draw.weighted<string>([
          [3, () => `dnat ${to} ${pod}`],
          [3, () => `${ported} dnat ${to} ${bracketed}:${draw.pick(POD_PORTS)}`],
          [1, () => `${ported} redirect to :${draw.pick(POD_PORTS)}`],
          [1, () => 'redirect'],
        ]);
      case 'postrouting':
        return draw.weighted<string>([
          [4, () => `masquerade${random}`],
          [0.5, () => `${ported} masquerade to :${features.has('random') ? '5000-5003' : '5000'}`],
          [2, () => `snat ${to} ${drawAddress(draw, words)}${random}`],
        ]);
      default:
        return `snat ${to} ${drawAddress(draw, words)}`;
    }
  }
}

interface Place {
  readonly type: 'filter' | 'nat';
  readonly hook: Hook;
  /** Chains that a rule may call. */
  readonly callees: readonly string[];
}

const OF_TRANSPORT = /\b(?:tcp|udp)\b/;

const block = (head: string, lines: readonly string[]): string =>
  `\t${head} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;

const BASE_CHAINS: readonly BaseChain[] = [
  { type: 'filter', hook: 'prerouting', priority: 'raw', rules: 3 },
  { type: 'filter', hook: 'output', priority: 'raw', rules: 2 },
  { type: 'filter', hook: 'prerouting', priority: 'mangle', rules: 4 },
  { type: 'filter', hook: 'forward', priority: 'mangle', rules: 3 },
  { type: 'nat', hook: 'prerouting', priority: 'dstnat', rules: 5 },
  { type: 'nat', hook: 'output', priority: '-100', rules: 2 },
  { type: 'filter', hook: 'input', priority: 'filter', rules: 3 },
  { type: 'filter', hook: 'forward', priority: 'filter', rules: 6 },
  { type: 'filter', hook: 'output', priority: 'filter', rules: 2 },
  { type: 'filter', hook: 'postrouting', priority: 'mangle', rules: 2 },
  { type: 'nat', hook: 'input', priority: '100', rules: 1 },
  { type: 'nat', hook: 'postrouting', priority: 'srcnat', rules: 4 },
];

const REJECTS = [
  'port-unreachable',
  'net-unreachable',
  'host-unreachable',
  'prot-unreachable',
  'net-prohibited',
  'host-prohibited',
  'admin-prohibited',
];
const REJECTS6 = ['port-unreachable', 'no-route', 'admin-prohibited', 'addr-unreachable'];
