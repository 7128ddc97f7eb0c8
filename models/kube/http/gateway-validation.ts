// What the API server refuses of Gateways and their routes: the rules in the CustomResourceDefinitions of the Gateway API
// that are about several fields (x-kubernetes-validations), and about paths. Single fields are the schema's matter.

import { ObjectError } from '../object-error.ts';
import type { Gateway, GrpcRoute, HttpRoute } from '../objects.ts';
import { checkPathText } from './ingress-validation.ts';

export type HttpRule = HttpRoute['spec']['rules'][number];
export type HttpFilter = HttpRule['filters'][number];
export type HttpMatch = HttpRule['matches'][number];
export type GrpcRule = GrpcRoute['spec']['rules'][number];
export type ParentRef = HttpRoute['spec']['parentRefs'][number];
export type Listener = Gateway['spec']['listeners'][number];
type PathModifier = NonNullable<NonNullable<HttpFilter['urlRewrite']>['path']>;

type Refuse = (field: string, problem: string) => never;

const refusing =
  (object: Gateway | HttpRoute | GrpcRoute): Refuse =>
  (field, problem) => {
    throw new ObjectError(object, `spec.${field}: ${problem}`);
  };

/** Throws an ObjectError about the first wrong field. */
export function checkGateway(gateway: Gateway): void {
  const refuse = refusing(gateway);
  const { listeners } = gateway.spec;
  for (const [i, listener] of listeners.entries()) {
    const field = `listeners[${i}]`;
    checkListener(field, listener, refuse);
    const others = listeners.slice(0, i);
    if (others.some(({ name }) => name === listener.name))
      refuse(`${field}.name`, `expected a name that no other listener has, got "${listener.name}"`);
    if (others.some((other) => isSameSocket(other, listener)))
      refuse(field, 'expected another combination of port, protocol and hostname than that of an earlier listener');
  }
}

const isSameSocket = (a: Listener, b: Listener): boolean =>
  a.port === b.port && a.protocol === b.protocol && a.hostname === b.hostname;

function checkListener(field: string, { protocol, tls, hostname, allowedRoutes }: Listener, refuse: Refuse): void {
  const isPlain = protocol === 'HTTP' || protocol === 'TCP' || protocol === 'UDP';
  if (isPlain && tls !== undefined) refuse(`${field}.tls`, `expected none, as protocol is ${protocol}`);
  if ((protocol === 'TCP' || protocol === 'UDP') && hostname !== undefined)
    refuse(`${field}.hostname`, `expected none, as protocol is ${protocol}`);
  if (protocol === 'HTTPS' && tls?.mode === 'Passthrough')
    refuse(`${field}.tls.mode`, 'expected Terminate, as protocol is HTTPS, got Passthrough');
  if (tls?.mode === 'Terminate' && tls.certificateRefs.length === 0 && Object.keys(tls.options).length === 0)
    refuse(`${field}.tls.certificateRefs`, 'expected a certificate, or options, as mode is Terminate');
  const { from, selector } = allowedRoutes.namespaces;
  if (from === 'Selector' && selector === undefined)
    refuse(`${field}.allowedRoutes.namespaces.selector`, 'expected a selector, as from is Selector');
}

/** Throws an ObjectError about the first wrong field. */
export function checkHttpRoute(route: HttpRoute): void {
  const refuse = refusing(route);
  const { parentRefs, rules } = route.spec;
  checkParents(parentRefs, refuse);
  const matches = rules.reduce((sum, rule) => sum + rule.matches.length, 0);
  if (matches > MOST_MATCHES) refuse('rules', `expected at most ${MOST_MATCHES} matches in all, got ${matches}`);
  checkRuleNames(rules, refuse);
  for (const [i, rule] of rules.entries()) checkHttpRule(`rules[${i}]`, rule, refuse);
}

const MOST_MATCHES = 128;

function checkHttpRule(field: string, rule: HttpRule, refuse: Refuse): void {
  const { matches, filters, backendRefs, timeouts } = rule;
  for (const [i, match] of matches.entries()) checkHttpMatch(`${field}.matches[${i}]`, match, refuse);
  checkFilters(`${field}.filters`, filters, matches, refuse);
  for (const [i, { filters: own, ...target }] of backendRefs.entries()) {
    checkTarget(`${field}.backendRefs[${i}]`, target, refuse);
    checkFilters(`${field}.backendRefs[${i}].filters`, own, matches, refuse);
  }
  if (backendRefs.length > 0 && filters.some(({ requestRedirect }) => requestRedirect !== undefined))
    refuse(`${field}.backendRefs`, 'expected none beside a filter RequestRedirect');
  const { request, backendRequest } = timeouts ?? {};
  if (request !== undefined && request !== 0 && backendRequest !== undefined && backendRequest > request)
    refuse(`${field}.timeouts.backendRequest`, 'expected no more than timeouts.request');
}

function checkHttpMatch(field: string, { path, headers, queryParams }: HttpMatch, refuse: Refuse): void {
  checkUnique(`${field}.headers`, headers, refuse);
  checkUnique(`${field}.queryParams`, queryParams, refuse);
  for (const { type, value } of [...headers, ...queryParams])
    if (type === 'RegularExpression') checkExpression(field, value, refuse);
  const place = `${field}.path.value`;
  if (path.type === 'RegularExpression') return checkExpression(place, path.value, refuse);
  if (!path.value.startsWith('/')) refuse(place, `expected a path that begins with "/", got "${path.value}"`);
  checkPathText(place, path.value, refuse);
  if (!PATH.test(path.value)) refuse(place, `expected the characters of a path (RFC 3986), got "${path.value}"`);
}

const PATH = /^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$/;

/** Implementations choose the dialect; this one has JavaScript's, which is near RE2's. */
function checkExpression(field: string, value: string, refuse: Refuse): void {
  try {
    new RegExp(value);
  } catch {
    refuse(field, `expected a regular expression, got "${value}"`);
  }
}

function checkUnique(field: string, list: readonly { readonly name: string }[], refuse: Refuse): void {
  for (const [i, { name }] of list.entries())
    if (list.slice(0, i).some((other) => other.name === name))
      refuse(`${field}[${i}].name`, `expected a name that no other entry has, got "${name}"`);
}

const FIELD_OF_FILTER = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestMirror: 'requestMirror',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  ExtensionRef: 'extensionRef',
} as const;

function checkFilters(
  field: string,
  filters: readonly HttpFilter[],
  matches: readonly HttpMatch[],
  refuse: Refuse,
): void {
  for (const [i, filter] of filters.entries()) {
    const place = `${field}[${i}]`;
    for (const [type, own] of Object.entries(FIELD_OF_FILTER)) {
      const isGiven = filter[own] !== undefined;
      if (type === filter.type && !isGiven) refuse(`${place}.${own}`, `expected a map, as type is ${type}`);
      if (type !== filter.type && isGiven) refuse(`${place}.${own}`, `expected none, as type is ${filter.type}`);
    }
    const isRepeatable = filter.type === 'RequestMirror' || filter.type === 'ExtensionRef';
    if (!isRepeatable && filters.slice(0, i).some(({ type }) => type === filter.type))
      refuse(`${place}.type`, `expected ${filter.type} once`);
    const path = filter.requestRedirect?.path ?? filter.urlRewrite?.path;
    if (path !== undefined)
      checkPathModifier(
        `${place}.${filter.requestRedirect === undefined ? 'urlRewrite' : 'requestRedirect'}.path`,
        path,
        matches,
        refuse,
      );
  }
  const types = filters.map(({ type }) => type);
  if (types.includes('RequestRedirect') && types.includes('URLRewrite'))
    refuse(field, 'expected RequestRedirect or URLRewrite, got both');
}

function checkPathModifier(
  field: string,
  { type, replaceFullPath, replacePrefixMatch }: PathModifier,
  matches: readonly HttpMatch[],
  refuse: Refuse,
): void {
  const [own, other] =
    type === 'ReplaceFullPath' ? [replaceFullPath, replacePrefixMatch] : [replacePrefixMatch, replaceFullPath];
  if (own === undefined || other !== undefined)
    refuse(
      field,
      `expected ${type === 'ReplaceFullPath' ? 'replaceFullPath' : 'replacePrefixMatch'} alone, as type is ${type}`,
    );
  const isOnePrefix = matches.length === 1 && matches[0]!.path.type === 'PathPrefix';
  if (type === 'ReplacePrefixMatch' && !isOnePrefix)
    refuse(field, 'expected a rule with exactly one match, a PathPrefix, beside ReplacePrefixMatch');
}

function checkTarget(
  field: string,
  { group, kind, port }: { readonly group: string; readonly kind: string; readonly port?: number | undefined },
  refuse: Refuse,
): void {
  if (group === '' && kind === 'Service' && port === undefined)
    refuse(`${field}.port`, 'expected a port, as kind is Service');
}

function checkParents(parents: readonly ParentRef[], refuse: Refuse): void {
  for (const [i, parent] of parents.entries()) {
    const same = parents.slice(0, i).find((other) => isSameParent(other, parent));
    if (
      same !== undefined &&
      (same.sectionName === parent.sectionName || !same.sectionName || !parent.sectionName) &&
      same.port === parent.port
    )
      refuse(`parentRefs[${i}].sectionName`, 'expected one that no other reference to the same parent has');
  }
}

const isSameParent = (a: ParentRef, b: ParentRef): boolean =>
  a.group === b.group && a.kind === b.kind && a.name === b.name && a.namespace === b.namespace;

function checkRuleNames(rules: readonly { readonly name?: string | undefined }[], refuse: Refuse): void {
  for (const [i, { name }] of rules.entries())
    if (name !== undefined && rules.slice(0, i).some((other) => other.name === name))
      refuse(`rules[${i}].name`, `expected a name that no other rule has, got "${name}"`);
}

/** Throws an ObjectError about the first wrong field. */
export function checkGrpcRoute(route: GrpcRoute): void {
  const refuse = refusing(route);
  const { parentRefs, rules } = route.spec;
  checkParents(parentRefs, refuse);
  checkRuleNames(rules, refuse);
  for (const [i, { matches, filters, backendRefs }] of rules.entries()) {
    for (const [j, match] of matches.entries()) checkGrpcMatch(`rules[${i}].matches[${j}]`, match, refuse);
    checkFilters(`rules[${i}].filters`, filters, [], refuse);
    for (const [j, { filters: own, ...target }] of backendRefs.entries()) {
      checkTarget(`rules[${i}].backendRefs[${j}]`, target, refuse);
      checkFilters(`rules[${i}].backendRefs[${j}].filters`, own, [], refuse);
    }
  }
}

function checkGrpcMatch(field: string, { method, headers }: GrpcRule['matches'][number], refuse: Refuse): void {
  checkUnique(`${field}.headers`, headers, refuse);
  if (method === undefined) return;
  if (!method.service && !method.method) refuse(`${field}.method`, 'expected service or method, or both, got neither');
  for (const part of ['service', 'method'] as const) {
    const value = method[part];
    if (value === undefined || value === '') continue;
    if (method.type === 'RegularExpression') checkExpression(`${field}.method.${part}`, value, refuse);
    else if (!GRPC_NAMES[part].test(value))
      refuse(`${field}.method.${part}`, `expected a name as protobuf has it, got "${value}"`);
  }
}

const GRPC_NAMES = { service: /^[a-z0-9_]+(\.[a-z0-9_]+)*$/i, method: /^[a-z_][a-z0-9_]*$/i };
