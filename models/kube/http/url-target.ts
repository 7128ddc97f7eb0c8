// Where a URL leads: to an address and with what to say there. Names of hosts are looked up as an external DNS would have
// them: those of Ingresses and of routes at the addresses that are in the status of the Ingress or of the Gateway. Names
// within the cluster (`catalog.shop`, with or without `.svc.cluster.local`) are those of Services.

import { isIpv4, isIpv6 } from '../../packet/ip-address.ts';
import { type HttpRequest, httpRequest, splitUrl } from '../../workload/http.ts';
import { hostFits } from '../../workload/proxy/route-table.ts';
import type { ApiServer } from '../api-server.ts';
import { resolveTarget, type Target, TargetError } from '../target.ts';
import { isAttached } from './gateway-routes.ts';

type TargetOptions = Parameters<typeof resolveTarget>[2];

export interface UrlTarget {
  readonly target: Target;
  readonly http: HttpRequest;
}

export const isUrl = (text: string): boolean => /^https?:\/\//.test(text);

/** Throws a TargetError that says which hosts there are. */
export function resolveUrl(
  api: ApiServer,
  url: string,
  request: Parameters<typeof httpRequest>[1],
  options: TargetOptions,
): UrlTarget {
  const { host, port } = partsOf(url);
  const http = httpRequest(url, request);
  return { target: resolveTarget(api, addressOf(api, host, port, { url, options }), options), http };
}

function partsOf(url: string): ReturnType<typeof splitUrl> {
  try {
    return splitUrl(url);
  } catch (error) {
    throw new TargetError((error as RangeError).message);
  }
}

/** As {@link resolveTarget} takes it. */
function addressOf(
  api: ApiServer,
  host: string,
  port: number,
  { url, options: { family } }: { readonly url: string; readonly options: TargetOptions },
): string {
  if (isIpv4(host)) return `${host}:${port}`;
  if (isIpv6(host)) return `[${host}]:${port}`;
  const [name, namespace, svc = 'svc'] = host.split('.');
  if (svc === 'svc' && namespace !== undefined && api.get('Service', `${namespace}/${name}`) !== undefined)
    return `${namespace}/${name}:${port}`;
  const published = publishedHosts(api);
  const best = published
    .filter((candidate) => candidate.host === '*' || hostFits(candidate.host, host))
    .toSorted((a, b) => b.host.length - a.host.length)[0];
  if (best === undefined) {
    const hosts = [...new Set(published.map((candidate) => candidate.host))].slice(0, NAMES_SHOWN).join(', ');
    throw new TargetError(
      `"${url}": no Ingress, Gateway or Service has the host ${host}; ${hosts === '' ? 'there is none' : `there are ${hosts}`}`,
    );
  }
  const wanted =
    family === undefined ? best.addresses : best.addresses.filter((address) => isIpv6(address) === (family === 6));
  const [address] = wanted;
  if (address === undefined)
    throw new TargetError(`"${url}": ${best.of} has no address${family === undefined ? '' : ` of IPv${family}`}`);
  return isIpv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

const NAMES_SHOWN = 12;

interface PublishedHost {
  readonly host: string;
  readonly of: string;
  readonly addresses: readonly string[];
}

function publishedHosts(api: ApiServer): PublishedHost[] {
  const hosts: PublishedHost[] = [];
  for (const { metadata, spec, status } of api.list('Ingress')) {
    const of = `Ingress ${metadata.namespace}/${metadata.name}`;
    const addresses = status.loadBalancer.ingress.flatMap(({ ip }) => ip ?? []);
    for (const { host = '*' } of spec.rules) hosts.push({ host, of, addresses });
    if (spec.defaultBackend !== undefined) hosts.push({ host: '*', of, addresses });
  }
  const routes = [...api.list('HTTPRoute'), ...api.list('GRPCRoute')];
  for (const gateway of api.list('Gateway')) {
    const of = `Gateway ${gateway.metadata.namespace}/${gateway.metadata.name}`;
    const addresses = gateway.status.addresses.map(({ value }) => value);
    for (const listener of gateway.spec.listeners)
      for (const route of routes) {
        if (!isAttached(route, gateway, listener, api)) continue;
        const names = route.spec.hostnames.length === 0 ? [listener.hostname ?? '*'] : route.spec.hostnames;
        for (const host of names) hosts.push({ host, of, addresses });
      }
  }
  return hosts;
}
