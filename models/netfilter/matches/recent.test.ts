import { expect, test } from 'vitest';
import { ms, s } from '../../../engine/time.ts';
import { parseIp } from '../../packet/ip-address.ts';
import { Chain } from '../chain.ts';
import { frameOf, TestNamespace } from '../rules.fixture.ts';

/** kube-proxy's chains for one Service with ClientIP affinity of ten seconds and two endpoints that take turns. */
const AFFINITY = `
  *nat
  :OUTPUT ACCEPT [0:0]
  :SEP-A - [0:0]
  :SEP-B - [0:0]
  -A OUTPUT -m recent --rcheck --seconds 10 --reap --name SEP-A --mask 255.255.255.255 --rsource -j SEP-A
  -A OUTPUT -m recent --rcheck --seconds 10 --reap --name SEP-B --mask 255.255.255.255 --rsource -j SEP-B
  -A OUTPUT -m statistic --mode nth --every 2 --packet 0 -j SEP-A
  -A OUTPUT -j SEP-B
  -A SEP-A -p tcp -m recent --set --name SEP-A --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.0.1:80
  -A SEP-B -p tcp -m recent --set --name SEP-B --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.244.0.2:80
  COMMIT
`;

const endpointOf = (node: TestNamespace, from: string): string =>
  node.walk(frameOf({ from }), 'nat', 'OUTPUT').match(/10\.244\.\d+\.\d+/)![0];

test('a client sticks to its endpoint until it has opened no connection for the timeout', () => {
  const node = new TestNamespace(AFFINITY);
  expect(endpointOf(node, '10.0.0.1')).toBe('10.244.0.1');
  expect(endpointOf(node, '10.0.0.2')).toBe('10.244.0.2');
  node.wait(s(9));
  expect(endpointOf(node, '10.0.0.2')).toBe('10.244.0.2'); // seen again: ten more seconds
  node.wait(s(9));
  expect(endpointOf(node, '10.0.0.2')).toBe('10.244.0.2');
  expect(endpointOf(node, '10.0.0.1')).toBe('10.244.0.1'); // 18 s later, by its turn
});

test('the timeout includes its last instant', () => {
  const node = new TestNamespace(AFFINITY);
  endpointOf(node, '10.0.0.9');
  endpointOf(node, '10.0.0.1');
  expect(endpointOf(node, '10.0.0.1')).toBe('10.244.0.2');
  node.wait(s(10));
  expect(endpointOf(node, '10.0.0.1')).toBe('10.244.0.2');
  node.wait(ms(10_001));
  expect(endpointOf(node, '10.0.0.1')).toBe('10.244.0.1');
});

test('a list holds a hundred addresses and forgets the one least recently seen', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    -A INPUT -m recent --set --name SEEN
    COMMIT
  `);
  for (let host = 1; host <= 100; host++) node.walk(frameOf({ from: `10.0.0.${host}` }), 'filter', 'INPUT');
  node.walk(frameOf({ from: '10.0.0.1' }), 'filter', 'INPUT');
  node.walk(frameOf({ from: '10.0.0.101' }), 'filter', 'INPUT');
  const list = node.tables.memories.recentLists.get('SEEN')!;
  expect(list.size).toBe(100);
  expect(list.has(parseIp('10.0.0.1'))).toBe(true);
  expect(list.has(parseIp('10.0.0.2'))).toBe(false);
});

test('a list lasts until no rule names it, and then starts empty', () => {
  const node = new TestNamespace(AFFINITY);
  const remembered = (): boolean => node.tables.memories.recentLists.get('SEP-A')?.has(parseIp('10.0.0.1')) ?? false;
  const endpointChain = node.tables.chain('nat', 'SEP-A')!;
  const withoutEndpoint = new Chain('OUTPUT', node.tables.chain('nat', 'OUTPUT')!.rules.slice(1, 2), 'ACCEPT');
  endpointOf(node, '10.0.0.1');
  expect(remembered()).toBe(true);
  node.tables.replaceChains('nat', [endpointChain]); // rewritten in one transaction
  node.tables.replaceChains('nat', [withoutEndpoint]); // SEP-A itself still names it
  expect(remembered()).toBe(true);
  node.tables.deleteChain('nat', 'SEP-A');
  expect(remembered()).toBe(false);
});

test('hitcount asks for so many sightings within the time', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    -A INPUT -m recent --rcheck --seconds 60 --hitcount 3 --name KNOCK -j DROP
    -A INPUT -m recent --set --name KNOCK
    COMMIT
  `);
  const knock = (): string => node.walk(frameOf(), 'filter', 'INPUT');
  expect([knock(), knock(), knock(), knock()]).toEqual(['ACCEPT', 'ACCEPT', 'ACCEPT', 'DROP']);
  node.wait(s(61));
  expect(knock()).toBe('ACCEPT');
});

test('update refreshes what it finds, remove forgets it, and a mask makes neighbors one', () => {
  const node = new TestNamespace(`
    *filter
    :INPUT ACCEPT [0:0]
    :FORWARD ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    -A INPUT -m recent --set --name L --mask 255.255.255.0
    -A FORWARD -m recent --update --seconds 10 --name L --mask 255.255.255.0 -j DROP
    -A OUTPUT -m recent --remove --name L --mask 255.255.255.0 -j DROP
    COMMIT
  `);
  node.walk(frameOf({ from: '10.0.0.1' }), 'filter', 'INPUT');
  for (let i = 0; i < 5; i++) {
    node.wait(s(9));
    expect(node.walk(frameOf({ from: '10.0.0.200' }), 'filter', 'FORWARD')).toBe('DROP');
  }
  expect(node.walk(frameOf({ from: '10.0.0.7' }), 'filter', 'OUTPUT')).toBe('DROP');
  expect(node.walk(frameOf({ from: '10.0.0.7' }), 'filter', 'OUTPUT')).toBe('ACCEPT');
  expect(node.walk(frameOf({ from: '10.0.0.7' }), 'filter', 'FORWARD')).toBe('ACCEPT');
});

test('reap removes the oldest address once it is past the time', () => {
  const node = new TestNamespace(AFFINITY);
  endpointOf(node, '10.0.0.1');
  node.wait(s(11));
  const list = node.tables.memories.recentLists.get('SEP-A')!;
  expect(list.size).toBe(1);
  endpointOf(node, '10.0.0.2'); // is in no list, so nothing is reaped
  expect(list.size).toBe(1);
  node.walk(frameOf({ from: '10.0.0.1' }), 'nat', 'OUTPUT'); // reaped, then picked and set anew
  expect(list.size).toBe(1);
  expect(list.get(parseIp('10.0.0.1'))?.at).toEqual([s(11)]);
});
