import { describe, expect, test } from 'vitest';
import { between, type Duration, type Instant, inUs, ms, ns, s, us } from '../../engine/time.ts';
import { parseIp } from '../packet/ip-address.ts';
import { bursts, constantRate } from './arrivals.ts';
import { type ClientSettings, closedLoop, openLoop } from './client.ts';
import { httpRequest } from './http.ts';
import { type Failure, Load } from './load.ts';
import type { Response } from './message.ts';
import { echo, Server } from './server.ts';
import { ROUND_TRIP, TwoMachines } from './two-machines.fixture.ts';

/** A server on TCP port 80 and UDP port 53 that takes 60 us: with the way there and back, 80 us per request. */
function served(serviceTime: Duration = us(60)): TwoMachines {
  const world = new TwoMachines();
  const server = new Server(world.server, echo({ serviceTime }));
  server.listen('TCP', 80);
  server.listen('UDP', 53);
  return world;
}

describe('an open-loop client', () => {
  test('asks at its arrivals, whatever the answers do', () => {
    const world = served(s(100)); // nobody will hear of them
    const load = openLoop(world.client, { to: world.to(80), arrivals: constantRate({ perSecond: 1_000 }) });
    world.runFor(s(1));
    expect([load.started, load.completed, load.outstanding]).toEqual([1_000, 0, 1_000]);
  });

  test('stops after its number of requests', () => {
    const world = served();
    const arrivals = bursts({ size: 10, every: ms(1) });
    const load = openLoop(world.client, { to: world.to(80), arrivals, requests: 25 });
    world.runFor(s(1));
    expect([load.started, load.completed]).toEqual([25, 25]);
  });
});

describe('a closed-loop client', () => {
  test('asks again when it has had its answer and has thought', () => {
    const world = served();
    const load = closedLoop(world.client, { to: world.to(53), protocol: 'udp', thinkTime: us(920) });
    world.runFor(s(1));
    // 80 us and 920 us make a millisecond. It begins within its first think time, and asks for a MAC once: 20 us.
    expect(load.completed).toBeGreaterThanOrEqual(999);
    expect(load.completed).toBeLessThanOrEqual(1_000);
    expect(load.latency.min).toBe(us(80));
  });

  test('has one request under way per user', () => {
    const world = served(ms(5));
    const load = closedLoop(world.client, { to: world.to(80), users: 7, thinkTime: ns(0) });
    for (let tick = 0; tick < 50; tick++) {
      world.runFor(us(730));
      expect(load.outstanding).toBeLessThanOrEqual(7);
    }
    // Each takes a round trip to connect, and one with 5 ms in it to ask; the first, 20 us more for a MAC.
    expect(load.completed).toBe(7 * Math.floor((50 * 0.73) / 5.04));
  });

  test('divides a number of requests among its users', () => {
    const world = served();
    const load = closedLoop(world.client, { to: world.to(80), users: 3, requests: 10 });
    world.runFor(s(1));
    expect([load.started, load.completed]).toEqual([10, 10]);
  });
});

test.each([
  [{ protocol: 'udp', http: httpRequest('http://shop/cart') }, 'http over udp; expected it over tcp'],
  [{ protocol: 'sctp', keepAlive: true }, 'keepAlive over sctp; expected it over tcp or udp'],
] as const)('what a protocol does not do is refused: %o', (settings, message) => {
  const world = served();
  expect(() => closedLoop(world.client, { to: world.to(53), ...settings })).toThrow(message);
});

describe('connections', () => {
  function synsOf(settings: Partial<ClientSettings>, users: number): { syns: number; completed: number } {
    const world = served();
    const load = closedLoop(world.client, { to: world.to(80), users, thinkTime: us(100), ...settings });
    world.runFor(ms(20));
    return { syns: world.synsReceived, completed: load.completed };
  }

  test('are new for every request by default', () => {
    const { syns, completed } = synsOf({}, 2);
    expect(completed).toBeGreaterThan(100);
    expect(syns - completed).toBeLessThanOrEqual(2); // those under way
  });

  test('are one per user when they are kept alive', () => {
    const { syns, completed } = synsOf({ keepAlive: true }, 5);
    expect(completed).toBeGreaterThan(400);
    expect(syns).toBe(5);
  });

  test('cost a round trip each, which kept ones do not', () => {
    const latencies = (keepAlive: boolean) => {
      const world = served();
      const load = closedLoop(world.client, { to: world.to(80), requests: 5, keepAlive });
      world.runFor(s(1));
      return { best: load.latency.min, connects: load.connect.count, connect: load.connect.min, ask: load.request.min };
    };
    expect(latencies(false)).toEqual({ best: us(100), connects: 5, connect: ROUND_TRIP, ask: us(80) });
    expect(latencies(true)).toMatchObject({ best: us(80), connects: 1, ask: us(80) });
  });

  test('that were kept are replaced when the server has closed them', () => {
    const world = new TwoMachines();
    // Answers once per connection, like a server that says "Connection: close".
    world.server.namespace.tcp.listen({ port: 80, cpu: 0 }, () => ({
      onMessage: (connection, { id }) => {
        const { remoteIp: sourceSeen, family: sourceFamily } = connection;
        const response: Response = { kind: 'response', id, sizeBytes: 100, server: 'once', sourceSeen, sourceFamily };
        connection.send(response);
        connection.close();
      },
    }));
    const load = closedLoop(world.client, { to: world.to(80), keepAlive: true, requests: 4, thinkTime: ms(2) });
    world.runFor(s(1));
    expect([load.completed, load.failed, world.synsReceived]).toEqual([4, 0, 4]);
  });
});

/** Knows how long it took the latest request to fail. */
class TimedLoad extends Load {
  lastFailureUs = Number.NaN;

  constructor(private readonly world: TwoMachines) {
    super();
  }

  override fail(began: Instant, failure: Failure): void {
    super.fail(began, failure);
    this.lastFailureUs = inUs(between(began, this.world.sim.now));
  }
}

describe('a request fails', () => {
  /** One request from the client: how it ended, and how many microseconds after it began. */
  function outcomeOf(world: TwoMachines, settings: Partial<ClientSettings>): { failures: object; afterUs: number } {
    const load = new TimedLoad(world);
    closedLoop(world.client, { to: world.to(80), requests: 1, load, ...settings });
    world.runFor(s(30));
    expect(load.outstanding).toBe(0);
    return { failures: Object.fromEntries(load.failures), afterUs: load.lastFailureUs };
  }

  test('when nobody listens: a reset comes back at once, or an ICMP error', () => {
    // A round trip to ask for a MAC, and one to be refused.
    expect(outcomeOf(new TwoMachines(), {})).toEqual({ failures: { refused: 1 }, afterUs: 40 });
    expect(outcomeOf(new TwoMachines(), { protocol: 'udp' })).toEqual({ failures: { refused: 1 }, afterUs: 40 });
  });

  test('when it has waited for its timeout, whether connected or not', () => {
    const timeout = ms(250);
    const expected = { failures: { 'timed out': 1 }, afterUs: 250_000 };
    const world = served(s(100));
    expect(outcomeOf(world, { timeout })).toEqual(expected);
    expect(outcomeOf(served(s(100)), { timeout, keepAlive: true })).toEqual(expected);
    expect(outcomeOf(served(s(100)), { timeout, protocol: 'udp', to: served().to(53) })).toEqual(expected);
    expect(world.client.namespace.tcp.connections).toEqual([]); // given up, and reset
  });

  test('when nobody has the address', () => {
    const to = { ip: parseIp('192.0.2.77'), port: 80 };
    const { failures, afterUs } = outcomeOf(new TwoMachines(), { to });
    expect(failures).toEqual({ 'host unreachable': 1 });
    expect(afterUs).toBeGreaterThan(1e6); // three unanswered requests for its MAC, a second apart
    expect(outcomeOf(new TwoMachines(), { to: { ip: parseIp('198.51.100.1'), port: 80 } })).toEqual({
      failures: { 'network unreachable': 1 }, // without a route, at once
      afterUs: 0,
    });
  });

  test('when the server closes the connection without an answer', () => {
    const world = new TwoMachines();
    world.server.namespace.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (connection) => connection.close() }));
    expect(outcomeOf(world, {}).failures).toEqual({ 'closed early': 1 });
    expect(outcomeOf(world, { keepAlive: true }).failures).toEqual({ 'closed early': 1 });
  });

  test('when the server resets the connection', () => {
    const world = new TwoMachines();
    world.server.namespace.tcp.listen({ port: 80, cpu: 0 }, () => ({ onMessage: (connection) => connection.abort() }));
    expect(outcomeOf(world, {}).failures).toEqual({ reset: 1 });
  });

  test('when every port of the client is taken', () => {
    const world = served(s(100));
    const arrivals = () => ns(0);
    const load = openLoop(world.client, { to: world.to(53), protocol: 'udp', requests: 28_240, arrivals });
    world.runFor(ms(1));
    expect(Object.fromEntries(load.failures)).toEqual({ 'no free port': 28_240 - 28_232 }); // 32,768 to 60,999
  });
});

test('an answer that comes after the client has given up does not count', () => {
  const world = served(ms(50));
  const load = closedLoop(world.client, {
    to: world.to(53),
    protocol: 'udp',
    keepAlive: true,
    requests: 2,
    timeout: ms(20),
  });
  world.runFor(s(1));
  expect([load.started, load.completed, load.failed]).toEqual([2, 0, 2]);
});
