// Addresses: of Services and node ports from the API server, of pods from IPAM and CNI plugins; and what those plugins do.

import { z } from 'zod';
import { type AddressCase, agrees, answerOf, type Questions } from './address-case.ts';
import { SPECIFICATION_QUESTIONS } from './cni-spec-cases.ts';
import { BRIDGE_QUESTIONS, MASQUERADE_QUESTIONS, PTP_QUESTIONS } from './connecting-cases.ts';
import { FLANNEL_QUESTIONS } from './flannel-cases.ts';
import { HOST_LOCAL_QUESTIONS } from './host-local-cases.ts';
import { KUBENET_QUESTIONS } from './kubenet-cases.ts';
import { NODE_CIDR_QUESTIONS } from './node-cidr-cases.ts';
import { PORTMAP_QUESTIONS } from './portmap-cases.ts';
import { NODE_PORT_QUESTIONS, SERVICE_IP_QUESTIONS } from './service-cases.ts';
import { type Difference, defineSuite } from './suite.ts';

const AREAS: Readonly<Record<string, Questions>> = {
  'host-local': HOST_LOCAL_QUESTIONS,
  'cni-spec': SPECIFICATION_QUESTIONS,
  bridge: BRIDGE_QUESTIONS,
  ptp: PTP_QUESTIONS,
  ipmasq: MASQUERADE_QUESTIONS,
  portmap: PORTMAP_QUESTIONS,
  flannel: FLANNEL_QUESTIONS,
  kubenet: KUBENET_QUESTIONS,
  'node-cidr': NODE_CIDR_QUESTIONS,
  'service-ip': SERVICE_IP_QUESTIONS,
  nodeport: NODE_PORT_QUESTIONS,
};

const anything = z.record(z.string(), z.any());

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
      const question = AREAS[recorded.area]?.[recorded.kind];
      if (question === undefined) tally.notModelled(`area ${recorded.area}, kind ${recorded.kind}`);
      else tally.fact(`${recorded.id}: ${recorded.area}, ${recorded.kind}`, differencesOf(recorded, question));
    }
  },
});

const isAboutAreas = (cases: unknown): boolean =>
  Array.isArray(cases) && cases.some((row) => row instanceof Object && 'area' in row && 'kind' in row);

function differencesOf({ input, expect }: AddressCase, question: Questions[string]): Difference[] {
  const got = answerOf(() => question(input));
  if (agrees(expect, got)) return [];
  return [{ expected: JSON.stringify(expect), got: JSON.stringify(got) ?? 'nothing' }];
}
