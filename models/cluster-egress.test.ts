// How pods leave the cluster: with which address, by which node, as a server outside sees it.

import { describe, expect, test } from 'vitest';
import { ms, s } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { outsideClientIp } from './host/outside-world.ts';
import type { Process } from './host/process.ts';
import { readManifests } from './kube/manifests.ts';
import { printIptablesSave, saveTables } from './netfilter/iptables-save.ts';
import { type IpFamily, parseAnyPrefix } from './packet/ip-address.ts';

const PORT = 443;

const NODES = ['node-1', 'node-2', 'node-3'].map((name) => `{apiVersion: v1, kind: Node, metadata: {name: ${name}}}`);

function clusterWith(yaml = '', options: Partial<ClusterOptions> = {}): Cluster {
  const cluster = Cluster.fromManifests(
    readManifests([{ name: 'test.yaml', text: [yaml, ...NODES].join('\n---\n') }]),
    {
      seed: 'egress',
      ...options,
    },
  );
  cluster.serveOutside('TCP', PORT);
  return cluster;
}

/** Before the start. */
const pod = (cluster: Cluster, name: string, node = 'node-1') => cluster.addPod({ name, node });

/** The source address that the server outside sees, or why there is no answer. */
function seenOutside(cluster: Cluster, sender: Process, family: IpFamily = 4): string {
  const to = { family, ip: outsideClientIp(family), port: PORT };
  const load = cluster.closedLoop(sender, { to, requests: 1, thinkTime: ms(0), timeout: s(1) });
  cluster.runFor(s(2));
  cluster.assertConserved();
  return [...load.perSource.keys(), ...load.failures.keys()].join();
}

const podIp = (cluster: Cluster, name: string): string => cluster.api.get('Pod', `default/${name}`)!.status.podIP!;

describe('masquerade', () => {
  test('pods are seen as their node, unless nobody masquerades and the routers know them', () => {
    const cluster = clusterWith();
    const pods = [pod(cluster, 'a'), pod(cluster, 'b', 'node-2')];
    expect(pods.map((sender) => seenOutside(cluster, sender))).toEqual(['192.168.0.11', '192.168.0.12']);
    const routed = clusterWith('', { egress: { masquerade: 'none' }, podsAreRouted: true });
    expect(seenOutside(routed, pod(routed, 'a'))).toBe(podIp(routed, 'a'));
    const lost = clusterWith('', { egress: { masquerade: 'none' } });
    expect(seenOutside(lost, pod(lost, 'a'))).toBe('timed out'); // no way back
  });

  test('ip-masq-agent leaves pods their address towards its ranges', () => {
    const outside = parseAnyPrefix('203.0.113.0/24');
    const kept = clusterWith('', {
      egress: { masquerade: 'ip-masq-agent', nonMasqueradeRanges: [outside] },
      podsAreRouted: true,
    });
    expect(seenOutside(kept, pod(kept, 'a'))).toBe(podIp(kept, 'a'));
    const other = clusterWith('', { egress: { masquerade: 'ip-masq-agent' }, podsAreRouted: true });
    expect(seenOutside(other, pod(other, 'a'))).toBe('192.168.0.11');
  });

  test('its rules are those of the agent', () => {
    const cluster = clusterWith('', { egress: { masquerade: 'ip-masq-agent' } });
    const { tables } = cluster.node('node-1').machine.root.enableNetfilter();
    const lines = printIptablesSave(saveTables(tables))
      .split('\n')
      .filter((line) => line.includes('ip-masq-agent'));
    expect(lines.map((line) => line.replace(/-m comment --comment "[^"]*" /, ''))).toEqual([
      '-A POSTROUTING -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT',
      '-A IP-MASQ-AGENT -d 169.254.0.0/16 -j RETURN',
      '-A IP-MASQ-AGENT -d 10.0.0.0/8 -j RETURN',
      '-A IP-MASQ-AGENT -d 172.16.0.0/12 -j RETURN',
      '-A IP-MASQ-AGENT -d 192.168.0.0/16 -j RETURN',
      '-A IP-MASQ-AGENT -j MASQUERADE --random-fully',
    ]);
  });

  test('in both families', () => {
    const cluster = clusterWith('', { ipFamily: 'dual', egress: { masquerade: 'ip-masq-agent' } });
    const sender = pod(cluster, 'a');
    expect(seenOutside(cluster, sender, 4)).toBe('192.168.0.11');
    expect(seenOutside(cluster, sender, 6)).toBe('fd00:192:168::b');
  });
});

describe('an egress gateway', () => {
  const policy = (spec: string) => `
apiVersion: cilium.io/v2
kind: CiliumEgressGatewayPolicy
metadata: {name: partner}
spec: {selectors: [{podSelector: {matchLabels: {team: a}}}], ${spec}}`;
  const sender = (name: string, node: string, team: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {team: ${team}}}
spec: {nodeName: ${node}, containers: [{name: main}]}`;
  const PODS = [sender('a', 'node-1', 'a'), sender('a-too', 'node-3', 'a'), sender('b', 'node-1', 'b')];
  const GATEWAY = 'nodeSelector: {matchLabels: {kubernetes.io/hostname: node-3}}';
  const withPolicy = (spec: string, options: Partial<ClusterOptions> = {}) =>
    clusterWith([...PODS, policy(spec)].join('\n---\n'), options);
  const seenOf = (cluster: Cluster, name: string, family?: IpFamily) =>
    seenOutside(cluster, cluster.pod(`default/${name}`), family);

  test('gives the selected pods its address, wherever they are, and leaves others theirs', () => {
    const cluster = withPolicy(`destinationCIDRs: [203.0.113.0/24], egressGateway: {${GATEWAY}}`);
    expect(['a', 'a-too', 'b'].map((name) => seenOf(cluster, name))).toEqual([
      '192.168.0.13',
      '192.168.0.13',
      '192.168.0.11',
    ]);
  });

  test.each(['192.168.0.200', '198.51.100.77'])('has the address of the policy: %s', (egressIP) => {
    const cluster = withPolicy(`destinationCIDRs: [0.0.0.0/0], egressGateway: {${GATEWAY}, egressIP: ${egressIP}}`);
    expect(['a', 'a-too', 'b'].map((name) => seenOf(cluster, name))).toEqual([egressIP, egressIP, '192.168.0.11']);
  });

  test('is for its destinations, without those that are excluded', () => {
    const elsewhere = withPolicy(`destinationCIDRs: [192.0.2.0/24], egressGateway: {${GATEWAY}}`);
    expect(seenOf(elsewhere, 'a')).toBe('192.168.0.11');
    const excluded = withPolicy(
      `destinationCIDRs: [0.0.0.0/0], excludedCIDRs: [203.0.113.10/32], egressGateway: {${GATEWAY}}`,
    );
    expect(seenOf(excluded, 'a')).toBe('192.168.0.11');
  });

  test('leaves pods and Services of the cluster alone', () => {
    const cluster = withPolicy(`destinationCIDRs: [0.0.0.0/0], egressGateway: {${GATEWAY}}`);
    cluster.addDeployment({ name: 'web', replicas: 1, node: 'node-2' });
    cluster.addService({ name: 'web', port: 80, selects: { name: 'web' } });
    const load = cluster.closedLoop(cluster.pod('default/a'), { to: cluster.resolve('web:80'), requests: 2 });
    cluster.runFor(s(1));
    expect([...load.perSource]).toEqual([[podIp(cluster, 'a'), 2]]);
  });

  test('that is not there drops what it is for', () => {
    const cluster = withPolicy(
      'destinationCIDRs: [203.0.113.0/24], egressGateway: {nodeSelector: {matchLabels: {role: none}}}',
    );
    expect(seenOf(cluster, 'a')).toBe('timed out');
    expect(seenOf(cluster, 'b')).toBe('192.168.0.11');
  });

  test('works in IPv6', () => {
    const cluster = withPolicy(`destinationCIDRs: ["2001:db8:203:113::/64"], egressGateway: {${GATEWAY}}`, {
      ipFamily: 'dual',
    });
    expect(['a', 'a-too', 'b'].map((name) => seenOf(cluster, name, 6))).toEqual([
      'fd00:192:168::d',
      'fd00:192:168::d',
      'fd00:192:168::b',
    ]);
    expect(seenOf(cluster, 'a', 4)).toBe('192.168.0.11');
  });

  test('hears of pods that come, and of policies that go', () => {
    const cluster = withPolicy(`destinationCIDRs: [203.0.113.0/24], egressGateway: {${GATEWAY}}`);
    cluster.runFor(s(1));
    cluster.apply(readManifests([{ name: 'late.yaml', text: sender('late', 'node-2', 'a') }]).objects);
    cluster.runFor(s(5));
    expect(seenOf(cluster, 'late')).toBe('192.168.0.13');
    cluster.api.delete('CiliumEgressGatewayPolicy', 'partner');
    cluster.runFor(s(1));
    expect(seenOf(cluster, 'late')).toBe('192.168.0.12');
  });

  test('is refused without destinations', () => {
    expect(() => withPolicy(`destinationCIDRs: [], egressGateway: {${GATEWAY}}`)).toThrow(
      'test.yaml: document 4 (CiliumEgressGatewayPolicy partner): spec.destinationCIDRs: expected at least one range, got []',
    );
  });
});
