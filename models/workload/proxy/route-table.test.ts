import { describe, expect, test } from 'vitest';
import { httpRequest } from '../http.ts';
import {
  editedHeaders,
  editedPath,
  NO_EDITS,
  type PathMatch,
  type RequestMatch,
  type Route,
  RouteTable,
  type VirtualHost,
} from './route-table.ts';

const ANY: RequestMatch = { path: { type: 'Prefix', value: '/' }, method: undefined, headers: [], query: [] };

const route = (name: string, match: Partial<RequestMatch> = {}): Route => ({
  ...{ name, match: { ...ANY, ...match }, edits: NO_EDITS, redirect: undefined, backends: [] },
  requestTimeoutNs: undefined,
});

const host = (name: string, routes: readonly Route[], wildcard: VirtualHost['wildcard'] = 'labels'): VirtualHost => ({
  ...{ host: name, wildcard, routes },
});

const nameOf = (table: RouteTable, url: string, options?: Parameters<typeof httpRequest>[1]): string | undefined =>
  table.routeOf(httpRequest(url, options))?.name;

describe('hosts', () => {
  const hosts = ['*', '*.example.com', '*.shop.example.com', 'www.example.com'];
  const table = new RouteTable(hosts.map((name) => host(name, [route(name)])));

  test.each([
    ['www.example.com', 'www.example.com'],
    ['api.example.com', '*.example.com'],
    ['a.b.example.com', '*.example.com'],
    ['eu.shop.example.com', '*.shop.example.com'],
    ['example.com', '*'],
    ['notexample.com', '*'],
  ])('%s is served by %s', (name, expected) => expect(nameOf(table, `http://${name}/`)).toBe(expected));

  test('the star of an Ingress is one label', () => {
    const ingress = new RouteTable([host('*.example.com', [route('star')], 'one label')]);
    expect(nameOf(ingress, 'http://a.example.com/')).toBe('star');
    expect(nameOf(ingress, 'http://a.b.example.com/')).toBeUndefined();
    expect(nameOf(ingress, 'http://.example.com/')).toBeUndefined();
  });

  test('a host without a fitting route is not served by a less specific one', () => {
    const only = route('cart', { path: { type: 'Exact', value: '/cart' } });
    const both = new RouteTable([host('a.example.com', [only]), host('*', [route('all')])]);
    expect(nameOf(both, 'http://a.example.com/other')).toBeUndefined();
  });
});

// The examples of the Ingress documentation and of the Gateway API's PathMatchType.
test.each<[PathMatch['type'], string, string, boolean]>([
  ['Prefix', '/', '/any/path', true],
  ['Exact', '/foo', '/foo', true],
  ['Exact', '/foo', '/bar', false],
  ['Exact', '/foo', '/foo/', false],
  ['Exact', '/foo/', '/foo', false],
  ['Prefix', '/foo', '/foo', true],
  ['Prefix', '/foo', '/foo/', true],
  ['Prefix', '/foo/', '/foo', true],
  ['Prefix', '/foo/', '/foo/', true],
  ['Prefix', '/aaa/bb', '/aaa/bbb', false],
  ['Prefix', '/aaa/bbb', '/aaa/bbb/ccc', true],
  ['Prefix', '/aaa/bbb/', '/aaa/bbb', true],
  ['Prefix', '/aaa/bbb', '/aaa/bbbxyz', false],
  ['Prefix', '/foo', '/FOO', false],
])('%s %s: %s %s', (type, value, path, expected) => {
  const table = new RouteTable([host('*', [route('it', { path: { type, value } as PathMatch })])]);
  expect(nameOf(table, `http://a${path}`) === 'it').toBe(expected);
});

test('method, headers and parameters must all match', () => {
  const table = new RouteTable([
    host('*', [
      route('it', {
        method: 'POST',
        headers: [
          { name: 'version', value: 'two' },
          { name: 'agent', value: /^curl/ },
        ],
        query: [{ name: 'user', value: '7' }],
      }),
    ]),
  ]);
  const headers = { Version: 'two', agent: 'curl/8' };
  expect(nameOf(table, 'http://a/?user=7', { method: 'POST', headers })).toBe('it');
  expect(nameOf(table, 'http://a/?user=7', { method: 'GET', headers })).toBeUndefined();
  expect(nameOf(table, 'http://a/?user=8', { method: 'POST', headers })).toBeUndefined();
  expect(nameOf(table, 'http://a/?user=7', { method: 'POST', headers: { agent: 'curl/8' } })).toBeUndefined();
  expect(nameOf(table, 'http://a/?user=7', { method: 'POST', headers: { ...headers, agent: 'wget' } })).toBeUndefined();
});

// The table in the documentation of HTTPPathModifier.
test.each([
  ['/foo/bar', '/foo', '/xyz', '/xyz/bar'],
  ['/foo/bar', '/foo', '/xyz/', '/xyz/bar'],
  ['/foo/bar', '/foo/', '/xyz', '/xyz/bar'],
  ['/foo/bar', '/foo/', '/xyz/', '/xyz/bar'],
  ['/foo', '/foo', '/xyz', '/xyz'],
  ['/foo/', '/foo', '/xyz', '/xyz/'],
  ['/foo/bar', '/foo', '', '/bar'],
  ['/foo/', '/foo', '', '/'],
  ['/foo', '/foo', '', '/'],
  ['/foo/', '/foo', '/', '/'],
  ['/foo', '/foo', '/', '/'],
])('%s with prefix %s replaced by "%s" is %s', (path, value, replacement, expected) => {
  const match: RequestMatch = { ...ANY, path: { type: 'Prefix', value } };
  expect(editedPath({ type: 'ReplacePrefixMatch', value: replacement }, match, path)).toBe(expected);
});

test('headers are set, added to and removed', () => {
  const edits = { set: { a: '1', n: 'new' }, add: { b: '2', m: 'new' }, remove: ['c'] };
  expect(editedHeaders({ a: '0', b: '1', c: '1', d: '1' }, edits)).toEqual({
    ...{ a: '1', b: '1,2', d: '1', m: 'new', n: 'new' },
  });
});
