import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { minutes, s } from '../../../engine/time.ts';
import { formatJourney } from '../../packet/journey-text.ts';
import { readPacket, TestNode } from '../netfilter.fixture.ts';
import { FORWARD, POSTROUTING, PREROUTING } from '../netfilter.ts';
import { randomTable } from './rulesets.fixture.ts';

const QUERY = 'udp 10.244.1.2:4000 > 10.96.0.10:53';
const SYN = 'tcp 10.244.1.2:4000 > 10.96.0.1:443 S';

function nodeWith(text: string): TestNode {
  const node = new TestNode({ rules: '' });
  node.netfilter.nftables.apply(text, { fileName: 'test.nft' });
  return node;
}

/** Rules of one chain at FORWARD. */
const forwarding = (rules: string, more = ''): TestNode =>
  nodeWith(`table ip t {\n${more}\nchain c {\ntype filter hook forward priority filter;\n${rules}\n}\n}`);

/** The counters in the order in which they are listed. */
const counts = (node: TestNode): number[] =>
  [...node.netfilter.nftables.list().matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));

describe('verdicts', () => {
  test('accept ends a base chain, not the hook; drop is final', () => {
    const node = nodeWith(`
      table ip t {
        chain first { type filter hook forward priority -10;
          accept
        }
        chain second { type filter hook forward priority 10;
          udp dport 53 counter drop
          counter
        }
      }`);
    expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
    expect(node.forward(SYN)).toBe('tcp 10.244.1.2:4000 > 10.96.0.1:443');
    expect(counts(node)).toEqual([1, 1]);
  });

  test('of base chains with one priority, the one that was made last is asked first', () => {
    const node = nodeWith(`
      table ip t {
        chain a { type filter hook forward priority 0;
          meta mark 0x2 counter comment "b was here"
          meta mark set 0x1
        }
        chain b { type filter hook forward priority 0;
          meta mark 0x1 counter comment "a was here"
          meta mark set 0x2
        }
      }`);
    node.forward(QUERY);
    expect(counts(node)).toEqual([1, 0]); // Linux 6.18
  });

  test('a table that is made again is younger than one that was made with it', () => {
    const table = (name: string): string => `table ip ${name} {
      chain c { type filter hook forward priority 0;
        meta mark 0x0 meta mark set 0x1 counter
      }
    }
    `;
    const node = nodeWith(table('a') + table('b'));
    node.netfilter.nftables.apply(`flush ruleset\n${table('b')}${table('a')}`);
    node.forward(QUERY);
    expect(counts(node)).toEqual([0, 1]); // listed: b, a
  });

  test('jump comes back, goto does not, and a policy speaks where no rule has', () => {
    const node = nodeWith(`
      table ip t {
        chain back {
          return
        }
        chain c { type filter hook forward priority 0; policy drop;
          tcp dport 443 jump back
          tcp dport 443 counter accept
          udp dport 53 goto back
          counter accept
        }
      }`);
    expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
    expect(node.forward(SYN)).toContain('>');
    expect(counts(node)).toEqual([1, 0]);
  });

  test('reject answers in the words of the family, also from a nat chain', () => {
    const node = nodeWith(`
      table inet t {
        chain c { type filter hook forward priority 0;
          meta l4proto tcp reject with tcp reset
          udp dport 53 reject
          reject with icmpx admin-prohibited
        }
      }`);
    for (const packet of [SYN, QUERY, 'udp 10.244.1.2:4000 > 10.96.0.10:54', 'udp fd00::2:4000 > fd00::3:53']) {
      if (!packet.includes('fd00')) expect(node.forward(packet)).toBe('NETFILTER_DROP');
    }
    expect(node.rejects.map((text) => text.split(':')[0])).toEqual([
      'tcp-reset',
      'icmp-port-unreachable',
      'icmp-admin-prohibited',
    ]);
  });
});

describe('sets and maps', () => {
  test('are asked by value, by interval, by concatenation, and have a last resort', () => {
    const node = forwarding(
      `ip saddr @pods counter
       ip daddr . meta l4proto . th dport vmap @services
       ip daddr . udp dport @ranges counter
       iifname { "lo", "et*" } counter
       udp sport vmap { 1-1000 : drop, * : continue } counter`,
      `set pods { type ipv4_addr; flags interval; elements = { 10.244.0.0-10.244.1.1, 10.244.1.2-10.244.1.9 }; }
       set ranges { type ipv4_addr . inet_service; flags interval; elements = { 10.96.0.0/24 . 50-60 }; }
       map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : drop }; }`,
    );
    expect(node.forward(QUERY)).toBe(QUERY);
    // The verdict map has no element for the query, so that its rule does not match, and the next one does.
    expect(counts(node)).toEqual([1, 1, 1, 1]);
    expect(node.forward(SYN)).toBe('NETFILTER_DROP');
    expect(node.forward('udp 10.244.1.2:999 > 10.96.0.10:53')).toBe('NETFILTER_DROP');
  });

  test('the index finds what a search through all elements finds', () => {
    const part = fc.record({ first: fc.nat({ max: 40 }), more: fc.nat({ max: 3 }) });
    const sets = fc.uniqueArray(part, { maxLength: 12, selector: ({ first }) => first >> 2 });
    fc.assert(
      fc.property(sets, fc.array(fc.nat({ max: 45 }), { maxLength: 10 }), (elements, ports) => {
        const ranges = elements.map(({ first, more }) => ({
          first: (first & ~3) + 1,
          last: (first & ~3) + 1 + Math.min(more, 2),
        }));
        const text = ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(', ');
        const set = `set ports { type inet_service; flags interval; ${text === '' ? '' : `elements = { ${text} };`} }`;
        const node = forwarding('udp dport @ports drop', set);
        for (const port of ports) {
          const isIn = ranges.some(({ first, last }) => first <= port && port <= last);
          expect(node.forward(`udp 10.0.0.1:9 > 10.0.0.2:${port}`) === 'NETFILTER_DROP').toBe(isIn);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('that rules fill forget in time, and an update is a new beginning', () => {
    const node = forwarding(
      `ip saddr @seen counter
       tcp dport 443 update @seen { ip saddr }
       udp dport 53 add @seen { ip saddr timeout 10s }`,
      'set seen { type ipv4_addr; size 2; flags dynamic,timeout; timeout 1m; }',
    );
    node.forward(SYN);
    node.wait(s(50));
    node.forward(SYN); // known; its minute begins again
    node.wait(s(50));
    node.forward('tcp 10.244.1.2:4000 > 10.96.0.1:80 S'); // still known, and not refreshed
    node.wait(s(11));
    node.forward('tcp 10.244.1.2:4000 > 10.96.0.1:80 S');
    expect(counts(node)).toEqual([2]);
    node.forward(QUERY);
    expect(node.netfilter.nftables.list()).toContain('elements = { 10.244.1.2 timeout 10s expires 10s }');
    node.forward('udp 10.244.1.3:4000 > 10.96.0.10:53');
    node.forward('udp 10.244.1.4:4000 > 10.96.0.10:53'); // there is no room for a third
    expect(node.netfilter.nftables.list()).not.toContain('10.244.1.4');
  });
});

describe('address translation', () => {
  const nat = (rules: string, hook = 'prerouting priority dstnat'): TestNode =>
    nodeWith(`table ip t {\nchain n {\ntype nat hook ${hook};\n${rules}\n}\n}`);

  test('asks the first packet only, and every nat chain until one has an answer', () => {
    const node = nodeWith(`
      table ip t {
        map backends { type ipv4_addr . inet_service : ipv4_addr . inet_service; elements = { 10.96.0.10 . 53 : 10.244.2.2 . 5353 }; }
        chain none { type nat hook prerouting priority dstnat - 5;
          counter accept
        }
        chain some { type nat hook prerouting priority dstnat;
          udp dport 53 counter dnat to ip daddr . udp dport map @backends
        }
        chain last { type nat hook prerouting priority dstnat + 5;
          counter
        }
      }`);
    expect(node.forward(QUERY)).toBe('udp 10.244.1.2:4000 > 10.244.2.2:5353');
    expect(node.forward(QUERY)).toBe('udp 10.244.1.2:4000 > 10.244.2.2:5353');
    expect(node.forward('udp 10.244.2.2:5353 > 10.244.1.2:4000')).toBe('udp 10.96.0.10:53 > 10.244.1.2:4000');
    expect(counts(node)).toEqual([1, 1, 0]);
  });

  test('takes turns', () => {
    const node = nat('meta l4proto udp dnat to numgen inc mod 2 map { 0 : 10.244.2.2, 1 : 10.244.2.3 }');
    const serverOf = (port: number): string => node.forward(`udp 10.244.1.2:${port} > 10.96.0.10:53`).split(' ')[3]!;
    expect([4_000, 4_001, 4_002].map(serverOf)).toEqual(['10.244.2.2:53', '10.244.2.3:53', '10.244.2.2:53']);
  });

  test('masquerade, redirect, ports alone', () => {
    const masquerade = nat('meta l4proto udp masquerade to :5000', 'postrouting priority srcnat');
    expect(masquerade.forward(QUERY)).toBe('udp 10.244.1.1:5000 > 10.96.0.10:53');
    expect(nat('udp dport 53 redirect to :5353').receive(QUERY)).toBe('udp 10.244.1.2:4000 > 10.244.1.1:5353');
    expect(nat('udp dport 53 dnat to :5353').forward(QUERY)).toBe('udp 10.244.1.2:4000 > 10.96.0.10:5353');
    expect(nat('udp dport 54 dnat to 10.0.0.1').forward(QUERY)).toBe(QUERY);
  });

  test('a policy of drop drops first packets', () => {
    expect(nat('', 'prerouting priority dstnat; policy drop').forward(QUERY)).toBe(QUERY); // nothing is tracked
    expect(nat('ct state established', 'prerouting priority dstnat; policy drop').forward(QUERY)).toBe(
      'NETFILTER_DROP',
    );
  });
});

describe('connections', () => {
  test('notrack before conntrack makes packets untracked', () => {
    const node = nodeWith(`
      table ip t {
        chain r { type filter hook prerouting priority raw;
          udp dport 53 notrack
        }
        chain c { type filter hook forward priority filter;
          ct state untracked counter
          ct state new counter
          ct direction original counter
        }
      }`);
    node.forward(QUERY);
    node.forward(SYN);
    expect(counts(node)).toEqual([1, 1, 1]); // an untracked packet has no direction
    expect(node.entries).toHaveLength(1);
  });

  test('marks go to connections and come back', () => {
    const node = forwarding('udp sport 4000 ct mark set 0x10\nmeta mark set ct mark\nmeta mark & 0xf0 == 0x10 counter');
    node.forward(QUERY);
    node.forward('udp 10.96.0.10:53 > 10.244.1.2:4000');
    expect(counts(node)).toEqual([2]);
  });
});

describe('what remembers', () => {
  test('a limit gives back what time brings', () => {
    const node = forwarding('limit rate 6/minute burst 2 packets counter');
    for (let i = 0; i < 5; i++) node.forward(QUERY); // two tokens
    node.wait(s(10));
    node.forward(QUERY); // a new one every ten seconds
    node.forward(QUERY);
    expect(counts(node)).toEqual([3]);
  });

  test('a quota is used up', () => {
    const node = forwarding('quota over 60 bytes counter'); // packets of 28 bytes
    for (let i = 0; i < 4; i++) node.forward(QUERY);
    expect(counts(node)).toEqual([2]);
  });

  test('rules and sets that a transaction leaves alone keep what they have counted', () => {
    const node = forwarding(
      'counter\nudp dport 53 add @seen { ip saddr }',
      'set seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }',
    );
    node.forward(QUERY);
    node.wait(minutes(10));
    node.netfilter.nftables.apply('insert rule ip t c tcp dport 80 counter');
    node.forward(QUERY);
    expect(counts(node)).toEqual([0, 2]);
    expect(node.netfilter.nftables.list()).toContain('10.244.1.2 expires 50m');
  });

  test('nodes that share a ruleset count apart', () => {
    const one = forwarding('counter');
    const other = new TestNode({ rules: '' });
    other.netfilter.nftables.ruleset = one.netfilter.nftables.ruleset;
    one.forward(QUERY);
    expect([counts(one), counts(other)]).toEqual([[1], [0]]);
  });
});

test('nft and iptables rules of one namespace see the same packets, in the order of priorities', () => {
  const node = nodeWith(`
    table ip t {
      chain before { type filter hook forward priority -1;
        meta mark set 0x1
      }
      chain after { type filter hook forward priority 1;
        meta mark 0x3 counter
      }
    }`);
  node.addRules('filter FORWARD -m mark --mark 0x1 -j MARK --set-xmark 0x2/0x2');
  node.addRules('filter FORWARD -j MARK --set-xmark 0x3/0x3');
  node.forward(QUERY);
  expect(counts(node)).toEqual([1]);
});

test('a journey shows the rules that matched', () => {
  const node = nodeWith(`
    table ip kube-proxy {
      map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
      chain endpoint-dns {
        meta l4proto udp dnat to 10.244.2.2:5353
      }
      chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
      }
      chain nat-prerouting { type nat hook prerouting priority dstnat;
        jump services
      }
    }
    add element ip kube-proxy service-ips { 10.96.0.10 . udp . 53 : goto endpoint-dns }`);
  node.frames.followAll();
  node.forward(QUERY);
  expect(node.frames.journeys.map(formatJourney).join('\n')).toMatchInlineSnapshot(`
    "frame 1

      node-1
        0.000000000  conntrack    NEW udp 10.244.1.2:4000 > 10.96.0.10:53
                     PREROUTING   ip kube-proxy nat-prerouting #1  jump services
                                  ip kube-proxy services #1        ip daddr . meta l4proto . th dport vmap @service-ips
                                  ip kube-proxy endpoint-dns #1    meta l4proto udp dnat to 10.244.2.2:5353
                     nat          10.244.1.2:4000 > 10.96.0.10:53 becomes 10.244.1.2:4000 > 10.244.2.2:5353
                     conntrack    confirmed
    "
  `);
});

test('JSON has counters, handles and elements', () => {
  const node = forwarding(
    'ip saddr @seen counter comment "known"\naccept',
    'set seen { type ipv4_addr; elements = { 10.244.1.2 }; }',
  );
  node.forward(QUERY);
  const { nftables } = JSON.parse(node.netfilter.nftables.listJson());
  expect(nftables.slice(2)).toEqual([
    { set: { family: 'ip', table: 't', name: 'seen', type: 'ipv4_addr', handle: 2, elem: ['10.244.1.2'] } },
    {
      chain: {
        family: 'ip',
        table: 't',
        name: 'c',
        handle: 1,
        type: 'filter',
        hook: 'forward',
        prio: 0,
        policy: 'accept',
      },
    },
    {
      rule: {
        family: 'ip',
        table: 't',
        chain: 'c',
        handle: 3,
        comment: 'known',
        expr: [{ counter: { packets: 1, bytes: 28 } }],
      },
    },
    { rule: { family: 'ip', table: 't', chain: 'c', handle: 4, expr: [] } },
  ]);
});

test('no packet breaks a table that was accepted', () => {
  const packets = fc.constantFrom(
    QUERY,
    SYN,
    'icmp 10.1.0.7 > 10.2.0.9 8/0 id 7',
    'sctp 10.0.0.1:5 > 10.2.0.9:5',
    'tcp 10.3.0.3:80 > 10.0.0.1:81 .',
  );
  fc.assert(
    fc.property(randomTable(), fc.array(packets, { minLength: 1, maxLength: 6 }), (text, sent) => {
      const node = nodeWith(text);
      for (const packet of sent) {
        const outcome = node.passFrame(readPacket(packet, node.frames.allocate()), [PREROUTING, FORWARD, POSTROUTING]);
        expect(outcome).toMatch(/ > |NETFILTER_DROP|CONNTRACK/);
      }
    }),
    { numRuns: 200 },
  );
}, 60_000);
