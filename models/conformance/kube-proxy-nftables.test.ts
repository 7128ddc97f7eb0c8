// kube-proxy's recorded tables and packet outcomes (README.md) against ours, in nftables mode.

import { describe, expect, test } from 'vitest';
import { type Instant, START, s } from '../../engine/time.ts';
import {
  DEFAULT_NFTABLES_CONFIG,
  type NftablesConfig,
  NftablesProxier,
  type NftSyncReport,
} from '../kube/kube-proxy/nftables.ts';
import { NftChainCache } from '../kube/kube-proxy/nftables-chain-cache.ts';
import { nftEndpointNames, nftServiceNames } from '../kube/kube-proxy/nftables-names.ts';
import { ServiceTracker } from '../kube/kube-proxy/service-tracker.ts';
import { describeObject, type EndpointSlice, type KubeObject, objectFrom, type Service } from '../kube/objects.ts';
import { Nftables } from '../netfilter/nft/nftables.ts';
import { type Ip, type IpFamily, isIpv4, isLoopback, parseAddress, parseAnyPrefix } from '../packet/ip-address.ts';
import { exploreFlow } from './flow-explorer.ts';
import {
  type RecordedCase,
  type RecordedConfig,
  type RecordedObjects,
  readFlowCases,
  readNftablesRuleFacts,
} from './kube-proxy-facts.ts';

const { naming, base, cases } = readNftablesRuleFacts();

test.each(naming.examples)('$base', ({ namespace, name, port, protocol, endpoint, base }) => {
  const owner = { name: `${namespace}/${name}:${port}`, protocol };
  if (endpoint === null) {
    expect(Object.values(nftServiceNames(owner))).toEqual(
      ['service', 'local', 'external', 'firewall'].map((kind) => `${kind}-${base}`),
    );
  } else {
    const names = nftEndpointNames(owner, { address: endpoint, port: Number(endpoint.split(':').at(-1)) });
    expect(names).toEqual({ chain: `endpoint-${base}`, affinity: `affinity-${base}` });
  }
});

describe('recorded tables', () => {
  test.each(cases)('$id: $about', (recorded) => {
    const { nftables, report } = syncedNode(recorded);
    const wanted = new Nftables(() => START);
    wanted.apply(inOrder([...base, ...recorded.extra]).join('\n'));
    expect(blocksOf(nftables)).toEqual(blocksOf(wanted));
    if (recorded.transactionOperations !== undefined) {
      expect(report).toMatchObject({ kind: 'partial', operations: recorded.transactionOperations });
    }
  });
});

describe('recorded flows', () => {
  // Left out: a feature gate that can no longer be turned off.
  const isModelled = ({ mode, config }: RecordedCase): boolean =>
    mode === 'nftables' && config.featureGates.LoadBalancerIPMode !== false;

  for (const recorded of readFlowCases().filter(isModelled)) {
    describe(recorded.id, () => {
      test.each(recorded.flows)('$about', (flow) => {
        const { nftables } = syncedNode(recorded);
        const own = recorded.config.nodeIPs.map(parseAddress);
        const isOwn = (ip: Ip, family: IpFamily): boolean =>
          own.some((address) => address.ip === ip && address.family === family) || (family === 4 && isLoopback(ip));
        const outcomes = exploreFlow(nftables.ruleset, flow, isOwn);
        const { expect: expected } = flow;
        if ('endpoints' in expected) {
          expect(new Set(outcomes.map(({ endpoint }) => endpoint))).toEqual(new Set(expected.endpoints));
          expect(outcomes.some(({ masqueraded }) => masqueraded)).toBe(flow.masquerade);
          expect(outcomes.every(({ verdict }) => verdict === 'ACCEPT')).toBe(true);
        } else {
          const verdict = expected.verdict === 'ACCEPT-UNCHANGED' ? 'ACCEPT' : expected.verdict;
          expect(outcomes).toMatchObject([{ verdict, endpoint: undefined, masqueraded: false }]);
        }
      });
    });
  }
});

/** The recorded commands stand in no order; what they refer to has to be there. */
const inOrder = (commands: readonly string[]): string[] =>
  [/^add table /, /^add (?:set|map|chain) /, /^add (?:rule|element) /].flatMap((kind) =>
    commands.filter((command) => kind.test(command)),
  );

/** Syncs what was there before, if anything was, and then what is recorded. */
function syncedNode(recorded: RecordedCase & { readonly staleChainsAged?: boolean }): {
  nftables: Nftables;
  report: NftSyncReport;
} {
  const { config, before = { services: [], endpointSlices: [] }, staleChainsAged = false } = recorded;
  const family: IpFamily = config.ipFamily === 'IPv6' ? 6 : 4;
  const proxier = new NftablesProxier({
    node: {
      name: config.nodeName,
      zone: undefined,
      ips: config.nodeIPs.filter((ip) => isIpv4(ip) === (family === 4)).map((ip) => parseAddress(ip).ip),
    },
    config: configOf(config, family),
    cache: new NftChainCache(),
  });
  const nftables = new Nftables(() => START);
  const tracker = new ServiceTracker(family);
  const [earlier, now] = [objectsOf(before), objectsOf(recorded)];
  if (earlier.length > 0) {
    for (const object of earlier) tracker.apply({ type: 'ADDED', object });
    proxier.sync(nftables, tracker.snapshot(), START);
  }
  const isGone = (object: KubeObject): boolean =>
    !now.some((other) => describeObject(other) === describeObject(object));
  for (const object of earlier.filter(isGone)) tracker.apply({ type: 'DELETED', object });
  for (const object of now) tracker.apply({ type: 'MODIFIED', object });
  const at = staleChainsAged ? ((START + s(2)) as Instant) : START;
  return { nftables, report: proxier.sync(nftables, tracker.snapshot(), at) };
}

const objectsOf = ({ services, endpointSlices }: RecordedObjects): (Service | EndpointSlice)[] => [
  ...services.map((manifest) => objectFrom('Service', manifest)),
  ...endpointSlices.map((manifest) => objectFrom('EndpointSlice', manifest)),
];

function configOf(recorded: RecordedConfig, family: IpFamily): NftablesConfig {
  const { localDetector: detector } = recorded;
  return {
    ...DEFAULT_NFTABLES_CONFIG,
    family,
    masqueradeAll: recorded.masqueradeAll,
    localDetector:
      detector.kind === 'none' ? { mode: 'None' } : { mode: 'ClusterCIDR', cidr: parseAnyPrefix(detector.cidr) },
    nodePortAddresses: (recorded.nodePortAddresses ?? []).map(parseAnyPrefix),
    serviceRanges: (recorded.serviceCIDRs ?? []).map(parseAnyPrefix),
  };
}

/** Sets, maps and chains as listed; in which order they were made is not recorded. */
const blocksOf = (nftables: Nftables): string[] =>
  nftables
    .list()
    .split(/^(?=\t(?:set|map|chain) )/m)
    .map((block) => block.replace(/[\s}]*$/, ''))
    .sort();
