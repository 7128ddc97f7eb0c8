import { expect, test } from 'vitest';
import { needsConntrackCleanup } from './conntrack-cleanup.ts';
import { service, slice, trackerOf } from './kube-proxy.fixture.ts';

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
const dns = service('dns', { clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] });
const dnsSlice = (...endpoints: string[]) => slice('dns', endpoints, { port: 53, protocol: 'UDP' });

function cleansUpAfter(...changes: Parameters<ReturnType<typeof trackerOf>['apply']>[0][]): boolean {
  const tracker = trackerOf(web, dns, slice('web', ['10.244.1.5']), dnsSlice('10.244.1.6', '10.244.2.6'));
  const before = tracker.snapshot();
  for (const change of changes) tracker.apply(change);
  return needsConntrackCleanup(before, tracker.snapshot());
}

test('an endpoint of a UDP Service that comes or goes', () => {
  expect(cleansUpAfter({ type: 'MODIFIED', object: dnsSlice('10.244.1.6') })).toBe(true);
  expect(cleansUpAfter({ type: 'MODIFIED', object: dnsSlice('10.244.1.6', '10.244.2.6', '10.244.3.6') })).toBe(true);
  expect(cleansUpAfter({ type: 'DELETED', object: dnsSlice() })).toBe(true);
});

test('but no change of TCP endpoints, nor one of the Service alone', () => {
  expect(cleansUpAfter({ type: 'MODIFIED', object: slice('web', ['10.244.1.7']) })).toBe(false);
  const local = { ...dns, spec: { ...dns.spec, internalTrafficPolicy: 'Local' as const } };
  expect(cleansUpAfter({ type: 'MODIFIED', object: local })).toBe(false);
});
