import { describe, expect, test } from 'vitest';
import { protocolNumber } from '../../netfilter/protocol.ts';
import { parseIp } from '../../packet/ip-address.ts';
import {
  type ConntrackCleanup,
  needsConntrackCleanup,
  staleConnections,
  type TrackedConnection,
} from './conntrack-cleanup.ts';
import { service, slice, trackerOf } from './kube-proxy.fixture.ts';

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });
const dns = service('dns', { clusterIP: '10.96.0.53', ports: [{ port: 53, protocol: 'UDP' }] });
const dnsSlice = (...endpoints: string[]) => slice('dns', endpoints, { port: 53, protocol: 'UDP' });

type Event = Parameters<ReturnType<typeof trackerOf>['apply']>[0];

function cleansUpAfter(...changes: Event[]): boolean {
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

test('is looked into once for all nodes that go from one state to another', () => {
  const tracker = trackerOf(dns, dnsSlice('10.244.1.6', '10.244.2.6'));
  const before = tracker.snapshot();
  tracker.apply({ type: 'MODIFIED', object: dnsSlice('10.244.1.6') });
  const after = tracker.snapshot();
  tracker.apply({ type: 'MODIFIED', object: dnsSlice('10.244.3.6') });
  const extent = { cleanup: 'reconcile', before, after } as const;
  const isStale = staleConnections(extent)!;
  expect(staleConnections(extent)).toBe(isStale);
  expect(isStale(entry('udp 10.96.0.53:53 > 10.244.2.6'))).toBe(true);
  const later = { ...extent, after: tracker.snapshot() };
  expect(staleConnections(later)!(entry('udp 10.96.0.53:53 > 10.244.1.6'))).toBe(true);
  expect(isStale(entry('udp 10.96.0.53:53 > 10.244.1.6'))).toBe(false);
  expect(staleConnections({ ...extent, cleanup: 'of changes' })).not.toBe(isStale);
});

// ── which entries ────────────────────────────────────────────────────────────────────────────────────────────────────

const dnsOutside = service('dns', {
  type: 'LoadBalancer',
  clusterIP: '10.96.0.53',
  externalIPs: ['192.0.2.53'],
  ports: [
    { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30_053 },
    { name: 'dns-tcp', port: 53, protocol: 'TCP', nodePort: 30_053 },
  ],
});
const UDP_PORT = { name: 'dns', port: 5353, protocol: 'UDP' } as const;

/** `udp 10.96.0.53:53 > 10.244.1.6`; without an endpoint the connection is not translated. */
function entry(text: string): TrackedConnection {
  const [, name, dst = '', dstPort, endpoint = dst] = /^(\w+) ([\d.]+):(\d+)(?: > ([\d.]+))?$/.exec(text) ?? [];
  const protocol = protocolNumber(name === 'udp' ? 'udp' : 'tcp');
  const client = { family: 4, protocol, srcIp: parseIp('10.244.3.9'), srcPort: 40_000 } as const;
  const original = { ...client, dstIp: parseIp(dst), dstPort: Number(dstPort) };
  const reply = { ...original, srcIp: parseIp(endpoint), srcPort: 5353, dstIp: client.srcIp, dstPort: client.srcPort };
  return { original, reply, dstNat: endpoint !== dst };
}

const ENTRIES = [
  ...['udp 10.96.0.53:53 > 10.244.1.6', 'udp 10.96.0.53:53 > 10.244.2.6', 'udp 10.96.0.53:53'],
  ...['udp 192.0.2.53:53 > 10.244.1.6', 'udp 192.168.0.1:30053 > 10.244.1.6', 'udp 192.168.0.1:30053 > 10.244.2.6'],
  ...['udp 10.96.0.53:99 > 10.244.1.6', 'tcp 10.96.0.53:53 > 10.244.1.6', 'udp 10.96.0.99:53 > 10.244.1.6'],
];

interface Change {
  readonly cleanup: ConntrackCleanup;
  readonly from: readonly Event['object'][];
  readonly changes: readonly Event[];
}

function deleted({ cleanup, from, changes }: Change): string[] {
  const tracker = trackerOf(...from);
  const before = tracker.snapshot();
  for (const change of changes) tracker.apply(change);
  const isStale = staleConnections({ cleanup, before, after: tracker.snapshot() });
  return ENTRIES.filter((text) => isStale?.(entry(text)) ?? false);
}

const backedBy = (...endpoints: string[]) => slice('dns', endpoints, UDP_PORT);
const unready = (...endpoints: string[]) => {
  const made = backedBy(...endpoints);
  const conditions = { ready: false, serving: true, terminating: true };
  return { ...made, endpoints: made.endpoints.map((endpoint) => ({ ...endpoint, conditions })) };
};

describe('up to 1.31', () => {
  const cleanup = 'of changes';

  test('an endpoint that is gone loses what the Service has sent it, by whatever port', () => {
    const from = [dnsOutside, backedBy('10.244.1.6', '10.244.2.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: backedBy('10.244.2.6') }];
    expect(deleted({ cleanup, from, changes })).toEqual([
      'udp 10.96.0.53:53 > 10.244.1.6',
      'udp 192.0.2.53:53 > 10.244.1.6',
      'udp 192.168.0.1:30053 > 10.244.1.6',
      'udp 10.96.0.53:99 > 10.244.1.6',
    ]);
  });

  test('and so does one that is not ready any more, although it still serves', () => {
    const from = [dnsOutside, backedBy('10.244.1.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: unready('10.244.1.6') }];
    expect(deleted({ cleanup, from, changes })).toContain('udp 10.96.0.53:53 > 10.244.1.6');
  });

  test('with the first endpoint goes whatever was sent to the Service', () => {
    const changes: Event[] = [{ type: 'ADDED', object: backedBy('10.244.2.6') }];
    expect(deleted({ cleanup, from: [dnsOutside], changes })).toEqual(
      ENTRIES.filter((text) => /^udp (10\.96\.0\.53|192\.)/.test(text)),
    );
  });

  test('with the Service goes what was sent to its cluster IP', () => {
    const from = [dnsOutside, backedBy('10.244.1.6')];
    const changes: Event[] = [{ type: 'DELETED', object: dnsOutside }];
    expect(deleted({ cleanup, from, changes })).toEqual(ENTRIES.filter((text) => text.startsWith('udp 10.96.0.53')));
  });

  test('what an earlier change has left behind stays', () => {
    const from = [dnsOutside, backedBy('10.244.2.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: backedBy('10.244.2.6', '10.244.4.6') }];
    expect(deleted({ cleanup, from, changes })).toEqual([]);
  });
});

describe('from 1.32 on', () => {
  const cleanup = 'reconcile';

  test('everything goes that leads from a Service to what does not serve it, whatever has changed', () => {
    const from = [dnsOutside, backedBy('10.244.2.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: backedBy('10.244.2.6', '10.244.4.6') }];
    expect(deleted({ cleanup, from, changes })).toEqual([
      ...['udp 10.96.0.53:53 > 10.244.1.6', 'udp 10.96.0.53:53'],
      ...['udp 192.0.2.53:53 > 10.244.1.6', 'udp 192.168.0.1:30053 > 10.244.1.6'],
    ]);
  });

  test('but nothing that an endpoint gets while it still serves', () => {
    const from = [dnsOutside, backedBy('10.244.1.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: unready('10.244.1.6') }];
    expect(deleted({ cleanup, from, changes })).not.toContain('udp 10.96.0.53:53 > 10.244.1.6');
  });

  test('and nothing of a Service that nobody serves', () => {
    const from = [dnsOutside, backedBy('10.244.1.6')];
    const changes: Event[] = [{ type: 'MODIFIED', object: backedBy() }];
    expect(deleted({ cleanup, from, changes })).toEqual([]);
  });
});
