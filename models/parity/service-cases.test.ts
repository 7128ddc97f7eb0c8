import { describe, expect, test } from 'vitest';
import type { Outcome } from './case.ts';
import { checkCase } from './case-text.ts';
import { SERVICE_PROXIES, type ServiceCase, serviceCases, sweepCase } from './service-cases.ts';
import { compareManySteps, compareReach, type Fate, fatesOf } from './service-judge.ts';
import { runInSimulator } from './simulator/runner.ts';

const CLUSTER = { seed: 7, services: 200, packets: 250 };

describe.for(SERVICE_PROXIES)('in %s mode', (mode) => {
  const options = { ...CLUSTER, mode };
  const [made] = [...serviceCases(options)] as [ServiceCase];
  const { parityCase } = made;

  test('the same seed makes the same valid cases, another one others', () => {
    expect([...serviceCases(options)].map((each) => each.parityCase)).toEqual([parityCase]);
    expect(checkCase(parityCase, 'case')).toEqual(parityCase);
    const [other] = [...serviceCases({ ...options, seed: 8 })] as [ServiceCase];
    expect(other.parityCase.rules).not.toEqual(parityCase.rules);
  });

  test('fewer packets than fill a case are one case, more are several', () => {
    const cases = [...serviceCases({ ...options, packets: 600 })];
    expect(cases.map(({ packets }) => packets.length)).toEqual([250, 250, 100]);
  });

  test('packets are served, refused and dropped', () => {
    const fates = [...fatesOf(parityCase, runInSimulator(parityCase)).values()];
    expect(fates).toHaveLength(250);
    const count = (fate: Fate): number => fates.filter((each) => each === fate).length;
    expect(Math.min(count('delivered') / 4, count('refused'), count('lost'))).toBeGreaterThan(20);
  });

  test('two runs agree although their coins fall differently', () => {
    const [one, other] = ['one', 'other'].map((seed) => runInSimulator(parityCase, { seed })) as [Outcome, Outcome];
    expect(one.steps).not.toEqual(other.steps);
    expect(compareManySteps(parityCase, other)).toEqual([]);
  });

  test('a packet that no coins explain is a difference, and so is a connection', { timeout: 240_000 }, () => {
    // Few, as a difference is looked for in many ways before it is one.
    const { parityCase: few } = made.with({ services: made.services.slice(0, 20), packets: made.packets.slice(0, 30) });
    const outcome = runInSimulator(few);
    const step = outcome.steps.findIndex(({ captures = [] }) =>
      captures.some(({ dir, dev }) => `${dir} ${dev}` === 'in eth0'),
    );
    const captures = outcome.steps[step]!.captures!.map((frame) => ({ ...frame, ttl: (frame.ttl ?? 0) + 1 }));
    const wrong = { ...outcome, steps: outcome.steps.with(step, { ...outcome.steps[step]!, captures }) };
    const places = compareManySteps(few, wrong).map(({ place }) => place);
    expect(places).not.toEqual([]);
    for (const place of places) expect(place).toMatch(new RegExp(`^step ${step + 1}, .*: ttl$`));
    const forgotten = { ...outcome, conntrack: { ...outcome.conntrack, n2: outcome.conntrack.n2!.slice(1) } };
    const [difference] = compareManySteps(few, forgotten);
    expect(difference).toMatchObject({ place: expect.stringMatching(/^conntrack of n2/), kernel: 'nothing' });
  });

  test('a case without some of its Services has fewer rules and the same flags', () => {
    const smaller = made.with({ services: made.services.slice(0, 20), packets: made.packets.slice(0, 5) });
    expect(smaller.parityCase.packets).toEqual(parityCase.packets.slice(0, 5));
    expect(smaller.parityCase.rules!.n1!.text.length).toBeLessThan(parityCase.rules!.n1!.text.length / 3);
    expect(smaller.with({ services: made.services, packets: made.packets }).parityCase).toEqual(parityCase);
  });

  test('sweeps meet the same endpoints whatever the coins, and miss one that is gone', () => {
    const { parityCase: sweeps } = sweepCase(options);
    const outcome = runInSimulator(sweeps, { seed: 'another' });
    expect(compareReach(sweeps, outcome)).toEqual([]);
    const met = outcome.steps.flatMap(({ captures = [] }) =>
      captures.filter(({ ns, dir }) => dir === 'in' && /^n\d-p\d$/.test(ns)).map(({ ns }) => ns),
    );
    const withoutOne = outcome.steps.map((step) => ({
      ...step,
      captures: (step.captures ?? []).filter(({ ns }) => ns !== met.at(-1)),
    }));
    expect(compareReach(sweeps, { ...outcome, steps: withoutOne })).not.toEqual([]);
  });
});

test('200 Services are of all kinds', () => {
  const [{ services }] = [...serviceCases({ ...CLUSTER, mode: 'iptables' })] as [ServiceCase];
  const specs = services.map(({ service }) => service.spec);
  const counts = {
    headless: specs.filter(({ clusterIP }) => clusterIP === 'None').length,
    ...Object.fromEntries(
      (['ExternalName', 'NodePort', 'LoadBalancer'] as const).map((type) => [
        type,
        specs.filter((spec) => spec.type === type).length,
      ]),
    ),
    'several ports': specs.filter(({ ports }) => ports.length > 1).length,
    SCTP: specs.filter(({ ports }) => ports.some(({ protocol }) => protocol === 'SCTP')).length,
    UDP: specs.filter(({ ports }) => ports.some(({ protocol }) => protocol === 'UDP')).length,
    'dual stack': specs.filter(({ clusterIPs }) => clusterIPs?.length === 2).length,
    'external IPs': specs.filter(({ externalIPs }) => externalIPs.length > 0).length,
    'source ranges': specs.filter(({ loadBalancerSourceRanges }) => loadBalancerSourceRanges.length > 0).length,
    affinity: specs.filter(({ sessionAffinity }) => sessionAffinity === 'ClientIP').length,
    'external policy Local': specs.filter(({ externalTrafficPolicy }) => externalTrafficPolicy === 'Local').length,
    'internal policy Local': specs.filter(({ internalTrafficPolicy }) => internalTrafficPolicy === 'Local').length,
    'health check': specs.filter(({ healthCheckNodePort }) => healthCheckNodePort !== undefined).length,
    'no endpoints': services.filter(({ slices }) => slices[0]?.endpoints.length === 0).length,
    'only draining': services.filter(({ slices: [slice] }) => {
      const conditions = slice?.endpoints.map((endpoint) => endpoint.conditions) ?? [];
      return conditions.length > 0 && conditions.every(({ ready, serving }) => ready === false && serving === true);
    }).length,
    hints: services.filter(({ slices }) => slices.some((slice) => slice.endpoints.some(({ hints }) => hints))).length,
  };
  for (const [kind, count] of Object.entries(counts))
    expect.soft({ kind, count: count > 0 }).toEqual({ kind, count: true });
});
