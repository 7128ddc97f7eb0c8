// Which requests go where: the routes of an HTTP proxy, in the order in which they are tried.
//
// A table has virtual hosts, one per host name of the configuration, each with its routes, the ones that come first at the
// front. A request belongs to the virtual host with the most specific name that its host fits, and to the first route there
// that matches it. Who makes the table (an Ingress, a Gateway) knows the order that its specification wants; where that lets
// a request fall through to a less specific name, the routes of that name stand behind the others.

import type { HttpHeaders, HttpRequest } from '../http.ts';

export type PathMatch =
  | { readonly type: 'Exact'; readonly value: string }
  /** By elements between slashes: `/a` is a prefix of `/a/b`, and not of `/ab`. */
  | { readonly type: 'Prefix'; readonly value: string }
  | { readonly type: 'RegularExpression'; readonly value: RegExp };

export interface ValueMatch {
  /** Of a header in lower case. */
  readonly name: string;
  readonly value: string | RegExp;
}

export interface RequestMatch {
  readonly path: PathMatch;
  readonly method: string | undefined;
  readonly headers: readonly ValueMatch[];
  readonly query: readonly ValueMatch[];
}

/** One Service port among those that a route sends to. */
export interface WeightedBackend {
  /** Of the pool of its endpoints. */
  readonly upstream: string;
  /** undefined: nobody is there, and the proxy answers with this status itself. */
  readonly missing: number | undefined;
  readonly weight: number;
  readonly edits: RequestEdits;
}

export interface HeaderEdits {
  readonly set: HttpHeaders;
  readonly add: HttpHeaders;
  readonly remove: readonly string[];
}

/** What is changed of a request on its way, and of its response. */
export interface RequestEdits {
  readonly headers: HeaderEdits;
  readonly responseHeaders: HeaderEdits;
  readonly hostname: string | undefined;
  readonly path: PathEdit | undefined;
}

export type PathEdit =
  | { readonly type: 'ReplaceFullPath'; readonly value: string }
  | { readonly type: 'ReplacePrefixMatch'; readonly value: string };

export interface Redirect {
  readonly scheme: string | undefined;
  readonly hostname: string | undefined;
  readonly path: PathEdit | undefined;
  readonly port: number | undefined;
  readonly statusCode: number;
}

export interface Route {
  /** For people: `Ingress shop/web: spec.rules[0].http.paths[1]`. */
  readonly name: string;
  readonly match: RequestMatch;
  readonly edits: RequestEdits;
  readonly redirect: Redirect | undefined;
  readonly backends: readonly WeightedBackend[];
  /** From the whole request at the proxy to the response there (Gateway API: timeouts.request); 0: none; undefined: the proxy's own. */
  readonly requestTimeoutNs: number | undefined;
}

export interface VirtualHost {
  /** `shop.example.com`, `*.example.com`, or `*` for every host. */
  readonly host: string;
  /** How many labels the star stands for: one in an Ingress, one or more in Gateway API. */
  readonly wildcard: 'one label' | 'labels';
  readonly routes: readonly Route[];
}

export const NO_HEADER_EDITS: HeaderEdits = { set: {}, add: {}, remove: [] };
export const NO_EDITS: RequestEdits = {
  headers: NO_HEADER_EDITS,
  responseHeaders: NO_HEADER_EDITS,
  hostname: undefined,
  path: undefined,
};

export class RouteTable {
  readonly #byName = new Map<string, VirtualHost>();
  /** Names with a star, the longest first. */
  readonly #wildcards: readonly VirtualHost[];

  constructor(hosts: readonly VirtualHost[]) {
    for (const host of hosts) this.#byName.set(host.host, host);
    this.#wildcards = [...this.#byName.values()]
      .filter(({ host }) => host.startsWith('*'))
      .toSorted((a, b) => b.host.length - a.host.length);
  }

  /** undefined: nothing is known of such requests. */
  routeOf(request: HttpRequest): Route | undefined {
    const host = this.#byName.get(request.host) ?? this.#wildcards.find((candidate) => fits(candidate, request.host));
    return host?.routes.find(({ match }) => matches(match, request));
  }
}

function fits({ host, wildcard }: VirtualHost, name: string): boolean {
  if (host === '*') return true;
  return hostFits(host, name) && (wildcard === 'labels' || !name.slice(0, -(host.length - 1)).includes('.'));
}

/** Is `name` one of those that `pattern`, with or without a star in front, stands for? */
export const hostFits = (pattern: string, name: string): boolean =>
  pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) && name.length > pattern.length - 1 : name === pattern;

function matches({ path, method, headers, query }: RequestMatch, request: HttpRequest): boolean {
  return (
    pathMatches(path, request.path) &&
    (method === undefined || method === request.method) &&
    headers.every((header) => valueMatches(header, request.headers[header.name])) &&
    query.every((parameter) => valueMatches(parameter, request.query[parameter.name]))
  );
}

function pathMatches(match: PathMatch, path: string): boolean {
  switch (match.type) {
    case 'Exact':
      return path === match.value;
    case 'Prefix': {
      const stem = match.value.replace(/\/$/, '');
      return path === stem || path.startsWith(`${stem}/`);
    }
    case 'RegularExpression':
      return match.value.test(path);
  }
}

const valueMatches = ({ value }: ValueMatch, given: string | undefined): boolean =>
  given !== undefined && (typeof value === 'string' ? value === given : value.test(given));

/** The path that a prefix match has replaced: slashes neither doubled nor lost. */
export function editedPath(edit: PathEdit | undefined, { path }: RequestMatch, given: string): string {
  if (edit === undefined) return given;
  if (edit.type === 'ReplaceFullPath' || path.type !== 'Prefix') return edit.value;
  const rest = given.slice(path.value.replace(/\/$/, '').length);
  return edit.value.replace(/\/$/, '') + rest || '/';
}

export function editedHeaders(headers: HttpHeaders, { set, add, remove }: HeaderEdits): HttpHeaders {
  const edited: Record<string, string> = { ...headers };
  for (const [name, value] of Object.entries(set)) edited[name] = value;
  for (const [name, value] of Object.entries(add))
    edited[name] = edited[name] === undefined ? value : `${edited[name]},${value}`;
  for (const name of remove) delete edited[name];
  return edited;
}
