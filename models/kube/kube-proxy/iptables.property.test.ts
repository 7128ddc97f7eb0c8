import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RandomStream } from '../../../engine/random.ts';
import { START } from '../../../engine/time.ts';
import { printIptablesSave } from '../../netfilter/iptables-save.ts';
import { RuleTables } from '../../netfilter/rule-tables.ts';
import { parsePrefix } from '../../packet/ip-address.ts';
import { DEFAULT_IPTABLES_CONFIG, IptablesProxier } from './iptables.ts';
import { ServiceChainCache } from './iptables-chain-cache.ts';
import type { ProxyNode } from './port-on-node.ts';
import { anyChange, NODES } from './random-services.fixture.ts';
import { ServiceTracker } from './service-tracker.ts';

const config = {
  ...DEFAULT_IPTABLES_CONFIG,
  localDetector: { mode: 'ClusterCIDR', cidr: parsePrefix('10.244.0.0/16') },
} as const;

const newProxier = (node: ProxyNode, cache: ServiceChainCache): IptablesProxier =>
  new IptablesProxier({ node, config, cache, random: new RandomStream(node.name) });

/** Services stand in random order. */
const sortedLines = (tables: RuleTables): string[] => printIptablesSave(tables).split('\n').sort();

test('after any changes a node has the rules that a kube-proxy started now, alone, would write', () => {
  fc.assert(
    fc.property(fc.array(fc.array(anyChange, { maxLength: 4 }), { minLength: 1, maxLength: 6 }), (syncs) => {
      const tracker = new ServiceTracker();
      const cache = new ServiceChainCache();
      const nodes = NODES.map((node) => ({ node, proxier: newProxier(node, cache), tables: new RuleTables() }));
      for (const changes of syncs) {
        for (const change of changes) tracker.apply(change);
        for (const { proxier, tables } of nodes) proxier.sync(tables, tracker.snapshot(), START);
      }
      for (const { node, tables } of nodes) {
        const fresh = new RuleTables();
        newProxier(node, new ServiceChainCache()).sync(fresh, tracker.snapshot(), START);
        expect(sortedLines(tables)).toEqual(sortedLines(fresh));
      }
    }),
    { numRuns: 200 },
  );
});
