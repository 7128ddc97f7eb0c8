import { expect, test } from 'vitest';
import type { Capture, Outcome, ParityCase } from './case.ts';
import { compareOutcomes, compareWithSimulator, formatDifference } from './compare.ts';
import { runInSimulator } from './simulator/runner.ts';

const MASQUERADE = `*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.244.1.0/24 -j SNAT --to-source 10.244.1.1
COMMIT
`;

/** Two pods behind one address, from the same port: NAT has to choose another one for the second. */
const CASE: ParityCase = {
  topology: {
    fabric: true,
    nodes: [
      {
        name: 'n1',
        ip: '192.168.1.1',
        podCIDR: '10.244.1.0/24',
        pods: [
          { name: 'p1', ip: '10.244.1.2' },
          { name: 'p2', ip: '10.244.1.3' },
        ],
      },
      { name: 'n2', ip: '192.168.1.2', podCIDR: '10.244.2.0/24', pods: [{ name: 'p3', ip: '10.244.2.2' }] },
    ],
  },
  rules: { n1: { backend: 'legacy', text: MASQUERADE } },
  packets: [
    { from: 'p1', proto: 'udp', src: '10.244.1.2', dst: '10.244.2.2', sport: 40_000, dport: 53, autoreply: true },
    { from: 'p2', proto: 'udp', src: '10.244.1.3', dst: '10.244.2.2', sport: 40_000, dport: 53, autoreply: true },
  ],
};

const KERNEL = runInSimulator(CASE, { seed: 'kernel' });

const differences = (simulator: Outcome): string[] =>
  compareOutcomes(CASE, { kernel: KERNEL, simulator }).map(formatDifference);

/** The outcome with its captures changed. */
const changed = (change: (capture: Capture, step: number) => Capture | undefined): Outcome => ({
  ...KERNEL,
  steps: KERNEL.steps.map((step, i) => ({
    ...step,
    captures: step.captures!.flatMap((capture) => change(capture, i) ?? []),
  })),
});

test('ports that NAT chose and MAC addresses may be others, in one renaming', () => {
  const simulator = runInSimulator(CASE, { seed: 'simulator' });
  const chosen = ({ steps }: Outcome) => steps[1]!.captures!.at(-1)!.sport;
  expect(chosen(simulator)).not.toBe(chosen(KERNEL));
  expect(differences(simulator)).toEqual([]);
});

test('a port of another class is a difference', () => {
  const chosen = KERNEL.steps[1]!.captures!.at(-1)!.sport;
  const simulator = changed((capture) => (capture.sport === chosen ? { ...capture, sport: 333 } : capture));
  expect(differences(simulator)[0]).toBe(
    'step 2, n1/eth0, frame 1: sport: kernel port 1 of 1024-65535, simulator port 1 of 1-511',
  );
});

test('a field, a frame and a verdict are named where they differ', () => {
  expect(differences(changed((capture) => (capture.ns === 'p3' ? { ...capture, ttl: 9 } : capture)))).toEqual([
    'step 1, p3/eth0, frame 1: ttl: kernel 62, simulator 9',
    'step 2, p3/eth0, frame 1: ttl: kernel 62, simulator 9',
  ]);
  expect(differences(changed((capture, step) => (capture.ns === 'p3' && step === 0 ? undefined : capture)))).toEqual([
    'step 1: verdict: kernel delivered to p3, simulator not delivered',
    'step 1, p3/eth0, frame 1: kernel in 10.244.1.1:40000 > 10.244.2.2:53 udp, simulator nothing',
  ]);
});

test('address resolution and the order at different taps make no difference', () => {
  const simulator: Outcome = {
    ...KERNEL,
    steps: KERNEL.steps.map(({ captures = [], ...rest }) => ({
      ...rest,
      captures: captures.filter(({ arp }) => arp === undefined).toReversed(),
    })),
  };
  expect(differences(simulator)).toEqual([]);
});

test('connections and counters are compared; a timeout may have lost a second', () => {
  const n1 = KERNEL.conntrack.n1!;
  const edited = (from: RegExp, to: string): Outcome => ({
    ...KERNEL,
    conntrack: { ...KERNEL.conntrack, n1: n1.map((line) => line.replace(from, to)) },
  });
  expect(differences(edited(/17 30 /, '17 29 '))).toEqual([]);
  expect(differences(edited(/17 30 /, '17 28 '))).toHaveLength(2);
  expect(differences(edited(/$/, ' [ASSURED] mark=0 use=1'))).toEqual([
    'conntrack of n1, udp src=10.244.1.2 dst=10.244.2.2 sport=40000 dport=53: flags: kernel , simulator ASSURED',
    'conntrack of n1, udp src=10.244.1.3 dst=10.244.2.2 sport=40000 dport=53: flags: kernel , simulator ASSURED',
  ]);
  const counters = { n1: KERNEL.counters.n1!.replace('[2:56] -A', '[1:28] -A') };
  expect(differences({ ...KERNEL, counters })).toEqual([
    'counters of n1, nat POSTROUTING 1: packets: kernel 2, simulator 1',
    'counters of n1, nat POSTROUTING 1: bytes: kernel 56, simulator 28',
  ]);
});

test('a machine that was busy between two packets makes no difference', () => {
  const streaming: ParityCase = { ...CASE, packets: [CASE.packets[0]!, CASE.packets[0]!] };
  const quick = runInSimulator(streaming);
  expect(quick.conntrack.n1![0]).toMatch(/^ipv4 +2 udp +17 30 /);
  const times = [0, 2_500_000_000]; // UDP is a stream after two seconds
  const slow: Outcome = { ...quick, steps: quick.steps.map((step, i) => ({ ...step, at: times[i]! })) };
  const busy = runInSimulator(streaming, { timesOf: slow });
  expect(busy.conntrack.n1![0]).toMatch(/^ipv4 +2 udp +17 120 .*\[ASSURED\]/);
  const kernel: Outcome = { ...busy, steps: slow.steps };
  expect(compareOutcomes(streaming, { kernel, simulator: quick })).not.toEqual([]);
  expect(compareWithSimulator(streaming, kernel)).toEqual([]);
});

test('numbers that a case gives are no initial ones, even if a socket drew one near them', () => {
  const flags = ['S', 'R'];
  const segments = (sequences: readonly number[]): Outcome => ({
    ...KERNEL,
    steps: KERNEL.steps.map(({ captures = [], ...step }, i) => ({
      ...step,
      captures: captures.map((capture) => ({ ...capture, proto: 'tcp', flags: flags[i]!, seq: sequences[i]!, ack: 0 })),
    })),
  });
  const justBelow = segments([2 ** 32 - 5, 0]);
  expect(compareOutcomes(CASE, { kernel: justBelow, simulator: segments([777_777, 0]) })).toEqual([]);
});

test('where rules toss coins, the simulator agrees with whatever can happen', () => {
  const text = `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.10/32 -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.1.3
-A PREROUTING -d 10.96.0.10/32 -j DNAT --to-destination 10.244.2.2
COMMIT
`;
  const packets = CASE.packets.map((packet) => ({ ...packet, dst: '10.96.0.10' }));
  const tossed: ParityCase = { ...CASE, packets: packets.slice(0, 1), rules: { n1: { backend: 'legacy', text } } };
  const reached = ({ steps }: Outcome) => steps[0]!.captures!.at(-1)!.ns;
  const outcomes = ['a', 'b', 'c', 'd', 'e', 'f'].map((seed) => runInSimulator(tossed, { seed }));
  expect(new Set(outcomes.map(reached))).toEqual(new Set(['p2', 'p3']));
  for (const kernel of outcomes) expect(compareWithSimulator(tossed, kernel)).toEqual([]);
});
