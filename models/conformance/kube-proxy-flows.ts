// Where single packets end up on a node of a recorded cluster. kube-proxy writes the node's rules, and the packet goes
// through netfilter by them, once for every way that chance can fall.

import { z } from 'zod';
import { formatSocketAddress, type Ip, isIpv4, isIpv6, parseAddress } from '../packet/ip-address.ts';
import { exploreFlow, type FlowOutcome } from './flow-explorer.ts';
import { SYNCED_NODES } from './proxy-modes.ts';
import {
  isNodesOwn,
  recordedAddress,
  recordedCase,
  remarks,
  type SyncedNode,
  unmodelledGate,
} from './recorded-case.ts';
import { compareText, type Difference, defineSuite } from './suite.ts';

const VERDICTS = ['REJECT', 'DROP', 'ACCEPT-UNCHANGED'] as const;

const flow = z
  .strictObject({
    ...remarks,
    srcIP: recordedAddress,
    dstIP: recordedAddress,
    protocol: z.enum(['TCP', 'UDP', 'SCTP']),
    dstPort: z.int('a port').min(1, 'a port').max(65_535, 'a port'),
    /** Means nothing for a packet that no endpoint gets. */
    masquerade: z.boolean(),
    expect: z.union(
      [
        z.strictObject({ endpoints: z.array(z.string()).min(1) }),
        z.strictObject({ verdict: z.enum(VERDICTS), explicitAccept: z.boolean().optional() }),
      ],
      `endpoints, or a verdict of ${VERDICTS.join(', ')}`,
    ),
  })
  .refine(({ srcIP, dstIP }) => isIpv4(srcIP) === isIpv4(dstIP), {
    path: ['dstIP'],
    message: 'an address of the family of srcIP',
  });
type RecordedFlow = z.output<typeof flow>;

const flowCase = recordedCase.extend({
  flows: z.array(flow),
  /** The outcome of the flows follows from what was observed. */
  derived: z.boolean().optional(),
  /** What was observed then: some rule, or element of a map, is about the load balancer's address. */
  expectDispatchEntryForLBIP: z.boolean().optional(),
});

export const kubeProxyFlows = defineSuite({
  name: 'kube-proxy-flows',
  unit: 'flows',
  content: 'a list of cases with flows',
  schema: z.array(flowCase),
  recognises: (value) => Array.isArray(value) && value.some((row) => row instanceof Object && 'flows' in row),
  check: (cases, tally) => {
    for (const recorded of cases) {
      const gate = unmodelledGate(recorded.config.featureGates);
      if (gate !== undefined) {
        tally.notModelled(gate, recorded.flows.length);
        continue;
      }
      const synced = SYNCED_NODES[recorded.mode](recorded);
      const { load, isServiceAddress } = synced;
      const isLocal = (ip: Ip): boolean => isNodesOwn(recorded.config, ip) || isServiceAddress?.(ip) === true;
      const node = { load, isLocal };
      const dispatch = dispatchDifferences(recorded, synced);
      for (const flow of recorded.flows) {
        const { about, protocol, srcIP, dstIP, dstPort } = flow;
        const packet = `${protocol} ${srcIP} > ${addressText(dstIP, dstPort)}`;
        const got = describeOutcomes(exploreFlow(node, flow));
        const differences = [...compareText(describeExpected(flow), got), ...dispatch];
        tally.fact(`${recorded.id}: ${about} (${packet})`, differences);
      }
    }
  },
});

/** The flows of such a case follow from this, so that none of them is right without it. */
function dispatchDifferences(
  { expectDispatchEntryForLBIP: expected, services }: z.output<typeof flowCase>,
  { dispatches }: SyncedNode,
): Difference[] {
  if (expected === undefined) return [];
  const addresses = services.flatMap(({ status }) => status.loadBalancer.ingress.flatMap(({ ip }) => ip ?? []));
  return addresses.flatMap((address) =>
    compareText(`${expected}`, `${dispatches(parseAddress(address).ip)}`, `entry for ${address}`),
  );
}

function describeExpected({ expect, masquerade }: RecordedFlow): string {
  if ('endpoints' in expect) return destinationsText(expect.endpoints.map(canonicalAddress), masquerade);
  if (expect.verdict !== 'ACCEPT-UNCHANGED') return expect.verdict;
  return expect.explicitAccept === true ? ACCEPTED_BY_RULE : UNCHANGED;
}

const UNCHANGED = 'ACCEPT-UNCHANGED';
const ACCEPTED_BY_RULE = 'ACCEPT-UNCHANGED by a rule';

/** In the recorded facts a packet counts as masqueraded if it is on any of its ways. */
function describeOutcomes(outcomes: readonly FlowOutcome[]): string {
  const masqueraded = outcomes.some((outcome) => outcome.masqueraded);
  return destinationsText(
    outcomes.map(({ verdict, endpoint, byRule }) => {
      if (verdict !== 'ACCEPT') return verdict;
      return endpoint ?? (byRule ? ACCEPTED_BY_RULE : UNCHANGED);
    }),
    masqueraded,
  );
}

const destinationsText = (destinations: readonly string[], masqueraded: boolean): string =>
  `${[...new Set(destinations)].sort().join(' or ')}${masqueraded ? ', masqueraded' : ''}`;

function addressText(address: string, port: number): string {
  const { ip, family } = parseAddress(address);
  return formatSocketAddress(ip, port, family);
}

/** `10.180.0.1:80`, `[fd00::1]:80` */
function canonicalAddress(endpoint: string): string {
  const [, address = '', port = ''] = /^\[?([^[\]]*)\]?:(\d+)$/.exec(endpoint) ?? [];
  return isIpv4(address) || isIpv6(address) ? addressText(address, Number(port)) : endpoint;
}
