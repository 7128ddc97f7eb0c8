// Random stories of clusters (cluster-story.fixture.ts).

import fc from 'fast-check';
import { ms, s, us } from '../engine/time.ts';
import { MISHAPS, RULES, type Story } from './cluster-story.fixture.ts';
import { ESTABLISHED_CHOICES } from './kube/network-policy/policy-rules.ts';

export const anyStory: fc.Arbitrary<Story> = fc.record({
  nodes: fc.integer({ min: 1, max: 3 }),
  proxy: fc.constantFrom('iptables', 'iptables', 'nftables', 'ipvs'),
  ipFamily: fc.constantFrom('ipv4', 'ipv4', 'ipv4', 'dual', 'ipv6'),
  ipMode: fc.constantFrom('VIP', 'Proxy'),
  established: fc.constantFrom(...ESTABLISHED_CHOICES),
  seed: fc.nat(1_000),
  rules: fc.uniqueArray(fc.constantFrom(...RULES), { maxLength: 2 }),
  loads: fc.array(
    fc.record({
      protocol: fc.constantFrom('tcp', 'udp'),
      keepAlive: fc.boolean(),
      thinkTime: fc.constantFrom(us(20), us(300), ms(2), ms(40), s(3)),
      from: fc.constantFrom('pod', 'node', 'outside', 'web'),
      to: fc.constantFrom('service', 'node port', 'load balancer'),
      requestBytes: fc.constantFrom(20, 700, 4_000),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  steps: fc.array(
    fc.record({
      after: fc.constantFrom(ms(3), ms(40), ms(600), s(8), s(45)),
      what: fc.constantFrom(...Object.keys(MISHAPS), ...RULES),
    }),
    { maxLength: 4 },
  ),
});
