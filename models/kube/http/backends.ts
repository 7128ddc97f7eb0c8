// The Services that routes name, as a proxy needs them: which port of which Service, and the addresses of its endpoints
// from EndpointSlices. kube-proxy has no part in this: a proxy sends to pods and not to ClusterIPs.
//
// Only ready endpoints count, of the first IP family that has any. Not modelled: ExternalName Services, topology hints,
// session affinity.

import { parseAddress } from '../../packet/ip-address.ts';
import type { SocketAddress } from '../../transport/transport-stack.ts';
import type { UpstreamConfiguration } from '../../workload/proxy/http-proxy.ts';
import { NO_EDITS, type WeightedBackend } from '../../workload/proxy/route-table.ts';
import type { PoolSettings } from '../../workload/proxy/upstream.ts';
import type { ApiServer } from '../api-server.ts';
import type { EndpointSlice, Service, ServicePort } from '../objects.ts';
import { familiesOf } from '../ranges.ts';

export interface ServicePortRef {
  readonly namespace: string;
  readonly name: string;
  /** By number or by name. */
  readonly port: number | string | undefined;
}

/** HTTP/2 requests at the same time on one connection: the default of nginx (128) and Envoy (100) is about so many. */
const HTTP2_STREAMS = 100;
/** What a Service port says to be spoken to in HTTP/2 without TLS (KEP-3726). */
const H2C = 'kubernetes.io/h2c';

/** Collects what the routes of one proxy send to. */
export class Backends {
  /** By name, those that have been asked for. */
  readonly upstreams = new Map<string, UpstreamConfiguration>();
  readonly #apiServer: ApiServer;
  readonly #pool: PoolSettings;
  readonly #slices = new Map<string, EndpointSlice[]>();

  constructor(apiServer: ApiServer, pool: PoolSettings) {
    this.#apiServer = apiServer;
    this.#pool = pool;
    for (const slice of apiServer.list('EndpointSlice')) {
      const service = slice.metadata.labels['kubernetes.io/service-name'];
      if (service === undefined) continue;
      const key = `${slice.metadata.namespace}/${service}`;
      const slices = this.#slices.get(key);
      if (slices === undefined) this.#slices.set(key, [slice]);
      else slices.push(slice);
    }
  }

  /** `missingStatus` is answered where there is no such Service port. */
  to(
    ref: ServicePortRef,
    { missingStatus, isHttp2 = false }: { missingStatus: number; isHttp2?: boolean },
  ): WeightedBackend {
    const service = this.#apiServer.get('Service', `${ref.namespace}/${ref.name}`);
    const port = service?.spec.ports.find(
      (candidate) => candidate.protocol === 'TCP' && (candidate.port === ref.port || candidate.name === ref.port),
    );
    if (service === undefined || port === undefined || service.spec.type === 'ExternalName')
      return missing(missingStatus);
    const speaksHttp2 = isHttp2 || port.appProtocol === H2C;
    const upstream = `${ref.namespace}/${ref.name}:${port.name ?? port.port}${speaksHttp2 ? ' HTTP/2' : ''}`;
    if (!this.upstreams.has(upstream)) {
      const pool = speaksHttp2 ? { ...this.#pool, streamsPerConnection: HTTP2_STREAMS } : this.#pool;
      this.upstreams.set(upstream, { endpoints: this.#endpointsOf(service, port), pool });
    }
    return { upstream, missing: undefined, weight: 1, edits: NO_EDITS };
  }

  #endpointsOf({ metadata: { namespace, name } }: Service, port: ServicePort): Required<SocketAddress>[] {
    const slices = this.#slices.get(`${namespace}/${name}`) ?? [];
    for (const family of familiesOf(this.#apiServer.ranges)) {
      const addresses = slices
        .filter(({ addressType }) => addressType === `IPv${family}`)
        .flatMap((slice) => addressesIn(slice, port));
      if (addresses.length > 0) return addresses;
    }
    return [];
  }
}

function addressesIn({ ports, endpoints }: EndpointSlice, { name, protocol }: ServicePort): Required<SocketAddress>[] {
  const number = ports.find((port) => port.name === name && port.protocol === protocol)?.port;
  if (number === undefined) return [];
  return endpoints.flatMap(({ addresses, conditions }) =>
    conditions.ready === false ? [] : [{ ...parseAddress(addresses[0]!), port: number }],
  );
}

/** Nobody is there: the proxy answers with this status itself. */
export const missing = (status: number): WeightedBackend => ({
  upstream: '',
  missing: status,
  weight: 1,
  edits: NO_EDITS,
});
