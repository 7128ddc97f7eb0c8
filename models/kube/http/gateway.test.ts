import { describe, expect, test } from 'vitest';
import type { RouteTable } from '../../workload/proxy/route-table.ts';
import { ManifestError } from '../manifest-error.ts';
import { gatewayTables } from './gateway-routes.ts';
import { apiServerWith, backendsOf, destination } from './routes.fixture.ts';

const API = 'apiVersion: gateway.networking.k8s.io/v1';
const gateway = (listeners = '{name: http, port: 80, protocol: HTTP}') => `
${API}
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: example, listeners: [${listeners}]}`;
const route = (spec: string, { name = 'route', kind = 'HTTPRoute', namespace = 'default' } = {}) => `
${API}
kind: ${kind}
metadata: {name: ${name}, namespace: ${namespace}}
spec: {${spec.includes('parentRefs') ? '' : 'parentRefs: [{name: edge, namespace: default}], '}${spec}}`;
const rule = (service: string, matches = '', more = '') =>
  `{matches: [${matches}], backendRefs: [{name: ${service}, port: 80}]${more && `, ${more}`}}`;
const path = (value: string, type = 'PathPrefix') => `path: {type: ${type}, value: "${value}"}`;

function tableOf(yaml: readonly string[], port = 80): RouteTable {
  const api = apiServerWith(...yaml);
  return gatewayTables(api.get('Gateway', 'default/edge')!, api, backendsOf(api)).get(port)!;
}

describe('of several matches wins', () => {
  // Each row: two matches, the losing one first in the list, and a request that both fit.
  const headers = 'headers: [{name: a, value: "1"}]';
  test.each([
    ['the exact path', `{${path('/a')}}`, `{${path('/a', 'Exact')}}`],
    ['the longer prefix', `{${path('/')}, ${headers}}`, `{${path('/a')}}`],
    ['the method', `{${path('/a')}, ${headers}}`, `{${path('/a')}, method: GET}`],
    ['more headers', `{${path('/a')}, queryParams: [{name: q, value: "1"}]}`, `{${path('/a')}, ${headers}}`],
    ['more query parameters', `{${path('/a')}}`, `{${path('/a')}, queryParams: [{name: q, value: "1"}]}`],
    ['the prefix over an expression', `{${path('/.*', 'RegularExpression')}}`, `{${path('/')}}`],
  ])('%s', (_, loser, winner) => {
    const table = tableOf([gateway(), route(`rules: [${rule('one', loser)}, ${rule('two', winner)}]`)]);
    expect(destination(table, 'http://x/a?q=1', { headers: { A: '1' } })).toBe('two');
  });

  test('the first rule of a route', () => {
    expect(destination(tableOf([gateway(), route(`rules: [${rule('two')}, ${rule('one')}]`)]), 'http://x/')).toBe(
      'two',
    );
  });

  test('the older route, or else the first in the alphabet', () => {
    const both = [route(`rules: [${rule('one')}]`, { name: 'b' }), route(`rules: [${rule('two')}]`, { name: 'a' })];
    expect(destination(tableOf([gateway(), ...both]), 'http://x/')).toBe('two');
    const old = both[0]!.replace('name: b,', 'name: b, creationTimestamp: "2020-01-01T00:00:00Z",');
    const young = both[1]!.replace('name: a,', 'name: a, creationTimestamp: "2021-01-01T00:00:00Z",');
    expect(destination(tableOf([gateway(), young, old]), 'http://x/')).toBe('one');
  });

  test('the exact host name, then the longer one with a star; and what it does not match goes on', () => {
    const table = tableOf([
      gateway(),
      route(`rules: [${rule('one', `{${path('/a/b')}}`)}]`, { name: 'all' }),
      route(`hostnames: ["*.example.com"], rules: [${rule('two', `{${path('/a')}}`)}]`, { name: 'star' }),
      route(`hostnames: [www.example.com], rules: [${rule('three', `{${path('/')}, method: GET}`)}]`, {
        name: 'exact',
      }),
    ]);
    expect(destination(table, 'http://www.example.com/a/b')).toBe('three');
    expect(destination(table, 'http://a.b.example.com/a/b')).toBe('two');
    expect(destination(table, 'http://example.com/a/b')).toBe('one');
    expect(destination(table, 'http://www.example.com/a/b', { method: 'POST' })).toBe('two');
    expect(destination(table, 'http://other.example/')).toBe('404');
  });
});

test('header names are the same in any case, values are not', () => {
  const table = tableOf([gateway(), route(`rules: [${rule('one', '{headers: [{name: X-Version, value: Two}]}')}]`)]);
  expect(destination(table, 'http://x/', { headers: { 'x-VERSION': 'Two' } })).toBe('one');
  expect(destination(table, 'http://x/', { headers: { 'x-version': 'two' } })).toBe('404');
});

describe('listeners', () => {
  const listeners = [
    '{name: all, port: 80, protocol: HTTP}',
    '{name: star, port: 80, protocol: HTTP, hostname: "*.example.com"}',
    '{name: one, port: 80, protocol: HTTP, hostname: one.example.com}',
    '{name: other-port, port: 8080, protocol: HTTP}',
  ].join();

  test('have routes by section name and by port', () => {
    const routes = [
      route(`parentRefs: [{name: edge, sectionName: star}], rules: [${rule('one')}]`, { name: 'a' }),
      route(`parentRefs: [{name: edge, port: 8080}], rules: [${rule('two')}]`, { name: 'b' }),
    ];
    const yaml = [gateway(listeners), ...routes];
    expect(destination(tableOf(yaml), 'http://a.example.com/')).toBe('one');
    expect(destination(tableOf(yaml), 'http://x/')).toBe('404');
    expect(destination(tableOf(yaml, 8080), 'http://x/')).toBe('two');
  });

  test('keep requests for themselves: a less specific listener does not get them', () => {
    const yaml = [gateway(listeners), route(`parentRefs: [{name: edge, sectionName: all}], rules: [${rule('one')}]`)];
    expect(destination(tableOf(yaml), 'http://x/')).toBe('one');
    expect(destination(tableOf(yaml), 'http://one.example.com/')).toBe('404');
  });

  test('have in common with routes the more specific host name', () => {
    const yaml = [
      gateway('{name: star, port: 80, protocol: HTTP, hostname: "*.example.com"}'),
      route(`hostnames: [www.example.com, www.example.net, "*.com"], rules: [${rule('one')}]`),
    ];
    const table = tableOf(yaml);
    expect(destination(table, 'http://www.example.com/')).toBe('one');
    expect(destination(table, 'http://other.example.com/')).toBe('one'); // *.com within *.example.com
    expect(destination(table, 'http://www.example.net/')).toBe('404');
    expect(destination(table, 'http://other.com/')).toBe('404');
  });

  test('take routes of their own namespace, unless they say otherwise', () => {
    const grant = `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service}]}`;
    const namespace = '{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}';
    const foreign = route(`rules: [{backendRefs: [{name: one, namespace: default, port: 80}]}]`, { namespace: 'shop' });
    const allowing = (from: string) =>
      gateway(`{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {${from}}}}`);
    const of = (...yaml: string[]) => destination(tableOf([namespace, foreign, grant, ...yaml]), 'http://x/');
    expect(of(gateway())).toBe('404');
    expect(of(allowing('from: All'))).toBe('one');
    expect(of(allowing('from: Selector, selector: {matchLabels: {team: a}}'))).toBe('one');
    expect(of(allowing('from: Selector, selector: {matchLabels: {team: b}}'))).toBe('404');
  });
});

describe('a backend is missing', () => {
  test.each([
    ['without the Service', '{backendRefs: [{name: gone, port: 80}]}'],
    ['without its port', '{backendRefs: [{name: one, port: 81}]}'],
    ['of another kind', '{backendRefs: [{name: one, group: example.com, kind: Bucket}]}'],
    ['in a namespace that does not grant it', '{backendRefs: [{name: one, namespace: other, port: 80}]}'],
  ])('%s: 500', (_, ruleText) => {
    expect(destination(tableOf([gateway(), route(`rules: [${ruleText}]`)]), 'http://x/')).toBe('500');
  });
});

test('weights and filters are those of the rule and of the backend', () => {
  const filters = `filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Team, value: a}], remove: [Cookie]}}]`;
  const yaml = route(`rules: [{${filters}, timeouts: {request: 1m500ms},
    backendRefs: [{name: one, port: 80, weight: 9}, {name: two, port: 80, weight: 1, ${filters.replace('a}', 'b}')}}]}]`);
  const api = apiServerWith(gateway(), yaml);
  const [first] = [...gatewayTables(api.get('Gateway', 'default/edge')!, api, backendsOf(api)).values()];
  const found = first!.routeOf({ host: 'x', path: '/', method: 'GET', query: {}, headers: {} })!;
  expect(found.name).toBe('HTTPRoute default/route: spec.rules[0].matches[0]');
  expect(found.requestTimeoutNs).toBe(60.5e9);
  expect(found.edits.headers).toEqual({ set: { 'x-team': 'a' }, add: {}, remove: ['cookie'] });
  expect(found.backends.map(({ upstream, weight, edits }) => [upstream, weight, edits.headers.set])).toEqual([
    ['default/one:80', 9, {}],
    ['default/two:80', 1, { 'x-team': 'b' }],
  ]);
});

test('a GRPCRoute matches service and method, and goes over HTTP/2', () => {
  const grpc = (matches: string, service: string) =>
    `{matches: [${matches}], backendRefs: [{name: ${service}, port: 80}]}`;
  const rules = [
    grpc('{}', 'three'),
    grpc('{method: {service: shop.Cart}}', 'two'),
    grpc('{method: {service: shop.Cart, method: Add}}', 'one'),
    grpc('{method: {method: Health}}', 'one'),
  ].join();
  const table = tableOf([gateway(), route(`rules: [${rules}]`, { kind: 'GRPCRoute' })]);
  const call = (name: string) => destination(table, `http://x${name}`, { method: 'POST' });
  expect(call('/shop.Cart/Add')).toBe('default/one:80 HTTP/2');
  expect(call('/shop.Cart/Remove')).toBe('default/two:80 HTTP/2');
  expect(call('/shop.Carts/Remove')).toBe('default/three:80 HTTP/2');
  expect(destination(table, 'http://x/shop.Cart/Add')).toBe('404'); // a GET is no call
});

describe('refused with file, object and field:', () => {
  const listenersOf = (text: string) => gateway(text);
  const backend = 'backendRefs: [{name: one, port: 80}]';
  const filter = (text: string) => route(`rules: [{filters: [${text}]}]`);
  const refusals: readonly (readonly [yaml: string, message: string])[] = [
    [listenersOf(''), 'spec.listeners: expected at least one listener, got []'],
    [
      listenersOf('{name: a, port: 0, protocol: HTTP}'),
      'spec.listeners[0].port: expected a number from 1 to 65535, got 0',
    ],
    [
      listenersOf('{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}'),
      'spec.listeners[1].name: expected a name that no other',
    ],
    [
      listenersOf('{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}'),
      'spec.listeners[1]: expected another combination of port, protocol and hostname',
    ],
    [
      listenersOf('{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: c}]}}'),
      'spec.listeners[0].tls: expected none, as protocol is HTTP',
    ],
    [
      listenersOf('{name: a, port: 443, protocol: HTTPS, tls: {}}'),
      'spec.listeners[0].tls.certificateRefs: expected a certificate',
    ],
    [
      listenersOf('{name: a, port: 80, protocol: TCP, hostname: a.example}'),
      'spec.listeners[0].hostname: expected none, as protocol is TCP',
    ],
    [
      listenersOf('{name: a, port: 80, protocol: HTTP, hostname: A.example}'),
      'spec.listeners[0].hostname: expected a host name such as',
    ],
    [route(`hostnames: ["a.*.example"], rules: [${rule('one')}]`), 'spec.hostnames[0]: expected a host name such as'],
    [
      route('rules: [{backendRefs: [{name: one, port: 80, weight: -1}]}]'),
      'spec.rules[0].backendRefs[0].weight: expected a number from 0 to 1000000, got -1',
    ],
    [
      route('rules: [{backendRefs: [{name: one, port: 80, weight: 1000001}]}]'),
      'spec.rules[0].backendRefs[0].weight: expected a number from 0 to 1000000',
    ],
    [
      route('rules: [{backendRefs: [{name: one}]}]'),
      'spec.rules[0].backendRefs[0].port: expected a port, as kind is Service',
    ],
    [
      route(`rules: [{matches: [{path: {type: Regex}}], ${backend}}]`),
      'spec.rules[0].matches[0].path.type: expected Exact, PathPrefix or RegularExpression, got "Regex"',
    ],
    [
      route(`rules: [{matches: [{path: {value: a}}], ${backend}}]`),
      'spec.rules[0].matches[0].path.value: expected a path that begins with "/", got "a"',
    ],
    [
      route(`rules: [{matches: [{path: {value: /a/../b}}], ${backend}}]`),
      'spec.rules[0].matches[0].path.value: expected a path without "/../"',
    ],
    [
      route(`rules: [{matches: [{path: {value: "/a?b"}}], ${backend}}]`),
      'spec.rules[0].matches[0].path.value: expected the characters of a path',
    ],
    [route(`rules: [{matches: [{method: FETCH}], ${backend}}]`), 'spec.rules[0].matches[0].method: expected GET,'],
    [
      route(`rules: [{matches: [{headers: [{name: a b, value: c}]}], ${backend}}]`),
      'spec.rules[0].matches[0].headers[0].name: expected the name of a header',
    ],
    [
      route(`rules: [{matches: [{headers: [{name: a, value: c}, {name: a, value: d}]}], ${backend}}]`),
      'spec.rules[0].matches[0].headers[1].name: expected a name that no other entry has',
    ],
    [
      route(`rules: [{matches: [{path: {type: RegularExpression, value: "("}}], ${backend}}]`),
      'spec.rules[0].matches[0].path.value: expected a regular expression, got "("',
    ],
    [
      route(`rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}], ${backend}}]`),
      'spec.rules[0].backendRefs: expected none beside a filter RequestRedirect',
    ],
    [
      filter('{type: RequestRedirect}'),
      'spec.rules[0].filters[0].requestRedirect: expected a map, as type is RequestRedirect',
    ],
    [
      filter('{type: URLRewrite, urlRewrite: {}, requestRedirect: {}}'),
      'spec.rules[0].filters[0].requestRedirect: expected none, as type is URLRewrite',
    ],
    [
      filter('{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}'),
      'spec.rules[0].filters[1].type: expected URLRewrite once',
    ],
    [
      filter('{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}'),
      'spec.rules[0].filters: expected RequestRedirect or URLRewrite, got both',
    ],
    [
      filter('{type: RequestRedirect, requestRedirect: {statusCode: 200}}'),
      'spec.rules[0].filters[0].requestRedirect.statusCode: expected 301, 302',
    ],
    [filter('{type: Rewrite}'), 'spec.rules[0].filters[0].type: expected RequestHeaderModifier,'],
    [
      route(
        `rules: [{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}]`,
      ),
      'spec.rules[0].filters[0].urlRewrite.path: expected a rule with exactly one match, a PathPrefix',
    ],
    [
      route(`rules: [{timeouts: {request: 1 s}, ${backend}}]`),
      'spec.rules[0].timeouts.request: expected a duration such as 10s',
    ],
    [
      route(`rules: [{timeouts: {request: 1s, backendRequest: 2s}, ${backend}}]`),
      'spec.rules[0].timeouts.backendRequest: expected no more than timeouts.request',
    ],
    [
      route(`parentRefs: [{name: edge}, {name: edge}], rules: [${rule('one')}]`),
      'spec.parentRefs[1].sectionName: expected one that no other',
    ],
    [
      route('rules: [{matches: [{method: {}}]}]', { kind: 'GRPCRoute' }),
      'spec.rules[0].matches[0].method: expected service or method',
    ],
    [
      route('rules: [{matches: [{method: {service: "a/b"}}]}]', { kind: 'GRPCRoute' }),
      'spec.rules[0].matches[0].method.service: expected a name',
    ],
  ];

  test.each(refusals.map(([yaml, message]) => ({ yaml, message })))('$message', ({ yaml, message }) => {
    const apply = () => apiServerWith(yaml);
    expect(apply).toThrow(ManifestError);
    expect(apply).toThrow(/^test\.yaml: document 4 \((Gateway|HTTPRoute|GRPCRoute) default\/(edge|route)\): /);
    expect(apply).toThrow(message);
  });
});
