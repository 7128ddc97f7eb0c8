import { expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { type Instant, ms } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { localMac } from '../packet/mac.ts';
import type { TokenBucketSettings } from './token-bucket.ts';
import { createVethPair } from './veth.ts';

/** Frames of 1,000 bytes that leave at once; when they arrive, in milliseconds. */
function arrivals(count: number, settings: TokenBucketSettings) {
  const sim = new Simulator({ seed: 'bucket' });
  const frames = new FrameStore();
  const cpus = new CpuSet(sim.place('node'), { count: 1, costs: FREE });
  const device = (name: string, index: number) => ({
    name,
    mac: localMac(index),
    namespace: 'node',
    index,
    cpus,
    frames,
  });
  const { inside, outside } = createVethPair({ inside: device('eth0', 1), outside: device('veth0', 2) });
  outside.bucket = settings;
  const seen: number[] = [];
  inside.receiver = {
    receive(frame) {
      seen.push((cpus.instant as Instant) / ms(1));
      frames.deliver(frame);
    },
  };
  const send = (): void => {
    for (let i = 0; i < count; i++) outside.transmit(Object.assign(frames.allocate(), { sizeBytes: 1_000 }));
  };
  cpus.submit(0, send, undefined);
  frames.assertConserved();
  sim.run();
  frames.assertConserved();
  return { seen, drops: frames.drops() };
}

test('a burst passes at once, the rest at the rate', () => {
  // 1 Mbit/s is 1,000 bytes in 8 ms; the bucket holds three frames.
  const { seen } = arrivals(6, { rateBps: 1e6, burstBytes: 3_000, limitBytes: 10_000 });
  expect(seen).toEqual([0, 0, 0, 8, 16, 24]);
});

test('what does not fit into the queue is dropped, and what is larger than the bucket never passes', () => {
  const { seen, drops } = arrivals(6, { rateBps: 1e6, burstBytes: 1_000, limitBytes: 2_000 }); // one goes, two wait
  expect(seen).toEqual([0, 8, 16]);
  expect(drops).toEqual(new Map([['QDISC_DROP', 3]]));
  expect(arrivals(2, { rateBps: 1e6, burstBytes: 999, limitBytes: 10_000 }).seen).toEqual([]);
});
