// Manifests as projects publish them, with all that Podwire does not look at, load without an edit and do their job.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { podwire, startPodwire, TemporaryDirectory } from './cli/podwire.fixture.ts';

const file = (name: string): string => join(import.meta.dirname, 'testdata', `${name}.yaml`);
const SHOP = file('microservice-shop');
const MONITORING = file('monitoring-stack');

async function said(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const { exitCode, stdout, stderr } = await podwire(args);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return { stdout, stderr };
}

/** In a process of its own, as runs have workers. */
async function ran(manifests: string, durationMs: number): Promise<string> {
  const out = new TemporaryDirectory().path;
  const args = ['run', 'services', '-f', manifests, '--duration', `${durationMs}`, '--out', out];
  const { exitCode, stdout, stderr } = await startPodwire(args, { cwd: out });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return stdout;
}

describe('a microservice shop', () => {
  test('every Service answers, the load balancer from outside too', { timeout: 120_000 }, async () => {
    const stdout = await ran(SHOP, 500);
    for (const service of ['frontend:http', 'cart:grpc', 'checkout:grpc', 'redis-cart:tcp', 'ads:grpc'])
      expect(stdout).toMatch(new RegExp(`^default/${service} +TCP +(same|other) node`, 'm'));
    expect(stdout).toMatch(/^default\/frontend-external:http +TCP +load balancer/m);
    expect(stdout).not.toContain('Failed requests');
  });

  test('kinds that no packet sees are named and skipped, and nothing else is noted', async () => {
    const { stdout, stderr } = await said(['trace', '-f', SHOP, '--from', 'outside', '--to', '198.51.100.2:80']);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^answered by default\/frontend-\w+-\w+ after /);
    expect(stderr).toBe(
      `note: ${SHOP}: document 1: kind "ConfigMap" is not modelled; skipped\n` +
        `note: ${SHOP}: document 4 and 11 more: kind "ServiceAccount" is not modelled; skipped\n`,
    );
  });

  test('all of its pods reach each other, and find its Services by name', { timeout: 60_000 }, async () => {
    const { stdout } = await said(['reach', '-f', SHOP, '--port', '7070']);
    expect(stdout).toMatch(/\n(\d+) of \1 reach\n$/);
    const [checkout = 'none'] = /default\/checkout-\S+/.exec(stdout) ?? [];
    const found = await said(['resolve', '-f', SHOP, '--from', checkout, 'cart']);
    const [, address] = /cart\.default\.svc\.cluster\.local\. 30 IN A (\S+)/.exec(found.stdout) ?? [];
    expect(found.stdout).toMatch(new RegExp(`\\n${address} after \\S+ µs, 2 queries\\n$`));
  });
});

describe('a monitoring stack', () => {
  test('custom resources and RBAC are skipped with a note', async () => {
    const { stdout, stderr } = await said([
      'trace',
      '-f',
      MONITORING,
      '--from',
      'monitoring/metrics-store-0',
      '--to',
      'monitoring/dashboards:3000',
    ]);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^answered by monitoring\/dashboards-\w+-\w+ after /);
    for (const kind of ['CustomResourceDefinition', 'ScrapeConfig', 'ClusterRole', 'ServiceAccount', 'Secret'])
      expect(stderr).toContain(`kind "${kind}" is not modelled; skipped`);
    expect(stderr.trimEnd().split('\n')).toHaveLength(5);
  });

  test('a headless Service leads to a pod of its StatefulSet', async () => {
    const { stdout } = await said([
      'trace',
      '-f',
      MONITORING,
      '--from',
      'monitoring/metrics-store-1',
      '--to',
      'monitoring/metrics-store-operated:9090',
    ]);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^answered by monitoring\/metrics-store-0 after /);
  });

  test('the name of a headless Service is that of all its pods', async () => {
    const from = 'monitoring/metrics-store-0';
    const { stdout } = await said(['resolve', '-f', MONITORING, '--from', from, 'metrics-store-operated']);
    expect(stdout.match(/metrics-store-operated\.monitoring\.svc\.cluster\.local\. 30 IN A /g)).toHaveLength(2);
  });

  test('its policies keep others out', { timeout: 60_000 }, async () => {
    const { stdout } = await said(['reach', '-f', MONITORING, '--port', '9090/tcp']);
    expect(stdout).toMatch(
      /outside to monitoring\/metrics-store-0\n.*NetworkPolicy monitoring\/metrics-store: spec\.ingress\[0\]: no peer/,
    );
    expect(stdout).toMatch(/\d+ of \d+ reach\n$/);
  });

  test('its Services are asked', { timeout: 60_000 }, async () => {
    const stdout = await ran(MONITORING, 200);
    expect(stdout).toContain('monitoring/metrics-store:web');
  });
});
