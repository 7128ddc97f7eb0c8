import { describe, expect, test } from 'vitest';
import { RouteTable } from '../../workload/proxy/route-table.ts';
import { ManifestError } from '../manifest-error.ts';
import { readManifests } from '../manifests.ts';
import { ingressHosts } from './ingress-routes.ts';
import { apiServerWith, backendsOf, destination } from './routes.fixture.ts';

const to = (service: string, port = 'number: 80') => `backend: {service: {name: ${service}, port: {${port}}}}`;
const path = (text: string, type: string, service: string) => `{path: ${text}, pathType: ${type}, ${to(service)}}`;
const ingress = (spec: string, name = 'web', metadata = '') => `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: ${name}, ${metadata}}
spec: {${spec}}`;

function tableOf(...yaml: readonly string[]): RouteTable {
  const api = apiServerWith(...yaml);
  return new RouteTable(ingressHosts(api.list('Ingress'), backendsOf(api)));
}

describe('a request goes to', () => {
  test('the longest path, exact before prefix', () => {
    const paths = [path('/', 'Prefix', 'one'), path('/a', 'Prefix', 'two'), path('/a', 'Exact', 'three')].join();
    const table = tableOf(ingress(`rules: [{http: {paths: [${paths}]}}]`));
    expect(['/', '/a', '/a/b', '/ab'].map((url) => destination(table, `http://x${url}`))).toEqual([
      ...['one', 'three', 'two', 'one'],
    ]);
  });

  test('the most specific host, and from there to no other', () => {
    const rule = (host: string, service: string, at = '/') =>
      `{host: "${host}", http: {paths: [${path(at, 'Prefix', service)}]}}`;
    const table = tableOf(ingress(`rules: [${rule('*.a.example', 'one')}, ${rule('b.a.example', 'two', '/two')}]`));
    expect(destination(table, 'http://c.a.example/')).toBe('one');
    expect(destination(table, 'http://b.a.example/two')).toBe('two');
    expect(destination(table, 'http://b.a.example/')).toBe('404');
    expect(destination(table, 'http://d.c.a.example/')).toBe('404');
  });

  test('the default backend, where no rule fits', () => {
    const rules = `rules: [{host: a.example, http: {paths: [${path('/a', 'Prefix', 'two')}]}}]`;
    const table = tableOf(ingress(`default${to('one').replace('b', 'B')}, ${rules}`));
    expect(destination(table, 'http://a.example/a')).toBe('two');
    expect(destination(table, 'http://a.example/b')).toBe('one');
    expect(destination(table, 'http://b.example/')).toBe('one');
  });

  test('the older of two Ingresses with the same path', () => {
    const same = (service: string) => `rules: [{http: {paths: [${path('/a', 'Prefix', service)}]}}]`;
    const table = tableOf(ingress(same('two'), 'first'), ingress(same('one'), 'second'));
    expect(destination(table, 'http://x/a')).toBe('two');
  });

  test('nobody, if the Service or its port is not there', () => {
    const paths = [path('/a', 'Prefix', 'gone'), `{path: /b, pathType: Prefix, ${to('one', 'number: 81')}}`].join();
    const table = tableOf(ingress(`rules: [{http: {paths: [${paths}]}}]`));
    expect([destination(table, 'http://x/a'), destination(table, 'http://x/b')]).toEqual(['503', '503']);
  });

  test('the path of an implementation’s own type, as to a prefix', () => {
    const table = tableOf(ingress(`rules: [{http: {paths: [{pathType: ImplementationSpecific, ${to('one')}}]}}]`));
    expect(destination(table, 'http://x/anything')).toBe('one');
  });
});

describe('refused with file, object and field:', () => {
  const rules = (more: string) => `rules: [{http: {paths: [${more}]}}]`;
  test.each<[string, string]>([
    ['', 'spec: expected defaultBackend or rules, got neither'],
    ['defaultBackend: {}', 'spec.defaultBackend: expected service or resource, got neither'],
    ['rules: [{http: {}}]', 'spec.rules[0].http.paths: expected at least one path, got none'],
    ['rules: [{host: 10.0.0.1}]', 'spec.rules[0].host: expected a DNS name, got the IP address 10.0.0.1'],
    ['rules: [{host: "*"}]', 'spec.rules[0].host: expected a DNS name such as'],
    ['rules: [{host: "a.*.example"}]', 'spec.rules[0].host: expected a DNS name such as'],
    ['rules: [{host: Shop.example}]', 'spec.rules[0].host: expected a DNS name such as'],
    [rules(`{path: /, ${to('one')}}`), 'spec.rules[0].http.paths[0].pathType: expected Exact, Prefix or Impl'],
    [rules(path('/', 'Regex', 'one')), 'spec.rules[0].http.paths[0].pathType: expected Exact, Prefix or Impl'],
    [
      rules(path('cart', 'Prefix', 'one')),
      'spec.rules[0].http.paths[0].path: expected a path that begins with "/", got "cart"',
    ],
    [rules(path('/a//b', 'Exact', 'one')), 'spec.rules[0].http.paths[0].path: expected a path without "//"'],
    [
      rules(path('/a/..', 'Prefix', 'one')),
      'spec.rules[0].http.paths[0].path: expected a path that does not end with "/.."',
    ],
    [rules('{path: /, pathType: Prefix}'), 'spec.rules[0].http.paths[0].backend: expected a map, got nothing'],
    [
      rules(path('/', 'Prefix', 'One')),
      'spec.rules[0].http.paths[0].backend.service.name: expected the name of a Service',
    ],
    [
      rules(`{path: /, pathType: Prefix, ${to('one', '')}}`),
      'spec.rules[0].http.paths[0].backend.service.port: expected a name or a number, got neither',
    ],
    [
      rules(`{path: /, pathType: Prefix, ${to('one', 'name: http, number: 80')}}`),
      '.backend.service.port: expected a name or a number, got both',
    ],
    [rules(`{path: /, pathType: Prefix, ${to('one', 'number: 70000')}}`), '.backend.service.port.number: expected'],
    [`${rules(path('/', 'Prefix', 'one'))}, tls: [{hosts: ["*.*.a"]}]`, 'spec.tls[0].hosts[0]: expected a DNS name'],
  ])('%s', (spec, message) => {
    const apply = () => apiServerWith(ingress(spec));
    expect(apply).toThrow(ManifestError);
    expect(apply).toThrow(/^test\.yaml: document 4 \(Ingress default\/web\): /);
    expect(apply).toThrow(message);
  });

  test('a class in the annotation that is not that of the field', () => {
    const yaml = ingress(
      `ingressClassName: a, default${to('one').replace('b', 'B')}`,
      'web',
      'annotations: {kubernetes.io/ingress.class: b}',
    );
    expect(() => apiServerWith(yaml)).toThrow('metadata.annotations["kubernetes.io/ingress.class"]: expected "a"');
  });
});

test('a class belongs to no namespace', () => {
  const yaml = 'apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\nspec: {}';
  expect(() => readManifests([{ name: 'a.yaml', text: yaml }])).toThrow(
    'a.yaml: document 1 (IngressClass nginx): spec.controller: expected',
  );
});
