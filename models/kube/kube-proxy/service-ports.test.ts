import { describe, expect, test } from 'vitest';
import { formatIp, formatPrefix } from '../../packet/ip-address.ts';
import { objectFrom, type Service } from '../objects.ts';
import { service, slice } from './kube-proxy.fixture.ts';
import { DEFAULT_SERVICE_PORT_SETTINGS, servicePortsOf } from './service-ports.ts';

const web = service('web', { clusterIP: '10.96.0.10', ports: [{ port: 80 }] });

test('endpoints are in the order of their addresses as text', () => {
  const [port] = servicePortsOf(web, [slice('web', ['10.0.0.2', '10.0.0.10', '10.0.0.1'])]);
  expect(port?.endpoints.map(({ address }) => address)).toEqual(['10.0.0.10:8080', '10.0.0.1:8080', '10.0.0.2:8080']);
});

test('an endpoint in two slices is one endpoint, on the node that one of them names', () => {
  const [port] = servicePortsOf(web, [
    slice('web', ['10.0.0.1']),
    slice('web', ['10.0.0.1 node-1']),
    slice('web', ['10.0.0.1']),
  ]);
  expect(port?.endpoints).toMatchObject([{ address: '10.0.0.1:8080', nodeName: 'node-1' }]);
});

test('a load balancer of ipMode Proxy gets to see all traffic to it', () => {
  const ingress = [{ ip: '192.0.2.1', ipMode: 'Proxy' as const }, { ip: '192.0.2.2' }];
  const balanced: Service = objectFrom('Service', { ...web, status: { loadBalancer: { ingress } } });
  expect(servicePortsOf(balanced, [])[0]?.loadBalancerVips.map((ip) => formatIp(ip))).toEqual(['192.0.2.2']);
});

test('before 1.30, ipMode made no difference', () => {
  const ingress = [{ ip: '192.0.2.1', ipMode: 'Proxy' as const }];
  const balanced: Service = objectFrom('Service', { ...web, status: { loadBalancer: { ingress } } });
  const [port] = servicePortsOf(balanced, [], { ...DEFAULT_SERVICE_PORT_SETTINGS, honoursIpMode: false });
  expect(port?.loadBalancerVips.map((ip) => formatIp(ip))).toEqual(['192.0.2.1']);
});

describe('a dual-stack Service', () => {
  const dual = service('web', {
    clusterIP: '10.96.0.10',
    clusterIPs: ['10.96.0.10', 'fd00:96::10'],
    externalIPs: ['2001:db8::7', '192.0.2.7'],
    loadBalancerSourceRanges: ['192.0.2.0/24', ' 2001:db8::/32'],
    ports: [{ port: 80 }],
  });
  const ipv6Slice = objectFrom('EndpointSlice', {
    metadata: { name: 'web-6' },
    addressType: 'IPv6',
    endpoints: [{ addresses: ['fd00:10::5'] }],
    ports: [{ port: 8080 }],
  });
  const slices = [slice('web', ['10.244.1.5']), ipv6Slice];

  test.each([
    [4, '10.96.0.10', '192.0.2.7', '192.0.2.0/24', '10.244.1.5:8080'],
    [6, 'fd00:96::10', '2001:db8::7', '2001:db8::/32', '[fd00:10::5]:8080'],
  ] as const)('is one Service to the proxy of IPv%i', (family, clusterIp, externalIp, range, endpoint) => {
    const [port] = servicePortsOf(dual, slices, { ...DEFAULT_SERVICE_PORT_SETTINGS, family });
    expect(formatIp(port!.clusterIp, family)).toBe(clusterIp);
    expect(port!.externalIps.map((ip) => formatIp(ip, family))).toEqual([externalIp]);
    expect(port!.loadBalancerSourceRanges.map(formatPrefix)).toEqual([range]);
    expect(port!.endpoints.map(({ address }) => address)).toEqual([endpoint]);
  });
});
