// For tests: random tables, as text that the real nft accepts.

import fc from 'fast-check';

/** One table of family ip or inet, with sets, maps, chains and rules. */
export const randomTable = (): fc.Arbitrary<string> =>
  fc
    .record({
      family: fc.constantFrom('ip', 'inet'),
      addresses: fc.uniqueArray(address(), { minLength: 1, maxLength: 7 }),
      ranges: fc.uniqueArray(fc.nat({ max: 15 }), { minLength: 1, maxLength: 5 }),
      ports: fc.uniqueArray(port(), { minLength: 1, maxLength: 12 }),
      services: fc.uniqueArray(
        fc.tuple(address(), protocol(), port()).map((parts) => parts.join(' . ')),
        {
          minLength: 1,
          maxLength: 8,
        },
      ),
      flags: fc.constantFrom('', '\t\tflags timeout\n', '\t\tsize 1000\n'),
      rules: fc.array(rule(), { minLength: 1, maxLength: 12 }),
      natRules: fc.array(natRule(), { maxLength: 5 }),
      hook: fc.constantFrom('prerouting', 'input', 'forward'),
      priority: fc.integer({ min: -320, max: 120 }),
      policy: fc.constantFrom('accept', 'drop'),
    })
    .map(({ family, addresses, ranges, ports, services, flags, rules, natRules, hook, priority, policy }) => {
      const inFamily = (text: string): string =>
        family === 'ip' ? text : text.replace(/nat to (?=\d|ip|numgen)/, 'nat ip to ');
      return `table ${family} t {
\tset addresses {\n\t\ttype ipv4_addr\n${flags}\t\telements = { ${addresses.join(', ')} }\n\t}
\tset ranges {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { ${ranges.map((i) => `10.${i}.0.0/16`).join(', ')} }\n\t}
\tset ports {\n\t\ttype inet_service\n\t\telements = { ${ports.join(', ')} }\n\t}
\tmap services {\n\t\ttype ipv4_addr . inet_proto . inet_service : verdict\n\t\telements = { ${services.map((key, i) => `${key} : ${['accept', 'drop', 'goto other', 'jump other'][i % 4]}`).join(', ')} }\n\t}
\tmap backends {\n\t\ttype inet_service : ipv4_addr\n\t\telements = { ${ports.map((key, i) => `${key} : 10.0.0.${i}`).join(', ')} }\n\t}
\tset seen {\n\t\ttype ipv4_addr\n\t\tsize 1000\n\t\tflags dynamic,timeout\n\t\ttimeout 1h\n\t}
\tchain other {\n\t\tcounter\n\t}
\tchain base {\n\t\ttype filter hook ${hook} priority ${priority}; policy ${policy};\n${rules.map((text) => `\t\t${text}\n`).join('')}\t}
\tchain nat {\n\t\ttype nat hook prerouting priority dstnat;\n${natRules.map((text) => `\t\t${inFamily(text)}\n`).join('')}\t}
}
`;
    });

const address = (): fc.Arbitrary<string> =>
  fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 255 })).map(([net, host]) => `10.${net}.0.${host}`);
const port = (): fc.Arbitrary<number> => fc.integer({ min: 1, max: 65_535 });
const protocol = (): fc.Arbitrary<string> => fc.constantFrom('tcp', 'udp', 'sctp');
const mark = (): fc.Arbitrary<string> => fc.nat({ max: 0xffff }).map((bits) => `0x${bits.toString(16)}`);
const list = (values: fc.Arbitrary<string | number>): fc.Arbitrary<string> =>
  fc.uniqueArray(values, { minLength: 2, maxLength: 6 }).map((items) => `{ ${items.join(', ')} }`);
const operator = (): fc.Arbitrary<string> => fc.constantFrom('', '!= ');

const rule = (): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.array(selection(), { maxLength: 2 }),
      fc.constantFrom('', 'counter '),
      action(),
      fc.constantFrom('', ' comment "why"'),
    )
    .filter(([selections, , then]) => headersOf(`${selections.join(' ')} ${then}`).size <= 1)
    .map(
      ([selections, counter, then, comment]) =>
        `${selections.map((text) => `${text} `).join('')}${counter}${then}${comment}`,
    );

/** nft refuses rules that look into the headers of two protocols. */
const headersOf = (text: string): Set<string> =>
  new Set(text.match(/\b(?:tcp|udp|sctp|icmp|th) (?=dport|sport|flags|type|th)/g));

const selection = (): fc.Arbitrary<string> =>
  fc.oneof(
    fc.tuple(operator(), address()).map(([not, ip]) => `ip saddr ${not}${ip}`),
    fc
      .tuple(operator(), fc.nat({ max: 255 }), fc.integer({ min: 8, max: 31 }))
      .map(([not, net, length]) =>
        length <= 16 ? `ip daddr ${not}10.0.0.0/${length}` : `ip daddr ${not}10.${net}.0.0/16`,
      ),
    fc.tuple(operator(), list(address())).map(([not, set]) => `ip saddr ${not}${set}`),
    fc.tuple(operator(), list(port())).map(([not, set]) => `tcp dport ${not}${set}`),
    fc.tuple(fc.constantFrom('', '!= ', '> ', '<= '), port()).map(([not, number]) => `udp sport ${not}${number}`),
    fc
      .tuple(port(), fc.nat({ max: 100 }))
      .map(([first, more]) => `tcp dport ${first}-${Math.min(65_535, first + 1 + more)}`),
    fc.tuple(operator(), mark()).map(([not, bits]) => `meta mark ${not}${bits}`),
    fc
      .tuple(mark(), fc.constantFrom('==', '!='), mark())
      .map(([mask, compare, bits]) => `meta mark & ${mask} ${compare} ${bits}`),
    fc.constantFrom(
      'ip saddr @addresses',
      'ip daddr != @ranges',
      'tcp dport @ports',
      'ct state new',
      'ct state established,related',
      'ct state { new, untracked }',
      'ct status dnat',
      'ct direction reply',
      'meta l4proto { tcp, udp } th dport 53',
      'meta l4proto sctp th sport 5',
      'iifname "eth0"',
      'oifname != "cali*"',
      'iifname { "a", "bc*", "lo" }',
      'fib daddr type local',
      'fib saddr . iif oif missing',
      'tcp flags syn / syn,ack,rst',
      'tcp flags ! syn',
      'icmp type echo-request',
      'ip ttl < 5',
      'ip frag-off & 0x1fff != 0',
      'numgen random mod 3 1',
    ),
  );

const action = (): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constantFrom(
      'accept',
      'drop',
      'return',
      'jump other',
      'goto other',
      'ip daddr . meta l4proto . th dport vmap @services',
      'ct state vmap { established : accept, related : accept, invalid : drop }',
      'update @seen { ip saddr timeout 5m }',
      'add @seen { ip daddr }',
      'meta mark set ct mark',
      'ct mark set meta mark & 0xff',
      'limit rate over 20/minute burst 7 packets drop',
      'log prefix "seen: " level info',
      'numgen random mod 3 vmap { 0 : jump other, 1 : accept, 2 : drop }',
    ),
    mark().map((bits) => `meta mark set mark or ${bits}`),
    mark().map((bits) => `meta mark set ${bits}`),
  );

const natRule = (): fc.Arbitrary<string> =>
  fc.oneof(
    address().map((ip) => `dnat to ${ip}`),
    fc.tuple(address(), port()).map(([ip, number]) => `meta l4proto tcp dnat to ${ip}:${number}`),
    port().map((number) => `tcp dport ${number} redirect to :${number}`),
    fc.constantFrom(
      'tcp dport 80 dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }',
      'tcp dport 443 dnat to 10.0.0.1-10.0.0.9:8000-8010 persistent',
    ),
  );
