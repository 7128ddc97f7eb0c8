// Facts about the plugin portmap, asked of it behind ptp, which gives the container the recorded address.

import { chainNameOf } from '../cni/chain-name.ts';
import { CniLab } from '../cni/cni-lab.fixture.ts';
import { readOptions } from '../cni/options.ts';
import { backendNameOf, type PortmapOptions, portmap } from '../cni/plugins/portmap.ts';
import { markOf } from '../cni/plugins/portmap-iptables.ts';
import type { PortMapping } from '../cni/port-mapping.ts';
import { Rule } from '../netfilter/rule.ts';
import { parseRule } from '../netfilter/rule-text.ts';
import { PROTOCOL_TCP, PROTOCOL_UDP, TCP_SYN } from '../packet/frame.ts';
import { formatPrefix, parseAddress, parsePrefix } from '../packet/ip-address.ts';
import type { CaseInput, Questions } from './address-case.ts';
import { flow, nftChains, readRule } from './connecting-cases.ts';

const ID = 'container';

export const PORTMAP_QUESTIONS: Questions = {
  'chain-name': ({ network, containerID }) => ({ chain: chainNameOf(network, containerID, 'DN-') }),
  'iptables-rules': (input) => iptablesRules(input),
  chain: ({ chain }) => (chain.includes('<') ? containerChain() : topChain(chain)),
  mark: ({ markMasqBit }) => ({ mark: markOf(optionsOf({ ...(markMasqBit !== null && { markMasqBit }) })) }),
  invalid: ({ markMasqBit, containerPort }) => {
    const mapping = containerPort === undefined ? HTTP : { ...HTTP, containerPort };
    mapped({ portMappings: [mapping], ...(markMasqBit !== undefined && { markMasqBit }) });
    return { accepted: true };
  },
  packet: (input) => packet(input),
  conntrack: ({ mapping }) => forgotten(mapping),
  sysctl: ({ snat }) => {
    const lab = mapped({ portMappings: [HTTP], snat });
    const { root } = lab.machine;
    const device = root.stack.fib.lookup(parseAddress('10.0.0.2').ip)!.device.name;
    const isToContainer = device.startsWith('veth');
    return {
      route_localnet: root.sysctls.read(`net.ipv4.conf.${device}.route_localnet`),
      on: isToContainer ? 'host interface that routes to the container' : device,
    };
  },
  'nftables-rules': ({ mapping }) => nftablesRules(mapping),
  backend: ({ backend }) => ({ backend: backendNameOf(optionsOf(backend === null ? {} : { backend })) }),
};

const HTTP: PortMapping = { hostPort: 8080, containerPort: 80, protocol: 'tcp' };

const optionsOf = (options: object): PortmapOptions =>
  readOptions(portmap.options as never, { type: 'portmap', ...options }, 'plugin portmap');

/** A node on which a container of that address has these ports. */
function mapped({
  portMappings,
  containerAddress = '10.0.0.2/24',
  nodeAddresses = ['192.168.0.2'],
  ...options
}: CaseInput): CniLab {
  const lab = new CniLab();
  lab.addNic(
    'eth0',
    nodeAddresses.map((address: string) => `${address}/24`),
  );
  const [address] = containerAddress.split('/');
  const subnet = formatPrefix(parsePrefix(containerAddress));
  const runtime = lab.network([
    { type: 'ptp', ipam: { type: 'host-local', subnet } },
    { type: 'portmap', capabilities: { portMappings: true }, ...options },
  ]);
  runtime.add(lab.container(ID, { capabilities: { portMappings }, requestedIps: [parseAddress(address)] }));
  return lab;
}

const rulesOf = (lab: CniLab, chain: string): readonly string[] =>
  lab.machine.root
    .enableNetfilter()
    .tables.chain('nat', chain)
    ?.rules.map(({ text }) => text) ?? [];

const CHAIN = chainNameOf('net', ID, 'DN-');

/** In the recorded words, where they mean the same. */
function iptablesRules({ containerAddress, portMappings, snat }: CaseInput) {
  const lab = mapped({ containerAddress, portMappings, snat });
  const rules = rulesOf(lab, CHAIN).map((text) => {
    const [, sourceText = '', to = '', protocol, port, target] =
      /^(-s \S+ )?(-d \S+ )?-p (\S+) -m \S+ --dport (\d+) -j (.*)$/.exec(text) ?? [];
    const source = sourceText.trim();
    const isOwn = source !== '' && source === `-s ${formatPrefix(parsePrefix(containerAddress))}`;
    const from = isOwn ? `-s ${containerAddress}` : source.replace('/32', '');
    const words = [`-p ${protocol} --dport ${port}`, to.trim().replace('/32', ''), from, `-j ${target}`];
    const recorded = words.filter((word) => word !== '').join(' ');
    return readRule(recorded) === text ? recorded : text;
  });
  const entry = rulesOf(lab, 'CNI-HOSTPORT-DNAT').map((text) => {
    const [, protocol, ports] = /^-p (\S+) .*--dports (\S+) -j CNI-DN-\w+$/.exec(text) ?? [];
    return `-p ${protocol} --destination-ports ${ports}`;
  });
  return { rules, entry };
}

function topChain(chain: string) {
  const lab = mapped({ portMappings: [HTTP] });
  const from = ['PREROUTING', 'OUTPUT', 'INPUT', 'POSTROUTING'].filter((builtin) =>
    rulesOf(lab, builtin).some((text) => text.endsWith(`-j ${chain}`)),
  );
  const [rule = ''] = rulesOf(lab, from[0]!);
  const [, match] = new RegExp(`^-m (.*) -j ${chain}$`).exec(rule) ?? [];
  return { table: 'nat', from, match };
}

function containerChain() {
  const ports = Array.from({ length: 31 }, (_, i) => ({ ...HTTP, hostPort: 8000 + i }));
  const entries = rulesOf(mapped({ portMappings: ports }), 'CNI-HOSTPORT-DNAT');
  const sizes = entries.map((text) => /--dports (\S+)/.exec(text)![1]!.split(',').length);
  const isMultiport = entries.every((text) => text.includes('-m multiport '));
  return {
    table: 'nat',
    from: entries.every((text) => text.endsWith(`-j ${CHAIN}`)) ? ['CNI-HOSTPORT-DNAT'] : [],
    match: `${isMultiport ? 'multiport' : 'ports'}, at most ${Math.max(...sizes)} ports a rule`,
    perContainer: CHAIN !== chainNameOf('net', 'another', 'DN-'),
  };
}

function packet({ containerAddress, mapping, nodeAddresses, packet: sent, backend }: CaseInput) {
  const lab = mapped({ containerAddress, portMappings: [mapping], nodeAddresses, ...(backend && { backend }) });
  const src = sent.from.split(' ').at(-1);
  const [, dst, port, protocol = 'tcp'] = /^(\S+):(\d+)(?:\/(\w+))?$/.exec(sent.dst) ?? [];
  const { endpoint = null, masqueraded } = flow(lab, {
    ...{ src, dst: dst!, dstPort: Number(port), own: nodeAddresses },
    protocol: protocol === 'udp' ? 'UDP' : 'TCP',
  });
  return { dnat: endpoint, masquerade: masqueraded };
}

/** Printed as a name only where the hook has it: at output it is a number. */
const DNAT_PRIORITY = new Set(['dstnat', '-100']);

/** Flows that were tracked before: one of each protocol to the host port, and one to another port. */
function forgotten({ hostPort, protocol }: CaseInput) {
  const lab = new CniLab();
  lab.addNic('eth0', ['192.168.0.2/24']);
  const { root } = lab.machine;
  const netfilter = root.enableNetfilter();
  // Rules that ask for it turn tracking on.
  netfilter.tables.appendRule('nat', 'POSTROUTING', new Rule(parseRule('-o none -j MASQUERADE')));
  for (const [kind, port] of [
    ['udp', hostPort],
    ['tcp', hostPort],
    ['udp', hostPort + 1],
  ] as const)
    track(lab, kind, port);
  const before = tracked(lab);
  const runtime = lab.network([
    { type: 'ptp', ipam: { type: 'host-local', subnet: '10.0.0.0/24' } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ]);
  const portMappings = [{ hostPort, containerPort: hostPort, protocol }];
  runtime.add(lab.container(ID, { capabilities: { portMappings } }));
  const after = tracked(lab);
  const gone = before.filter((one) => !after.includes(one));
  const isAsRecorded = before.length === 3 && gone.join() === `${protocol} ${hostPort}`;
  return {
    conntrackDeleted: isAsRecorded ? `UDP entries with original destination port ${hostPort}` : gone.join(', '),
  };
}

/** The node sends such a packet to somebody. */
function track({ frames, machine }: CniLab, protocol: 'tcp' | 'udp', dstPort: number): void {
  const frame = frames.allocate();
  frame.setFamily(4);
  frame.protocol = protocol === 'udp' ? PROTOCOL_UDP : PROTOCOL_TCP;
  if (protocol === 'tcp') frame.tcpFlags = TCP_SYN;
  frame.dstIp = parseAddress('192.168.0.9').ip;
  frame.srcPort = 40_000;
  frame.dstPort = dstPort;
  frame.updateSize();
  machine.cpus.submit(0, (sent) => machine.root.stack.send(sent), frame);
}

const tracked = ({ machine }: CniLab): string[] =>
  machine.root
    .enableNetfilter()
    .conntrack.list()
    .map(({ original }) => `${original.protocol === PROTOCOL_UDP ? 'udp' : 'tcp'} ${original.dstPort}`);

function nftablesRules(mapping: PortMapping) {
  const lab = mapped({ portMappings: [mapping], backend: 'nftables' });
  const [, tables] = nftChains(lab.machine.root.enableNetfilter());
  const { table, chains, text } = tables.find((one) => one.table.includes('hostport'))!;
  const hooks = [...text.matchAll(/hook (\S+) priority (\S+);/g)].flatMap(([, hook, priority]) =>
    DNAT_PRIORITY.has(priority!) ? [`${hook} (dnat)`] : [],
  );
  const [, match, chain] = /^(.*) jump (hostports)$/.exec(chains.prerouting!.at(-1)!) ?? [];
  return {
    table,
    hooks,
    match,
    chain,
    rule: chains[chain!]![0],
    masquerading: chains.masquerading,
  };
}
