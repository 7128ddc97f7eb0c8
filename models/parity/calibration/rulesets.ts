// Rulesets to measure with: laid out as kube-proxy does, with as many services as asked for, each with one endpoint.
// The same texts go to the kernel and, for comparisons, to the simulator.

export interface ServiceRules {
  readonly services: number;
  readonly protocol: 'tcp' | 'udp';
  /** ADDRESS:PORT behind every service. */
  readonly endpoint: string;
}

/** 10.96.0.1 is the first; all listen on port 80. */
export function serviceIp(service: number): string {
  return `10.${96 + (service >> 16)}.${(service >> 8) & 255}.${service & 255}`;
}

/** For iptables-restore: KUBE-SERVICES is a list, and two chains per service follow. */
export function kubeProxyIptables({ services, protocol, endpoint }: ServiceRules): string {
  const names = Array.from({ length: services }, (_, i) => String(i + 1).padStart(16, '0'));
  const comment = (i: number) => `-m comment --comment "ns/svc${i + 1}:http`;
  return [
    '*nat',
    ...[':PREROUTING ACCEPT [0:0]', ':INPUT ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ':POSTROUTING ACCEPT [0:0]'],
    ':KUBE-SERVICES - [0:0]',
    ...names.flatMap((name) => [`:KUBE-SVC-${name} - [0:0]`, `:KUBE-SEP-${name} - [0:0]`]),
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ...names.map(
      (name, i) =>
        `-A KUBE-SERVICES -d ${serviceIp(i + 1)}/32 -p ${protocol} ${comment(i)} cluster IP" -m ${protocol} --dport 80 -j KUBE-SVC-${name}`,
    ),
    ...names.flatMap((name, i) => [
      `-A KUBE-SVC-${name} ${comment(i)} -> ${endpoint}" -j KUBE-SEP-${name}`,
      `-A KUBE-SEP-${name} -p ${protocol} ${comment(i)}" -m ${protocol} -j DNAT --to-destination ${endpoint}`,
    ]),
    'COMMIT\n',
  ].join('\n');
}

/** For nft: one verdict map leads to a chain per service. */
export function kubeProxyNft({ services, protocol, endpoint }: ServiceRules): string {
  const numbers = Array.from({ length: services }, (_, i) => i + 1);
  return [
    'table ip kube-proxy {',
    ...numbers.flatMap((number) => [
      `  chain service-${number} {`,
      `    meta l4proto ${protocol} dnat to ${endpoint}`,
      '  }',
    ]),
    '  map service-ips {',
    '    type ipv4_addr . inet_proto . inet_service : verdict',
    `    elements = { ${numbers.map((number) => `${serviceIp(number)} . ${protocol} . 80 : goto service-${number}`).join(',\n')} }`,
    '  }',
    '  chain services {',
    '    ip daddr . meta l4proto . th dport vmap @service-ips',
    '  }',
    '  chain nat-prerouting {',
    '    type nat hook prerouting priority dstnat; policy accept;',
    '    jump services',
    '  }',
    '  chain nat-postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    '  }',
    '}\n',
  ].join('\n');
}

/** The same list of comparisons as KUBE-SERVICES, in nft's own language. */
export function linearNft({ services, protocol, endpoint }: ServiceRules): string {
  const rules = Array.from(
    { length: services },
    (_, i) => `    ip daddr ${serviceIp(i + 1)} ${protocol} dport 80 counter dnat to ${endpoint}`,
  );
  return [
    'table ip services {',
    '  chain one-by-one {',
    ...rules,
    '  }',
    '  chain nat-prerouting {',
    '    type nat hook prerouting priority dstnat; policy accept;',
    '    jump one-by-one',
    '  }',
    '  chain nat-postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    '  }',
    '}\n',
  ].join('\n');
}
