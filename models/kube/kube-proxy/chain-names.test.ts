import { expect, test } from 'vitest';
import { serviceChainNames } from './chain-names.ts';

test.each([
  ['default/kubernetes:https', 'tcp', 'KUBE-SVC-NPX46M4PTMTKRN6Y'],
  ['kube-system/kube-dns:dns', 'udp', 'KUBE-SVC-TCOU7JCQXEZGVUNU'],
  ['kube-system/kube-dns:dns-tcp', 'tcp', 'KUBE-SVC-ERIFXISQEP7F7OF4'],
  ['kube-system/kube-dns:metrics', 'tcp', 'KUBE-SVC-JD5MR3NA4I4DYORP'],
  ['default/nginx', 'tcp', 'KUBE-SVC-2CMXP7HKUVJN7L6M'],
])('%s over %s has the chain that real clusters show', (name, protocol, chain) => {
  expect(serviceChainNames({ name, protocol }).cluster).toBe(chain);
});
