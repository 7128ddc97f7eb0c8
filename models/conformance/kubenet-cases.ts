// Facts about kubenet, asked of the network of that name.

import { Cluster } from '../cluster.ts';
import { CniLab } from '../cni/cni-lab.fixture.ts';
import { CniRuntime } from '../cni/cni-runtime.ts';
import {
  type HairpinMode,
  hairpinOptions,
  KUBENET_BRIDGE,
  kubenetConfigList,
  kubenetNetwork,
  mtuOfNode,
} from '../cni/networks/kubenet.ts';
import { Bridge } from '../link/bridge.ts';
import { parseIp, parsePrefix } from '../packet/ip-address.ts';
import { answerOf, type Questions } from './address-case.ts';
import { readRule } from './connecting-cases.ts';

const POD_RANGE = parsePrefix('10.244.0.0/16');

export const KUBENET_QUESTIONS: Questions = {
  defaults: () => {
    const { lab, network } = kubenetNode();
    const { plugins, cniVersion } = kubenetConfigList({
      ...{ mtuBytes: 1500, hairpin: 'hairpin-veth', ranges: [[{ subnet: '10.244.1.0/24' }]], routes: [] },
    });
    const types = plugins.flatMap(({ type, ipam }) => (ipam === undefined ? [type] : [type, ipam.type]));
    const { iptables } = lab.machine.root.bridgeCalls;
    const bridge = lab.machine.root.deviceNamed(KUBENET_BRIDGE);
    return {
      plugins: types,
      cniVersion,
      bridgeNfCallIptables: Number(iptables),
      bridge: bridge.name,
      gateways: network.gateways.length,
    };
  },
  config: ({ podCIDR }) => (podCIDR === 'none yet' ? withoutRange() : withAnotherRange()),
  mtu: ({ interfaces }) => ({
    mtu: mtuOfNode(interfaces.map(({ name, mtu }: { name: string; mtu: number }) => ({ name, mtuBytes: mtu }))),
  }),
  hairpin: ({ hairpinMode }) => {
    const { lab, network } = kubenetNode(hairpinMode);
    new CniRuntime(lab.host, network.configList).add(lab.container('pod'));
    const bridge = lab.machine.root.deviceNamed(KUBENET_BRIDGE);
    if (!(bridge instanceof Bridge)) throw new Error(`${KUBENET_BRIDGE} is no bridge`);
    return { vethHairpin: bridge.ports[0]!.hairpin, bridgePromisc: bridge.promiscuous };
  },
  masq: ({ nonMasqueradeCIDR }) => {
    const { lab } = kubenetNode('hairpin-veth', nonMasqueradeCIDR);
    const [rule] = lab.machine.root.enableNetfilter().tables.chain('nat', 'POSTROUTING')!.rules;
    if (rule === undefined) return { rule: null };
    const recorded = `-m addrtype ! --dst-type LOCAL ! -d ${nonMasqueradeCIDR} -j MASQUERADE`;
    return { rule: readRule(recorded) === rule.text ? `nat POSTROUTING ${recorded}` : rule.text };
  },
};

function kubenetNode(hairpin: HairpinMode = 'hairpin-veth', nonMasquerade = '10.0.0.0/8') {
  const lab = new CniLab();
  lab.addNic('eth0', ['192.168.0.2/16']);
  const { hairpinMode, promiscMode } = hairpinOptions(hairpin);
  const bridge = { hairpinMode, ...(promiscMode && { promiscuous: true }) };
  const cluster = { families: [4] as const, podRange: () => POD_RANGE, bridge, masquerades: true };
  const network = kubenetNetwork(cluster, parsePrefix(nonMasquerade));
  const nic = lab.machine.root.deviceNamed('eth0');
  const families = [{ family: 4 as const, ip: parseIp('192.168.0.2'), podRange: parsePrefix('10.244.1.0/24') }];
  return { lab, network: network.join({ name: 'node-1', host: lab.host, nic, families }) };
}

const withoutRange = () => {
  const answer = answerOf(() =>
    kubenetConfigList({ mtuBytes: 1500, hairpin: 'hairpin-veth', ranges: undefined, routes: [] }),
  ) as { error?: string };
  return { status: answer.error?.includes('not ready') === true ? 'not ready' : 'ready' };
};

/** A node's object says another range later: its pods go on in the first one. */
function withAnotherRange() {
  const cluster = new Cluster({ seed: 'kubenet', cni: 'kubenet' });
  cluster.addNodes(1);
  const before = cluster.addPod({ name: 'before' });
  const node = cluster.api.get('Node', 'node-1')!;
  cluster.api.update({ ...node, spec: { ...node.spec, podCIDR: '10.244.9.0/24' } });
  const after = cluster.addPod({ name: 'after' });
  return { ignored: after.ip === before.ip + 1 };
}
