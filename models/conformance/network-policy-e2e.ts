// Which pods reach which under NetworkPolicies, as the end-to-end tests of Kubernetes have it, and what the API server
// refuses of a policy.

import { z } from 'zod';
import { checkNetworkPolicy } from '../kube/network-policy/policy-validation.ts';
import { ObjectError } from '../kube/object-error.ts';
import { objectFrom } from '../kube/objects.ts';
import {
  type ExpectedConnection,
  PolicyScenario,
  type RecordedPort,
  recordedAction,
  recordedNamespace,
  recordedPod,
  recordedProtocol,
} from './policy-scenario.ts';
import { compareText, defineSuite, type Tally } from './suite.ts';

/** Texts about a case. */
const remarks = { id: z.string(), ref: z.string(), desc: z.string(), features: z.array(z.string()) };

const port = z.int('a port').min(1, 'a port').max(65_535, 'a port');

const matrixCase = z.strictObject({
  ...remarks,
  ports: z.array(port),
  protocols: z.array(recordedProtocol),
  /** The pods that newer releases make for it. */
  currentTopology: z.array(z.string()),
  /** What addresses in its policies stand for. */
  symbolic: z.unknown().optional(),
  steps: z.array(
    z.strictObject({
      actions: z.array(recordedAction),
      probes: z.array(
        z.strictObject({
          port,
          protocol: recordedProtocol,
          /** By client, then by server. */
          expected: z.record(z.string(), z.record(z.string(), z.boolean())),
          upstreamRules: z.unknown().optional(),
          loopbackIgnoredUpstream: z.unknown().optional(),
        }),
      ),
    }),
  ),
});

const edgeCase = z.strictObject({
  ...remarks,
  pods: z.array(recordedPod),
  steps: z.array(
    z.strictObject({
      actions: z.array(recordedAction),
      edges: z.array(
        z.strictObject({
          from: z.string(),
          to: z.string(),
          via: z.string(),
          port,
          protocol: recordedProtocol,
          allowed: z.boolean(),
        }),
      ),
    }),
  ),
});

const validationCase = z.strictObject({
  ...remarks,
  rule: z.enum(['ingress', 'egress']),
  ports: z.array(z.strictObject({ port: port.optional(), endPort: port.optional() })),
  expect: z.enum(['accept', 'reject']),
});

const cluster = z.looseObject({ namespaces: z.array(recordedNamespace) });

export const networkPolicyE2e = defineSuite({
  name: 'network-policy-e2e',
  unit: 'tables',
  content: 'cases with policies and tables of who reaches whom',
  schema: z.looseObject({
    model: cluster.extend({ pods: z.array(recordedPod) }),
    cases: z.array(matrixCase),
    legacyModel: cluster,
    legacyCases: z.array(edgeCase),
    apiCases: z.array(validationCase),
  }),
  recognises: (value) => value instanceof Object && 'legacyCases' in value && 'apiCases' in value,
  check: ({ model, cases, legacyModel, legacyCases, apiCases }, tally) => {
    for (const recorded of cases)
      checkMatrices(new PolicyScenario({ ...model, ports: portsOf(recorded) }), recorded, tally);
    for (const recorded of legacyCases) {
      const { namespaces } = legacyModel;
      checkEdges(new PolicyScenario({ namespaces, pods: recorded.pods }), recorded, tally);
    }
    for (const recorded of apiCases)
      tally.fact(`${recorded.id}: ${recorded.desc}`, compareText(recorded.expect, answerTo(recorded)));
  },
});

/** Every pod serves all ports with all protocols of a case. */
const portsOf = ({ ports, protocols }: z.output<typeof matrixCase>): RecordedPort[] =>
  ports.flatMap((containerPort) =>
    protocols.map((protocol) => ({
      name: `serve-${containerPort}-${protocol.toLowerCase()}`,
      containerPort,
      protocol,
    })),
  );

function checkMatrices(scenario: PolicyScenario, { id, desc, steps }: z.output<typeof matrixCase>, tally: Tally): void {
  for (const [i, { actions, probes }] of steps.entries()) {
    scenario.apply(actions);
    for (const { expected, ...probe } of probes) {
      const connections = Object.entries(expected).flatMap(([from, row]) =>
        Object.entries(row).map(([to, isAllowed]): ExpectedConnection => ({ from, to, isAllowed })),
      );
      const fact = `${id}: ${desc} (step ${i + 1}, ${probe.port}/${probe.protocol})`;
      tally.fact(fact, scenario.differences({ port: probe.port, protocol: probe.protocol }, connections));
    }
  }
}

function checkEdges(scenario: PolicyScenario, { id, desc, steps }: z.output<typeof edgeCase>, tally: Tally): void {
  for (const [i, { actions, edges }] of steps.entries()) {
    scenario.apply(actions);
    const differences = edges.flatMap(({ from, to, port, protocol, allowed }) =>
      scenario.differences({ port, protocol }, [{ from, to, isAllowed: allowed }]),
    );
    tally.fact(`${id}: ${desc} (step ${i + 1})`, differences);
  }
}

function answerTo({ id, rule, ports }: z.output<typeof validationCase>): 'accept' | 'reject' {
  try {
    checkNetworkPolicy(objectFrom('NetworkPolicy', { metadata: { name: id }, spec: { [rule]: [{ ports }] } }));
    return 'accept';
  } catch (error) {
    if (error instanceof ObjectError) return 'reject';
    throw error;
  }
}
