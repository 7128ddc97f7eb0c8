// What in Ingresses, Gateways and their routes is legal, but leads nowhere or is not modelled.

import type { Gateway, GrpcRoute, HttpRoute, Ingress, KubeObject } from '../objects.ts';
import { servesHttp } from './gateway-routes.ts';
import { GATEWAY_GROUP } from './gateway-schema.ts';
import type { HttpFilter } from './gateway-validation.ts';

/** `known`: all objects as messages name them (`Service default/web`). Behind the name of the object. */
export function routeNotes(object: KubeObject, known: ReadonlySet<string>): string[] {
  switch (object.kind) {
    case 'Ingress':
      return ingressNotes(object, known);
    case 'Gateway':
      return gatewayNotes(object);
    case 'HTTPRoute':
    case 'GRPCRoute':
      return gatewayRouteNotes(object, known);
    default:
      return [];
  }
}

function ingressNotes({ metadata, spec }: Ingress, known: ReadonlySet<string>): string[] {
  const backends = [
    { field: 'spec.defaultBackend', backend: spec.defaultBackend },
    ...spec.rules.flatMap(({ http }, i) =>
      (http?.paths ?? []).map(({ backend }, j) => ({ field: `spec.rules[${i}].http.paths[${j}].backend`, backend })),
    ),
  ];
  const notes = backends.flatMap(({ field, backend }) => {
    if (backend === undefined) return [];
    if (backend.service === undefined) return [`${field}.resource: is not modelled; requests get 503`];
    const key = `${metadata.namespace}/${backend.service.name}`;
    return known.has(`Service ${key}`) ? [] : [`${field}: there is no Service ${key}; requests get 503`];
  });
  const annotations = Object.keys(metadata.annotations).filter((name) => /ingress\.kubernetes\.io\//.test(name));
  if (annotations.length > 0)
    notes.push(`metadata.annotations: ${annotations.join(', ')}: annotations of controllers are not modelled`);
  if (spec.tls.length > 0) notes.push(TLS_NOTE('spec.tls'));
  return notes;
}

const TLS_NOTE = (field: string): string => `${field}: TLS is not modelled; HTTPS is served as HTTP on its port`;

function gatewayNotes({ spec }: Gateway): string[] {
  const notes = spec.listeners.flatMap((listener, i) => {
    const field = `spec.listeners[${i}]`;
    if (!servesHttp(listener)) return [`${field}.protocol: ${listener.protocol} is not modelled; nobody listens there`];
    return listener.protocol === 'HTTPS' ? [TLS_NOTE(field)] : [];
  });
  if (spec.addresses.length > 0) notes.push('spec.addresses: is not modelled; the cloud chooses an address');
  return notes;
}

function gatewayRouteNotes({ metadata, spec }: HttpRoute | GrpcRoute, known: ReadonlySet<string>): string[] {
  const parents = spec.parentRefs.flatMap(({ group, kind, namespace = metadata.namespace, name }, i) => {
    const field = `spec.parentRefs[${i}]`;
    if (group !== GATEWAY_GROUP || kind !== 'Gateway') return [`${field}: kind ${kind} is not modelled`];
    return known.has(`Gateway ${namespace}/${name}`) ? [] : [`${field}: there is no Gateway ${namespace}/${name}`];
  });
  const rules = spec.rules.flatMap(({ filters, backendRefs }, i) => [
    ...filterNotes(`spec.rules[${i}].filters`, filters),
    ...backendRefs.flatMap(({ group, kind, namespace = metadata.namespace, name, filters: own }, j) => {
      const field = `spec.rules[${i}].backendRefs[${j}]`;
      const isThere = group === '' && kind === 'Service' && known.has(`Service ${namespace}/${name}`);
      return [
        ...(isThere ? [] : [`${field}: there is no ${kind} ${namespace}/${name}; requests get 500`]),
        ...filterNotes(`${field}.filters`, own),
      ];
    }),
  ]);
  return [...parents, ...rules];
}

const IGNORED: ReadonlySet<HttpFilter['type']> = new Set(['RequestMirror', 'ExtensionRef', 'CORS', 'ExternalAuth']);

const filterNotes = (field: string, filters: readonly HttpFilter[]): string[] =>
  filters.flatMap(({ type }, i) =>
    IGNORED.has(type) ? [`${field}[${i}]: ${type} is not modelled; it is passed over`] : [],
  );
