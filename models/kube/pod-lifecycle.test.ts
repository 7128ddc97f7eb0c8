import { expect, test } from 'vitest';
import { RandomStreams } from '../../engine/random.ts';
import { Simulator } from '../../engine/simulator.ts';
import { type Duration, inSeconds, s } from '../../engine/time.ts';
import { ApiServer } from './api-server.ts';
import { makeNode } from './node-objects.ts';
import { isReady, isTerminating, type Manifest, objectFrom, type Pod } from './objects.ts';
import { PodLifecycle, preStopDelay, readinessDelay } from './pod-lifecycle.ts';

type Container = Manifest<'Pod'>['spec']['containers'][number];

const pod = (container: Partial<Container> = {}, spec: Partial<Manifest<'Pod'>['spec']> = {}): Pod =>
  objectFrom('Pod', {
    metadata: { name: 'web' },
    spec: { nodeName: 'node-1', containers: [{ name: 'main', ...container }], ...spec },
  });

/** A pod on a node whose processes end `exitAfter` SIGTERM; what happens to it, and when: `5 SIGTERM`. */
function story({ object = pod(), exitAfter = s(0) }: { object?: Pod; exitAfter?: Duration } = {}) {
  const sim = new Simulator({ seed: 'test' });
  const place = sim.place('node-1');
  const api = new ApiServer({ random: new RandomStreams('test').stream('api') });
  api.create(makeNode({ name: 'node-1', address: '192.168.0.11' }));
  const told: string[] = [];
  const tell = (what: string) => told.push(`${inSeconds(sim.now)} ${what}`);
  const after = (delay: Duration, action: () => void) => place.schedule(delay, action, undefined);
  let connected = true;
  const lifecycle = new PodLifecycle(api, {
    ...{ after, retry: after },
    runtime: {
      isConnected: () => connected,
      start: () => ({ podIP: '10.244.0.2', hostIP: '192.168.0.11' }),
      terminate: (_, exited) => {
        tell('SIGTERM');
        after(exitAfter, exited);
      },
      exit: () => tell('exit'),
      remove: () => tell('remove'),
    },
  });
  api.watch('Pod', (events) => {
    for (const { type, object } of events) {
      if (type === 'DELETED') tell('gone');
      else if (isTerminating(object)) tell('terminating');
      else if (object.status.podIP !== undefined) tell(isReady(object) ? 'ready' : 'not ready');
    }
  });
  api.create(object);
  return {
    api,
    told,
    run: () => sim.run(),
    cutOff: () => {
      connected = false;
    },
    connect: () => {
      connected = true;
      lifecycle.catchUp('node-1');
    },
  };
}

test('a pod without probes is ready when it runs, one with a probe after its first successful one', () => {
  expect(story().told).toEqual(['0 ready']);
  const { told, run } = story({ object: pod({ readinessProbe: { initialDelaySeconds: 7, periodSeconds: 5 } }) });
  run();
  expect(told).toEqual(['0 not ready', '10 ready']); // probes at 5 s do not count yet
});

test('a pod that is deleted is asked to end at once, and goes when it has', () => {
  const { api, told, run } = story({ exitAfter: s(3) });
  api.delete('Pod', 'default/web');
  run();
  expect(told.slice(1)).toEqual(['0 SIGTERM', '0 terminating', '3 exit', '3.5 remove', '3.5 gone']);
});

test('its preStop hook comes first; both together have the grace period', () => {
  const preStop = { sleep: { seconds: 5 } };
  const object = pod({ lifecycle: { preStop } }, { terminationGracePeriodSeconds: 20 });
  const { api, told, run } = story({ object, exitAfter: s(60) });
  api.delete('Pod', 'default/web');
  run();
  expect(told.slice(1)).toEqual(['0 terminating', '5 SIGTERM', '20 exit', '20.5 remove', '20.5 gone']);
});

test('a hook that takes longer than the grace period is cut off, and the process has two seconds more', () => {
  const preStop = { exec: { command: ['sh', '-c', 'sleep 60'] } };
  const object = pod({ lifecycle: { preStop } }, { terminationGracePeriodSeconds: 10 });
  const { api, told, run } = story({ object, exitAfter: s(60) });
  api.delete('Pod', 'default/web');
  run();
  expect(told.slice(1)).toEqual(['0 terminating', '10 SIGTERM', '12 exit', '12.5 remove', '12.5 gone']);
});

test('with a grace period of 0 the object goes at once, and the processes are killed', () => {
  const { api, told, run } = story({ exitAfter: s(3) });
  api.delete('Pod', 'default/web', { gracePeriodSeconds: 0 });
  run();
  expect(told.slice(1)).toEqual(['0 exit', '0 remove', '0 gone']);
});

test('on a node that is cut off it runs on; it ends when the node is back', () => {
  const { api, told, run, cutOff, connect } = story();
  cutOff();
  api.delete('Pod', 'default/web');
  run();
  expect(told.slice(1)).toEqual(['0 terminating']);
  connect();
  run();
  expect(told.slice(2)).toEqual(['0 SIGTERM', '0 exit', '0.5 remove', '0.5 gone']);
});

test.each([
  [{}, 0],
  [{ periodSeconds: 5, successThreshold: 3 }, 10],
  [{ initialDelaySeconds: 10 }, 10],
  [{ initialDelaySeconds: 11 }, 20],
])('a readiness probe %j succeeds after %i s', (readinessProbe, seconds) => {
  expect(readinessDelay(pod({ readinessProbe }))).toBe(s(seconds));
});

test.each([
  [['sleep', '5'], 5],
  [['/bin/sh', '-c', 'sleep 15 && nginx -s quit'], 15],
  [['nginx', '-s', 'quit'], 0],
])('a preStop hook %j sleeps %i s', (command, seconds) => {
  expect(preStopDelay(pod({ lifecycle: { preStop: { exec: { command } } } }))).toBe(s(seconds));
});
