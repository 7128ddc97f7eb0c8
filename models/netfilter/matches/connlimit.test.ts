import { expect, test } from 'vitest';
import { ms } from '../../../engine/time.ts';
import { Chain } from '../chain.ts';
import { TestNode } from '../netfilter.fixture.ts';

// All counts were seen in Linux 6.18.

const COUNTS = [0, 1, 2, 3, 4];
const DROPPED = 'dropped';

/** Three jiffies pass before each packet. */
class CountingNode {
  readonly #node: TestNode;
  readonly #table: 'mangle' | 'raw';

  constructor(table: 'mangle' | 'raw', rules = COUNTS.map(above('PREROUTING')), chains: readonly Chain[] = []) {
    this.#table = table;
    this.#node = new TestNode({ rules: 'filter FORWARD -m conntrack --ctstate NEW' });
    this.#node.netfilter.tables.replaceChains(table, chains);
    this.#node.addRules(rules.map((rule) => `${table} ${rule}`).join('\n'));
  }

  /** How many connections its source has when the packet is there. */
  count(packet: string): number | typeof DROPPED {
    const before = this.packets();
    return this.forward(packet) === 'NETFILTER_DROP' ? DROPPED : this.packets() - before;
  }

  forward(packet: string): string {
    this.#node.wait(ms(12));
    return this.#node.forward(packet);
  }

  /** That the rules of a chain have matched. */
  packets(chain = 'PREROUTING'): number {
    const counters = this.#node.netfilter.tables.counters(this.#table, chain);
    return COUNTS.reduce((sum, rule) => sum + (counters?.packets(rule) ?? 0), 0);
  }

  flush(): void {
    this.#node.netfilter.conntrack.flush();
  }
}

const above =
  (chain: string) =>
  (count: number): string =>
    `${chain} -m connlimit --connlimit-above ${count}`;

const segment = (port: number, rest: string): string => `tcp 10.0.0.1:${port} > 10.0.0.2:80 ${rest}`;
const SYN_ACK = 'tcp 10.0.0.2:80 > 10.0.0.1:1000 S. seq 500 ack 1001';
const ESTABLISHED = [segment(1000, 'S seq 1000'), SYN_ACK, segment(1000, '. seq 1001 ack 501')];

test('connections are counted by source, and forgotten when they end', () => {
  const node = new CountingNode('mangle');
  const datagram = (port: number): string => `udp 10.0.0.1:${port} > 10.0.0.2:53`;
  expect([1000, 1001, 1000, 1002].map((port) => node.count(datagram(port)))).toEqual([1, 2, 2, 3]);
  expect(node.count('udp 10.0.0.3:1000 > 10.0.0.2:53')).toBe(1);
  node.flush();
  expect([1001, 1000, 1003].map((port) => node.count(datagram(port)))).toEqual([1, 2, 3]);
});

test('a connection counts no longer from the segment on that closes it', () => {
  const node = new CountingNode('mangle');
  for (const packet of ESTABLISHED) expect(node.count(packet)).toBe(1);
  expect(node.count(segment(1001, 'S seq 1'))).toBe(2);
  expect(node.count(segment(1000, 'R seq 1001 ack 501'))).toBe(1);
  expect(node.count(segment(1000, '. seq 1001 ack 501'))).toBe(1);
});

test('the segment that closes the only connection counts none, and is dropped', () => {
  const node = new CountingNode('mangle');
  for (const packet of ESTABLISHED) expect(node.count(packet)).toBe(1);
  expect(node.count(segment(1000, 'R seq 1001 ack 501'))).toBe(DROPPED);
  expect(node.count(segment(1000, '. seq 1001 ack 501'))).toBe(DROPPED);
  expect(node.count(segment(1001, 'S seq 1'))).toBe(1);
});

test('before conntrack, and where it sees nothing valid, a packet counts by its own tuple', () => {
  const raw = new CountingNode('raw');
  for (const packet of ESTABLISHED) expect(raw.count(packet)).toBe(1);
  expect(raw.count(segment(1001, 'S seq 1'))).toBe(2);
  expect(raw.count(segment(1000, 'R seq 1001 ack 501'))).toBe(2); // not closed yet
  expect(raw.count(segment(1000, '. seq 1001 ack 501'))).toBe(1);

  const mangle = new CountingNode('mangle');
  expect(mangle.count(segment(1000, 'S seq 1000'))).toBe(1);
  expect(mangle.count(segment(1003, 'SF'))).toBe(2);
  expect(mangle.count(segment(1004, 'SF'))).toBe(2); // the other one was never confirmed
});

test('rules of several hooks count a new connection once each, as nothing is looked for twice in a jiffy', () => {
  const jumps = ['PREROUTING', 'FORWARD', 'POSTROUTING'].map((hook) => `${hook} -j COUNT`);
  const node = new CountingNode('mangle', [...COUNTS.map(above('COUNT')), ...jumps], [new Chain('COUNT', [])]);
  node.forward(segment(1000, 'S seq 1000'));
  expect(node.packets('COUNT')).toBe(1 + 2 + 3);
  node.forward(segment(1000, 'S seq 1000'));
  expect(node.packets('COUNT')).toBe(1 + 2 + 3 + 3 * 3); // it is found, three times
});
