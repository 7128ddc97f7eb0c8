// Addresses: of Services and node ports from the API server, of pods from IPAM and CNI plugins.

import { z } from 'zod';
import { type AddressCase, AREAS_OF_SERVICES, runServiceCases } from './service-cases.ts';
import { type Difference, defineSuite } from './suite.ts';

/** What is asked and expected has another form for each kind. */
const anything = z.record(z.string(), z.unknown());

const addressCase = z.strictObject({
  id: z.string(),
  area: z.string(),
  kind: z.string(),
  input: anything,
  expect: anything,
  source: z.string().optional(),
  note: z.string().optional(),
});

export const ipamCni = defineSuite({
  name: 'ipam-cni',
  unit: 'cases',
  content: 'cases of areas such as service-ip or host-local, each with an input and what to expect',
  schema: z.looseObject({ cases: z.array(addressCase) }),
  recognises: (value) => value instanceof Object && 'cases' in value && isAboutAreas(value.cases),
  check: ({ cases }, tally) => {
    for (const recorded of cases) {
      if (!AREAS_OF_SERVICES.includes(recorded.area)) tally.notModelled(`area ${recorded.area}`);
      else tally.fact(`${recorded.id}: ${recorded.area}, ${recorded.kind}`, differencesOf(recorded));
    }
  },
});

const isAboutAreas = (cases: unknown): boolean =>
  Array.isArray(cases) && cases.some((row) => row instanceof Object && 'area' in row && 'kind' in row);

function differencesOf(recorded: AddressCase): Difference[] {
  const [mismatch] = runServiceCases([recorded]).mismatches;
  if (mismatch === undefined) return [];
  return [{ expected: JSON.stringify(mismatch.expected), got: JSON.stringify(mismatch.got) ?? 'nothing' }];
}
