import { describe, expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { parsePrefix } from '../packet/ip-address.ts';
import { ApiServer } from './api-server.ts';
import { ManifestError } from './manifest-error.ts';
import { readManifests } from './manifests.ts';
import { describeObject } from './objects.ts';
import { DEFAULT_RANGES } from './ranges.ts';

const read = (text: string) => readManifests([{ name: 'shop.yaml', text }]);
const names = (text: string) => read(text).objects.map(describeObject);

const WEB_SERVICE = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
`;
const WEB_POD = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  containers: [{name: web, image: nginx, ports: [{name: http, containerPort: 8080}]}]
`;
const pod = (name: string, fields: string) => `
apiVersion: v1
kind: Pod
metadata: {name: ${name}}
spec: {containers: [{name: main}]}
${fields}
`;

test('objects come from several documents, from a List, and from a typed list whose items say no kind', () => {
  const list = `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}]}`;
  const typed = 'apiVersion: v1\nkind: NodeList\nitems: [{metadata: {name: node-1}}]';
  expect(names(`${WEB_SERVICE}---${WEB_POD}`)).toEqual(['Service default/web', 'Pod default/web']);
  expect(names(list)).toEqual(['Namespace a']);
  expect(names(typed)).toEqual(['Node node-1']);
});

test('what a manifest leaves out has the default of the API server', () => {
  const [service] = read(WEB_SERVICE).objects;
  expect(service).toMatchObject({
    metadata: { namespace: 'default' },
    spec: {
      type: 'ClusterIP',
      ports: [{ port: 80, targetPort: 80, protocol: 'TCP' }],
      sessionAffinity: 'None',
      internalTrafficPolicy: 'Cluster',
      publishNotReadyAddresses: false,
    },
  });
});

test('what kubectl get prints is read; fields that have no part in networking are dropped', () => {
  const [object] = read(`
apiVersion: v1
kind: Pod
metadata:
  name: web-7d4b9c6f5-x2x7k
  namespace: shop
  creationTimestamp: "2024-05-01T10:00:00Z"
  generateName: web-7d4b9c6f5-
  labels: {app: web, pod-template-hash: 7d4b9c6f5}
  managedFields:
  - {apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:metadata": {"f:labels": {".": {}}}}, manager: kubelet}
  ownerReferences:
  - {apiVersion: apps/v1, blockOwnerDeletion: true, controller: true, kind: ReplicaSet, name: web-7d4b9c6f5, uid: 0b}
  resourceVersion: "812"
spec:
  containers:
  - image: nginx
    name: web
    ports: [{containerPort: 8080, name: http, protocol: TCP}]
    readinessProbe: {httpGet: {path: /, port: http}}
    resources: {}
  nodeName: node-2
status:
  conditions: [{lastProbeTime: null, status: "False", type: Ready}]
  phase: Running
  podIP: 10.244.1.5
  podIPs: [{ip: 10.244.1.5}]
`).objects;
  expect(object).toMatchObject({ spec: { nodeName: 'node-2' }, status: { podIP: '10.244.1.5', phase: 'Running' } });
  expect(object).not.toHaveProperty('metadata.managedFields');
});

describe('a wrong field is named with file, document, object and what was expected', () => {
  test.each([
    ['port: 80', 'port: http', 'spec.ports[0].port: expected a number from 1 to 65535, got "http"'],
    ['port: 80', 'port: "80"', 'spec.ports[0].port: expected a number from 1 to 65535, got "80"'],
    ['port: 80', 'port: 70000', 'spec.ports[0].port: expected a number from 1 to 65535, got 70000'],
    ['port: 80', 'name: http', 'spec.ports[0].port: expected a number from 1 to 65535, got nothing'],
    ['port: 80', 'port: 80, protocol: ICMP', 'spec.ports[0].protocol: expected TCP, UDP or SCTP, got "ICMP"'],
    [
      '{port: 80}',
      '{port: 80}, {port: 81}',
      'spec.ports[0].name: expected a name, as there are several ports, got nothing',
    ],
    ['[{port: 80}]', '80', 'spec.ports: expected a list, got 80'],
    [
      '{app: web}',
      '{app.kubernetes.io/version: 2}',
      'spec.selector["app.kubernetes.io/version"]: expected a string (a number or boolean needs quotes), got 2',
    ],
    ['{app: web}', '[app, web]', 'spec.selector: expected a map, got ["app","web"]'],
    ['ports:', 'clusterIP: 10.96.0\n  ports:', 'spec.clusterIP: expected an IP address or None, got "10.96.0"'],
    [
      'ports:',
      'type: Nodeport\n  ports:',
      'spec.type: expected ClusterIP, NodePort, LoadBalancer or ExternalName, got "Nodeport"',
    ],
  ])('%s -> %s', (right, wrong, message) => {
    const text = `kind: Namespace\napiVersion: v1\nmetadata: {name: a}\n---${WEB_SERVICE.replace(right, wrong)}`;
    expect(() => read(text)).toThrow(new ManifestError(`shop.yaml: document 2 (Service default/web): ${message}`));
  });

  test('in a List by the item', () => {
    const text = `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}]}`;
    expect(() => read(text)).toThrow(
      'shop.yaml: document 1: items[0] (Pod default/a): spec: expected a map, got nothing',
    );
  });

  test.each([
    ['- a\n- b\n', 'shop.yaml: document 1: expected an object with apiVersion and kind, got a list'],
    ['name: web\n', 'shop.yaml: document 1: kind: expected a string, got nothing'],
    ['kind: Pod\n', 'shop.yaml: document 1: apiVersion: expected a string, got nothing'],
    [
      'kind: Node\napiVersion: v1\nmetadata: {name: A}\n',
      'metadata.name: expected a name of lower-case letters, digits, "-" and ".", got "A"',
    ],
    [
      `${WEB_POD}---${WEB_POD}`,
      'shop.yaml: document 2 (Pod default/web): metadata.name: stands already at shop.yaml: document 1',
    ],
    [
      'kind: Deployment\napiVersion: apps/v1\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {app: a}}\n  template: {metadata: {labels: {app: b}}, spec: {containers: [{name: c}]}}\n',
      'shop.yaml: document 1 (Deployment default/a): spec.template.metadata.labels: expected labels that spec.selector matches, got {"app":"b"}',
    ],
    [
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {minReadySeconds: 600, progressDeadlineSeconds: 600, selector: {}, template: {spec: {containers: [{name: main}]}}}\n',
      'shop.yaml: document 1 (Deployment default/a): spec.progressDeadlineSeconds: expected more than minReadySeconds, got 600',
    ],
  ])('%j', (text, message) => expect(() => read(text)).toThrow(message));
});

describe('notes', () => {
  test('a kind that is not modelled is skipped, also one of a known name in another API group', () => {
    const certificate = 'apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: a}\n';
    const knative = 'apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n';
    expect(read([certificate, knative, certificate, certificate].join('---\n'))).toMatchObject({
      objects: [],
      notes: [
        'shop.yaml: document 1 and 2 more: kind "Certificate" is not modelled; skipped',
        'shop.yaml: document 2: kind "Service" of serving.knative.dev/v1 is not modelled; skipped',
      ],
    });
  });

  test('a Service that selects nothing works', () => {
    expect(read(WEB_SERVICE).notes).toEqual([
      'shop.yaml: document 1 (Service default/web): spec.selector: app=web matches no pod, so the Service has no endpoints',
    ]);
    expect(read(`${WEB_SERVICE}---${WEB_POD}`).notes).toEqual([]);
  });

  test('a port name that no selected pod has', () => {
    const service = (port: string) => WEB_SERVICE.replace('port: 80', `port: 80, targetPort: ${port}`);
    expect(read(`${service('http')}---${WEB_POD}`).notes).toEqual([]);
    expect(read(`${service('https')}---${WEB_POD}`).notes).toEqual([
      'shop.yaml: document 1 (Service default/web): spec.ports[0].targetPort: no selected pod has a TCP port named "https"',
    ]);
  });

  test('placement rules that are not modelled, and a file without objects', () => {
    expect(read(WEB_POD.replace('spec:', 'spec:\n  affinity: {podAntiAffinity: {}}')).notes).toEqual([
      'shop.yaml: document 1 (Pod default/web): spec.affinity: is not modelled; pods are spread over the nodes',
    ]);
    expect(read('# nothing yet\n').notes).toEqual(['shop.yaml: holds no object']);
  });
});

describe('addresses that cannot be had are errors of the file, and nothing is added', () => {
  const apply = (text: string) => {
    const apiServer = new ApiServer({ random: new RandomStreams('test').stream('api-server') });
    try {
      read(text).applyTo(apiServer);
      return 'applied';
    } catch (error) {
      expect([...apiServer.list('Pod'), ...apiServer.list('Service'), ...apiServer.list('Node')]).toEqual([]);
      return (error as Error).message;
    }
  };
  const withIp = (ip: string) => `status: {podIP: ${ip}}`;

  test('two pods with one address, unless they are on the node’s network or one has ended', () => {
    expect(apply(`${pod('a', withIp('10.244.1.5'))}---${pod('b', withIp('10.244.1.5'))}`)).toBe(
      'shop.yaml: document 2 (Pod default/b): status.podIP: 10.244.1.5 already belongs to Pod default/a',
    );
    const ended = pod('b', 'status: {podIP: 10.244.1.5, phase: Succeeded}');
    expect(apply(`${pod('a', withIp('10.244.1.5'))}---${ended}`)).toBe('applied');
    const onNode = (name: string) => pod(name, withIp('192.168.0.11')).replace('spec: {', 'spec: {hostNetwork: true, ');
    expect(apply(`${onNode('a')}---${onNode('b')}`)).toBe('applied');
  });

  test('addresses outside of their range', () => {
    expect(apply(pod('a', withIp('10.96.0.7')))).toBe(
      'shop.yaml: document 1 (Pod default/a): status.podIP: expected an address of the pod range 10.244.0.0/16, got 10.96.0.7',
    );
    expect(apply(WEB_SERVICE.replace('ports:', 'clusterIP: 10.244.0.7\n  ports:'))).toBe(
      'shop.yaml: document 1 (Service default/web): spec.clusterIP: expected an address of the service range 10.96.0.0/12, got 10.244.0.7',
    );
  });

  test('pod ranges of two nodes that overlap', () => {
    const node = (name: string, podCIDR: string) =>
      `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}}\nspec: {podCIDR: ${podCIDR}}\n`;
    expect(apply(`${node('node-1', '10.244.1.0/24')}---\n${node('node-2', '10.244.1.128/25')}`)).toBe(
      'shop.yaml: document 2 (Node node-2): spec.podCIDR: 10.244.1.128/25 overlaps that of Node node-1',
    );
  });
});

test('ranges of a cluster may not overlap', () => {
  const ranges = { ...DEFAULT_RANGES, pod: parsePrefix('10.100.0.0/16') };
  expect(() => new ApiServer({ random: new RandomStreams('test').stream('x'), ranges })).toThrow(
    'pod range 10.100.0.0/16 overlaps service range 10.96.0.0/12; expected ranges with no address in common',
  );
});
