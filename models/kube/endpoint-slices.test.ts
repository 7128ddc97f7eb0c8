import { describe, expect, test } from 'vitest';
import { after as later, ms, START } from '../../engine/time.ts';
import { parseIpv6Prefix } from '../packet/ip-address.ts';
import { type ControlPlane, controlPlane, endGracePeriods, nodeAt, setReady } from './control-plane.fixture.ts';
import { SERVICE_NAME_LABEL, TRIGGER_TIME_ANNOTATION } from './endpoint-slices.ts';
import type { EndpointSlice, Pod, Service } from './objects.ts';
import { DEFAULT_RANGES } from './ranges.ts';

const service = (name: string, spec: string) => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {${spec}}
`;
const pod = (name: string, { ports = '', ip = '', more = '' } = {}) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: {app: web}}
spec: {nodeName: node-1, ${more} containers: [{name: main, ports: [${ports}]}]}
status: {podIP: ${ip}}
`;
const WEB = service('web', 'selector: {app: web}, ports: [{port: 80, targetPort: http}]');
const HTTP_8080 = '{name: http, containerPort: 8080}';
const HTTP_9090 = '{name: http, containerPort: 9090}';

/** `http 8080: 10.244.0.2 10.244.0.3 (not ready)`, one line per slice of the Service. */
function slices({ api }: ControlPlane, name = 'web'): string[] {
  return api
    .list('EndpointSlice')
    .filter(({ metadata }) => metadata.labels[SERVICE_NAME_LABEL] === name)
    .map(({ ports, endpoints }) => {
      const served = ports.map((port) => `${port.name === undefined ? '' : `${port.name} `}${port.port}`);
      const listed = endpoints.map(({ addresses, conditions: { ready, serving, terminating } }) => {
        const state = [ready ? '' : 'not ready', terminating ? `terminating${serving ? ', serving' : ''}` : ''].filter(
          Boolean,
        );
        return addresses.join() + (state.length > 0 ? ` (${state.join(', ')})` : '');
      });
      return `${served.join(', ')}: ${listed.join(' ')}`;
    });
}

describe('a Service with a selector', () => {
  test('has the addresses of its pods, with node, zone and pod', () => {
    const cluster = controlPlane();
    cluster.apply(
      `${WEB}---${pod('a', { ports: HTTP_8080 })}---
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: zone-a}}`,
    );
    expect(cluster.api.list('EndpointSlice')).toEqual([
      expect.objectContaining({
        metadata: expect.objectContaining({
          name: expect.stringMatching(/^web-\w{5}$/),
          labels: {
            'kubernetes.io/service-name': 'web',
            'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
          },
        }),
        addressType: 'IPv4',
        ports: [{ name: undefined, protocol: 'TCP', port: 8080, appProtocol: undefined }],
        endpoints: [
          {
            addresses: ['10.244.0.2'],
            conditions: { ready: true, serving: true, terminating: false },
            hostname: undefined,
            nodeName: 'node-1',
            zone: 'zone-a',
            targetRef: { kind: 'Pod', namespace: 'default', name: 'a', uid: undefined },
          },
        ],
      }),
    ]);
  });

  test('has one empty slice while it selects nothing', () => {
    const cluster = controlPlane();
    cluster.apply(WEB);
    expect(slices(cluster)).toEqual([': ']);
    cluster.apply(pod('a', { ports: HTTP_8080 }));
    expect(slices(cluster)).toEqual(['8080: 10.244.0.2']);
  });

  test('follows readiness, and a pod that terminates until it is gone', () => {
    const cluster = controlPlane();
    cluster.apply([WEB, pod('a', { ports: HTTP_8080 }), pod('b', { ports: HTTP_8080 })].join('---'));
    setReady(cluster.api, 'default/a', false);
    expect(slices(cluster)).toEqual(['8080: 10.244.0.2 (not ready) 10.244.0.3']);
    setReady(cluster.api, 'default/a', true);
    cluster.api.delete('Pod', 'default/a');
    expect(slices(cluster)).toEqual(['8080: 10.244.0.2 (not ready, terminating, serving) 10.244.0.3']);
    endGracePeriods(cluster.api);
    expect(slices(cluster)).toEqual(['8080: 10.244.0.3']);
  });

  test('that publishes addresses that are not ready calls them ready', () => {
    const cluster = controlPlane();
    cluster.apply(
      `${WEB.replace('spec: {', 'spec: {publishNotReadyAddresses: true, ')}---${pod('a', { ports: HTTP_8080 })}`,
    );
    setReady(cluster.api, 'default/a', false);
    expect(slices(cluster)).toEqual(['8080: 10.244.0.2']);
    expect(cluster.api.list('EndpointSlice')[0]?.endpoints[0]?.conditions.serving).toBe(false);
  });

  test('whose named port differs between pods has a slice for each number; a pod without it is in a slice without ports', () => {
    const cluster = controlPlane();
    const pods = [
      pod('a', { ports: HTTP_8080 }),
      pod('b', { ports: HTTP_9090 }),
      pod('c', { ports: HTTP_8080 }),
      pod('d'),
    ];
    cluster.apply([WEB, ...pods].join('---'));
    expect(slices(cluster)).toEqual(['8080: 10.244.0.2 10.244.0.4', '9090: 10.244.0.3', ': 10.244.0.5']);
  });

  test('finds a named port at a sidecar, and by protocol', () => {
    const cluster = controlPlane();
    const sidecar =
      'initContainers: [{name: proxy, restartPolicy: Always, ports: [{name: http, containerPort: 15001}]}],';
    const dns =
      'selector: {app: web}, ports: [{name: u, port: 53, protocol: UDP, targetPort: dns}, {name: t, port: 53, targetPort: dns}]';
    const both = '{name: dns, containerPort: 5353, protocol: UDP}, {name: dns, containerPort: 5354}';
    cluster.apply([WEB, service('dns', dns), pod('a', { more: sidecar, ports: both })].join('---'));
    expect(slices(cluster)).toEqual(['15001: 10.244.0.2']);
    expect(slices(cluster, 'dns')).toEqual(['u 5353, t 5354: 10.244.0.2']);
  });

  test('looks at the sidecars of each pod, also where pods share their containers', () => {
    const cluster = controlPlane();
    cluster.apply(pod('a', { ports: HTTP_8080 }));
    const sidecar =
      'initContainers: [{name: proxy, restartPolicy: Always, ports: [{name: other, containerPort: 15001}]}],';
    cluster.apply(pod('b', { ports: HTTP_8080, more: sidecar }));
    const [a, b] = cluster.api.list('Pod') as [Pod, Pod];
    cluster.api.update({ ...b, spec: { ...b.spec, containers: a.spec.containers } });
    cluster.apply(service('web', 'selector: {app: web}, ports: [{port: 80, targetPort: other}]'));
    expect(slices(cluster)).toEqual([': 10.244.0.2', '15001: 10.244.0.3']);
  });

  test('leaves out pods that have ended or have no address, and takes those on the node’s network', () => {
    const cluster = controlPlane();
    const ended = pod('a', { ports: HTTP_8080, ip: '10.244.0.9' }).replace('status: {', 'status: {phase: Failed, ');
    const elsewhere = pod('b', { ports: HTTP_8080 }).replace('nodeName: node-1', 'nodeSelector: {disk: ssd}');
    const onNode = pod('c', { ports: HTTP_8080, more: 'hostNetwork: true,' });
    cluster.apply([WEB, ended, elsewhere, onNode].join('---'));
    expect(slices(cluster)).toEqual(['8080: 192.168.0.11']);
  });

  test('follows changes of its selector and of labels', () => {
    const cluster = controlPlane();
    cluster.apply(
      [WEB, pod('a', { ports: HTTP_8080 }), pod('b', { ports: HTTP_8080 }).replace('app: web', 'app: api')].join('---'),
    );
    const web = cluster.api.get('Service', 'default/web') as Service;
    cluster.api.update<Service>({ ...web, spec: { ...web.spec, selector: { app: 'api' } } });
    expect(slices(cluster)).toEqual(['8080: 10.244.0.3']);
    const a = cluster.api.get('Pod', 'default/a');
    if (a !== undefined) cluster.api.update({ ...a, metadata: { ...a.metadata, labels: { app: 'api' } } });
    expect(slices(cluster)).toEqual(['8080: 10.244.0.3 10.244.0.2']);
    cluster.api.remove('Service', 'default/web');
    expect(cluster.api.list('EndpointSlice')).toEqual([]);
  });
});

test('a headless Service has its pods too, with the host names that its DNS answers', () => {
  const cluster = controlPlane();
  cluster.apply(
    `${service('db', 'clusterIP: None, selector: {app: db}')}---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: main}]}}`,
  );
  const [slice] = cluster.api.list('EndpointSlice');
  expect(slice?.metadata.labels).toHaveProperty(['service.kubernetes.io/headless'], '');
  expect(slice?.endpoints.map(({ hostname, addresses }) => `${hostname} ${addresses}`)).toEqual([
    'db-0 10.244.0.2',
    'db-1 10.244.1.2',
  ]);
});

describe('slices hold at most 100 endpoints', () => {
  const deployment = (replicas: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main}]}}
`;
  const sizes = ({ api }: ControlPlane) => api.list('EndpointSlice').map(({ endpoints }) => endpoints.length);

  test('a new one goes where something changes anyway, and nothing is evened out', () => {
    const cluster = controlPlane();
    cluster.apply(`${service('web', 'selector: {app: web}, ports: [{port: 80}]')}---${deployment(250)}`);
    expect(sizes(cluster)).toEqual([100, 100, 50]);
    const [first, , third] = cluster.api.list('EndpointSlice');
    const [gone] = first?.endpoints ?? [];
    cluster.api.remove('Pod', `default/${gone?.targetRef?.name}`); // and its ReplicaSet makes another one
    expect(sizes(cluster)).toEqual([100, 100, 50]);
    expect(cluster.api.list('EndpointSlice')[2]).toBe(third);
  });

  test('an emptied slice goes', () => {
    const cluster = controlPlane();
    cluster.apply(`${service('web', 'selector: {app: web}, ports: [{port: 80}]')}---${deployment(101)}`);
    expect(sizes(cluster)).toEqual([100, 1]);
    const [, second] = cluster.api.list('EndpointSlice');
    const web = cluster.api.get('Deployment', 'default/web');
    if (web !== undefined) cluster.api.update({ ...web, spec: { ...web.spec, replicas: 100 } });
    endGracePeriods(cluster.api);
    expect(second?.endpoints).toHaveLength(1);
    expect(sizes(cluster)).toEqual([100]);
  });
});

describe('slices of manifests', () => {
  const slice = (service: string, managedBy: string) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${service}-abcde, labels: {kubernetes.io/service-name: ${service}, endpointslice.kubernetes.io/managed-by: ${managedBy}}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.244.0.9]}]
`;

  test('are kept if somebody else manages them', () => {
    const cluster = controlPlane();
    cluster.apply(`${service('web', 'ports: [{port: 80}]')}---${slice('web', 'me')}`);
    expect(cluster.api.list('EndpointSlice').map(({ metadata }) => metadata.name)).toEqual(['web-abcde']);
  });

  test('of a snapshot are taken over: the name stays, the endpoints are what the pods say', () => {
    const cluster = controlPlane();
    cluster.apply(
      [WEB, pod('a', { ports: HTTP_8080, ip: '10.244.0.7' }), slice('web', 'endpointslice-controller.k8s.io')].join(
        '---',
      ),
    );
    expect(cluster.api.list('EndpointSlice').map(({ metadata }) => metadata.name)).toEqual(['web-abcde']);
    expect(slices(cluster)).toEqual(['8080: 10.244.0.7']);
  });
});

describe('an Endpoints object', () => {
  const endpoints = (name: string, labels = '{}') => `
apiVersion: v1
kind: Endpoints
metadata: {name: ${name}, labels: ${labels}}
subsets:
- addresses: [{ip: 192.0.2.7}]
  notReadyAddresses: [{ip: 192.0.2.8}]
  ports: [{name: sql, port: 5432}]
`;
  const DB = service('db', 'ports: [{name: sql, port: 5432}]');

  test('of a Service without selector is mirrored, and unmirrored', () => {
    const cluster = controlPlane();
    cluster.apply(`${DB}---${endpoints('db')}`);
    expect(slices(cluster, 'db')).toEqual(['sql 5432: 192.0.2.7 192.0.2.8 (not ready)']);
    cluster.api.remove('Endpoints', 'default/db');
    expect(slices(cluster, 'db')).toEqual([]);
  });

  test('is not if it says so, or if its Service has a selector', () => {
    const cluster = controlPlane();
    cluster.apply(
      [DB, endpoints('db', '{endpointslice.kubernetes.io/skip-mirror: "true"}'), WEB, endpoints('web')].join('---'),
    );
    expect(slices(cluster, 'db')).toEqual([]);
    expect(slices(cluster, 'web')).toEqual([': ']);
  });
});

test('what does not change is not written again', () => {
  const cluster = controlPlane();
  cluster.apply(`${WEB}---${pod('a', { ports: HTTP_8080 })}`);
  const heard: EndpointSlice[] = [];
  cluster.api.watch('EndpointSlice', (events) => heard.push(...events.map(({ object }) => object)));
  setReady(cluster.api, 'default/a', true);
  cluster.apply(pod('b').replace('app: web', 'app: other'));
  expect(heard).toHaveLength(1); // the list
});

test('a dual-stack Service has slices of each family, even if its pods have one', () => {
  const ranges = { ...DEFAULT_RANGES, secondaryService: parseIpv6Prefix('fd00:10:96::/112') };
  const cluster = controlPlane({ ranges });
  const dual = WEB.replace('spec: {', 'spec: {ipFamilyPolicy: PreferDualStack, ');
  cluster.apply(`${dual}---${pod('a', { ports: HTTP_8080 })}`);
  const families = () =>
    cluster.api.list('EndpointSlice').map((slice) => `${slice.addressType} ${slice.endpoints.length}`);
  expect(families()).toEqual(['IPv4 1', 'IPv6 0']);
  const a = cluster.api.get('Pod', 'default/a');
  if (a !== undefined)
    cluster.api.update({ ...a, status: { ...a.status, podIPs: [{ ip: '10.244.0.2' }, { ip: 'fd00:10:244::2' }] } });
  expect(families()).toEqual(['IPv4 1', 'IPv6 1']);
  expect(cluster.api.list('EndpointSlice')[1]?.endpoints[0]?.addresses).toEqual(['fd00:10:244::2']);
});

test('a slice whose ports change, or that takes on the labels of its Service, keeps its name', () => {
  const cluster = controlPlane();
  cluster.apply(`${WEB}---${pod('a', { ports: HTTP_8080 })}`);
  const [name] = cluster.api.list('EndpointSlice').map(({ metadata }) => metadata.name);
  const web = cluster.api.get('Service', 'default/web') as Service;
  const ports = web.spec.ports.map((port) => ({ ...port, targetPort: 9090 }));
  cluster.api.update<Service>({ ...web, spec: { ...web.spec, ports } });
  expect(slices(cluster)).toEqual(['9090: 10.244.0.2']);
  cluster.api.update<Service>({ ...web, metadata: { ...web.metadata, labels: { tier: 'front' } } });
  const [slice] = cluster.api.list('EndpointSlice');
  expect(slice?.metadata).toMatchObject({ name, labels: { tier: 'front', 'kubernetes.io/service-name': 'web' } });
});

test('a pod whose node is not there waits for it', () => {
  const cluster = controlPlane();
  cluster.apply(WEB);
  cluster.apply(pod('a', { ports: HTTP_8080, ip: '10.244.7.7' }).replace('node-1', 'node-9'));
  cluster.api.remove('Node', 'node-9');
  const a = cluster.api.get('Pod', 'default/a');
  if (a !== undefined) cluster.api.update({ ...a, metadata: { ...a.metadata, labels: { app: 'web', tier: 'front' } } });
  expect(slices(cluster)).toEqual([': ']);
  cluster.api.create(nodeAt(9));
  expect(slices(cluster)).toEqual(['8080: 10.244.7.7']);
});

describe('the annotation with the time of the last change', () => {
  /** A Service of pods a and b, made at 1 ms; what each slice says after the changes that follow. */
  function timeline() {
    let now = later(START, ms(1));
    const cluster = controlPlane({ clock: { now: () => now, at: () => {} } });
    cluster.apply([WEB, pod('a', { ports: HTTP_8080 }), pod('b', { ports: HTTP_8080 })].join('---'));
    const at = (time: number, change: () => void): (string | undefined)[] => {
      now = later(START, ms(time));
      change();
      return cluster.api.list('EndpointSlice').map(({ metadata }) => metadata.annotations[TRIGGER_TIME_ANNOTATION]);
    };
    return { cluster, at };
  }

  test('is that of a new Service', () => {
    expect(timeline().at(1, () => undefined)).toEqual(['0.001000000']);
  });

  test('is when a pod became ready or unready', () => {
    const { cluster, at } = timeline();
    expect(at(5, () => setReady(cluster.api, 'default/a', false))).toEqual(['0.005000000']);
    expect(at(7, () => setReady(cluster.api, 'default/a', true))).toEqual(['0.007000000']);
  });

  test('is taken away by a change that leaves no time: a pod that ends', () => {
    const { cluster, at } = timeline();
    at(5, () => setReady(cluster.api, 'default/a', false));
    expect(at(9, () => cluster.api.delete('Pod', 'default/b'))).toEqual([undefined]);
  });
});

test('a slice that somebody deletes is made again', () => {
  const { api, apply } = controlPlane();
  apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: web}]}`);
  const [slice] = api.list('EndpointSlice');
  api.delete('EndpointSlice', `default/${slice!.metadata.name}`);
  expect(api.list('EndpointSlice').map(({ endpoints }) => endpoints.map(({ targetRef }) => targetRef?.name))).toEqual([
    ['web-0'],
  ]);
});
