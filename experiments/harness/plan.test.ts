import { describe, expect, test } from 'vitest';
import { describeLevels, planRuns, selectLevels } from './plan.ts';

const factors = { services: [10, 100, 1_000], proxy: ['iptables', 'nftables'], hairpin: [true, false] } as const;

test('the first factor varies slowest, replications fastest', () => {
  const plan = planRuns({
    factors: { services: [10, 100], proxy: ['iptables', 'nftables'] },
    replications: 2,
    seed: '7',
  });
  expect(plan.map(({ levels, replication, seed }) => `${describeLevels(levels)} ${replication} ${seed}`)).toEqual([
    'services=10 proxy=iptables 1 7/1',
    'services=10 proxy=iptables 2 7/2',
    'services=10 proxy=nftables 1 7/1',
    'services=10 proxy=nftables 2 7/2',
    'services=100 proxy=iptables 1 7/1',
    'services=100 proxy=iptables 2 7/2',
    'services=100 proxy=nftables 1 7/1',
    'services=100 proxy=nftables 2 7/2',
  ]);
  expect(plan.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
});

test('without factors there is one variant', () => {
  expect(planRuns({ factors: {}, replications: 1, seed: '1' })).toEqual([
    { index: 0, levels: {}, replication: 1, seed: '1/1' },
  ]);
});

describe('selecting levels', () => {
  test('keeps the order of the experiment and the type of the level', () => {
    expect(selectLevels(factors, ['services=1000,10', 'hairpin=false'])).toEqual({
      services: [10, 1_000],
      proxy: ['iptables', 'nftables'],
      hairpin: [false],
    });
  });

  test.each([
    ['services', '"services"; expected factor=level,level'],
    ['nodes=3', 'no factor "nodes"; there are: services, proxy, hairpin'],
    ['services=10,11', 'factor "services" has no level "11"; it has: 10, 100, 1000'],
  ])('refuses %s', (request, message) => {
    expect(() => selectLevels(factors, [request])).toThrow(message);
  });

  test('a held factor varies when it is asked for, after the others', () => {
    const held = { ipFamily: ['ipv4', 'ipv6', 'dual'] };
    expect(selectLevels({ services: [10] }, ['ipFamily=dual,ipv4'], held)).toEqual({
      services: [10],
      ipFamily: ['ipv4', 'dual'],
    });
    expect(selectLevels({ services: [10] }, [], held)).toEqual({ services: [10] });
    expect(() => selectLevels({ services: [10] }, ['colour=red'], held)).toThrow('there are: services, ipFamily');
  });

  test('refuses a factor that is set twice', () => {
    expect(() => selectLevels(factors, ['services=10', 'services=100'])).toThrow('factor "services" is set twice');
  });
});
