import { describe, expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { type Instant, s } from '../../engine/time.ts';
import { parsePrefix } from '../packet/ip-address.ts';
import { ApiServer, type Deliver } from './api-server.ts';
import { makeNode } from './node-objects.ts';
import { type Manifest, objectFrom, type Pod, type Service } from './objects.ts';
import { DEFAULT_RANGES } from './ranges.ts';

const apiServer = (
  options: { seed?: string; service?: string; pod?: string; deliver?: Deliver; now?: () => Instant } = {},
) => {
  const { seed = 'test', service = '10.96.0.0/12', pod: podRange = '10.244.0.0/16', ...rest } = options;
  const ranges = { ...DEFAULT_RANGES, service: parsePrefix(service), pod: parsePrefix(podRange) };
  return new ApiServer({ random: new RandomStreams(seed).stream('api-server'), ranges, ...rest });
};
const service = (name: string, spec: Manifest<'Service'>['spec'] = {}): Service =>
  objectFrom('Service', { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } });
const pod = (name: string, spec: Partial<Manifest<'Pod'>['spec']> = {}, status: Manifest<'Pod'>['status'] = {}): Pod =>
  objectFrom('Pod', { metadata: { name }, spec: { containers: [{ name: 'main' }], ...spec }, status });

describe('ClusterIPs', () => {
  test('come from the dynamic band: of 10.96.0.0/24, the first 16 addresses are for people', () => {
    const api = apiServer({ service: '10.96.0.0/24' });
    const last = Array.from({ length: 100 }, (_, i) =>
      Number(api.create(service(`s${i}`)).spec.clusterIP?.split('.')[3]),
    );
    expect(Math.min(...last)).toBeGreaterThan(16);
    expect(Math.max(...last)).toBeLessThan(255);
    expect(new Set(last).size).toBe(100);
  });

  test('run out after 254 of a /24, the static band last', () => {
    const api = apiServer({ service: '10.96.0.0/24' });
    for (let i = 0; i < 238; i++) api.create(service(`s${i}`));
    const last = Array.from({ length: 16 }, (_, i) =>
      Number(api.create(service(`t${i}`)).spec.clusterIP?.split('.')[3]),
    );
    expect(last.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
    expect(() => api.create(service('one-more'))).toThrow(
      'Service default/one-more: spec.clusterIP: range is full: every address of 10.96.0.0/24 is taken',
    );
    api.remove('Service', 'default/t0');
    expect(api.create(service('one-more')).spec.clusterIP).toBe(`10.96.0.${last[0]}`);
  });

  test('depend on the seed and the Service’s name, not on what else there is', () => {
    const alone = apiServer().create(service('web')).spec.clusterIP;
    const [, besides] = apiServer().createAll([service('idle'), service('web')]);
    expect(besides?.spec.clusterIP).toBe(alone);
    expect(apiServer({ seed: 'other' }).create(service('web')).spec.clusterIP).not.toBe(alone);
  });

  test('that a Service asks for are set aside before others are drawn', () => {
    const drawn = apiServer().create(service('web')).spec.clusterIP as string;
    const [web, dns] = apiServer().createAll([service('web'), service('dns', { clusterIP: drawn })]);
    expect(dns?.spec.clusterIP).toBe(drawn);
    expect(web?.spec.clusterIP).not.toBe(drawn);
  });

  test('are not given to headless and external ones', () => {
    const api = apiServer();
    expect(api.create(service('db', { clusterIP: 'None' })).spec).toMatchObject({
      clusterIP: 'None',
      clusterIPs: ['None'],
    });
    expect(
      api.create(service('mail', { type: 'ExternalName', externalName: 'mx.example' })).spec.clusterIP,
    ).toBeUndefined();
  });

  test('stay over an update that leaves them open', () => {
    const api = apiServer();
    const web = api.create(service('web', { type: 'NodePort' }));
    const updated = api.update(service('web', { type: 'NodePort', selector: { app: 'web' } }));
    expect(updated.spec).toMatchObject({
      clusterIP: web.spec.clusterIP,
      ports: web.spec.ports,
      selector: { app: 'web' },
    });
  });
});

describe('node ports', () => {
  test('come from 30086 up: the first 2768 / 32 = 86 are for people', () => {
    const api = apiServer();
    const ports = Array.from(
      { length: 200 },
      (_, i) => api.create(service(`s${i}`, { type: 'NodePort' })).spec.ports[0]?.nodePort ?? 0,
    );
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(30_086);
    expect(Math.max(...ports)).toBeLessThanOrEqual(32_767);
    expect(new Set(ports).size).toBe(200);
  });

  test('are one for both protocols of a port', () => {
    const ports = [
      { name: 'dns', port: 53, protocol: 'UDP' as const },
      { name: 'dns-tcp', port: 53 },
      { name: 'metrics', port: 9153 },
    ];
    const [dns, dnsTcp, metrics] = apiServer().create(service('dns', { type: 'NodePort', ports })).spec.ports;
    expect(dns?.nodePort).toBe(dnsTcp?.nodePort);
    expect(metrics?.nodePort).not.toBe(dns?.nodePort);
  });

  test('belong to one Service, and to the range', () => {
    const api = apiServer();
    const at = (nodePort: number) => ({ type: 'NodePort' as const, ports: [{ port: 80, nodePort }] });
    api.create(service('web', at(30_080)));
    expect(() => api.create(service('api', at(30_080)))).toThrow(
      'Service default/api: spec.ports[0].nodePort: 30080 already belongs to Service default/web',
    );
    expect(() => api.create(service('api', at(8080)))).toThrow(
      'Service default/api: spec.ports[0].nodePort: expected a port from 30000 to 32767, got 8080',
    );
  });
});

describe('pod ranges of nodes', () => {
  const node = (name: string, podCIDR?: string) => makeNode({ name, address: `192.168.0.${name.slice(5)}`, podCIDR });

  test('are cut from the pod range in order, around those that nodes bring', () => {
    const nodes = apiServer().createAll([node('node-1'), node('node-2', '10.244.1.0/24'), node('node-3')]);
    expect(nodes.map(({ spec }) => spec.podCIDR)).toEqual(['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24']);
  });

  test('run out, and nothing is added', () => {
    const api = apiServer({ pod: '10.244.0.0/23' });
    expect(() => api.createAll([node('node-1'), node('node-2'), node('node-3')])).toThrow(
      'Node node-3: spec.podCIDR: the pod range 10.244.0.0/23 is used up by 2 nodes',
    );
    expect(api.list('Node')).toEqual([]);
    expect(api.create(node('node-4')).spec.podCIDR).toMatch(/^10\.244\.[01]\.0\/24$/);
  });

  test('and a node has the labels that its kubelet gives it', () => {
    expect(apiServer().create(node('node-1')).metadata.labels).toMatchObject({
      'kubernetes.io/hostname': 'node-1',
      'kubernetes.io/os': 'linux',
    });
  });
});

test('a pod on the node’s network has the node’s address once it is on the node', () => {
  const api = apiServer();
  api.create(makeNode({ name: 'node-1', address: '192.168.0.11' }));
  const waiting = api.create(pod('agent', { hostNetwork: true }));
  expect(waiting.status.podIP).toBeUndefined();
  expect(api.update({ ...waiting, spec: { ...waiting.spec, nodeName: 'node-1' } }).status.podIP).toBe('192.168.0.11');
});

test('an update that is refused changes nothing', () => {
  const api = apiServer();
  api.create(pod('a', {}, { podIP: '10.244.0.2' }));
  api.create(pod('b', {}, { podIP: '10.244.0.3' }));
  expect(() => api.update(pod('b', {}, { podIP: '10.244.0.2' }))).toThrow('already belongs to Pod default/a');
  expect(() => api.create(pod('c', {}, { podIP: '10.244.0.3' }))).toThrow('already belongs to Pod default/b');
  expect(api.get('Pod', 'default/b')?.status.podIP).toBe('10.244.0.3');
});

describe('a watcher', () => {
  test('hears what there is at once, then what changes', () => {
    const api = apiServer();
    api.create(service('web'));
    const heard: string[] = [];
    const stop = api.watch('Service', (events) =>
      heard.push(events.map(({ type, object }) => `${type} ${object.metadata.name}`).join()),
    );
    api.create(service('api'));
    api.update(service('web', { selector: { app: 'web' } }));
    api.remove('Service', 'default/api');
    stop();
    api.create(service('unheard'));
    expect(heard).toEqual(['ADDED web', 'ADDED api', 'MODIFIED web', 'DELETED api']);
  });

  test('that changes objects is not called again before it is done', () => {
    const api = apiServer();
    const heard: string[] = [];
    api.watch('Pod', (events) => {
      for (const { object } of events) {
        heard.push(`${object.metadata.name} begins`);
        if (object.metadata.name === 'a') api.create(pod('b'));
        heard.push(`${object.metadata.name} ends`);
      }
    });
    api.create(pod('a'));
    expect(heard).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
  });

  test('with a delay hears later, and of nothing after it has stopped', () => {
    const waiting: (() => void)[] = [];
    const api = apiServer({ deliver: (handler) => waiting.push(handler) });
    const heard: string[] = [];
    const stop = api.watch('Service', (events) => heard.push(...events.map(({ object }) => object.metadata.name)));
    api.create(service('web'));
    expect(heard).toEqual([]);
    waiting.shift()?.();
    expect(heard).toEqual(['web']);
    api.create(service('api'));
    stop();
    waiting.shift()?.();
    expect(heard).toEqual(['web']);
  });
});

test('deleting a pod on a node stamps it; its kubelet removes it', () => {
  const api = apiServer({ now: () => s(12.5) as number as Instant });
  api.create(pod('a', { nodeName: 'node-1' }));
  api.delete('Pod', 'default/a');
  expect(api.get('Pod', 'default/a')?.metadata.deletionTimestamp).toBe('12.500000000');
  api.remove('Pod', 'default/a');
  expect(api.get('Pod', 'default/a')).toBeUndefined();

  api.create(pod('b'));
  api.delete('Pod', 'default/b');
  expect(api.get('Pod', 'default/b')).toBeUndefined();
});
