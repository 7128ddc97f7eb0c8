// Facts about chance: the same test on the simulator and, where it can be asked, on the kernel.

import { afterAll, describe, expect, test } from 'vitest';
import type { Capture, Outcome, ParityCase, Step } from '../case.ts';
import { KernelRunner } from '../kernel/runner.ts';
import { parseRuleCounts } from '../rule-counts.ts';
import { runInSimulator } from '../simulator/runner.ts';
import { TWO_NODES, table, tcp, udp } from './fact.ts';

const probe = await KernelRunner.probe();
const kernel = probe.ok ? new KernelRunner() : undefined;
afterAll(() => kernel?.close());

const SIDES = [
  { side: 'the simulator', run: (parityCase: ParityCase) => Promise.resolve(runInSimulator(parityCase)) },
  { side: 'the kernel', run: kernel === undefined ? undefined : (parityCase: ParityCase) => kernel.run(parityCase) },
];

const CONNECTIONS = 1_000;
const ENDPOINTS = 5;
/** Of four degrees of freedom, exceeded by chance once in a thousand times. */
const CHI_SQUARE_4 = 18.47;
/** Of nine. */
const CHI_SQUARE_9 = 27.88;

const connections = Array.from(
  { length: CONNECTIONS },
  (_, i): Step => ({ ...tcp, dst: '10.96.0.1', sport: 10_000 + i }),
);

/** Endpoint n is port 8080 + n of p3; rule n of what is left takes 1 / (5 - n). */
const STATISTIC = table(
  'nat',
  [
    'PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j SVC',
    ...Array.from({ length: ENDPOINTS }, (_, n) => {
      const left = ENDPOINTS - n;
      const chance = left === 1 ? '' : ` -m statistic --mode random --probability ${(1 / left).toFixed(11)}`;
      return `SVC${chance} -p tcp -j DNAT --to-destination 10.244.2.2:${8080 + n}`;
    }),
  ],
  ['SVC'],
);

const numgen = (mode: 'random' | 'inc'): string => {
  const endpoints = Array.from({ length: ENDPOINTS }, (_, n) => n);
  return `table ip kube {
${endpoints.map((n) => `  chain ep${n} { meta l4proto tcp dnat to 10.244.2.2:${8080 + n}; }`).join('\n')}
  chain services {
    type nat hook prerouting priority -100; policy accept;
    ip daddr 10.96.0.1 tcp dport 80 numgen ${mode} mod ${ENDPOINTS} vmap { ${endpoints.map((n) => `${n} : goto ep${n}`).join(', ')} }
  }
}
`;
};

const balanced = (backend: 'legacy' | 'nft' | 'nftnative', text: string): ParityCase => ({
  topology: TWO_NODES,
  rules: { n1: { backend, text } },
  packets: connections,
});

describe.for(SIDES)('$side', ({ run }) => {
  const missing = probe.ok ? '' : `needs ${probe.missing.join('; ')}`;

  // Once in a thousand times chance alone goes beyond the bound.
  test.for([
    ['statistic in iptables-legacy', balanced('legacy', STATISTIC)],
    ['statistic in iptables-nft', balanced('nft', STATISTIC)],
    ['numgen random', balanced('nftnative', numgen('random'))],
  ] as const)(
    '%s gives every endpoint the same share, by chi-square',
    { retry: 1, timeout: 60_000 },
    async ([, parityCase], { skip }) => {
      if (run === undefined) return skip(missing);
      expect(chiSquare(sharesOf(await run(parityCase)))).toBeLessThan(CHI_SQUARE_4);
    },
  );

  test('numgen inc takes turns exactly', { timeout: 60_000 }, async ({ skip }) => {
    if (run === undefined) return skip(missing);
    const shares = sharesOf(await run(balanced('nftnative', numgen('inc'))));
    expect(shares).toEqual(Array(ENDPOINTS).fill(CONNECTIONS / ENDPOINTS));
  });

  test('--random-fully draws ports evenly from the class of the old one, and keeps none', {
    retry: 1,
    timeout: 60_000,
  }, async ({ skip }) => {
    if (run === undefined) return skip(missing);
    const rules = ['POSTROUTING -s 10.244.1.0/24 -p udp -j SNAT --to-source 192.168.1.1 --random-fully'];
    const high = Array.from({ length: 400 }, (_, i) => ({ ...udp, sport: 40_000 + i, dport: 53 }));
    const low = Array.from({ length: 100 }, (_, i) => ({ ...udp, sport: 53, dport: 1_000 + i }));
    const outcome = await run({
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: table('nat', rules) } },
      packets: [...high, ...low],
    });
    const ports = arrivalsOf(outcome).map(({ sport = 0 }) => sport);
    expect(ports).toHaveLength(500);
    const drawn = ports.slice(0, 400);
    // One in 64,512 is the old port by chance.
    expect(drawn.filter((port, i) => port === 40_000 + i).length).toBeLessThan(2);
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(1_024);
    const bins = Array.from({ length: 10 }, (_, bin) => drawn.filter((port) => binOf(port) === bin).length);
    expect(chiSquare(bins)).toBeLessThan(CHI_SQUARE_9);
    expect(Math.max(...ports.slice(400))).toBeLessThanOrEqual(511);
  });

  test('recent keeps a client at its endpoint as long as it comes back in time', { timeout: 60_000 }, async ({
    skip,
  }) => {
    if (run === undefined) return skip(missing);
    const clients = Array.from({ length: 8 }, (_, i) => `10.244.1.${100 + i}`);
    let sport = 20_000;
    const round = () => clients.map((src): Step => ({ ...tcp, src, dst: '10.96.0.1', sport: sport++ }));
    const parityCase: ParityCase = {
      topology: TWO_NODES,
      rules: { n1: { backend: 'legacy', text: AFFINITY } },
      // Twice within three seconds, so that the second hit has to refresh the first; then after more than three.
      packets: [
        ...round(),
        { waitMs: 2_000 },
        ...round(),
        { waitMs: 2_000 },
        ...round(),
        { waitMs: 3_500 },
        ...round(),
      ],
    };
    const outcome = await run(parityCase);
    const endpoints = arrivalsOf(outcome).map(({ dport }) => dport);
    expect(endpoints).toHaveLength(4 * clients.length);
    expect(endpoints.slice(8, 16)).toEqual(endpoints.slice(0, 8));
    expect(endpoints.slice(16, 24)).toEqual(endpoints.slice(0, 8));
    // Two rounds were remembered; the first and the last were drawn.
    const counts = parseRuleCounts(outcome.counters.n1!);
    const remembered = [1, 2].map((rule) => counts.get(`nat SVC ${rule}`)?.packets ?? 0);
    expect(remembered[0]! + remembered[1]!).toBe(2 * clients.length);
  });
});

const AFFINITY = table(
  'nat',
  [
    'PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j SVC',
    'SVC -m recent --rcheck --seconds 3 --reap --name SEP-0 -j SEP-0',
    'SVC -m recent --rcheck --seconds 3 --reap --name SEP-1 -j SEP-1',
    'SVC -m statistic --mode random --probability 0.50000000000 -j SEP-0',
    'SVC -j SEP-1',
    ...[0, 1].flatMap((n) => [
      `SEP-${n} -p tcp -m recent --set --name SEP-${n} -m tcp -j DNAT --to-destination 10.244.2.2:${8080 + n}`,
    ]),
  ],
  ['SVC', 'SEP-0', 'SEP-1'],
);

const arrivalsOf = ({ steps }: Outcome): Capture[] =>
  steps.flatMap(({ captures = [] }) =>
    captures.filter(({ ns, dir, arp }) => ns === 'p3' && dir === 'in' && arp === undefined),
  );

function sharesOf(outcome: Outcome): number[] {
  const arrivals = arrivalsOf(outcome);
  expect(arrivals).toHaveLength(CONNECTIONS);
  return Array.from({ length: ENDPOINTS }, (_, n) => arrivals.filter(({ dport }) => dport === 8080 + n).length);
}

function chiSquare(observed: readonly number[]): number {
  const expected = observed.reduce((sum, count) => sum + count, 0) / observed.length;
  return observed.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

/** 1024 to 65535 in ten equal parts. */
const binOf = (port: number): number => Math.floor(((port - 1_024) / 64_512) * 10);
