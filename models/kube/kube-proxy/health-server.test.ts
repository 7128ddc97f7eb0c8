import { expect, test } from 'vitest';
import { ms, s } from '../../../engine/time.ts';
import { DEFAULT_HEALTH_CHECK, HealthChecker, type HealthReport } from '../../workload/health-check.ts';
import { TwoMachines } from '../../workload/two-machines.fixture.ts';
import { HEALTHZ_PORT, HealthServer } from './health-server.ts';
import { service, slice, snapshotOf } from './kube-proxy.fixture.ts';

const PORT = 32_000;

const balanced = (name: string, healthCheckNodePort = PORT) =>
  service(name, {
    ...{ type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort },
    ...{ clusterIP: '10.96.0.10', ports: [{ port: 80 }] },
  });

/** A node's server, and what somebody on another machine hears from it. */
function healthServer() {
  const world = new TwoMachines();
  const proxy = { isHealthy: true };
  const server = new HealthServer(world.server, {
    family: 4,
    nodeName: 'node-1',
    isProxyHealthy: () => proxy.isHealthy,
  });
  const ask = (port: number): HealthReport | undefined => {
    const common = { settings: DEFAULT_HEALTH_CHECK, isHealthy: false, phase: 0, onChange: () => {} };
    const checker = new HealthChecker(world.client, { to: world.to(port), ...common });
    world.runFor(ms(100));
    checker.stop();
    world.runFor(s(2));
    return checker.latest;
  };
  return { server, proxy, ask };
}

test('on its own port it tells whether kube-proxy keeps up', () => {
  const { proxy, ask } = healthServer();
  expect(ask(HEALTHZ_PORT)).toEqual({ status: 200, readyEndpoints: undefined });
  proxy.isHealthy = false;
  expect(ask(HEALTHZ_PORT)).toEqual({ status: 503, readyEndpoints: undefined });
});

test('on that of a Service it tells how many ready endpoints the node has', () => {
  const { server, proxy, ask } = healthServer();
  expect(ask(PORT)).toBeUndefined(); // nobody listens
  const here = slice('web', ['10.244.1.5 node-1', '10.244.1.6 node-1', '10.244.2.5 node-2']);
  server.update(snapshotOf(balanced('web'), here));
  expect(ask(PORT)).toEqual({ status: 200, readyEndpoints: 2 });
  proxy.isHealthy = false; // then it does not matter
  expect(ask(PORT)).toEqual({ status: 503, readyEndpoints: 2 });
  proxy.isHealthy = true;
  server.update(snapshotOf(balanced('web'), slice('web', ['10.244.2.5 node-2'])));
  expect(ask(PORT)).toEqual({ status: 503, readyEndpoints: 0 });
});

test('a port goes with its Service, and may come back as that of another', () => {
  const { server, ask } = healthServer();
  server.update(snapshotOf(balanced('web'), slice('web', ['10.244.1.5 node-1'])));
  server.update(snapshotOf(balanced('api'), slice('web', ['10.244.1.5 node-1'])));
  expect(ask(PORT)).toEqual({ status: 503, readyEndpoints: 0 });
  server.update(snapshotOf(balanced('api', PORT + 1)));
  expect([ask(PORT), ask(PORT + 1)]).toEqual([undefined, { status: 503, readyEndpoints: 0 }]);
});
