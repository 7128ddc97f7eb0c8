// What the API server refuses of a NetworkPolicy: ValidateNetworkPolicySpec of pkg/apis/networking/validation. The shape of
// each field is the schema's matter. A policy that selects nothing is legal.

import { contains, parseAnyPrefix } from '../../packet/ip-address.ts';
import { ObjectError } from '../object-error.ts';
import type { LabelSelector, NetworkPolicy } from '../objects.ts';
import type { PolicyPeer, PolicyPort } from './policy-objects.ts';

type Refuse = (field: string, problem: string) => never;

/** Throws an ObjectError about the first wrong field. */
export function checkNetworkPolicy(policy: NetworkPolicy): void {
  const refuse: Refuse = (field, problem) => {
    throw new ObjectError(policy, `spec.${field}: ${problem}`);
  };
  const { podSelector, policyTypes, ingress, egress } = policy.spec;
  checkSelector('podSelector', podSelector, refuse);
  for (const [i, { from, ports }] of ingress.entries()) {
    for (const [j, port] of ports.entries()) checkPort(`ingress[${i}].ports[${j}]`, port, refuse);
    for (const [j, peer] of from.entries()) checkPeer(`ingress[${i}].from[${j}]`, peer, refuse);
  }
  for (const [i, { to, ports }] of egress.entries()) {
    for (const [j, port] of ports.entries()) checkPort(`egress[${i}].ports[${j}]`, port, refuse);
    for (const [j, peer] of to.entries()) checkPeer(`egress[${i}].to[${j}]`, peer, refuse);
  }
  if (policyTypes.length > 2) refuse('policyTypes', `expected at most two, got ${policyTypes.length}`);
}

function checkPort(field: string, { port, endPort }: PolicyPort, refuse: Refuse): void {
  if (endPort === undefined) return;
  if (typeof port !== 'number')
    refuse(`${field}.endPort`, `expected none, as port is ${port === undefined ? 'absent' : 'a name'}, got ${endPort}`);
  if (endPort < port) refuse(`${field}.endPort`, `expected a number from ${port}, which is port, up, got ${endPort}`);
}

function checkPeer(field: string, { podSelector, namespaceSelector, ipBlock }: PolicyPeer, refuse: Refuse): void {
  if (podSelector !== undefined) checkSelector(`${field}.podSelector`, podSelector, refuse);
  if (namespaceSelector !== undefined) checkSelector(`${field}.namespaceSelector`, namespaceSelector, refuse);
  const isOfPods = podSelector !== undefined || namespaceSelector !== undefined;
  if (ipBlock === undefined) {
    if (!isOfPods) refuse(field, 'expected podSelector, namespaceSelector or ipBlock, got none of them');
    return;
  }
  if (isOfPods) refuse(field, 'expected no other peer beside ipBlock');
  checkBlock(`${field}.ipBlock`, ipBlock, refuse);
}

function checkBlock(field: string, { cidr, except }: NonNullable<PolicyPeer['ipBlock']>, refuse: Refuse): void {
  const block = parseAnyPrefix(cidr);
  for (const [i, text] of except.entries()) {
    const hole = parseAnyPrefix(text);
    if (hole.family !== block.family || hole.length <= block.length || !contains(block, hole.net))
      refuse(`${field}.except[${i}]`, `expected a range within ${cidr} and smaller, got "${text}"`);
  }
}

/** ValidateLabelSelector. */
function checkSelector(field: string, { matchLabels, matchExpressions }: LabelSelector, refuse: Refuse): void {
  for (const [key, value] of Object.entries(matchLabels)) {
    checkKey(`${field}.matchLabels`, key, refuse);
    checkValue(`${field}.matchLabels["${key}"]`, value, refuse);
  }
  for (const [i, { key, operator, values }] of matchExpressions.entries()) {
    const place = `${field}.matchExpressions[${i}]`;
    checkKey(`${place}.key`, key, refuse);
    const takesValues = operator === 'In' || operator === 'NotIn';
    if (takesValues && values.length === 0)
      refuse(`${place}.values`, `expected at least one, as operator is ${operator}`);
    if (!takesValues && values.length > 0) refuse(`${place}.values`, `expected none, as operator is ${operator}`);
    for (const [j, value] of values.entries()) checkValue(`${place}.values[${j}]`, value, refuse);
  }
}

const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_PREFIX = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

function checkKey(field: string, key: string, refuse: Refuse): void {
  const [first = '', second, ...rest] = key.split('/');
  const isKey = second === undefined ? LABEL_NAME.test(first) : LABEL_PREFIX.test(first) && LABEL_NAME.test(second);
  if (!isKey || rest.length > 0) refuse(field, `expected a label such as app or example.com/app, got "${key}"`);
}

function checkValue(field: string, value: string, refuse: Refuse): void {
  if (value !== '' && !LABEL_NAME.test(value))
    refuse(field, `expected at most 63 letters, digits, "-", "_" and ".", got "${value}"`);
}
