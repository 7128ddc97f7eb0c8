import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { Simulator } from '../../engine/simulator.ts';
import { type Instant, inSeconds, s } from '../../engine/time.ts';
import { type ControlPlane, controlPlane } from './control-plane.fixture.ts';
import { NamedDraws } from './named-draws.ts';
import { evictionDelay, NodeLifecycleController } from './node-lifecycle.ts';
import { isNodeReady, isReady, isTerminating, objectFrom, type Pod } from './objects.ts';

const at = (seconds: number) => s(seconds) as number as Instant;

function lifecycle() {
  const sim = new Simulator({ seed: 'test' });
  const place = sim.place('control-plane');
  const cluster = controlPlane();
  const clock = {
    now: () => sim.now,
    at: (instant: Instant, action: () => void) => void place.scheduleAt(instant, action, undefined),
  };
  const draws = new NamedDraws(new RandomStreams('test').stream('nodes'));
  return { sim, cluster, controller: new NodeLifecycleController(cluster.api, { draws, clock }) };
}

const WEB = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`;
/** `node-1 ready`, one line per pod. */
const pods = ({ api }: ControlPlane) =>
  api
    .list('Pod')
    .map((pod) => `${pod.spec.nodeName} ${isTerminating(pod) ? 'terminating' : isReady(pod) ? 'ready' : 'not ready'}`);
const readyEndpoints = ({ api }: ControlPlane) =>
  api.list('EndpointSlice').flatMap(({ endpoints }) => endpoints.filter(({ conditions }) => conditions.ready)).length;

test('a node is given up 30 to 45 s after it has fallen silent: grace 40 s, leases each 10 s, looks each 5 s', () => {
  const { controller } = lifecycle();
  const delays = Array.from({ length: 500 }, (_, i) => {
    const failure = at(100 + i / 7);
    return inSeconds((controller.detectionOf(`node-${i}`, failure) - failure) as Instant);
  });
  expect(Math.min(...delays)).toBeGreaterThan(30);
  expect(Math.max(...delays)).toBeLessThanOrEqual(45);
  expect(delays.reduce((sum, delay) => sum + delay) / delays.length).toBeCloseTo(37.5, 0); // 40 - 10 / 2 + 5 / 2
});

test('then its pods are not ready, and 5 minutes later others take their place', () => {
  const { sim, cluster, controller } = lifecycle();
  cluster.apply(WEB);
  expect(readyEndpoints(cluster)).toBe(3);
  controller.fail('node-2');
  const detection = controller.detectionOf('node-2', at(0));
  sim.run({ until: (detection - 1) as Instant });
  expect(readyEndpoints(cluster)).toBe(3); // nobody has noticed
  sim.run({ until: detection });
  expect(isNodeReady(cluster.api.get('Node', 'node-2')!)).toBe(false);
  expect(pods(cluster)).toEqual(['node-1 ready', 'node-2 not ready', 'node-3 ready']);
  expect(readyEndpoints(cluster)).toBe(2);
  sim.run({ until: (detection + s(299)) as Instant });
  expect(cluster.api.list('Pod')).toHaveLength(3);
  sim.run({ until: (detection + s(300)) as Instant });
  expect(pods(cluster)).toEqual([
    'node-1 ready',
    'node-2 terminating',
    'node-3 ready',
    expect.stringMatching(/[13] re/),
  ]);
  expect(readyEndpoints(cluster)).toBe(3);
});

test('a node that is back in time was never missed; one that is back later is ready at the next look', () => {
  const { sim, cluster, controller } = lifecycle();
  cluster.apply(WEB);
  controller.fail('node-1');
  sim.run({ until: at(20) });
  controller.recover('node-1');
  sim.run({ until: at(100) });
  expect(readyEndpoints(cluster)).toBe(3);
  controller.fail('node-1');
  sim.run({ until: at(201) });
  controller.recover('node-1');
  sim.run({ until: at(205) });
  const node = cluster.api.get('Node', 'node-1')!;
  expect([isNodeReady(node), node.spec.taints]).toEqual([true, []]);
  sim.run({ until: at(1_000) });
  expect(pods(cluster).filter((pod) => pod.includes('terminating'))).toEqual([]);
});

test.each([
  [[], 300],
  [[{ key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 30 }], 30],
  [[{ operator: 'Exists' }], undefined],
  [[{ key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 30 }], 300],
] as const)('a pod with tolerations %j is evicted after %s s', (tolerations, seconds) => {
  const object: Pod = objectFrom('Pod', {
    metadata: { name: 'a' },
    spec: { tolerations, containers: [{ name: 'main' }] },
  });
  expect(evictionDelay(object)).toBe(seconds === undefined ? undefined : s(seconds));
});
