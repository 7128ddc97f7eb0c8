import { beforeAll, describe, expect, test } from 'vitest';
import { formatIp, formatSocketAddress, parseIpv6Prefix } from '../packet/ip-address.ts';
import type { ApiServer } from './api-server.ts';
import { controlPlane } from './control-plane.fixture.ts';
import { DEFAULT_RANGES } from './ranges.ts';
import { resolveTarget, TargetError } from './target.ts';

const MANIFESTS = `
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: "fd00::11"}, {type: InternalIP, address: 192.168.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: waiting}
spec: {nodeSelector: {disk: none}, containers: [{name: main}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP, targetPort: dns}]
---
apiVersion: v1
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {clusterIP: None, selector: {app: none}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dual}
spec: {clusterIP: "fd00::1", clusterIPs: ["fd00::1", 10.96.0.11], ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {clusterIP: "fd00::2", ipFamilies: [IPv6], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: example.com}
`;

let api: ApiServer;
beforeAll(() => {
  const plane = controlPlane({
    nodes: 1,
    ranges: { ...DEFAULT_RANGES, secondaryService: parseIpv6Prefix('fd00::/112') },
  });
  plane.apply(MANIFESTS);
  api = plane.api;
});

const resolve = (text: string, { protocol = 'TCP', defaultNamespace = 'shop' }: Partial<Options> = {}): string => {
  const { ip, port } = resolveTarget(api, text, { protocol, defaultNamespace });
  return `${formatIp(ip)}:${port}`;
};
type Options = Parameters<typeof resolveTarget>[2];

test.each([
  ['web', '10.96.0.10:80'],
  ['web:80', '10.96.0.10:80'],
  ['web:http', '10.96.0.10:80'],
  ['shop/web', '10.96.0.10:80'],
  ['pods', '10.244.0.2:8080'], // the first ready endpoint, as DNS would say
  ['web-0', '10.244.0.2:8080'],
  ['web-0:http', '10.244.0.2:8080'],
  ['web-0:9090', '10.244.0.2:9090'],
  ['default/client:1', '10.244.0.3:1'],
  ['default/dual', '10.96.0.11:80'],
  ['node-1:30080', '192.168.0.11:30080'],
  ['203.0.113.10:443', '203.0.113.10:443'],
])('%s is %s', (text, address) => expect(resolve(text)).toBe(address));

test('of an address of IPv6, and of two the one that is asked for', () => {
  const resolve6 = (text: string): string => {
    const { family, ip, port } = resolveTarget(api, text, { protocol: 'TCP', defaultNamespace: 'shop', family: 6 });
    return formatSocketAddress(ip, port, family);
  };
  expect(resolve6('[fd00::9]:443')).toBe('[fd00::9]:443');
  expect(resolve6('default/dual')).toBe('[fd00::1]:80');
  expect(resolve6('node-1:30080')).toBe('[fd00::11]:30080');
  expect(() => resolve6('web')).toThrow('"web": the Service has no IPv6 address');
  expect(() => resolve6('pods')).toThrow('the headless Service has no ready endpoint');
});

test('the protocol and the namespace of the sender matter', () => {
  expect(resolve('web', { protocol: 'UDP' })).toBe('10.96.0.10:53');
  expect(resolve('web-0', { protocol: 'UDP' })).toBe('10.244.0.2:53');
  expect(() => resolve('web', { defaultNamespace: 'default' })).toThrow('no Service or Pod default/web');
});

describe('what cannot be sent to is told with what there is', () => {
  test.each([
    ['web:81', '"web:81": no such TCP port; the Service has http 80/TCP, dns 53/UDP'],
    ['web:dns', '"web:dns": no such TCP port'],
    ['nowhere', '"nowhere": no Service or Pod shop/nowhere, and no Node nowhere; there are shop/web, shop/pods,'],
    ['default/empty', '"default/empty": the headless Service has no ready endpoint'],
    ['default/six', '"default/six": the Service has no IPv4 address'],
    ['default/elsewhere', '"default/elsewhere": the Service is another name of example.com; expected an address'],
    ['default/client', '"default/client": the pod names no TCP port; expected default/client:PORT'],
    ['default/waiting:80', '"default/waiting:80": the pod has no IP address; expected one that runs on a node'],
    ['web-0:admin', '"web-0:admin": port "admin"; expected a number from 1 to 65535'],
    ['node-1', '"node-1": expected a port, as in node-1:80'],
    ['10.96.0.10', '"10.96.0.10": expected a port, as in 10.96.0.10:80'],
    ['10.96.0.10:0', '"10.96.0.10:0": port "0"; expected a number from 1 to 65535'],
    ['10.96.0.10:65536', 'port "65536"; expected a number from 1 to 65535'],
    ['', '"": expected NAME, NAMESPACE/NAME, an IPv4 or [IPv6] address, and perhaps :PORT'],
    ['web:', '"web:": expected NAME'],
    ['fd00::1', '"fd00::1": expected NAME'],
  ])('%j', (text, message) => {
    expect(() => resolve(text)).toThrow(TargetError);
    expect(() => resolve(text)).toThrow(message);
  });
});
