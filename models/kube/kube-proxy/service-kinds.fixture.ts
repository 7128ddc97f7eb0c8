// Services of all kinds, for what must hold of each of them.

import type { IpFamily } from '../../packet/ip-address.ts';
import { type EndpointSlice, objectFrom, type Service } from '../objects.ts';
import { slice } from './kube-proxy.fixture.ts';

/** Types, policies, affinity, protocols, source ranges and numbers of endpoints in turn. */
export function kindOfService(i: number, family: IpFamily = 4): [Service, EndpointSlice] {
  const address = (ipv4: string): string => (family === 6 ? `64:ff9b::${ipv4}` : ipv4); // RFC 6052
  const range = (ipv4: string, length: number): string => `${address(ipv4)}/${family === 6 ? 96 + length : length}`;
  const type = (['ClusterIP', 'NodePort', 'LoadBalancer'] as const)[i % 3]!;
  const protocol = (['TCP', 'UDP', 'SCTP'] as const)[(i >> 1) % 3]!;
  const port = { name: 'main', port: 80 + i, protocol, ...(type !== 'ClusterIP' && { nodePort: 30_000 + i }) };
  const name = `s${i}`;
  return [
    objectFrom('Service', {
      metadata: { name },
      spec: {
        type,
        clusterIP: address(`10.96.1.${i}`),
        ...(i % 7 === 0 && { externalIPs: [address(`192.0.2.${i}`)] }),
        internalTrafficPolicy: i % 5 === 0 ? 'Local' : 'Cluster',
        ...(type !== 'ClusterIP' && { externalTrafficPolicy: i % 4 === 0 ? 'Local' : 'Cluster' }),
        ...(i % 6 === 0 && { sessionAffinity: 'ClientIP' as const }),
        ...(i % 9 === 2 && {
          loadBalancerSourceRanges: [range('203.0.113.0', 24), range('203.0.113.128', 25), range('192.168.0.0', 16)],
        }),
        ports: [port],
      },
      status: type === 'LoadBalancer' ? { loadBalancer: { ingress: [{ ip: address(`198.51.100.${i}`) }] } } : {},
    }),
    slice(
      name,
      Array.from({ length: i % 4 }, (_, j) => `${address(`10.244.${j + 1}.${i}`)} node-${j + 1}`),
      { name: 'main', port: 8_080, protocol },
    ),
  ];
}
