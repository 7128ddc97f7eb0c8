// Truth tables of NetworkPolicies: a policy for every combination of peers, ports, protocols and directions that Cyclonus
// generates, and which pods reach which under it.

import { z } from 'zod';
import {
  type ExpectedConnection,
  PolicyScenario,
  recordedAction,
  recordedNamespace,
  recordedPod,
  recordedPort,
  recordedProtocol,
} from './policy-scenario.ts';
import { defineSuite } from './suite.ts';

const PORT_AND_PROTOCOL = /^\d{1,5}\/(TCP|UDP|SCTP)$/;
const portAndProtocol = z.string().regex(PORT_AND_PROTOCOL, 'a port and a protocol such as 80/TCP');

const tableCase = z.strictObject({
  id: z.string(),
  group: z.string(),
  desc: z.string(),
  tags: z.array(z.string()),
  primaryTags: z.array(z.string()),
  runByDefault: z.boolean(),
  /** Where implementations differ. */
  ambiguous: z.string().optional(),
  steps: z.array(
    z.strictObject({
      actions: z.array(recordedAction),
      /** By port and protocol; a row for each client, in it a `.` or an `X` for each server, which refuses it. */
      table: z.record(portAndProtocol, z.array(z.string().regex(/^[.X]+$/, 'a row of . and X'))),
      /** Of rows and columns, unless it is that of the file. */
      order: z.array(z.string()).optional(),
      only: portAndProtocol.optional(),
      probeByPortName: z.string().optional(),
      loopbackPolicyWouldBlock: z.unknown().optional(),
    }),
  ),
});

export const networkPolicyCyclonus = defineSuite({
  name: 'network-policy-cyclonus',
  unit: 'tables',
  content: 'cases with policies and truth tables',
  schema: z.looseObject({
    notes: z.looseObject({ order: z.array(z.string()) }),
    model: z.looseObject({
      namespaces: z.array(recordedNamespace),
      pods: z.array(recordedPod),
      containerPorts: z.array(recordedPort),
    }),
    cases: z.array(tableCase),
  }),
  recognises: (value) => value instanceof Object && 'cases' in value && hasTables(value.cases),
  check: ({ notes, model, cases }, tally) => {
    for (const { id, desc, steps } of cases) {
      const scenario = new PolicyScenario({ ...model, ports: model.containerPorts });
      for (const [i, { actions, table, order = notes.order }] of steps.entries()) {
        scenario.apply(actions);
        for (const [key, rows] of Object.entries(table)) {
          const [port, protocol] = key.split('/');
          const probe = { port: Number(port), protocol: recordedProtocol.parse(protocol) };
          tally.fact(`${id}: ${desc} (step ${i + 1}, ${key})`, scenario.differences(probe, connectionsOf(rows, order)));
        }
      }
    }
  },
});

const hasTables = (cases: unknown): boolean =>
  Array.isArray(cases) && cases.some((row) => row instanceof Object && 'primaryTags' in row && 'steps' in row);

const connectionsOf = (rows: readonly string[], order: readonly string[]): ExpectedConnection[] =>
  rows.flatMap((row, from) =>
    [...row].map((cell, to) => ({ from: order[from]!, to: order[to]!, isAllowed: cell === '.' })),
  );
