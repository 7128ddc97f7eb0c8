import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Instant, START, s } from '../../../engine/time.ts';
import { Nftables } from '../../netfilter/nft/nftables.ts';
import { parsePrefix } from '../../packet/ip-address.ts';
import { DEFAULT_NFTABLES_CONFIG, NftablesProxier } from './nftables.ts';
import { NftChainCache } from './nftables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import { anyChange, NODES } from './random-services.fixture.ts';
import { ServiceTracker } from './service-tracker.ts';

const config = {
  ...DEFAULT_NFTABLES_CONFIG,
  localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
  serviceRanges: [parsePrefix('10.96.0.0/12')],
} as const;

const newProxier = (node: ProxyNode, cache: NftChainCache): NftablesProxier =>
  new NftablesProxier({ node, config, cache });

/** Sets, maps and chains: new ones stand behind older ones. */
const sortedBlocks = (nftables: Nftables): string[] =>
  nftables
    .list()
    .split(/^(?=\t(?:set|map|chain) )/m)
    .map((block) => block.replace(/[\s}]*$/, ''))
    .sort();

const seconds = (count: number): Instant => (START + s(count)) as Instant;

test('after any changes a node has the table that a kube-proxy started now, alone, would write', () => {
  fc.assert(
    fc.property(fc.array(fc.array(anyChange, { maxLength: 4 }), { minLength: 1, maxLength: 6 }), (syncs) => {
      const tracker = new ServiceTracker();
      const cache = new NftChainCache();
      const nodes = NODES.map((node) => ({
        node,
        proxier: newProxier(node, cache),
        nftables: new Nftables(() => START),
      }));
      for (const changes of syncs) {
        for (const change of changes) tracker.apply(change);
        for (const { proxier, nftables } of nodes) proxier.sync(nftables, tracker.snapshot(), START);
      }
      for (const { node, proxier, nftables } of nodes) {
        // Chains that nobody uses any more are deleted later.
        proxier.sync(nftables, tracker.snapshot(), seconds(2));
        const fresh = new Nftables(() => START);
        newProxier(node, new NftChainCache()).sync(fresh, tracker.snapshot(), START);
        expect(sortedBlocks(nftables)).toEqual(sortedBlocks(fresh));
        // Every jump leads somewhere, every set is there.
        expect(() => new Nftables(() => START).apply(nftables.list())).not.toThrow();
      }
    }),
    { numRuns: 100 },
  );
});

test('nodes may be at different states of the Services', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyChange, fc.array(fc.nat({ max: NODES.length - 1 }))), { minLength: 1, maxLength: 12 }),
      (steps) => {
        const tracker = new ServiceTracker();
        const cache = new NftChainCache();
        const nodes = NODES.map((node) => ({ proxier: newProxier(node, cache), nftables: new Nftables(() => START) }));
        for (const [change, synced] of steps) {
          tracker.apply(change);
          for (const i of synced) nodes[i]!.proxier.sync(nodes[i]!.nftables, tracker.snapshot(), START);
        }
        for (const [i, { proxier, nftables }] of nodes.entries()) {
          for (const at of [START, seconds(2)]) proxier.sync(nftables, tracker.snapshot(), at);
          const fresh = new Nftables(() => START);
          newProxier(NODES[i]!, new NftChainCache()).sync(fresh, tracker.snapshot(), START);
          expect(sortedBlocks(nftables)).toEqual(sortedBlocks(fresh));
        }
      },
    ),
    { numRuns: 100 },
  );
});
