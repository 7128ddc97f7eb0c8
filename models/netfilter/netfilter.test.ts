import { describe, expect, test } from 'vitest';
import { ns } from '../../engine/time.ts';
import { type CostModel, FREE } from '../cpu/cost-model.ts';
import type { Frame } from '../packet/frame.ts';
import { formatJourney } from '../packet/journey-text.ts';
import { restoreIpsets } from './ipset/ipset-text.ts';
import { readPacket, TestNode } from './netfilter.fixture.ts';
import { FORWARD, type Hook, INPUT, OUTPUT, POSTROUTING, PREROUTING } from './netfilter.ts';
import { Rule } from './rule.ts';
import { parseRule } from './rule-text.ts';

/** A rule in every table of every hook, each of which notes that it was passed. */
const EVERYWHERE = `
  raw PREROUTING -m comment --comment here
  mangle PREROUTING -m comment --comment here
  nat PREROUTING -m comment --comment here
  mangle INPUT -m comment --comment here
  filter INPUT -m comment --comment here
  nat INPUT -m comment --comment here
  mangle FORWARD -m comment --comment here
  filter FORWARD -m conntrack --ctstate NEW
  raw OUTPUT -m comment --comment here
  mangle OUTPUT -m comment --comment here
  nat OUTPUT -m comment --comment here
  filter OUTPUT -m comment --comment here
  mangle POSTROUTING -m comment --comment here
  nat POSTROUTING -m comment --comment here
`;
const QUERY = 'udp 10.244.1.2:4000 > 10.96.0.10:53';

/** What a followed packet met: `raw PREROUTING`, `conntrack: NEW`. */
function stagesOf(hooks: readonly Hook[]): string[] {
  const node = new TestNode({ rules: EVERYWHERE });
  node.frames.followAll();
  node.pass(QUERY, hooks);
  const { steps } = node.frames.journeys[0]!;
  return steps
    .filter(({ stage }) => stage !== 'hook')
    .map(({ stage, table, hook, text }) => (stage === 'rule' ? `${table} ${hook}` : `${stage}: ${text.split(' ')[0]}`));
}

describe('the order of tables', () => {
  test('of a packet in transit', () => {
    expect(stagesOf([PREROUTING, FORWARD, POSTROUTING])).toEqual([
      'raw PREROUTING',
      'conntrack: NEW',
      'mangle PREROUTING',
      'nat PREROUTING',
      'mangle FORWARD',
      'filter FORWARD',
      'mangle POSTROUTING',
      'nat POSTROUTING',
      'conntrack: confirmed',
    ]);
  });

  test('of a packet that arrives, and of one that the node sends', () => {
    expect(stagesOf([PREROUTING, INPUT]).slice(4)).toEqual([
      'mangle INPUT',
      'filter INPUT',
      'nat INPUT',
      'conntrack: confirmed',
    ]);
    expect(stagesOf([OUTPUT, POSTROUTING])).toEqual([
      'raw OUTPUT',
      'conntrack: NEW',
      'mangle OUTPUT',
      'nat OUTPUT',
      'filter OUTPUT',
      'mangle POSTROUTING',
      'nat POSTROUTING',
      'conntrack: confirmed',
    ]);
  });

  test('filter rules see the destination that nat has chosen, and mangle rules the one before', () => {
    const node = new TestNode({
      rules: `
        mangle PREROUTING -d 10.96.0.10 -j MARK --set-xmark 0x1/0x1
        nat PREROUTING -m mark --mark 0x1/0x1 -j DNAT --to-destination 10.244.2.2
        filter FORWARD -d 10.96.0.10 -j DROP
        filter FORWARD -d 10.244.2.2 -j ACCEPT
      `,
    });
    expect(node.forward(QUERY)).toBe('udp 10.244.1.2:4000 > 10.244.2.2:53');
  });
});

test('a journey tells what netfilter did', () => {
  const node = new TestNode({
    rules: `
      nat PREROUTING -d 10.96.0.10 -p udp --dport 53 -j DNAT --to-destination 10.244.2.2:5353
      nat POSTROUTING -s 10.244.0.0/16 -j MASQUERADE
      filter FORWARD -m conntrack --ctstate NEW -j ACCEPT
    `,
  });
  node.frames.followAll();
  node.forward(QUERY);
  node.forward('udp 10.244.2.2:5353 > 10.244.1.1:4000');
  expect(node.frames.journeys.map(formatJourney).join('\n')).toMatchInlineSnapshot(`
    "frame 1

      node-1
        0.000000000  conntrack    NEW udp 10.244.1.2:4000 > 10.96.0.10:53
                     PREROUTING   nat PREROUTING #1  -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.2.2:5353
                     nat          10.244.1.2:4000 > 10.96.0.10:53 becomes 10.244.1.2:4000 > 10.244.2.2:5353
                     FORWARD      filter FORWARD #1   -m conntrack --ctstate NEW -j ACCEPT
                     POSTROUTING  nat POSTROUTING #1  -s 10.244.0.0/16 -j MASQUERADE
                     nat          10.244.1.2:4000 > 10.244.2.2:5353 becomes 10.244.1.1:4000 > 10.244.2.2:5353
                     conntrack    confirmed

    frame 2

      node-1
        0.000000000  conntrack    ESTABLISHED udp 10.244.2.2:5353 > 10.244.1.1:4000
                     nat          10.244.2.2:5353 > 10.244.1.1:4000 becomes 10.244.2.2:5353 > 10.244.1.2:4000
                     FORWARD      filter FORWARD  policy ACCEPT
                     nat          10.244.2.2:5353 > 10.244.1.2:4000 becomes 10.96.0.10:53 > 10.244.1.2:4000
    "
  `);
});

describe('packets that end', () => {
  test('DROP, and a policy that drops', () => {
    const node = new TestNode({ rules: 'filter FORWARD -p udp -j DROP' });
    expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
    node.netfilter.tables.setPolicy('filter', 'FORWARD', 'DROP');
    expect(node.forward('tcp 10.244.1.2:4000 > 10.244.2.2:80')).toBe('NETFILTER_DROP');
    expect(node.frames.totals()).toMatchObject({ sent: 2, dropped: 2 });
  });

  test('an end that another CPU has brought about', () => {
    const node = new TestNode({ cpus: 2, costs: { ...FREE, conntrackNewNs: 1_000 } });
    node.frames.followAll();
    for (const cpu of [0, 1]) node.forward('tcp 10.244.1.2:4000 > 10.244.2.2:80 S', { cpu });
    expect(node.frames.journeys[1]!.steps.slice(-2).map(({ text }) => text)).toEqual([
      'another connection has this tuple',
      'CONNTRACK_CLASH',
    ]);
  });

  test('REJECT answers before it drops, with the packet as it is then', () => {
    const node = new TestNode({
      rules: `
        nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2
        filter FORWARD -p udp -j REJECT
        filter FORWARD -p tcp -j REJECT --reject-with tcp-reset
      `,
    });
    expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
    expect(node.forward('tcp 10.244.1.2:4000 > 10.96.0.10:80 S')).toBe('NETFILTER_DROP');
    expect(node.rejects).toEqual([
      'icmp-port-unreachable: udp 10.244.1.2:4000 > 10.244.2.2:53',
      'tcp-reset: tcp 10.244.1.2:4000 > 10.244.2.2:80',
    ]);
    expect(node.netfilter.conntrack.count).toBe(0);
  });

  test('the answer to a rejected first packet belongs to its connection, and is translated back', () => {
    const node = new TestNode({ rules: 'nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2' });
    const query = readPacket(QUERY, node.frames.allocate());
    node.netfilter.run(PREROUTING, query, undefined, undefined);
    const error = readPacket('icmp 10.244.1.1 > 10.244.1.2 3/3 about udp 10.244.1.2:4000 > 10.244.2.2:53');
    error.conntrackEntry = query.conntrackEntry;
    error.conntrackReply = true;
    error.conntrackState = 4; // RELATED
    expect(node.passFrame(error, [OUTPUT, POSTROUTING])).toBe(
      'icmp 10.96.0.10 > 10.244.1.2 3/3 about udp 10.244.1.2:4000 > 10.96.0.10:53',
    );
  });
});

test('a packet to the node itself by loopback passes all hooks, and is tracked once', () => {
  const node = new TestNode({ rules: EVERYWHERE });
  node.frames.followAll();
  expect(node.pass('udp 10.244.1.1:4000 > 10.244.1.1:53', [OUTPUT, POSTROUTING, PREROUTING, INPUT])).toBe(
    'udp 10.244.1.1:4000 > 10.244.1.1:53',
  );
  const steps = node.frames.journeys[0]!.steps.filter(({ stage }) => stage === 'conntrack').map(({ text }) => text);
  expect(steps).toEqual(['NEW udp 10.244.1.1:4000 > 10.244.1.1:53', 'confirmed']);
  expect(node.netfilter.conntrack.count).toBe(1);
  expect(node.stateOf('udp 10.244.1.1:53 > 10.244.1.1:4000')).toBe('ESTABLISHED');
});

describe('what it costs', () => {
  const COSTS: CostModel = {
    ...FREE,
    baseChainNs: 1,
    rulesNs: [
      [0, 0],
      [1, 10],
      [2, 20],
      [3, 50],
    ],
    conntrackLookupNs: [
      [0, 100],
      [10, 200],
    ],
    conntrackNewNs: 1_000,
    dnatNewNs: 10_000,
    snatNewNs: 100_000,
    snatRandomFullyNewNs: 200_000,
    natNs: 1_000_000,
  };
  const costOf = (rules: string, packets: readonly string[]): number[] => {
    const node = new TestNode({ rules, costs: COSTS });
    return packets.map((packet) => {
      const before = node.cpus.busyTime(0);
      node.forward(packet);
      node.wait(ns(10_000_000));
      return node.cpus.busyTime(0) - before;
    });
  };

  test('a table that is loaded costs 1 at each of its hooks, even without rules there', () => {
    expect(costOf('filter INPUT -j ACCEPT', [QUERY])).toEqual([1]);
    expect(costOf('raw OUTPUT -j ACCEPT', [QUERY])).toEqual([1]);
    expect(costOf('mangle INPUT -j ACCEPT', [QUERY])).toEqual([3]);
  });

  test('1 per base chain, and the rules of one hook together', () => {
    // FORWARD: mangle and filter are loaded, 2; three rules visited, 50. mangle is at PREROUTING and POSTROUTING too.
    const rules = `
      mangle FORWARD -p tcp
      filter FORWARD -p tcp
      filter FORWARD -j ACCEPT
    `;
    expect(costOf(rules, [QUERY])).toEqual([1 + 52 + 1]);
  });

  test('by backend: other rules and other base chains', () => {
    const costs = {
      ...COSTS,
      nftBaseChainNs: 3,
      nftRulesNs: [
        [0, 0],
        [1, 700],
      ],
    } as const;
    const node = new TestNode({ rules: 'filter FORWARD -p tcp', costs });
    node.netfilter.tables.backend = 'nft';
    node.forward(QUERY);
    expect(node.cpus.busyTime(0)).toBe(3 + 700);
  });

  test('an ipset by its elements, once for each length of its networks', () => {
    const ipsetNs = [
      [0, 500],
      [10, 510],
    ] as const;
    const node = new TestNode({
      rules: 'filter FORWARD -m set --match-set A dst -j DROP',
      costs: { ...FREE, ipsetNs },
    });
    restoreIpsets(node.netfilter.sets, 'create A hash:net\nadd A 10.1.0.0/16\nadd A 10.2.3.0/24\nadd A 10.4.0.0/16\n');
    node.forward(QUERY);
    expect(node.cpus.busyTime(0)).toBe(2 * 503); // three elements, /24 and /16
  });

  test('a lookup by the size of the table, and an allocation', () => {
    // 100, and 10 for each entry, the new one included. filter FORWARD: 1 + 10.
    expect(costOf('filter FORWARD -m conntrack --ctstate NEW', [QUERY, QUERY, QUERY.replace('4000', '4001')])).toEqual([
      110 + 1_000 + 11,
      110 + 11,
      120 + 1_000 + 11,
    ]);
  });

  test('a translation: much for the first packet, little for the next ones', () => {
    const rules = `
      nat PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.244.2.2
      nat POSTROUTING -j MASQUERADE
    `;
    expect(costOf(rules, [QUERY, 'udp 10.244.2.2:53 > 10.244.1.1:4000', QUERY])).toEqual([
      110 + 1_000 + 11 + 10_000 + 11 + 100_000,
      110 + 1_000_000,
      110 + 1_000_000,
    ]);
    expect(costOf('nat POSTROUTING -j MASQUERADE --random-fully', [QUERY])).toEqual([110 + 1_000 + 1 + 11 + 200_000]);
  });
});

describe('a namespace tracks', () => {
  test('nothing for the sake of an empty nat table, of --notrack, or of the other family', () => {
    const node = new TestNode({ rules: 'raw PREROUTING -p tcp -j CT --notrack\nnat POSTROUTING -p tcp -j ACCEPT' });
    node.netfilter.tables6.appendRule('filter', 'FORWARD', new Rule(parseRule('-m conntrack --ctstate INVALID')));
    node.forward(QUERY);
    expect(node.entries).toEqual([]);
    node.addRules('filter OUTPUT -m conntrack --ctstate INVALID');
    node.forward(QUERY);
    expect(node.entries).toHaveLength(1);
  });

  test('whole packets: fragments are gathered before table raw, where anything is tracked', () => {
    const node = new TestNode({ rules: 'raw PREROUTING -j ACCEPT' });
    const seenByRaw = () => node.netfilter.tables.counters('raw', 'PREROUTING')?.packets(0);
    const gathered: number[] = [];
    Object.assign(node, { defragment: (frame: Frame) => gathered.push(frame.fragmentOffset) < 0 });
    const fragment = (): Frame => Object.assign(readPacket(QUERY, node.frames.allocate()), { fragmentOffset: 1_480 });
    node.netfilter.run(PREROUTING, fragment(), undefined, undefined);
    expect([gathered, seenByRaw()]).toEqual([[], 1]);
    node.addRules('filter OUTPUT -m conntrack --ctstate INVALID');
    expect(node.netfilter.run(PREROUTING, fragment(), undefined, undefined)).toBe(false);
    expect([gathered, seenByRaw()]).toEqual([[1_480], 1]);
  });
});

test('iptables-nft registers the builtin chains that were declared, legacy all of a table', () => {
  const node = new TestNode({ rules: 'mangle FORWARD -j MARK --set-xmark 0x1/0x1' });
  const { tables } = node.netfilter;
  tables.setPolicy('mangle', 'POSTROUTING', 'DROP');
  expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
  expect(tables.isRegistered('mangle', 'PREROUTING')).toBe(true);
  tables.backend = 'nft';
  expect(node.forward(QUERY)).toBe('NETFILTER_DROP');
  expect(tables.isRegistered('mangle', 'PREROUTING')).toBe(false);
});
