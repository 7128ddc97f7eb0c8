// The tables that kube-proxy writes, for a handful of Services over the pods of a random case: in iptables' language, and in
// nft's. Endpoints are taken in turn (statistic nth, numgen inc) unless coins are allowed.

import type { Draw } from './draw.ts';
import type { RuleWords } from './iptables-rules.ts';
import { hostPrefix, NODE_PORT, POD_PORTS, SERVICE_PORTS, type Words } from './words.ts';

interface Service {
  readonly name: string;
  readonly ip: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly endpoints: readonly string[];
  readonly nodePort: number | undefined;
  readonly sticky: boolean;
}

function drawServices(draw: Draw, { words, features }: RuleWords): Service[] {
  const places = words.services.flatMap((ip) => SERVICE_PORTS.map((port) => ({ ip, port })));
  return draw.some(draw.between(2, 4), places).map(({ ip, port }, i) => {
    const protocol = port === 53 ? 'udp' : 'tcp';
    const port0 = draw.pick(POD_PORTS);
    const endpoints = draw.some(draw.between(0, 3), words.pods).sort();
    return {
      ...{ name: `default/web-${i}`, ip, protocol, port },
      endpoints: endpoints.map((pod) => (words.family === 4 ? `${pod}:${port0}` : `[${pod}]:${port0}`)),
      nodePort: i === 0 && draw.chance(0.7) ? NODE_PORT : undefined,
      sticky: features.has('remember') && draw.chance(0.2),
    };
  });
}

// ── iptables ─────────────────────────────────────────────────────────────────────────────────────────────────────────

export function drawKubeRules(draw: Draw, rules: RuleWords): string {
  const services = drawServices(draw, rules);
  const masquerade = rules.features.has('random') && draw.chance(0.5) ? 'MASQUERADE --random-fully' : 'MASQUERADE';
  const detector = draw.pick(['', ` ! -s ${clusterRange(rules.words)}`]);
  const chains: string[] = [];
  const lines: string[] = [];
  for (const [i, service] of services.entries()) {
    if (service.endpoints.length === 0) continue;
    drawService(service, { number: i, detector, rules, chains, lines });
  }
  const nodePorts = services.flatMap(({ nodePort, protocol, endpoints }, i) =>
    nodePort === undefined || endpoints.length === 0
      ? []
      : [`-A KUBE-NODEPORTS -p ${protocol} -m ${protocol} --dport ${nodePort} -j KUBE-EXT-${i}`],
  );
  const nat = [
    '*nat',
    ...['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'].map((hook) => `:${hook} ACCEPT [0:0]`),
    ...['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ', ...chains].map(
      (name) => `:${name} - [0:0]`,
    ),
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    ...services.flatMap((service, i) =>
      service.endpoints.length === 0 ? [] : [`-A KUBE-SERVICES ${to(service, rules.words)} -j KUBE-SVC-${i}`],
    ),
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    ...nodePorts,
    '-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000',
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    `-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j ${masquerade}`,
    ...lines,
    'COMMIT',
  ];
  return `${[...nat, ...filterTable(services, rules.words)].join('\n')}\n`;
}

function filterTable(services: readonly Service[], words: Words): string[] {
  const rejected = services.filter(({ endpoints }) => endpoints.length === 0);
  return [
    '*filter',
    ...['INPUT', 'FORWARD', 'OUTPUT'].map((hook) => `:${hook} ACCEPT [0:0]`),
    ...['KUBE-SERVICES', 'KUBE-FORWARD'].map((name) => `:${name} - [0:0]`),
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    '-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
    '-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...rejected.map(
      (service) =>
        `-A KUBE-SERVICES ${to(service, words)} -m comment --comment "${service.name} has no endpoints" -j REJECT`,
    ),
    'COMMIT',
  ];
}

function drawService(
  { name, ip, protocol, port, endpoints, nodePort, sticky }: Service,
  {
    number,
    detector,
    rules,
    chains,
    lines,
  }: { number: number; detector: string; rules: RuleWords; chains: string[]; lines: string[] },
): void {
  const service = `KUBE-SVC-${number}`;
  const { words, features } = rules;
  chains.push(service);
  if (detector !== '') lines.push(`-A ${service}${detector} ${to({ ip, protocol, port }, words)} -j KUBE-MARK-MASQ`);
  if (nodePort !== undefined) {
    chains.push(`KUBE-EXT-${number}`);
    lines.push(`-A KUBE-EXT-${number} -j KUBE-MARK-MASQ`, `-A KUBE-EXT-${number} -j ${service}`);
  }
  const sep = (i: number): string => `KUBE-SEP-${number}-${i}`;
  if (sticky) {
    for (const i of endpoints.keys())
      lines.push(`-A ${service} -m recent --rcheck --seconds 10800 --reap --name ${sep(i)} --rsource -j ${sep(i)}`);
  }
  for (const [i, endpoint] of endpoints.entries()) {
    const left = endpoints.length - i;
    const coin = features.has('random')
      ? `random --probability ${(1 / left).toFixed(10)}`
      : `nth --every ${left} --packet 0`;
    const turn = left === 1 ? '' : ` -m statistic --mode ${coin}`;
    chains.push(sep(i));
    lines.push(
      `-A ${service} -m comment --comment "${name} -> ${endpoint}"${turn} -j ${sep(i)}`,
      `-A ${sep(i)} -s ${hostPrefix(words, addressOf(endpoint))} -j KUBE-MARK-MASQ`,
      `-A ${sep(i)} ${sticky ? `-m recent --set --name ${sep(i)} --rsource ` : ''}-p ${protocol} -m ${protocol} -j DNAT --to-destination ${endpoint}`,
    );
  }
}

const to = ({ ip, protocol, port }: Pick<Service, 'ip' | 'protocol' | 'port'>, words: Words): string =>
  `-d ${hostPrefix(words, ip)} -p ${protocol} -m ${protocol} --dport ${port}`;

const clusterRange = ({ networks }: Words): string => networks[0] ?? '';

/** Of `10.244.1.2:8080` or `[fd00::2]:8080`. */
const addressOf = (endpoint: string): string => endpoint.slice(0, endpoint.lastIndexOf(':')).replace(/[[\]]/g, '');

// ── nft ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

export function drawKubeTable(draw: Draw, rules: RuleWords): string {
  const { words, features } = rules;
  const services = drawServices(draw, rules);
  const family = words.family === 4 ? 'ip' : 'ip6';
  const address = words.family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  const localhost = words.family === 4 ? '127.0.0.0/8' : '::1';
  const served = services.filter(({ endpoints }) => endpoints.length > 0);
  const elements = (list: readonly string[]): string =>
    list.length === 0 ? '' : `\n\t\telements = { ${list.join(', ')} }`;
  const key = ({ ip, protocol, port }: Service): string => `${ip} . ${protocol} . ${port}`;
  const map = (name: string, type: string, list: readonly string[]): string =>
    `\tmap ${name} {\n\t\ttype ${type} : verdict${elements(list)}\n\t}\n`;
  const chain = (name: string, lines: readonly string[]): string =>
    `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
  const base = (type: string, hook: string, priority: string): string =>
    `type ${type} hook ${hook} priority ${priority}; policy accept;`;
  const turn = features.has('random') ? 'random' : 'inc';
  const masquerade = features.has('random') && draw.chance(0.5) ? 'masquerade fully-random' : 'masquerade';
  const chains = [
    chain('mark-for-masquerade', ['counter meta mark set mark or 0x4000']),
    chain('masquerading', [
      'meta mark and 0x4000 == 0 return',
      'meta mark set mark xor 0x4000',
      `counter ${masquerade}`,
    ]),
    chain('reject-chain', ['counter reject']),
    ...served.flatMap((service) => [
      ...service.endpoints.map((endpoint, i) =>
        chain(`${nameOf(service)}-endpoint-${i}`, [
          `${family} saddr ${addressOf(endpoint)} jump mark-for-masquerade`,
          `meta l4proto ${service.protocol} counter dnat to ${endpoint}`,
        ]),
      ),
      chain(nameOf(service), [
        `${family} daddr ${service.ip} ${service.protocol} dport ${service.port} ${family} saddr != ${clusterRange(words)} jump mark-for-masquerade`,
        `numgen ${turn} mod ${service.endpoints.length} vmap { ${service.endpoints.map((_, i) => `${i} : goto ${nameOf(service)}-endpoint-${i}`).join(', ')} }`,
      ]),
      chain(`${nameOf(service)}-external`, ['jump mark-for-masquerade', `goto ${nameOf(service)}`]),
    ]),
    chain('services', [
      `${family} daddr . meta l4proto . th dport vmap @service-ips`,
      `fib daddr type local ${family} daddr != ${localhost} meta l4proto . th dport vmap @service-nodeports`,
    ]),
    chain('service-endpoints-check', [`${family} daddr . meta l4proto . th dport vmap @no-endpoint-services`]),
    chain('cluster-ips-check', [`${family} daddr @cluster-ips counter reject`]),
    chain('filter-forward', [
      base('filter', 'forward', '-110'),
      'ct state new jump service-endpoints-check',
      'ct state new jump cluster-ips-check',
    ]),
    chain('filter-output', [base('filter', 'output', '-110'), 'ct state new jump service-endpoints-check']),
    chain('nat-prerouting', [base('nat', 'prerouting', 'dstnat'), 'jump services']),
    chain('nat-output', [base('nat', 'output', '-100'), 'jump services']),
    chain('nat-postrouting', [base('nat', 'postrouting', 'srcnat'), 'jump masquerading']),
  ];
  const nodePorts = served.flatMap((service) =>
    service.nodePort === undefined
      ? []
      : [`${service.protocol} . ${service.nodePort} : goto ${nameOf(service)}-external`],
  );
  return [
    `table ${family} kube-proxy {\n`,
    `\tset cluster-ips {\n\t\ttype ${address}${elements([...new Set(services.map(({ ip }) => ip))])}\n\t}\n`,
    map(
      'service-ips',
      `${address} . inet_proto . inet_service`,
      served.map((service) => `${key(service)} : goto ${nameOf(service)}`),
    ),
    map('service-nodeports', 'inet_proto . inet_service', nodePorts),
    map(
      'no-endpoint-services',
      `${address} . inet_proto . inet_service`,
      services
        .filter(({ endpoints }) => endpoints.length === 0)
        .map((service) => `${key(service)} : goto reject-chain`),
    ),
    ...chains,
    '}\n',
  ].join('');
}

const nameOf = ({ name }: Service): string => `service-${name.replace('default/', '')}`;
