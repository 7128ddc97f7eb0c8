import { afterAll, describe, expect, test } from 'vitest';
import { checkCase } from './case-text.ts';
import { backendsOf, FEATURES, type Feature, generateCase, INGREDIENTS } from './generate.ts';
import { KernelRunner } from './kernel/runner.ts';

const casesOf = (features: readonly Feature[], backend: 'legacy' | 'nft' | 'nftnative', count = 40) =>
  Array.from({ length: count }, (_, index) => generateCase({ seed: 'test', index, features, backend }));

test('seed, index and backend decide a case', () => {
  const options = { seed: 1, index: 7, features: FEATURES, backend: 'legacy' } as const;
  expect(generateCase(options)).toEqual(generateCase(options));
  expect(generateCase(options)).not.toEqual(generateCase({ ...options, index: 8 }));
  expect(generateCase(options)).not.toEqual(generateCase({ ...options, seed: 2 }));
});

test('what a feature adds is not there without it', () => {
  const text = (features: readonly Feature[]): string =>
    (['legacy', 'nftnative'] as const).map((backend) => JSON.stringify(casesOf(features, backend))).join();
  const traces: Partial<Record<Feature, RegExp>> = {
    nat: /DNAT --to|dnat to/,
    filter: /\*filter|priority filter/,
    mangle: /\*mangle|priority mangle/,
    kube: /KUBE-SERVICES|kube-proxy/,
    vxlan: /"overlay":"vxlan"/,
    vxlan6: /"overlay":"vxlan(6|-by-family)"/,
    ptp: /"ptp":true/,
    cni: /CNI-HOSTPORT|cni_hostport/,
    routed: /"bridge":false/,
    conntrack: /ctstate|ct state/,
    icmp: /"proto":"icmp"/,
    fragments: /fragmentMtu/,
    ipv6: /fd00:10:244/,
    ipset: /match-set/,
    sockets: /"stack":true/,
    remember: /hashlimit|numgen inc/,
    random: /probability 0\.5|numgen random/,
  };
  const all = text(FEATURES);
  for (const [feature, trace] of Object.entries(traces)) {
    expect(trace.test(all), `with ${feature}`).toBe(true);
    // The rules of kube-proxy and of network plugins ask about connections, take turns and translate whatever else is wanted.
    const others = FEATURES.filter((other) => other !== feature && other !== 'kube' && other !== 'cni');
    expect(trace.exec(text(others))?.[0], `without ${feature}`).toBe(undefined);
  }
});

test('every feature is explained, and decides which backends there are', () => {
  expect(FEATURES.every((feature) => INGREDIENTS[feature].length > 10)).toBe(true);
  expect(backendsOf(FEATURES)).toEqual(['legacy', 'nft', 'nftnative']);
  expect(backendsOf(['nat'])).toEqual(['legacy']);
});

test.each(['legacy', 'nft', 'nftnative'] as const)('generated cases are cases: %s', (backend) => {
  for (const generated of casesOf(FEATURES, backend)) {
    expect(checkCase(JSON.parse(JSON.stringify(generated)), 'generated')).toEqual(generated);
  }
});

const probe = await KernelRunner.probe();
if (!probe.ok) console.warn(`skipped: the kernel of this machine cannot be asked: ${probe.missing.join('; ')}`);

describe.skipIf(!probe.ok)('the kernel accepts', () => {
  const kernel = new KernelRunner();
  afterAll(() => kernel.close());

  test.each(['legacy', 'nft', 'nftnative'] as const)('the rules and packets of %s', async (backend) => {
    for (const generated of casesOf(FEATURES, backend, 15)) {
      const { steps } = await kernel.run(generated);
      expect(steps).toHaveLength(generated.packets.length);
    }
  });
});
