import { describe, expect, test } from 'vitest';
import { type ControlPlane, controlPlane, nodeAt, setReady } from './control-plane.fixture.ts';
import type { Node, Service } from './objects.ts';
import { TopologyCache, ZONE_LABEL } from './topology-hints.ts';

const zone = (index: number, name: string, cpu: string | number = 2): Node => {
  const node = nodeAt(index, { labels: { [ZONE_LABEL]: name } });
  return { ...node, status: { ...node.status, allocatable: { cpu } } };
};
const cacheOf = (...nodes: Node[]): TopologyCache => {
  const cache = new TopologyCache();
  cache.setNodes(nodes);
  return cache;
};

describe('of n endpoints each zone should have its share of the CPUs', () => {
  const thirds = cacheOf(zone(1, 'a'), zone(2, 'b'), zone(3, 'c'));

  test('12 over three equal zones: 4, and at least 12 / 3 / 1.2 = 3.33', () => {
    expect(thirds.allocations(12)?.get('a')).toEqual({ minimum: 4, maximum: 4, desired: 4 });
  });

  test('11 would overload some by 20 %: 3 x ceil(3.06) = 12, so there are no hints', () => {
    expect(thirds.allocations(11)).toBeUndefined();
  });

  test('100: 33.3 wanted, 27.8 enough, 28 + (100 - 84) allowed', () => {
    expect(thirds.allocations(100)?.get('b')).toMatchObject({ minimum: 28, maximum: 44 });
  });

  test('fewer endpoints than zones, one zone, or a node without zone or CPUs: no hints', () => {
    expect(thirds.allocations(2)).toBeUndefined();
    expect(cacheOf(zone(1, 'a'), zone(2, 'a')).allocations(9)).toBeUndefined();
    expect(cacheOf(zone(1, 'a'), zone(2, 'b'), nodeAt(3)).allocations(9)).toBeUndefined();
    expect(cacheOf(zone(1, 'a'), zone(2, 'b', '0')).allocations(9)).toBeUndefined();
  });

  test('a node that is not ready, and the control plane, do not count', () => {
    const down = zone(2, 'b');
    const notReady = { ...down, status: { ...down.status, conditions: [{ type: 'Ready', status: 'Unknown' }] } };
    expect(cacheOf(zone(1, 'a'), notReady).allocations(9)).toBeUndefined();
    const control = nodeAt(3, { labels: { 'node-role.kubernetes.io/control-plane': '' } });
    expect(
      cacheOf(zone(1, 'a', '500m'), zone(2, 'b', '1.5'), control)
        .allocations(8)
        ?.get('b'),
    ).toMatchObject({
      desired: 6,
    });
  });
});

describe('the slices of a Service', () => {
  /** A Service and pods on nodes: `{ a: 2, b: 1 }` puts two into zone a. Zones have one node each, unless said. */
  const clusterOf = (service: string, pods: Record<string, number>, nodes?: Node[]): ControlPlane => {
    const cluster = controlPlane();
    const zones = Object.keys(pods);
    cluster.api.createAll(nodes ?? zones.map((name, index) => zone(index + 1, name)));
    cluster.apply(`{apiVersion: v1, kind: Service, metadata: {name: web, ${service} ports: [{port: 80}]}}`);
    for (const name of zones) addPods(cluster, { zone: name, count: pods[name] as number });
    return cluster;
  };
  const addPods = (cluster: ControlPlane, { zone, count }: { zone: string; count: number }): void => {
    const node = cluster.api.list('Node').find(({ metadata }) => metadata.labels[ZONE_LABEL] === zone);
    for (let i = 0; i < count; i++) {
      const name = `pod-${cluster.api.list('Pod').length}`;
      cluster.apply(`{apiVersion: v1, kind: Pod, metadata: {name: ${name}, labels: {app: web}},
        spec: {nodeName: ${node?.metadata.name}, containers: [{name: main}]}}`);
    }
  };
  const AUTO = 'annotations: {service.kubernetes.io/topology-mode: Auto}}, spec: {selector: {app: web},';
  const close = (mode: string) => `}, spec: {selector: {app: web}, trafficDistribution: ${mode},`;
  /** `a>b`: an endpoint of zone a that is for zone b; `a>-`: one for everybody. */
  const hints = ({ api }: ControlPlane): string =>
    api
      .list('EndpointSlice')
      .flatMap(({ endpoints }) => endpoints)
      .map(({ zone, hints }) => {
        const nodes = hints?.forNodes === undefined ? '' : ` ${hints.forNodes.map(({ name }) => name)}`;
        return `${zone}>${(hints?.forZones ?? [{ name: '-' }]).map(({ name }) => name)}${nodes}`;
      })
      .join(', ');

  test('have no hints unless asked for', () => {
    expect(hints(clusterOf('}, spec: {selector: {app: web},', { a: 1, b: 1 }))).toBe('a>-, b>-');
  });

  test('with mode Auto keep to their zones while the shares allow it', () => {
    expect(hints(clusterOf(AUTO, { a: 2, b: 2 }))).toBe('a>a, a>a, b>b, b>b');
  });

  test('with mode Auto give endpoints away: one CPU of four is in zone b, so one endpoint of four is', () => {
    const nodes = [zone(1, 'a', 3), zone(2, 'b', 1)];
    expect(hints(clusterOf(AUTO, { a: 2, b: 2 }, nodes))).toBe('a>a, a>a, b>a, b>b');
  });

  test('with mode Auto lose all hints when a pod is lost that the zones cannot spare, and get them back', () => {
    const cluster = clusterOf(AUTO, { a: 4, b: 4, c: 4 });
    expect(hints(cluster)).toBe('a>a, a>a, a>a, a>a, b>b, b>b, b>b, b>b, c>c, c>c, c>c, c>c');
    setReady(cluster.api, 'default/pod-11', false);
    expect(hints(cluster)).not.toMatch(/>[abc]/); // 4, 4, 3
    setReady(cluster.api, 'default/pod-11', true);
    expect(hints(cluster)).not.toMatch(/>-/);
  });

  test('with mode Auto are looked at again when nodes change so that a zone has too few', () => {
    const cluster = clusterOf(AUTO, { a: 3, b: 3 });
    cluster.api.create(zone(3, 'a', 10)); // 12 CPUs of 14: zone b deserves 0.86 of 6 endpoints
    expect(hints(cluster)).toBe('a>a, a>a, a>a, b>a, b>a, b>b');
  });

  test('with trafficDistribution are for their own zones, whatever the shares', () => {
    expect(hints(clusterOf(close('PreferClose'), { a: 3, b: 1 }))).toBe('a>a, a>a, a>a, b>b');
    expect(hints(clusterOf(close('PreferSameNode'), { a: 1, b: 1 }))).toBe('a>a node-1, b>b node-2');
  });

  test('follow a change of trafficDistribution, and a slice that is right is not written', () => {
    const cluster = clusterOf(close('PreferSameZone'), { a: 1, b: 1 });
    const [slice] = cluster.api.list('EndpointSlice');
    const change = (trafficDistribution: Service['spec']['trafficDistribution']) => {
      const web = cluster.api.get('Service', 'default/web') as Service;
      cluster.api.update<Service>({ ...web, spec: { ...web.spec, trafficDistribution } });
    };
    change('PreferClose');
    expect(cluster.api.list('EndpointSlice')[0]).toBe(slice);
    change('PreferSameNode');
    expect(hints(cluster)).toBe('a>a node-1, b>b node-2');
    change(undefined);
    expect(hints(cluster)).toBe('a>-, b>-');
  });
});
