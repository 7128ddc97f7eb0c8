import { expect, test } from 'vitest';
import { type RecordedEndpoints, readEndpointSliceFacts } from '../../conformance/kube-proxy-facts.ts';
import { formatIp, formatPrefix } from '../../packet/ip-address.ts';
import { type EndpointSlice, type Manifest, objectFrom, type Service } from '../objects.ts';
import { service, slice, snapshotOf } from './kube-proxy.fixture.ts';
import { type ServicePort, servicePortsOf } from './service-ports.ts';

const { servicesToPorts, endpointsFromSlices, endpointUpdates } = readEndpointSliceFacts();

/** As the records name a service port: `ns/name:port/TCP`. */
const keyOf = ({ name, protocol }: ServicePort): string => `${name}/${protocol.toUpperCase()}`;

// Left out: a Service that the API server would refuse, and a feature gate that can no longer be turned off.
const ports = servicesToPorts.filter(({ id, featureGates }) => id !== 'headless-no-port' && featureGates === undefined);

test.each(ports)('recorded: $id, $about', ({ service, expect: expected }) => {
  const ours = servicePortsOf(objectFrom('Service', service), []).map((port) => [
    keyOf(port),
    {
      clusterIP: formatIp(port.clusterIp),
      port: port.port,
      protocol: port.protocol.toUpperCase(),
      healthCheckNodePort: port.healthCheckNodePort ?? 0,
      externalIPs: port.externalIps.map((ip) => formatIp(ip)),
      loadBalancerSourceRanges: port.loadBalancerSourceRanges.map(formatPrefix),
      loadBalancerVIPs: port.loadBalancerVips.map((ip) => formatIp(ip)),
    },
  ]);
  expect(Object.fromEntries(ours)).toEqual(expected);
});

test.each(endpointsFromSlices)('recorded: $id, $about', ({ endpointSlices, expect: expected, nodeName }) => {
  expect(endpointsOn(nodeName, expected, endpointSlices)).toMatchObject(expected);
});

test.each(endpointUpdates)('recorded: $id, $about', ({ nodeName, before, after, expectBefore, expectAfter }) => {
  expect(endpointsOn(nodeName, expectBefore, before)).toMatchObject(expectBefore);
  expect(endpointsOn(nodeName, expectAfter, after)).toMatchObject(expectAfter);
});

/** The endpoints of the service ports that `wanted` names, in its form. */
function endpointsOn(
  nodeName: string,
  wanted: RecordedEndpoints,
  slices: readonly Manifest<'EndpointSlice'>[],
): RecordedEndpoints {
  const snapshot = snapshotOf(
    ...servicesOf(Object.keys(wanted)),
    ...slices.map((manifest) => objectFrom('EndpointSlice', manifest)),
  );
  const byPort = snapshot.ports.map((port) => [
    keyOf(port),
    port.endpoints.map(({ address, nodeName: host, ready, serving, terminating }) => ({
      endpoint: address,
      local: host === nodeName,
      ready,
      serving,
      terminating,
    })),
  ]);
  return Object.fromEntries(byPort);
}

/** The records tell endpoints only; these are Services with ports of those names. */
function servicesOf(keys: readonly string[]): Service[] {
  const portsByService = new Map<string, { name: string; protocol: 'TCP' | 'UDP'; port: number }[]>();
  for (const key of keys) {
    const [namespace, name, port, protocol] = key.split(/[/:]/) as [string, string, string, 'TCP' | 'UDP'];
    const ports = portsByService.get(`${namespace}/${name}`) ?? [];
    portsByService.set(`${namespace}/${name}`, [...ports, { name: port, protocol, port: 1_000 + ports.length }]);
  }
  return [...portsByService].map(([name, ports]) => service(name, { clusterIP: '10.96.0.10', ports }));
}

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

test('IPv6 slices bring no endpoints', () => {
  const endpoints = [{ addresses: ['2001:db8::1'], conditions: {} }];
  const ipv6: EndpointSlice = { ...slice('web', []), addressType: 'IPv6', endpoints };
  expect(servicePortsOf(web, [ipv6])[0]?.endpoints).toEqual([]);
});
