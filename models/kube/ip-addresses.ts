// What `kubectl get ipaddresses` lists: the API server's own book of ClusterIPs, one IPAddress object (networking.k8s.io)
// for each address of a Service. Derived from the Services here; there it is the other way round.

import { formatIp, parseAddress } from '../packet/ip-address.ts';
import { clusterIpsOf, type Labels, type Service } from './objects.ts';
import { familyOfAddress } from './service-validation.ts';

export interface IpAddressObject {
  /** The address in canonical form. */
  readonly name: string;
  readonly labels: Labels;
  readonly parentRef: { readonly resource: 'services'; readonly namespace: string; readonly name: string };
}

/** None for headless Services and ExternalName. */
export function ipAddressesOf(service: Service): IpAddressObject[] {
  const { namespace, name } = service.metadata;
  return clusterIpsOf(service).map((text) => {
    const { ip, family } = parseAddress(text);
    return {
      name: formatIp(ip, family),
      labels: {
        'ipaddress.kubernetes.io/ip-family': familyOfAddress(text),
        'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io',
      },
      parentRef: { resource: 'services', namespace, name },
    };
  });
}
