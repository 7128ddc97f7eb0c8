// What a Gateway and the routes that are attached to it say to tables of routes, one per port.
//
// A route is attached to the listeners that its parentRefs name, that allow its namespace and kind, and whose hostname has
// something in common with one of its own. A request belongs to the listener with the most specific hostname; there the
// precedence of HTTPRouteRule decides: the longest exact, then the longest hostname of a route; an exact path, the longest
// prefix, a method, the most headers, the most query parameters; the older route, the first in the alphabet, the first
// rule. Of a GRPCRoute the service and the method have the place of the path.
//
// An HTTPS listener is served as an HTTP one: TLS is not modelled. A filter that is not modelled is passed over
// (manifest-notes.ts says so). Regular expressions stand behind prefixes.

import {
  type HeaderEdits,
  hostFits,
  NO_EDITS,
  NO_HEADER_EDITS,
  type PathEdit,
  type PathMatch,
  type Redirect,
  type RequestEdits,
  type RequestMatch,
  type Route,
  RouteTable,
  type ValueMatch,
  type VirtualHost,
  type WeightedBackend,
} from '../../workload/proxy/route-table.ts';
import type { ApiServer } from '../api-server.ts';
import { matchesSelector } from '../label-index.ts';
import { labelsOfNamespace } from '../network-policy/policy-objects.ts';
import { describeObject, type Gateway, type GrpcRoute, type HttpRoute, keyOf } from '../objects.ts';
import { type Backends, missing } from './backends.ts';
import { GATEWAY_GROUP } from './gateway-schema.ts';
import type { GrpcRule, HttpFilter, HttpMatch, HttpRule, Listener, ParentRef } from './gateway-validation.ts';

type GatewayRoute = HttpRoute | GrpcRoute;

/** A backend that is invalid or may not be referred to, and a rule without any (HTTPRouteRule.backendRefs). */
const INVALID_BACKEND = 500;

/** By port. Those without HTTP listeners are left out. */
export function gatewayTables(
  gateway: Gateway,
  apiServer: ApiServer,
  backends: Backends,
): ReadonlyMap<number, RouteTable> {
  const byPort = new Map<number, Listener[]>();
  for (const listener of gateway.spec.listeners) {
    if (!servesHttp(listener)) continue;
    const listeners = byPort.get(listener.port);
    if (listeners === undefined) byPort.set(listener.port, [listener]);
    else listeners.push(listener);
  }
  const routes = [...apiServer.list('HTTPRoute'), ...apiServer.list('GRPCRoute')].toSorted(byAge);
  const compiled = new Map<GatewayRoute, readonly Route[]>();
  const routesOf = (route: GatewayRoute): readonly Route[] => {
    const known = compiled.get(route) ?? routesFrom(route, apiServer, backends);
    compiled.set(route, known);
    return known;
  };
  return new Map(
    [...byPort].map(([port, listeners]) => {
      const attached = listeners.map((listener) => ({
        listener,
        routes: routes.filter((route) => isAttached(route, gateway, listener, apiServer)),
      }));
      return [port, new RouteTable(virtualHosts(attached, routesOf))];
    }),
  );
}

export const servesHttp = ({ protocol }: Pick<Listener, 'protocol'>): boolean =>
  protocol === 'HTTP' || protocol === 'HTTPS';

/** The oldest first, then by name. */
const byAge = (a: GatewayRoute, b: GatewayRoute): number =>
  compareTexts(a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? '') ||
  compareTexts(keyOf(a), keyOf(b));

const compareTexts = (a: string, b: string): number => Number(a > b) - Number(a < b);

/** Whether a listener of the Gateway takes the route: reference, namespace, kind and hostnames fit. */
export function isAttached(route: GatewayRoute, gateway: Gateway, listener: Listener, apiServer: ApiServer): boolean {
  const { parentRefs, hostnames } = route.spec;
  return (
    parentRefs.some((parent) => refersTo(parent, route, gateway, listener)) &&
    allows(listener, route, gateway, apiServer) &&
    (hostnames.length === 0 || hostnames.some((hostname) => intersection(hostname, listener.hostname) !== undefined))
  );
}

function refersTo(parent: ParentRef, { metadata }: GatewayRoute, gateway: Gateway, listener: Listener): boolean {
  const {
    namespace = metadata.namespace,
    name,
    group,
    kind,
    sectionName = listener.name,
    port = listener.port,
  } = parent;
  return (
    group === GATEWAY_GROUP &&
    kind === 'Gateway' &&
    namespace === gateway.metadata.namespace &&
    name === gateway.metadata.name &&
    sectionName === listener.name &&
    port === listener.port
  );
}

function allows(
  { allowedRoutes: { namespaces, kinds } }: Listener,
  route: GatewayRoute,
  gateway: Gateway,
  apiServer: ApiServer,
): boolean {
  if (kinds.length > 0 && !kinds.some(({ group, kind }) => group === GATEWAY_GROUP && kind === route.kind))
    return false;
  const { namespace } = route.metadata;
  switch (namespaces.from) {
    case 'All':
      return true;
    case 'None':
      return false;
    case 'Same':
      return namespace === gateway.metadata.namespace;
    case 'Selector': {
      const labels = labelsOfNamespace(namespace, apiServer.get('Namespace', namespace));
      return namespaces.selector !== undefined && matchesSelector(namespaces.selector, labels);
    }
  }
}

/** The hosts that both stand for, as a hostname: the more specific one of the two, if they have any in common. */
function intersection(hostname: string, ofListener: string | undefined): string | undefined {
  if (ofListener === undefined || covers(ofListener, hostname)) return hostname;
  return covers(hostname, ofListener) ? ofListener : undefined;
}

/** Does `wide` stand for all hosts that `narrow` stands for? */
const covers = (wide: string, narrow: string): boolean => wide === '*' || wide === narrow || hostFits(wide, narrow);

interface AttachedRoutes {
  readonly listener: Listener;
  readonly routes: readonly GatewayRoute[];
}

/** A host for each name that some listener or route has. One that no route serves is there to be answered with 404. */
function virtualHosts(
  attached: readonly AttachedRoutes[],
  routesOf: (route: GatewayRoute) => readonly Route[],
): VirtualHost[] {
  const names = new Set<string>();
  for (const { listener, routes } of attached) {
    names.add(listener.hostname ?? '*');
    for (const { spec } of routes)
      for (const hostname of spec.hostnames) {
        const name = intersection(hostname, listener.hostname);
        if (name !== undefined) names.add(name);
      }
  }
  return [...names].map((host) => {
    const ofHost = mostSpecific(attached, host);
    const ranked = (ofHost?.routes ?? []).flatMap((route) => {
      const hostname = matchingHostname(route, host);
      return hostname === undefined ? [] : routesOf(route).map((compiled) => ({ hostname, compiled }));
    });
    const routes = ranked.toSorted(byPrecedence).map(({ compiled }) => compiled);
    return { host, wildcard: 'labels', routes };
  });
}

function mostSpecific(attached: readonly AttachedRoutes[], host: string): AttachedRoutes | undefined {
  const fitting = attached.filter(({ listener: { hostname = '*' } }) => covers(hostname, host));
  return fitting.toSorted(
    (a, b) => specificity(b.listener.hostname ?? '*') - specificity(a.listener.hostname ?? '*'),
  )[0];
}

/** The route's most specific hostname that stands for the host; `*` if it has none at all. */
function matchingHostname({ spec: { hostnames } }: GatewayRoute, host: string): string | undefined {
  if (hostnames.length === 0) return '*';
  return hostnames.filter((hostname) => covers(hostname, host)).toSorted((a, b) => specificity(b) - specificity(a))[0];
}

/** Characters, an exact name before every one with a star. */
const specificity = (hostname: string): number =>
  hostname.startsWith('*') ? hostname.length : 1_000 + hostname.length;

interface Ranked {
  readonly hostname: string;
  readonly compiled: Route;
}

/** Sorting is stable: what is the same here stays in the order of age, name and rule. */
function byPrecedence(
  { hostname: hostA, compiled: { match: a } }: Ranked,
  { hostname: hostB, compiled: { match: b } }: Ranked,
): number {
  return (
    specificity(hostB) - specificity(hostA) ||
    pathRank(b.path) - pathRank(a.path) ||
    Number(b.method !== undefined) - Number(a.method !== undefined) ||
    b.headers.length - a.headers.length ||
    b.query.length - a.query.length
  );
}

function pathRank(path: PathMatch): number {
  switch (path.type) {
    case 'Exact':
      return 1e6 + path.value.length;
    case 'Prefix':
      return path.value.length;
    case 'RegularExpression':
      return 0;
  }
}

// ── one route ────────────────────────────────────────────────────────────────────────────────────────────────────────

function routesFrom(route: GatewayRoute, apiServer: ApiServer, backends: Backends): Route[] {
  if (route.kind === 'GRPCRoute')
    return route.spec.rules.flatMap((rule, i) => {
      const matches = rule.matches.length === 0 ? [{ method: undefined, headers: [] }] : rule.matches;
      return routesOfRule(route, { ...rule, timeouts: undefined }, i, matches.map(grpcMatch), { apiServer, backends });
    });
  return route.spec.rules.flatMap((rule, i) =>
    routesOfRule(route, rule, i, rule.matches.map(httpMatch), { apiServer, backends }),
  );
}

function routesOfRule(
  route: GatewayRoute,
  rule: Pick<HttpRule, 'filters' | 'timeouts'> & {
    readonly backendRefs: HttpRule['backendRefs'] | GrpcRule['backendRefs'];
  },
  index: number,
  matches: readonly RequestMatch[],
  { apiServer, backends }: { readonly apiServer: ApiServer; readonly backends: Backends },
): Route[] {
  const edits = editsOf(rule.filters);
  const redirect = redirectOf(rule.filters);
  const targets = rule.backendRefs.map((ref): WeightedBackend => {
    const { namespace = route.metadata.namespace, name, port, weight, filters } = ref;
    const isService = ref.group === '' && ref.kind === 'Service';
    const isAllowed = namespace === route.metadata.namespace || isGranted(apiServer, route, namespace, name);
    const options = { missingStatus: INVALID_BACKEND, isHttp2: route.kind === 'GRPCRoute' };
    const target = isService && isAllowed ? backends.to({ namespace, name, port }, options) : missing(INVALID_BACKEND);
    return { ...target, weight, edits: editsOf(filters) };
  });
  return matches.map((match, i) => ({
    name: `${describeObject(route)}: spec.rules[${index}].matches[${i}]`,
    ...{ match, edits, redirect, backends: targets },
    requestTimeoutNs: rule.timeouts?.request ?? rule.timeouts?.backendRequest,
  }));
}

/** A Service of another namespace may be referred to if that namespace grants it. */
function isGranted(apiServer: ApiServer, route: GatewayRoute, namespace: string, name: string): boolean {
  return apiServer
    .list('ReferenceGrant')
    .some(
      ({ metadata, spec }) =>
        metadata.namespace === namespace &&
        spec.from.some(
          (from) =>
            from.group === GATEWAY_GROUP && from.kind === route.kind && from.namespace === route.metadata.namespace,
        ) &&
        spec.to.some((to) => to.group === '' && to.kind === 'Service' && (to.name === undefined || to.name === name)),
    );
}

function httpMatch({ path, method, headers, queryParams }: HttpMatch): RequestMatch {
  return { path: pathMatch(path), method, headers: headers.map(headerMatch), query: queryParams.map(valueMatch) };
}

function pathMatch({ type, value }: HttpMatch['path']): PathMatch {
  switch (type) {
    case 'Exact':
      return { type, value };
    case 'PathPrefix':
      return { type: 'Prefix', value };
    case 'RegularExpression':
      return { type, value: whole(value) };
  }
}

/** A call of gRPC is `POST /service/method` (PROTOCOL-HTTP2.md of grpc). */
function grpcMatch({ method, headers }: GrpcRule['matches'][number]): RequestMatch {
  const { type = 'Exact', service, method: name } = method ?? {};
  const one = type === 'Exact' ? escapeRegExp : (text: string) => text;
  const both = service && name;
  const path: PathMatch =
    both && type === 'Exact'
      ? { type: 'Exact', value: `/${service}/${name}` }
      : service && type === 'Exact'
        ? { type: 'Prefix', value: `/${service}` }
        : service || name
          ? {
              type: 'RegularExpression',
              value: whole(`/${service ? one(service) : '[^/]+'}/${name ? one(name) : '[^/]+'}`),
            }
          : { type: 'Prefix', value: '/' };
  return { path, method: 'POST', headers: headers.map(headerMatch), query: [] };
}

const escapeRegExp = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

const whole = (expression: string): RegExp => new RegExp(`^(?:${expression})$`);

const valueMatch = ({ type, name, value }: HttpMatch['queryParams'][number]): ValueMatch => ({
  name,
  value: type === 'Exact' ? value : whole(value),
});

/** Names of headers are the same in any case. */
const headerMatch = (match: HttpMatch['headers'][number]): ValueMatch => {
  const { name, value } = valueMatch(match);
  return { name: name.toLowerCase(), value };
};

function editsOf(filters: readonly HttpFilter[]): RequestEdits {
  if (filters.length === 0) return NO_EDITS;
  const of = (type: HttpFilter['type']) => filters.find((filter) => filter.type === type);
  const rewrite = of('URLRewrite')?.urlRewrite;
  return {
    headers: headerEdits(of('RequestHeaderModifier')?.requestHeaderModifier),
    responseHeaders: headerEdits(of('ResponseHeaderModifier')?.responseHeaderModifier),
    hostname: rewrite?.hostname,
    path: pathEdit(rewrite?.path),
  };
}

function headerEdits(modifier: HttpFilter['requestHeaderModifier']): HeaderEdits {
  if (modifier === undefined) return NO_HEADER_EDITS;
  const byName = (list: typeof modifier.set) =>
    Object.fromEntries(list.map(({ name, value }) => [name.toLowerCase(), value]));
  return {
    set: byName(modifier.set),
    add: byName(modifier.add),
    remove: modifier.remove.map((name) => name.toLowerCase()),
  };
}

function pathEdit(path: NonNullable<HttpFilter['urlRewrite']>['path']): PathEdit | undefined {
  if (path === undefined) return undefined;
  const { type, replaceFullPath = '', replacePrefixMatch = '' } = path;
  return { type, value: type === 'ReplaceFullPath' ? replaceFullPath : replacePrefixMatch };
}

function redirectOf(filters: readonly HttpFilter[]): Redirect | undefined {
  const redirect = filters.find(({ requestRedirect }) => requestRedirect !== undefined)?.requestRedirect;
  if (redirect === undefined) return undefined;
  const { scheme, hostname, path, port, statusCode } = redirect;
  return { scheme, hostname, path: pathEdit(path), port, statusCode };
}
