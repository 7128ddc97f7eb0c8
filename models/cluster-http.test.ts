// Ingresses and Gateways from outside, by packets: who answers, whom the server sees, and how soon changes are in force.

import { describe, expect, test } from 'vitest';
import { ms, s, us } from '../engine/time.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { readManifests } from './kube/manifests.ts';
import { httpRequest } from './workload/http.ts';
import type { Load } from './workload/load.ts';

const deployment = (name: string, replicas: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: ${name}}}
  template: {metadata: {labels: {app: ${name}}}, spec: {containers: [{name: main, ports: [{containerPort: 8080}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {selector: {app: ${name}}, ipFamilyPolicy: PreferDualStack, ports: [{name: http, port: 80, targetPort: 8080}]}`;

const WEB_AND_CART = [deployment('web', 2), deployment('cart', 1)].join('\n---\n');

const INGRESS = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: nginx
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
      - {path: /cart, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}`;

const GATEWAY = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: example, listeners: [{name: http, port: 8000, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: web, port: 80, weight: 9}, {name: cart, port: 80, weight: 1}]
  - matches: [{headers: [{name: X-Cart, value: "1"}]}]
    backendRefs: [{name: cart, port: 80}]`;

function clusterWith(yaml: readonly string[], options: Partial<ClusterOptions> = {}): Cluster {
  const manifests = readManifests([{ name: 'test.yaml', text: yaml.join('\n---\n') }]);
  const cluster = Cluster.fromManifests(manifests, { seed: 'http', ...options });
  cluster.start();
  return cluster;
}

const FOUND = { Ingress: 'default/shop', Gateway: 'default/edge' } as const;

/** Where clients outside find the Ingress or the Gateway. */
function addressesOf(cluster: Cluster, kind: keyof typeof FOUND): readonly string[] {
  const gateway = cluster.api.get('Gateway', FOUND.Gateway);
  if (kind === 'Gateway') return gateway!.status.addresses.map(({ value }) => value);
  return cluster.api.get('Ingress', FOUND.Ingress)!.status.loadBalancer.ingress.map(({ ip }) => ip!);
}

interface Asking {
  readonly requests: number;
  readonly to?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly address?: number;
}

function ask(
  cluster: Cluster,
  kind: keyof typeof FOUND,
  url: string,
  { requests, headers = {}, address = 0 }: Asking,
): Load {
  const text = addressesOf(cluster, kind)[address]!;
  const port = kind === 'Ingress' ? 80 : 8000;
  const to = cluster.resolve(text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`);
  const http = httpRequest(url, { headers });
  const load = cluster.closedLoop(cluster.outside.client, { to, http, requests, keepAlive: true, thinkTime: us(100) });
  cluster.runFor(s(1));
  cluster.assertConserved();
  return load;
}

/** `web 6, cart 3`. */
function whoAnswers(load: Load): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [server, count] of load.perServer) {
    const app = server.replace(/^default\/(\w+)-.*/, '$1');
    counts[app] = (counts[app] ?? 0) + count;
  }
  return counts;
}

describe('through an Ingress', () => {
  test('a request is answered by the Service of its host and path', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS]);
    expect(whoAnswers(ask(cluster, 'Ingress', 'http://shop.example.com/', { requests: 6 }))).toEqual({ web: 6 });
    expect(whoAnswers(ask(cluster, 'Ingress', 'http://shop.example.com/cart/7', { requests: 3 }))).toEqual({ cart: 3 });
    expect([...ask(cluster, 'Ingress', 'http://other.example/', { requests: 1 }).failures.keys()]).toEqual([
      'HTTP 404',
    ]);
  });

  test('one connection of a client is spread over all pods, which kube-proxy cannot do', () => {
    const load = ask(clusterWith([WEB_AND_CART, INGRESS]), 'Ingress', 'http://shop.example.com/', { requests: 20 });
    expect([...load.perServer.values()]).toEqual([10, 10]);
  });

  test('pods see the pod of the proxy; whom that has seen is in X-Forwarded-For', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS]);
    const load = ask(cluster, 'Ingress', 'http://shop.example.com/', { requests: 4 });
    const proxies = cluster.pods
      .filter(({ name }) => name.startsWith('ingress-system/'))
      .map(({ name }) => cluster.api.get('Pod', name)!.status.podIP);
    expect(proxies).toContain([...load.perSource.keys()].join());
    const nodes = cluster.api.list('Node').map(({ status }) => status.addresses[0]!.address);
    expect(nodes).toContain([...load.perForwardedFor.keys()].join()); // masqueraded on its way to the proxy
  });

  test('the client’s own address is there, where the Service of the proxy has policy Local', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS], { httpProxy: { externalTrafficPolicy: 'Local' } });
    const load = ask(cluster, 'Ingress', 'http://shop.example.com/', { requests: 4 });
    expect([...load.perForwardedFor]).toEqual([['203.0.113.10', 4]]);
  });

  test('a change of endpoints is in force a watch delay later, without kube-proxy', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS], { watchDelay: ms(5), proxySync: { minSyncPeriod: s(100) } });
    cluster.runFor(ms(100)); // the first changes may be synced at once
    cluster.scale('cart', 3);
    cluster.runFor(s(2));
    expect([...ask(cluster, 'Ingress', 'http://shop.example.com/cart', { requests: 9 }).perServer.values()]).toEqual([
      3, 3, 3,
    ]);
  });

  test('no endpoint is 503, and nothing is left of an Ingress that is deleted', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS]);
    cluster.scale('cart', 0);
    cluster.runFor(s(60));
    expect([...ask(cluster, 'Ingress', 'http://shop.example.com/cart', { requests: 1 }).failures.keys()]).toEqual([
      'HTTP 503',
    ]);
    const address = addressesOf(cluster, 'Ingress')[0]!;
    cluster.api.delete('Ingress', FOUND.Ingress);
    cluster.runFor(s(60));
    expect(cluster.api.list('Deployment').map(({ metadata }) => metadata.name)).toEqual(['web', 'cart']);
    expect(cluster.httpProxies.size).toBe(0);
    const load = cluster.closedLoop(cluster.outside.client, {
      to: cluster.resolve(`${address}:80`),
      requests: 1,
      timeout: ms(500),
    });
    cluster.runFor(s(2));
    expect(load.completed).toBe(0);
  });

  test('it is made while the cluster runs', () => {
    const cluster = clusterWith([WEB_AND_CART]);
    cluster.runFor(s(1));
    cluster.apply(readManifests([{ name: 'later.yaml', text: INGRESS }]).objects);
    cluster.runFor(s(30));
    expect(whoAnswers(ask(cluster, 'Ingress', 'http://shop.example.com/', { requests: 6 }))).toEqual({ web: 6 });
  });
});

describe('through a Gateway', () => {
  test('requests are shared by weight, or go by a header', () => {
    const cluster = clusterWith([WEB_AND_CART, GATEWAY]);
    const { web, cart } = whoAnswers(ask(cluster, 'Gateway', 'http://x/', { requests: 1_000 }));
    expect(web! + cart!).toBe(1_000);
    // Binomial, n = 1000, p = 0.1: within four standard deviations of 9.5.
    expect(Math.abs(cart! - 100)).toBeLessThan(38);
    expect(whoAnswers(ask(cluster, 'Gateway', 'http://x/', { requests: 5, headers: { 'x-cart': '1' } }))).toEqual({
      cart: 5,
    });
  });

  test('the proxies stand beside it, named after it and its class', () => {
    const cluster = clusterWith([WEB_AND_CART, GATEWAY]);
    expect(cluster.api.get('Deployment', 'default/edge-example')?.spec.replicas).toBe(2);
    const { ports, type } = cluster.api.get('Service', 'default/edge-example')!.spec;
    expect([type, ports.map(({ port }) => port)]).toEqual(['LoadBalancer', [8000]]);
  });

  test('a listener more is a port more', () => {
    const cluster = clusterWith([WEB_AND_CART, GATEWAY]);
    const gateway = cluster.api.get('Gateway', FOUND.Gateway)!;
    const [listener] = gateway.spec.listeners;
    cluster.api.update({
      ...gateway,
      spec: { ...gateway.spec, listeners: [listener!, { ...listener!, name: 'b', port: 80 }] },
    });
    cluster.runFor(s(2));
    const load = cluster.closedLoop(cluster.outside.client, {
      to: cluster.resolve(`${addressesOf(cluster, 'Gateway')[0]}:80`),
      http: httpRequest('http://x/'),
      requests: 3,
    });
    cluster.runFor(s(1));
    expect(load.completed).toBe(3);
  });
});

describe.each(['ipv4', 'ipv6', 'dual'] as const)('%s', (ipFamily) => {
  test.each(['Ingress', 'Gateway'] as const)('%s: all addresses answer', (kind) => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS, GATEWAY], {
      ipFamily,
      httpProxy: { externalTrafficPolicy: 'Local' },
    });
    const addresses = addressesOf(cluster, kind);
    expect(addresses).toHaveLength(ipFamily === 'dual' ? 2 : 1);
    for (const [address, text] of addresses.entries()) {
      const load = ask(cluster, kind, 'http://shop.example.com/', { requests: 4, address });
      expect(load.completed).toBe(4);
      expect([...load.perForwardedFor.keys()]).toEqual([text.includes(':') ? '2001:db8:203:113::10' : '203.0.113.10']);
    }
  });
});

describe.each(['nftables', 'ipvs', 'ebpf'] as const)('with kube-proxy in mode %s', (proxy) => {
  test('Ingress and Gateway work alike', () => {
    const cluster = clusterWith([WEB_AND_CART, INGRESS, GATEWAY], { proxy });
    expect(whoAnswers(ask(cluster, 'Ingress', 'http://shop.example.com/cart', { requests: 3 }))).toEqual({ cart: 3 });
    expect(ask(cluster, 'Gateway', 'http://x/', { requests: 10 }).completed).toBe(10);
  });
});

test('clusters without either have no proxies', () => {
  const cluster = clusterWith([WEB_AND_CART]);
  expect([cluster.httpProxies.size, cluster.loadBalancer]).toEqual([0, undefined]);
});
