import { describe, expect, test } from 'vitest';
import { between, type Duration, inUs, ms, ns, s, us } from '../../engine/time.ts';
import { poisson } from './arrivals.ts';
import { openLoop } from './client.ts';
import { exponential } from './duration-distribution.ts';
import { Load } from './load.ts';
import { echo, Server, type ServerSettings } from './server.ts';
import { ROUND_TRIP, TwoMachines } from './two-machines.fixture.ts';

/** Latencies of requests that arrive at once, in the order of the answers, without the way there and back. */
function timesAtServer(settings: Partial<ServerSettings>, requests: number): Duration[] {
  const world = new TwoMachines();
  new Server(world.server, echo(settings)).listen('UDP', 53);
  openLoop(world.client, { to: world.to(53), protocol: 'udp', requests: 1, arrivals: () => ns(0) }); // ARP
  world.runFor(ms(1));
  const times: Duration[] = [];
  const load = new Load({ groupBy: () => String(times.push(between(began, world.sim.now))) });
  const began = world.sim.now;
  openLoop(world.client, { to: world.to(53), protocol: 'udp', requests, arrivals: () => ns(0), load });
  world.runFor(ms(10));
  return times.map((time) => ns(time - ROUND_TRIP));
}

describe('requests that come at once', () => {
  test('are served side by side without a limit', () => {
    expect(timesAtServer({ serviceTime: us(100) }, 3)).toEqual([us(100), us(100), us(100)]);
  });

  test('wait for each other at a server that does one at a time', () => {
    expect(timesAtServer({ serviceTime: us(100), concurrency: 1 }, 3)).toEqual([us(100), us(200), us(300)]);
  });

  test('wait for the first of two to become free', () => {
    expect(timesAtServer({ serviceTime: us(100), concurrency: 2 }, 5)).toEqual(
      [100, 100, 200, 200, 300].map((time) => us(time)),
    );
  });
});

// Arrivals at random, exponential service times of 100 us on average, 5,000 or 10,000 requests per second: half of the
// server's capacity either way. Erlang: a request has to wait with probability C, then for 1 / (capacity - rate).
describe.each([
  // C = rho = 1/2, then 1/(10,000 - 5,000) s
  { queue: 'M/M/1', concurrency: 1, perSecond: 5_000, responseUs: 100 + 0.5 * 200 },
  // a = 1, C = (1/2 * 2) / (1 + 1 + 1) = 1/3, then 1/(20,000 - 10,000) s
  { queue: 'M/M/2', concurrency: 2, perSecond: 10_000, responseUs: 100 + 100 / 3 },
])('a server with $concurrency at a time is an $queue queue', ({ concurrency, perSecond, responseUs }) => {
  test(`whose mean response time is ${responseUs.toFixed(1)} us`, () => {
    const means = Array.from({ length: REPLICATIONS }, (_, index) => meanResponseUs(`replication ${index}`));
    const mean = means.reduce((sum, value) => sum + value, 0) / REPLICATIONS;
    const variance = means.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (REPLICATIONS - 1);
    const halfWidth = STUDENT_T * Math.sqrt(variance / REPLICATIONS);
    expect(halfWidth / mean).toBeLessThan(0.05); // narrow enough to tell
    expect(Math.abs(mean - responseUs)).toBeLessThan(halfWidth);
  });

  function meanResponseUs(seed: string): number {
    const world = new TwoMachines(seed);
    new Server(world.server, echo({ serviceTime: exponential(us(100)), concurrency })).listen('UDP', 53);
    const to = world.to(53);
    const load = openLoop(world.client, { to, protocol: 'udp', keepAlive: true, arrivals: poisson({ perSecond }) });
    world.runFor(ms(20));
    load.startMeasuring(world.sim.now);
    world.runFor(ms(500));
    return inUs(ns(load.latency.mean - ROUND_TRIP));
  }
});

const REPLICATIONS = 20;
/** Of 99 % and 19 degrees of freedom. */
const STUDENT_T = 2.861;

describe('an answer', () => {
  test('tells who answered and whom the server saw', () => {
    const world = new TwoMachines();
    const server = new Server(world.server, echo());
    server.listen('TCP', 80);
    const load = openLoop(world.client, { to: world.to(80), requests: 2, arrivals: () => ms(1) });
    world.runFor(s(1));
    expect([...load.perServer]).toEqual([['server', 2]]);
    expect([...load.perSource]).toEqual([['192.0.2.1', 2]]);
    expect(server.served).toBe(2);
  });

  test('is as long as the client wants, else as the server likes', () => {
    const bytesReceived = (responseBytes: number | undefined): number => {
      const world = new TwoMachines();
      new Server(world.server, echo({ responseBytes: 700 })).listen('UDP', 53);
      let bytes = 0;
      world.client.namespace.deviceNamed('eth0').tap = (frame, direction) => {
        if (direction === 'in') bytes += frame.payloadBytes;
      };
      const wanted = responseBytes === undefined ? {} : { responseBytes };
      openLoop(world.client, { to: world.to(53), protocol: 'udp', requests: 1, arrivals: () => ms(1), ...wanted });
      world.runFor(s(1));
      return bytes;
    };
    expect(bytesReceived(undefined)).toBe(700);
    expect(bytesReceived(90)).toBe(90);
  });
});

test('a server that is closed refuses, and may listen again', () => {
  const world = new TwoMachines();
  const server = new Server(world.server, echo());
  const outcomes = () => {
    const load = openLoop(world.client, { to: world.to(80), requests: 1, arrivals: () => ms(1) });
    world.runFor(s(1));
    return [load.completed, ...load.failures.keys()];
  };
  server.listen('TCP', 80);
  server.listen('TCP', 80); // nothing happens
  expect([server.listensOn('TCP', 80), server.listensOn('UDP', 80)]).toEqual([true, false]);
  expect(outcomes()).toEqual([1]);
  server.close();
  expect(server.listensOn('TCP', 80)).toBe(false);
  expect(outcomes()).toEqual([0, 'refused']);
  server.listen('TCP', 80);
  expect(outcomes()).toEqual([1]);
});

test('service times are drawn per request', () => {
  const drawn: Duration[] = [us(10), us(40), us(25)];
  const left = [...drawn];
  expect(timesAtServer({ serviceTime: () => left.shift() ?? us(1) }, 2)).toEqual([us(25), us(40)]);
});

test('a server without concurrency is refused', () => {
  expect(() => echo({ concurrency: 0 })).toThrow('concurrency 0; expected at least 1');
});
