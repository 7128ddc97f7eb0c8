import { describe, expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { parseAnyPrefix, parsePrefix } from '../packet/ip-address.ts';
import { ApiServer } from './api-server.ts';
import { type Manifest, objectFrom, type Service } from './objects.ts';
import { DEFAULT_RANGES } from './ranges.ts';

type Spec = NonNullable<Manifest<'Service'>['spec']>;

/** `fd00:10:96::/112` first, or second, or not at all. */
const apiServer = ({ ipv6 }: { ipv6?: 'first' | 'second' } = {}) => {
  const [four, six] = [parsePrefix('10.96.0.0/12'), parseAnyPrefix('fd00:10:96::/112')];
  const ranges =
    ipv6 === 'first' ? { service: six, secondaryService: four } : { service: four, secondaryService: ipv6 && six };
  return new ApiServer({ random: new RandomStreams('test').stream('api'), ranges: { ...DEFAULT_RANGES, ...ranges } });
};
const service = (spec: Spec, name = 'web'): Service =>
  objectFrom('Service', { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } });
const create = (spec: Spec, options: Parameters<typeof apiServer>[0] = {}) => apiServer(options).create(service(spec));

describe('refused with object and field:', () => {
  test.each<[Spec, string]>([
    [{ type: 'ExternalName' }, 'spec.externalName: expected a DNS name, as type is ExternalName, got nothing'],
    [{ type: 'ExternalName', externalName: 'a_b' }, 'spec.externalName: expected a DNS name'],
    [
      { type: 'ExternalName', externalName: 'a.example', clusterIP: '10.96.0.9' },
      'spec.clusterIP: expected none, as type is ExternalName',
    ],
    [{ type: 'NodePort', clusterIP: 'None' }, 'spec.clusterIP: expected an address, as type is NodePort, got None'],
    [{ type: 'LoadBalancer', clusterIP: 'None' }, 'spec.clusterIP: expected an address, as type is LoadBalancer'],
    [{ ports: [{ port: 80, nodePort: 30_080 }] }, 'spec.ports[0].nodePort: expected none, as type is ClusterIP'],
    [{ type: 'LoadBalancer', ports: [{ port: 10_250 }] }, 'spec.ports[0].port: 10250 may not be exposed'],
    [{ externalTrafficPolicy: 'Local' }, 'spec.externalTrafficPolicy: expected none, as a Service of type ClusterIP'],
    [{ healthCheckNodePort: 30_100 }, 'spec.healthCheckNodePort: expected none, unless type is LoadBalancer'],
    [
      { type: 'LoadBalancer', healthCheckNodePort: 30_100 },
      'spec.healthCheckNodePort: expected none, unless type is LoadBalancer and externalTrafficPolicy Local',
    ],
    [{ loadBalancerClass: 'a.example/b' }, 'spec.loadBalancerClass: expected none, unless type is LoadBalancer'],
    [
      { allocateLoadBalancerNodePorts: false },
      'spec.allocateLoadBalancerNodePorts: expected none, unless type is Load',
    ],
    [{ loadBalancerSourceRanges: ['10.0.0.0/8'] }, 'spec.loadBalancerSourceRanges: expected none, unless type is Load'],
    [{ sessionAffinityConfig: {} }, 'spec.sessionAffinityConfig: expected none, as sessionAffinity is None'],
    [{ externalIPs: ['127.0.0.1'] }, 'spec.externalIPs[0]: 127.0.0.1 is a loopback address'],
    [{ externalIPs: ['192.0.2.1', '169.254.1.1'] }, 'spec.externalIPs[1]: 169.254.1.1 is a link-local address'],
    [{ externalIPs: ['::'] }, 'spec.externalIPs[0]: :: is the unspecified address'],
    [{ clusterIPs: ['10.96.0.9'] }, 'spec.clusterIPs: expected none, as there is no clusterIP'],
    [{ clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.8'] }, 'spec.clusterIPs[0]: expected the clusterIP 10.96.0.9'],
    [
      { clusterIP: '10.96.0.9', clusterIPs: ['10.96.0.9', '10.96.0.8'] },
      'spec.clusterIPs: expected one address of each IP family, got 10.96.0.9 and 10.96.0.8',
    ],
    [{ clusterIP: 'None', clusterIPs: ['None', '10.96.0.8'] }, 'spec.clusterIPs: expected None to be the only entry'],
    [{ clusterIP: '10.96.0.9', ipFamilies: ['IPv6'] }, 'spec.clusterIPs[0]: expected an IPv6 address as in ipFamilies'],
    [{ ipFamilies: ['IPv4', 'IPv4'] }, 'spec.ipFamilies[1]: IPv4 stands there already'],
    [
      { clusterIP: '10.95.0.1' },
      'spec.clusterIP: expected an address of the service range 10.96.0.0/12, got 10.95.0.1',
    ],
    [{ clusterIP: '10.96.0.0' }, 'got 10.96.0.0, the first or the last of it, which no Service can have'],
    [
      { clusterIP: 'fd00::1' },
      'spec.clusterIPs[0]: IPv6 is not configured on this cluster; expected IPv4, got fd00::1',
    ],
    [
      { ipFamilyPolicy: 'RequireDualStack' },
      'spec.ipFamilyPolicy: RequireDualStack needs a cluster with service ranges',
    ],
    [{ ipFamilies: ['IPv4', 'IPv6'] }, 'spec.ipFamilyPolicy: expected RequireDualStack or PreferDualStack'],
    [
      { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'PreferDualStack' },
      'spec.ipFamilies[1]: IPv6 is not configured on this cluster; expected IPv4',
    ],
  ])('%j', (spec, problem) => {
    expect(() => create(spec)).toThrow(`Service default/web: `);
    expect(() => create(spec)).toThrow(problem);
  });

  test.each(['1st', 'a.b', 'a'.repeat(64)])('the name %s', (name) =>
    expect(() => apiServer().create(service({}, name))).toThrow(`Service default/${name}: metadata.name: expected at`),
  );

  test('a name that begins with a digit, unless the gate RelaxedServiceNameValidation is on', () => {
    const withGate = (isOn: boolean) => {
      const random = new RandomStreams('test').stream('api');
      return new ApiServer({ random, featureGates: { RelaxedServiceNameValidation: isOn } });
    };
    expect(() => withGate(false).create(service({}, '1web'))).toThrow('metadata.name: expected at most 63 lower-case');
    expect(withGate(true).create(service({}, '1web')).metadata.name).toBe('1web');
    expect(() => withGate(true).create(service({}, 'web.b'))).toThrow(
      'digits and "-", neither the first nor the last a "-", got "web.b"',
    );
  });

  test('two node ports of one number: of one protocol always, of two unless they are one port', () => {
    const ports = (second: object) => [
      { name: 'a', port: 53, nodePort: 30_053 },
      { name: 'b', nodePort: 30_053, ...second } as NonNullable<Spec['ports']>[number],
    ];
    const ofPorts = (second: object): Spec => ({ type: 'NodePort', ports: ports(second) });
    expect(() => create(ofPorts({ port: 54 }))).toThrow('spec.ports[1].nodePort: expected a TCP port that no other');
    expect(() => create(ofPorts({ port: 54, protocol: 'UDP' }))).toThrow('30053 is already that of port 53');
    expect(create(ofPorts({ port: 53, protocol: 'UDP' })).spec.ports).toHaveLength(2);
  });
});

describe('filled in', () => {
  test('what depends on the type', () => {
    expect(create({}).spec).not.toHaveProperty('externalTrafficPolicy', 'Cluster');
    expect(create({ externalIPs: ['192.0.2.1'] }).spec.externalTrafficPolicy).toBe('Cluster');
    expect(create({ type: 'LoadBalancer' }).spec).toMatchObject({
      externalTrafficPolicy: 'Cluster',
      allocateLoadBalancerNodePorts: true,
      healthCheckNodePort: undefined,
      ports: [{ nodePort: expect.any(Number) }],
    });
  });

  test('a health check port for a load balancer of policy Local, from the range of node ports', () => {
    const { ports, healthCheckNodePort } = create({ type: 'LoadBalancer', externalTrafficPolicy: 'Local' }).spec;
    expect(healthCheckNodePort).toBeGreaterThanOrEqual(30_086);
    expect(healthCheckNodePort).not.toBe(ports[0]?.nodePort);
    const api = apiServer();
    api.create(service({ type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 30_100 }));
    expect(() => api.create(service({ type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] }, 'api'))).toThrow(
      'spec.ports[0].nodePort: 30100 already belongs to Service default/web',
    );
  });

  test('no node ports without allocateLoadBalancerNodePorts, but for those that are asked for', () => {
    const ports = [
      { name: 'a', port: 80 },
      { name: 'b', port: 443, nodePort: 30_443 },
    ];
    const { spec } = create({ type: 'LoadBalancer', allocateLoadBalancerNodePorts: false, ports });
    expect(spec.ports.map(({ nodePort }) => nodePort)).toEqual([undefined, 30_443]);
  });

  test('default/kubernetes has the first address', () => {
    const kubernetes = apiServer().create(service({ ports: [{ name: 'https', port: 443 }] }, 'kubernetes'));
    expect(kubernetes.spec.clusterIP).toBe('10.96.0.1');
  });
});

describe('IP families', () => {
  const families = (spec: Spec, options: Parameters<typeof apiServer>[0]) => {
    const { ipFamilyPolicy, ipFamilies, clusterIPs } = create(spec, options).spec;
    return [ipFamilyPolicy, ipFamilies?.join(), clusterIPs?.map((address) => address.replace(/[^.:]+$/, '*')).join()];
  };
  const SIX = 'fd00:10:96::*';
  const FOUR = expect.stringMatching(/^10\.\d+\.\d+\.\*$/);

  test.each<[string, Spec, Parameters<typeof apiServer>[0], unknown[]]>([
    ['the default one', {}, { ipv6: 'second' }, ['SingleStack', 'IPv4', FOUR]],
    ['which may be IPv6', {}, { ipv6: 'first' }, ['SingleStack', 'IPv6', SIX]],
    ['the one asked for', { ipFamilies: ['IPv6'] }, { ipv6: 'second' }, ['SingleStack', 'IPv6', SIX]],
    ['that of the address', { clusterIP: 'fd00:10:96::9' }, { ipv6: 'second' }, ['SingleStack', 'IPv6', SIX]],
    ['one, as there is no second', { ipFamilyPolicy: 'PreferDualStack' }, {}, ['PreferDualStack', 'IPv4', FOUR]],
    [
      'none to allocate from, but both for a headless one without selector',
      { clusterIP: 'None' },
      {},
      ['RequireDualStack', 'IPv4,IPv6', '*'],
    ],
    [
      'the default one for a headless one with selector',
      { clusterIP: 'None', selector: { app: 'web' } },
      { ipv6: 'second' },
      ['SingleStack', 'IPv4', '*'],
    ],
  ])('%s', (_, spec, options, expected) => {
    expect(families(spec, options)).toEqual(expected);
  });

  test('both, in the order of the cluster or of the Service', () => {
    const both = create({ ipFamilyPolicy: 'PreferDualStack' }, { ipv6: 'second' }).spec;
    expect(both.ipFamilies).toEqual(['IPv4', 'IPv6']);
    expect(both.clusterIPs?.[0]).toBe(both.clusterIP);
    expect(both.clusterIPs?.[1]).toMatch(/^fd00:10:96::/);
    const sixFirst = create({ ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv6'] }, { ipv6: 'second' }).spec;
    expect(sixFirst.ipFamilies).toEqual(['IPv6', 'IPv4']);
    expect(sixFirst.clusterIP).toMatch(/^fd00:10:96::/);
  });

  test('an address is the same however it is written', () => {
    const api = apiServer({ ipv6: 'second' });
    api.create(service({ clusterIP: 'fd00:10:96::a' }));
    expect(() => api.create(service({ clusterIP: 'fd00:10:96:0:0:0:0:A' }, 'api'))).toThrow(
      'spec.clusterIP: fd00:10:96::a already belongs to Service default/web',
    );
  });
});

describe('an update', () => {
  const changed = (before: Service, spec: Partial<Service['spec']>): Service => ({
    ...before,
    spec: { ...before.spec, ...spec },
  });

  test('to type ClusterIP gives back node ports, health check port and policy', () => {
    const api = apiServer();
    const web = api.create(service({ type: 'LoadBalancer', externalTrafficPolicy: 'Local' }));
    const after = api.update(changed(web, { type: 'ClusterIP' })).spec;
    expect([after.ports[0]?.nodePort, after.healthCheckNodePort, after.externalTrafficPolicy]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(after.clusterIP).toBe(web.spec.clusterIP);
    const nodePort = web.spec.ports[0]?.nodePort ?? 0;
    api.create(service({ type: 'NodePort', ports: [{ port: 80, nodePort }] }, 'api'));
  });

  test('to ExternalName gives back the address, and back again gets one', () => {
    const api = apiServer();
    const web = api.create(service({ clusterIP: '10.96.0.9' }));
    const external = api.update(changed(web, { type: 'ExternalName', externalName: 'web.example' }));
    expect(external.spec.clusterIPs).toBeUndefined();
    api.create(service({ clusterIP: '10.96.0.9' }, 'api'));
    expect(api.update(changed(external, { type: 'ClusterIP' })).spec.clusterIP).toMatch(/^10\./);
  });

  test('may not change the address or the class of a load balancer', () => {
    const api = apiServer();
    const web = api.create(service({ type: 'LoadBalancer', clusterIP: '10.96.0.9', loadBalancerClass: 'a.example/b' }));
    expect(() => api.update(changed(web, { clusterIP: '10.96.0.8', clusterIPs: ['10.96.0.8'] }))).toThrow(
      'spec.clusterIP: expected 10.96.0.9, which may not change, got 10.96.0.8',
    );
    expect(() => api.update(changed(web, { loadBalancerClass: 'a.example/c' }))).toThrow(
      'spec.loadBalancerClass: expected a.example/b, which may not change, got a.example/c',
    );
    expect(api.get('Service', 'default/web')).toBe(web);
  });

  test('to dual stack gets a second address, and to SingleStack gives it back', () => {
    const api = apiServer({ ipv6: 'second' });
    const web = api.create(service({ clusterIP: '10.96.0.9' }));
    const dual = api.update(changed(web, { ipFamilyPolicy: 'RequireDualStack' }));
    expect(dual.spec.clusterIPs).toEqual(['10.96.0.9', expect.stringMatching(/^fd00:10:96::/)]);
    expect(() => api.update(changed(dual, { clusterIPs: ['10.96.0.9'] }))).toThrow(
      'spec.ipFamilyPolicy: expected SingleStack, as the second address is given up, got RequireDualStack',
    );
    expect(api.update(changed(dual, { ipFamilyPolicy: 'SingleStack' })).spec).toMatchObject({
      ipFamilies: ['IPv4'],
      clusterIPs: ['10.96.0.9'],
    });
    api.create(service({ clusterIP: dual.spec.clusterIPs?.[1] }, 'api'));
  });

  test('keeps node ports by the names of ports', () => {
    const api = apiServer();
    const ports = [
      { name: 'a', port: 80, nodePort: 30_080 },
      { name: 'b', port: 443 },
    ];
    const web = api.create(service({ type: 'NodePort', ports }));
    const again = service({
      type: 'NodePort',
      ports: [
        { name: 'a', port: 8080 },
        { name: 'c', port: 443 },
      ],
    });
    const after = api.update(again).spec.ports;
    expect(after[0]?.nodePort).toBe(30_080);
    expect(after[1]?.nodePort).toBeGreaterThanOrEqual(30_086);
    expect(web.spec.ports[1]?.nodePort).toBeDefined();
  });
});
