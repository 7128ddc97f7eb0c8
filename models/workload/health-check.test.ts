import { expect, test } from 'vitest';
import { between, type Duration, inMs, ms, START, s } from '../../engine/time.ts';
import { HealthChecker, type HealthStatus, serveHealth } from './health-check.ts';
import { TwoMachines } from './two-machines.fixture.ts';

const SETTINGS = { interval: s(1), timeout: ms(200), healthyThreshold: 2, unhealthyThreshold: 3 };

/** A server that answers `status`, or does not (`listens`), and one who asks it from 500 ms on. */
function checked({ listens = true, isHealthy = true } = {}) {
  const world = new TwoMachines();
  const target: { status: HealthStatus; checks: number } = { status: 200, checks: 0 };
  const server = listens
    ? serveHealth(world.server, { family: 4, port: 10_256 }, () => {
        target.checks++;
        return { status: target.status, readyEndpoints: undefined };
      })
    : undefined;
  const changes: string[] = [];
  const checker = new HealthChecker(world.client, {
    to: world.to(10_256),
    settings: SETTINGS,
    isHealthy,
    phase: 0.5,
    onChange: () => changes.push(`${Math.floor(inMs(between(START, world.sim.now)))} ms ${checker.isHealthy}`),
  });
  return { world, target, server, checker, changes };
}

test('asks once per interval, and believes what it has believed as long as answers agree', () => {
  const { world, target, changes, checker } = checked();
  world.runFor(s(10));
  expect(target.checks).toBe(10);
  expect([changes, checker.isHealthy]).toEqual([[], true]);
});

test('changes its mind after as many contradictions in a row as the threshold says', () => {
  const { world, target, changes } = checked();
  const runTo = (time: Duration, status: HealthStatus): void => {
    world.runFor(between(world.sim.now, time as never));
    target.status = status;
  };
  runTo(s(1), 503); // bad at 1.5 and 2.5 s,
  runTo(s(3), 200); // good at 3.5 s: the count begins anew
  runTo(s(4), 503); // bad at 4.5, 5.5, 6.5 s
  runTo(s(8), 200); // good at 8.5, 9.5 s
  world.runFor(s(3));
  expect(changes).toEqual(['6500 ms false', '9500 ms true']);
});

test('no answer is a bad one: refused at once, and silence when the time is over', () => {
  const refused = checked({ listens: false });
  refused.world.runFor(s(5));
  expect(refused.changes).toEqual(['2500 ms false']);

  const silent = checked();
  for (const device of silent.world.server.namespace.devices) device.up = device.name === 'lo';
  silent.world.runFor(s(5));
  expect(silent.changes).toEqual(['2700 ms false']);
});

test('a checker that is stopped asks no more, and leaves nothing behind', () => {
  const { world, target, checker } = checked();
  world.runFor(s(2));
  checker.stop();
  world.runFor(s(5));
  expect(target.checks).toBe(2);
  expect(world.server.namespace.tcp.connections).toHaveLength(0);
  expect(world.client.namespace.tcp.connections).toHaveLength(0);
});

test('what is unknown becomes healthy by good answers', () => {
  const { world, changes } = checked({ isHealthy: false });
  world.runFor(s(3));
  expect(changes).toEqual(['1500 ms true']);
});
