import { describe, expect, test } from 'vitest';
import { type Duration, ms, s } from '../../../engine/time.ts';
import { parseIp } from '../../packet/ip-address.ts';
import { closedLoop } from '../client.ts';
import { httpRequest } from '../http.ts';
import type { Load } from '../load.ts';
import { echo, Server, type ServerSettings } from '../server.ts';
import { TwoMachines } from '../two-machines.fixture.ts';
import { DEFAULT_PROXY, HttpProxy, type ProxyConfiguration, type ProxySettings } from './http-proxy.ts';
import { NO_EDITS, type Route, RouteTable, type WeightedBackend } from './route-table.ts';
import { DEFAULT_POOL, type PoolSettings } from './upstream.ts';

const PORT = 8_000;
const CLIENT_IP = '192.0.2.1';

const backend = (upstream: string, weight = 1): WeightedBackend => ({
  ...{ upstream, weight, missing: undefined, edits: NO_EDITS },
});

const routeTo = (backends: readonly WeightedBackend[], more: Partial<Route> = {}): Route => ({
  name: 'all',
  match: { path: { type: 'Prefix', value: '/' }, method: undefined, headers: [], query: [] },
  edits: NO_EDITS,
  redirect: undefined,
  requestTimeoutNs: undefined,
  backends,
  ...more,
});

interface WorldOptions {
  readonly ports?: readonly number[];
  readonly server?: Partial<ServerSettings>;
  readonly pool?: Partial<PoolSettings>;
  readonly proxy?: Partial<ProxySettings>;
  readonly route?: Partial<Route>;
}

/** The client's machine also has the servers, one per port: what it asks the proxy for comes back to it from there. */
class World extends TwoMachines {
  readonly proxy: HttpProxy;
  readonly servers: ReadonlyMap<number, Server>;
  readonly #options: WorldOptions;

  constructor(options: WorldOptions = {}) {
    super();
    this.#options = options;
    const { ports = [81, 82, 83], server, proxy } = options;
    this.servers = new Map(ports.map((port) => [port, this.#serverOn(port, server)]));
    this.proxy = new HttpProxy(this.server, { ...DEFAULT_PROXY, ...proxy });
    this.serve(ports);
  }

  #serverOn(port: number, settings: Partial<ServerSettings> | undefined): Server {
    const server = new Server({ ...this.client, name: `server-${port}` }, echo(settings));
    server.listen('TCP', port);
    return server;
  }

  /** From now on these are the endpoints. */
  serve(ports: readonly number[], routes: readonly Route[] = [routeTo([backend('web')], this.#options.route)]): void {
    const endpoints = ports.map((port) => ({ family: 4 as const, ip: parseIp(CLIENT_IP), port }));
    const configuration: ProxyConfiguration = {
      tables: new Map([[PORT, new RouteTable([{ host: '*', wildcard: 'labels', routes }])]]),
      upstreams: new Map([['web', { endpoints, pool: { ...DEFAULT_POOL, ...this.#options.pool } }]]),
    };
    this.proxy.configure(configuration);
  }

  ask(requests: number, more: Partial<Parameters<typeof closedLoop>[1]> = {}): Load {
    const load = closedLoop(this.client, {
      ...{
        to: this.to(PORT),
        requests,
        keepAlive: true,
        thinkTime: ms(1),
        timeout: s(30),
        http: httpRequest('http://web/'),
      },
      ...more,
    });
    this.runFor(s(2));
    return load;
  }

  get served(): number[] {
    return [...this.servers.values()].map(({ served }) => served);
  }
}

test('one kept connection of a client is spread over all endpoints, in turn', () => {
  const world = new World();
  const load = world.ask(30);
  expect([load.completed, load.failed]).toEqual([30, 0]);
  expect(world.served).toEqual([10, 10, 10]);
  expect(world.proxy.upstreamConnections).toBe(3); // one each, used again and again
});

test('the server sees the proxy, and the client in X-Forwarded-For', () => {
  const load = new World().ask(3);
  expect([...load.perSource]).toEqual([['192.0.2.2', 3]]);
  expect([...load.perForwardedFor]).toEqual([[CLIENT_IP, 3]]);
});

describe('what a client claims in X-Forwarded-For', () => {
  const http = httpRequest('http://web/', { headers: { 'X-Forwarded-For': '203.0.113.9' } });

  test('is thrown away', () => {
    expect([...new World().ask(1, { http }).perForwardedFor.keys()]).toEqual([CLIENT_IP]);
  });

  test('is kept in front, where the proxy trusts what is before it', () => {
    const load = new World({ proxy: { trustsForwardedFor: true } }).ask(1, { http });
    expect([...load.perForwardedFor.keys()]).toEqual([`203.0.113.9, ${CLIENT_IP}`]);
  });
});

test('of two endpoints drawn, the one with fewer requests under way gets the next', () => {
  const fast = { server: { serviceTime: ms(5), concurrency: 1 }, ports: [81] };
  const busiestShare = (balancing: PoolSettings['balancing']): number => {
    const world = new World({ ...fast, pool: { balancing } });
    new Server({ ...world.client, name: 'slow' }, echo({ serviceTime: ms(50), concurrency: 1 })).listen('TCP', 84);
    world.serve([81, 84]);
    const load = world.ask(200, { users: 8 });
    return (load.perServer.get('server-81') ?? 0) / load.completed;
  };
  expect(busiestShare('random')).toBeLessThan(0.65);
  expect(busiestShare('least request')).toBeGreaterThan(0.75);
});

describe('connections to an endpoint', () => {
  test('are as many as requests at the same time', () => {
    const world = new World({ ports: [81], server: { serviceTime: ms(50) } });
    world.ask(8, { users: 8 });
    expect(world.proxy.upstreamConnections).toBe(8);
  });

  test('are no more than allowed: the others wait', () => {
    const world = new World({ ports: [81], server: { serviceTime: ms(50) }, pool: { maxConnections: 2 } });
    const load = world.ask(8, { users: 8 });
    expect(world.proxy.upstreamConnections).toBe(2);
    expect(load.completed).toBe(8);
    expect(load.latency.quantileUs(1)).toBeGreaterThan(190_000); // four rounds of 50 ms
  });

  test('carry many requests at once, as streams', () => {
    const world = new World({
      ports: [81],
      server: { serviceTime: ms(50) },
      pool: { streamsPerConnection: 100, maxConnections: 1 },
    });
    const load = world.ask(8, { users: 8 });
    expect(world.proxy.upstreamConnections).toBe(1);
    expect(load.latency.quantileUs(1)).toBeLessThan(60_000);
  });

  test('are closed beyond the idle ones that are kept', () => {
    const world = new World({ ports: [81], server: { serviceTime: ms(50) }, pool: { maxIdleConnections: 3 } });
    world.ask(8, { users: 8 });
    expect(world.proxy.upstreamConnections).toBe(3);
  });

  test('are closed after a while without requests', () => {
    const world = new World({ ports: [81] });
    world.ask(1);
    expect(world.proxy.upstreamConnections).toBe(1);
    world.runFor(s(60));
    expect(world.proxy.upstreamConnections).toBe(0);
  });
});

describe('an endpoint that is not there', () => {
  test('is passed over for another', () => {
    const world = new World();
    world.servers.get(82)!.close();
    const load = world.ask(30);
    expect([load.completed, load.failed]).toEqual([30, 0]);
    expect(world.served[1]).toBe(0);
  });

  test('costs 502 if all are such', () => {
    const world = new World({ ports: [81] });
    world.servers.get(81)!.close();
    expect([...world.ask(2).failures]).toEqual([['HTTP 502', 2]]);
  });
});

test('what comes after an endpoint has gone does not go there, and what is under way ends', () => {
  const world = new World({ ports: [81, 82], server: { serviceTime: ms(500) } });
  const load = closedLoop(world.client, {
    to: world.to(PORT),
    users: 4,
    requests: 4,
    thinkTime: ms(1),
    http: httpRequest('http://a/'),
  });
  world.runFor(ms(100));
  world.serve([81]);
  world.runFor(s(2));
  expect([load.completed, load.failed]).toEqual([4, 0]);
  world.ask(4);
  world.runFor(s(1));
  expect(world.served).toEqual([6, 2]);
});

test('a client that goes takes its request along', () => {
  const world = new World({ ports: [81], server: { serviceTime: s(1) } });
  world.ask(1, { timeout: ms(100) });
  expect(world.proxy.upstreamConnections).toBe(0);
});

describe('the proxy answers itself', () => {
  test('404 without a route', () => {
    const world = new World();
    world.serve([81], []);
    expect([...world.ask(1).failures.keys()]).toEqual(['HTTP 404']);
  });

  test('503 without endpoints', () => {
    expect([...new World({ ports: [] }).ask(1).failures.keys()]).toEqual(['HTTP 503']);
  });

  test('500 where all weights are 0', () => {
    const world = new World();
    world.serve([81], [routeTo([backend('web', 0)])]);
    expect([...world.ask(1).failures.keys()]).toEqual(['HTTP 500']);
  });

  test('504 when the time of the route is over', () => {
    const timeout: Duration = ms(100);
    const world = new World({ server: { serviceTime: s(1) }, route: { requestTimeoutNs: timeout } });
    const load = world.ask(1);
    expect([...load.failures.keys()]).toEqual(['HTTP 504']);
    expect(world.proxy.upstreamConnections).toBe(0); // HTTP/1.1: its response may still come
  });

  test('a redirect, which is no failure', () => {
    const redirect = { scheme: 'https', hostname: undefined, path: undefined, port: undefined, statusCode: 301 };
    const load = new World({ route: { redirect } }).ask(1);
    expect([...load.perServer]).toEqual([['server', 1]]);
  });
});

test('backends get their shares by weight', () => {
  const world = new World({ ports: [81] });
  const load = world.ask(1);
  expect(load.completed).toBe(1);
  world.serve([81], [routeTo([backend('web', 9), { ...backend('gone', 1), missing: 500 }])]);
  const canary = world.ask(1_000);
  // Binomial with n = 1000 and p = 0.1: within four standard deviations of 9.5.
  expect(canary.failed).toBeGreaterThan(62);
  expect(canary.failed).toBeLessThan(138);
});

test('a proxy that is asked to end answers what it has, and takes nothing new', () => {
  const world = new World({ server: { serviceTime: ms(100) } });
  const load = closedLoop(world.client, {
    to: world.to(PORT),
    users: 3,
    requests: 3,
    thinkTime: ms(1),
    http: httpRequest('http://a/'),
  });
  world.runFor(ms(50));
  let hasExited = false;
  world.proxy.terminate(() => {
    hasExited = true;
  });
  expect(hasExited).toBe(false);
  world.runFor(s(1));
  expect([load.completed, hasExited]).toEqual([3, true]);
  expect([...world.ask(1).failures.keys()]).toEqual(['refused']);
});
