import { describe, expect, test } from 'vitest';
import { type Instant, ms, us } from '../../engine/time.ts';
import { parseIp } from '../packet/ip-address.ts';
import { type Completion, Latencies, Load } from './load.ts';

const at = (microseconds: number): Instant => us(microseconds) as number as Instant;

/** Began, sent and answered at these microseconds. */
function completion(began: number, sent: number, now: number, server = 'web-0'): Completion {
  const response = {
    kind: 'response',
    id: 1,
    sizeBytes: 512,
    server,
    sourceSeen: parseIp('10.244.0.2'),
    sourceFamily: 4,
  } as const;
  return { began: at(began), sent: at(sent), now: at(now), response };
}

test('latency is connecting and asking; a kept connection has nothing to connect', () => {
  const load = new Load();
  load.complete(completion(100, 130, 210));
  load.complete(completion(300, 300, 380));
  expect([load.latency.min, load.latency.max]).toEqual([us(80), us(110)]);
  expect([load.connect.count, load.connect.max]).toEqual([1, us(30)]);
  expect([load.request.count, load.request.max]).toEqual([2, us(80)]);
});

test('what is started is answered, failed or outstanding', () => {
  const load = new Load();
  for (const time of [0, 10, 20, 30]) load.begin(at(time));
  load.complete(completion(0, 0, 50));
  load.fail(at(10), 'refused');
  load.fail(at(20), 'refused');
  expect([load.started, load.completed, load.failed, load.outstanding]).toEqual([4, 1, 2, 1]);
  expect([...load.failures]).toEqual([['refused', 2]]);
});

describe('when the warm-up is over', () => {
  test('everything seen so far is forgotten', () => {
    const load = new Load({ groupBy: ({ server }) => server });
    load.begin(at(0));
    load.complete(completion(0, 10, 50));
    load.begin(at(10));
    load.fail(at(10), 'reset');
    load.startMeasuring(at(100));
    expect([load.started, load.completed, load.failed, load.latency.count]).toEqual([0, 0, 0, 0]);
    expect([load.groups.size, load.perServer.size, load.perSource.size, load.failures.size]).toEqual([0, 0, 0, 0]);
  });

  test('requests that began before it do not count, however they end', () => {
    const load = new Load();
    for (const time of [90, 95, 100]) load.begin(at(time));
    load.startMeasuring(at(100));
    load.begin(at(100));
    load.complete(completion(90, 95, 130));
    load.fail(at(95), 'timed out');
    load.complete(completion(100, 100, 150));
    expect([load.started, load.completed, load.failed, load.outstanding]).toEqual([1, 1, 0, 0]);
  });

  test('throughput is per second since then', () => {
    const load = new Load();
    load.startMeasuring(at(1_000));
    expect(load.throughputPerSecond(at(1_000))).toBe(0);
    for (const began of [1_000, 1_100, 1_200]) load.complete(completion(began, began, began + 50));
    expect(load.throughputPerSecond(ms(3) as number as Instant)).toBe(1_500); // 3 in 2 ms
  });
});

test('answers are counted by server and by source, and kept by group', () => {
  const load = new Load({ groupBy: ({ server }) => (server === 'web-0' ? 'same node' : 'other node') });
  load.complete(completion(0, 0, 50, 'web-0'));
  load.complete(completion(0, 0, 70, 'web-1'));
  load.complete(completion(0, 0, 90, 'web-2'));
  expect([...load.perServer]).toEqual([
    ['web-0', 1],
    ['web-1', 1],
    ['web-2', 1],
  ]);
  expect([...load.perSource]).toEqual([['10.244.0.2', 3]]);
  expect([...load.groups].map(([name, { latency }]) => [name, latency.count, latency.max])).toEqual([
    ['other node', 2, us(90)],
    ['same node', 1, us(50)],
  ]);
});

test('latencies merge', () => {
  const [one, two, both] = [new Latencies(), new Latencies(), new Latencies()];
  one.record(completion(0, 10, 50));
  two.record(completion(0, 0, 90));
  both.merge(one);
  both.merge(two);
  expect([both.latency.count, both.connect.count, both.request.count]).toEqual([2, 1, 2]);
  expect([both.latency.min, both.latency.max]).toEqual([us(50), us(90)]);
});

test('what two workers have seen adds up, in the order of names whoever was first', () => {
  const groupBy = ({ server }: { server: string }) => (server === 'web-0' ? 'same node' : 'other node');
  const answers = ['web-1', 'web-0', 'web-2', 'web-0', 'web-1'].map((server, i) =>
    completion(10 * i, 10 * i + i, 100 + 20 * i, server),
  );
  const [one, first, second] = [new Load({ groupBy }), new Load({ groupBy }), new Load({ groupBy })];
  for (const [i, answer] of answers.entries())
    for (const load of [one, i % 2 === 0 ? first : second]) {
      load.begin(answer.began);
      load.complete(answer);
    }
  for (const load of [one, second]) {
    load.begin(at(7));
    load.fail(at(7), 'timed out');
  }
  first.add(structuredClone(second.snapshot()));
  expect(first.snapshot()).toEqual({
    ...one.snapshot(),
    groups: expect.anything(), // those and the next are in the order in which they came
    perServer: expect.anything(),
  });
  expect([...first.perServer]).toEqual([...one.perServer]);
  expect([...first.groups].map(([name, group]) => [name, group.latenciesSnapshot()])).toEqual(
    [...one.groups].map(([name, group]) => [name, group.latenciesSnapshot()]),
  );
});
