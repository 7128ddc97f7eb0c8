import { expect, test } from 'vitest';
import type { Instant } from '../../engine/time.ts';
import { Journey, type JourneyStep } from './journey.ts';
import { formatJourney, journeyToJson } from './journey-text.ts';

function journey(title: string, steps: readonly (Omit<JourneyStep, 'at'> & { at: number })[]): Journey {
  const followed = new Journey(7);
  followed.title = title;
  for (const step of steps) followed.add({ ...step, at: step.at as Instant });
  return followed;
}

const dnat = { namespace: 'node-1', stage: 'rule', hook: 'PREROUTING', table: 'nat' } as const;

const toService = journey('10.244.1.2:40000 > 10.96.0.10:80 tcp [S]', [
  { at: 1_000_000, namespace: 'default/client', stage: 'socket', text: 'connect to 10.96.0.10:80' },
  { at: 1_001_600, namespace: 'default/client', stage: 'device', device: 'eth0', text: 'sent out of eth0' },
  { at: 1_003_120, namespace: 'node-1', stage: 'device', device: 'veth1a2b', text: 'received on veth1a2b' },
  { at: 1_003_120, namespace: 'node-1', stage: 'bridge', text: 'to the bridge itself (cbr0)' },
  { at: 1_003_520, namespace: 'node-1', stage: 'conntrack', hook: 'PREROUTING', text: 'new entry' },
  {
    ...dnat,
    at: 1_003_640,
    chain: 'PREROUTING',
    ruleNumber: 1,
    text: '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
  },
  {
    ...dnat,
    at: 1_003_655,
    chain: 'KUBE-SERVICES',
    ruleNumber: 3,
    text: '-d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G',
  },
  {
    ...dnat,
    at: 1_003_680,
    chain: 'KUBE-SVC-LOLE4ISW44XBNF3G',
    ruleNumber: 12,
    text: '-m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2PHPWFXPXUQXZ4QQ',
  },
  {
    at: 1_003_700,
    namespace: 'node-1',
    stage: 'nat',
    text: '10.244.1.2:40000 > 10.96.0.10:80  becomes  10.244.1.2:40000 > 10.244.2.3:8080',
  },
  { at: 1_003_900, namespace: 'node-1', stage: 'route', text: '10.244.2.0/24 via 192.168.0.2 dev eth0' },
  { at: 1_004_000, namespace: 'node-1', stage: 'hook', hook: 'FORWARD', table: 'filter', text: 'policy ACCEPT' },
  { at: 1_004_010, namespace: 'node-1', stage: 'wire', device: 'eth0', text: 'waited 0 ns, 592 ns on the wire' },
  { at: 11_004_010, namespace: 'fabric', stage: 'drop', text: 'WIRE_LOSS' },
]);

test('a journey tells who did what to the frame, and when', () => {
  expect(formatJourney(toService)).toMatchInlineSnapshot(`
    "10.244.1.2:40000 > 10.96.0.10:80 tcp [S]

      default/client
        0.001000000  socket       connect to 10.96.0.10:80
        0.001001600  device       sent out of eth0

      node-1
        0.001003120  device       received on veth1a2b
                     bridge       to the bridge itself (cbr0)
        0.001003520  conntrack    new entry
        0.001003640  PREROUTING   nat PREROUTING #1                  -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
        0.001003655               nat KUBE-SERVICES #3               -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
        0.001003680               nat KUBE-SVC-LOLE4ISW44XBNF3G #12  -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2PHPWFXPXUQXZ4QQ
        0.001003700  nat          10.244.1.2:40000 > 10.96.0.10:80  becomes  10.244.1.2:40000 > 10.244.2.3:8080
        0.001003900  route        10.244.2.0/24 via 192.168.0.2 dev eth0
        0.001004000  FORWARD      filter  policy ACCEPT
        0.001004010  wire         eth0  waited 0 ns, 592 ns on the wire

      fabric
        0.011004010  drop         WIRE_LOSS
    "
  `);
});

test('a place that a frame comes back to is told again', () => {
  const pingPong = journey('', [
    { at: 10, namespace: 'node-1', stage: 'route', text: 'to pod' },
    { at: 20, namespace: 'pod', stage: 'route', text: 'to node' },
    { at: 20, namespace: 'node-1', stage: 'drop', text: 'IP_TTL' },
  ]);
  expect(formatJourney(pingPong)).toMatchInlineSnapshot(`
    "frame 7

      node-1
        0.000000010  route        to pod

      pod
        0.000000020  route        to node

      node-1
        0.000000020  drop         IP_TTL
    "
  `);
});

test('a frame to which nothing happened has a title only', () => {
  expect(formatJourney(new Journey(3))).toBe('frame 3\n');
});

test('for programs a journey is plain data, in nanoseconds', () => {
  const { frameId, title, steps } = JSON.parse(JSON.stringify(journeyToJson(toService)));
  expect({ frameId, title }).toEqual({ frameId: 7, title: '10.244.1.2:40000 > 10.96.0.10:80 tcp [S]' });
  expect(steps[0]).toEqual({
    atNs: 1_000_000,
    namespace: 'default/client',
    stage: 'socket',
    text: 'connect to 10.96.0.10:80',
  });
  expect(steps).toHaveLength(toService.steps.length);
});
