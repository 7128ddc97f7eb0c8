// No flow was recorded in IPVS mode. Those of iptables mode are asked of it all the same: it agrees but for what its own
// sources say it does otherwise.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseSuite } from './suite-text.ts';

interface RecordedRow {
  mode: string;
}

/** Neither loopback nor what goes to it has a virtual server (`-s 127.0.0.0/8 -j RETURN`, no server on 127.0.0.1). */
const LOOPBACK = [
  'ipt-nodeport-v4-localhost-on: loopback node port works and is SNATed',
  'ipt-masq-no-detector: loopback to node port',
  'ipt-masq-no-detector: eTP Local: loopback to node port (short circuit)',
  'ipt-masq-no-detector: iTP Local: loopback to node port',
  'ipt-masq-masq-all: loopback to node port',
  'ipt-masq-masq-all: eTP Local: loopback to node port (short circuit)',
  'ipt-masq-masq-all: iTP Local: loopback to node port',
];

/** An external address has one virtual server for all: with policy Local the node's own traffic stays here, too, unmasqueraded. */
const NO_SHORT_CIRCUIT = [
  'ipt-mixed-six-services: node itself to an externalIP of a Local-policy service: short circuit plus SNAT',
  'ipt-masq-no-detector: eTP Local: node to LB IP (short circuit)',
  'ipt-masq-masq-all: eTP Local: pod to node port (short circuit)',
  'ipt-masq-masq-all: eTP Local: pod to LB IP (short circuit)',
  'ipt-masq-masq-all: eTP Local: node to LB IP (short circuit)',
];

/** Without a local endpoint, those elsewhere get what policy Local would drop (kubernetes/kubernetes#97081). */
const NOT_DROPPED = ['ipt-mixed-six-services: outside client to that externalIP, nothing local here'];

test('IPVS mode sends packets where iptables mode does, with three kinds of exceptions', () => {
  const recorded = JSON.parse(
    readFileSync(join(import.meta.dirname, 'kube-proxy-flows.json'), 'utf8'),
  ) as RecordedRow[];
  const asked = recorded.filter(({ mode }) => mode === 'iptables');
  for (const row of asked) row.mode = 'ipvs';
  const { mismatches, total } = parseSuite(JSON.stringify(asked), 'as ipvs').run();
  const others = mismatches.map(({ fact }) => fact.replace(/ \(TCP [\d.]+ > [\d.]+:\d+\)$/, ''));
  expect(others.sort()).toEqual([...LOOPBACK, ...NO_SHORT_CIRCUIT, ...NOT_DROPPED].sort());
  expect(total).toBe(132);
});
