// Services and EndpointSlices for the tests of kube-proxy, without an API server.

import type { EndpointSlice, Manifest, Service } from '../objects.ts';
import { objectFrom } from '../objects.ts';
import { type ServiceSnapshot, ServiceTracker } from './service-tracker.ts';

/** `name` is `web`, or `prod/web` for another namespace than default. */
export const service = (name: string, spec: Manifest<'Service'>['spec']): Service =>
  objectFrom('Service', { metadata: metadataOf(name), spec });

/** Endpoints of a Service, each as `10.244.1.5`, or with its node as `10.244.1.5 node-1`; all of one IP family. */
export function slice(
  serviceName: string,
  endpoints: readonly string[],
  port: NonNullable<Manifest<'EndpointSlice'>['ports']>[number] = { port: 8080 },
): EndpointSlice {
  const { name, namespace } = metadataOf(serviceName);
  return objectFrom('EndpointSlice', {
    metadata: { name: `${name}-slice`, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: endpoints.some((endpoint) => endpoint.includes(':')) ? 'IPv6' : 'IPv4',
    endpoints: endpoints.map((endpoint) => {
      const [address = '', nodeName] = endpoint.split(' ');
      return { addresses: [address], nodeName };
    }),
    ports: [port],
  });
}

function metadataOf(name: string): { name: string; namespace: string } {
  const slash = name.indexOf('/');
  return { name: name.slice(slash + 1), namespace: slash < 0 ? 'default' : name.slice(0, slash) };
}

export function trackerOf(...objects: readonly (Service | EndpointSlice)[]): ServiceTracker {
  const tracker = new ServiceTracker();
  for (const object of objects) tracker.apply({ type: 'ADDED', object });
  return tracker;
}

export const snapshotOf = (...objects: readonly (Service | EndpointSlice)[]): ServiceSnapshot =>
  trackerOf(...objects).snapshot();
