// What Ingresses say to a table of routes.
//
// A request belongs to the rules of the most specific host; there the longest path wins, Exact before Prefix at the same
// length, and the older Ingress before the younger one. What no path fits goes to the default backend: that of the oldest
// Ingress that has one among those with rules for the host, else among all. The star of a host is one label.
// (https://kubernetes.io/docs/concepts/services-networking/ingress)
//
// ImplementationSpecific is Prefix, as in ingress-nginx. Not modelled: TLS, resource backends (nobody is there),
// annotations of controllers.

import {
  NO_EDITS,
  type RequestMatch,
  type Route,
  type VirtualHost,
  type WeightedBackend,
} from '../../workload/proxy/route-table.ts';
import { describeObject, type Ingress } from '../objects.ts';
import { type Backends, missing } from './backends.ts';
import type { IngressBackend } from './ingress-validation.ts';

/** ingress-nginx answers for a Service that is not there, as for one without endpoints. */
const NO_SERVICE = 503;

/** The oldest Ingress first. */
export function ingressHosts(ingresses: readonly Ingress[], backends: Backends): VirtualHost[] {
  const routes = new Map<string, Route[]>([['*', []]]);
  const defaults = new Map<string, Route>();
  for (const ingress of ingresses) {
    const { rules, defaultBackend } = ingress.spec;
    const fallback = defaultBackend && defaultRoute(ingress, toBackend(ingress, defaultBackend, backends));
    for (const [i, { host = '*', http }] of rules.entries()) {
      const ofHost = routes.get(host) ?? [];
      routes.set(host, ofHost);
      if (fallback !== undefined && !defaults.has(host)) defaults.set(host, fallback);
      for (const [j, { path, pathType, backend }] of (http?.paths ?? []).entries())
        ofHost.push({
          ...EVERYTHING,
          name: `${describeObject(ingress)}: spec.rules[${i}].http.paths[${j}]`,
          match: { ...ANY, path: { type: pathType === 'Exact' ? 'Exact' : 'Prefix', value: path || '/' } },
          backends: [toBackend(ingress, backend, backends)],
        });
    }
    if (fallback !== undefined && !defaults.has('*')) defaults.set('*', fallback);
  }
  return [...routes].map(([host, ofHost]) => {
    const fallback = defaults.get(host) ?? defaults.get('*');
    const sorted = ofHost.toSorted(byPath);
    return { host, wildcard: 'one label', routes: fallback === undefined ? sorted : [...sorted, fallback] };
  });
}

const ANY: RequestMatch = { path: { type: 'Prefix', value: '/' }, method: undefined, headers: [], query: [] };
const EVERYTHING = { match: ANY, edits: NO_EDITS, redirect: undefined, requestTimeoutNs: undefined } as const;

const defaultRoute = (ingress: Ingress, backend: WeightedBackend): Route => ({
  ...EVERYTHING,
  name: `${describeObject(ingress)}: spec.defaultBackend`,
  backends: [backend],
});

function toBackend({ metadata }: Ingress, { service }: IngressBackend, backends: Backends): WeightedBackend {
  if (service === undefined) return missing(NO_SERVICE);
  const { name, port } = service;
  return backends.to(
    { namespace: metadata.namespace, name, port: port.number ?? port.name },
    { missingStatus: NO_SERVICE },
  );
}

/** Sorting is stable: what is the same here stays in the order of age. */
function byPath({ match: { path: a } }: Route, { match: { path: b } }: Route): number {
  const longerFirst = lengthOf(b) - lengthOf(a);
  if (longerFirst !== 0) return longerFirst;
  return Number(b.type === 'Exact') - Number(a.type === 'Exact');
}

const lengthOf = ({ value }: RequestMatch['path']): number => (typeof value === 'string' ? value.length : 0);
