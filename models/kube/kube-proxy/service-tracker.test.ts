import { expect, test } from 'vitest';
import { service, slice, trackerOf } from './kube-proxy.fixture.ts';

const web = service('web', {
  clusterIP: '10.96.0.10',
  ports: [
    { name: 'http', port: 80 },
    { name: 'admin', port: 81 },
  ],
});
const dns = service('kube-system/dns', { clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] });

test('a change of one service gives all its ports anew and leaves those of others', () => {
  const tracker = trackerOf(web, dns);
  const [http, admin, dnsUdp] = tracker.snapshot().ports;
  tracker.apply({ type: 'MODIFIED', object: { ...web, spec: { ...web.spec, internalTrafficPolicy: 'Local' } } });
  const after = tracker.snapshot();
  expect([http, admin, dnsUdp].map((port) => after.has(port!))).toEqual([false, false, true]);
});

test('an update that changes nothing for a proxy leaves the snapshot as it is', () => {
  const tracker = trackerOf(web);
  const before = tracker.snapshot();
  tracker.apply({ type: 'MODIFIED', object: { ...web, metadata: { ...web.metadata, labels: { team: 'a' } } } });
  tracker.apply({ type: 'ADDED', object: slice('of-nobody', ['10.244.1.5']) });
  expect(tracker.snapshot()).toBe(before);
});

test('a slice may come before its Service and stay behind it', () => {
  const endpoints = slice('kube-system/dns', ['10.244.1.5', '10.244.2.5'], { port: 53, protocol: 'UDP' });
  const tracker = trackerOf(endpoints, dns);
  expect(tracker.snapshot()).toMatchObject({ endpointCount: 2, ports: [{ name: 'kube-system/dns' }] });
  tracker.apply({ type: 'DELETED', object: dns });
  expect(tracker.snapshot()).toMatchObject({ endpointCount: 0, ports: [] });
  tracker.apply({ type: 'ADDED', object: dns });
  tracker.apply({ type: 'DELETED', object: endpoints });
  expect(tracker.snapshot()).toMatchObject({ endpointCount: 0, ports: [{ name: 'kube-system/dns' }] });
});

test('a slice that is relabelled changes hands', () => {
  const endpoints = slice('kube-system/dns', ['10.244.1.5'], { port: 53, protocol: 'UDP' });
  const tracker = trackerOf(dns, endpoints);
  const labels = { 'kubernetes.io/service-name': 'another' };
  tracker.apply({ type: 'MODIFIED', object: { ...endpoints, metadata: { ...endpoints.metadata, labels } } });
  expect(tracker.snapshot().ports).toMatchObject([{ name: 'kube-system/dns', endpoints: [] }]);
});

test('an update of a slice that tells a proxy nothing new calls for no sync', () => {
  const endpoints = slice('web', ['10.244.1.5', '10.244.2.5']);
  const tracker = trackerOf(web, endpoints);
  const update = (object: typeof endpoints) => tracker.apply({ type: 'MODIFIED', object });
  expect(update({ ...endpoints, endpoints: [...endpoints.endpoints].reverse() })).toBe(false);
  expect(update({ ...endpoints, metadata: { ...endpoints.metadata, annotations: { seen: 'today' } } })).toBe(false);
  expect(update(slice('web', ['10.244.1.5']))).toBe(true);
  expect(tracker.apply({ type: 'DELETED', object: slice('web', []) })).toBe(true);
  expect(tracker.apply({ type: 'DELETED', object: slice('never-seen', []) })).toBe(false);
});

test.each(['service.kubernetes.io/headless', 'service.kubernetes.io/service-proxy-name'])(
  'a Service with the label %s is not seen, whatever its value',
  (label) => {
    const tracker = trackerOf(web, slice('web', ['10.244.1.5']));
    const labelled = { ...web, metadata: { ...web.metadata, labels: { [label]: '' } } };
    expect(tracker.apply({ type: 'MODIFIED', object: labelled })).toBe(true);
    expect(tracker.snapshot().ports).toEqual([]);
    expect(tracker.apply({ type: 'MODIFIED', object: labelled })).toBe(false);
    tracker.apply({ type: 'MODIFIED', object: web });
    expect(tracker.snapshot().ports).toHaveLength(2);
  },
);
