import { expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { Tally } from '../../engine/stats/tally.ts';
import { type Instant, ns, us } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import type { Frame } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { localMac } from '../packet/mac.ts';
import { connectWire, WireDevice, type WireSettings } from './wire.ts';

function cable(settings: Partial<WireSettings>, seed = 'wire') {
  const sim = new Simulator({ seed });
  const frames = new FrameStore();
  const end = (name: string, index: number): WireDevice =>
    new WireDevice({
      name: 'eth0',
      mac: localMac(index),
      namespace: name,
      index,
      cpus: new CpuSet(sim.place(name), { count: 1, costs: FREE }),
      frames,
    });
  const [near, far] = [end('near', 1), end('far', 2)];
  connectWire(near, far, { rateBps: 1e9, delay: us(5), ...settings });
  const arrivals: Instant[] = [];
  /** Of each arrival: does it lack a checksum, or the packet in it? */
  const lackChecksums: boolean[] = [];
  far.receiver = {
    receive(frame) {
      arrivals.push(sim.now);
      lackChecksums.push(frame.isChecksumOpen || frame.inner?.isChecksumOpen === true);
      frames.deliver(frame);
    },
  };
  const frame = (sizeBytes: number): Frame => Object.assign(frames.allocate(), { sizeBytes });
  return { sim, frames, wire: near, arrivals, lackChecksums, frame };
}

test('two back-to-back frames queue behind each other on the wire', () => {
  const { sim, wire, arrivals, frame } = cable({});
  wire.transmit(frame(1250));
  wire.transmit(frame(1250)); // 10 us each at 1 Gbit/s, then 5 us of cable
  sim.run();
  expect(arrivals).toEqual([us(15), us(25)]);
});

test('what comes off a cable has its checksums, within tunnels, too', () => {
  const { sim, frames, wire, lackChecksums, frame } = cable({});
  wire.transmit(Object.assign(frame(125), { isChecksumOpen: true }));
  const outer = frames.encapsulate(Object.assign(frame(125), { isChecksumOpen: true }));
  wire.transmit(Object.assign(outer, { sizeBytes: 175 }));
  sim.run();
  expect(lackChecksums).toEqual([false, false]);
});

test('an idle wire starts at once, and costs one event per frame', () => {
  const { sim, wire, arrivals, frame } = cable({});
  wire.transmit(frame(125));
  sim.run();
  sim.run({ until: us(100) as number as Instant });
  wire.transmit(frame(125)); // at 100 us: 1 us to serialize, 5 us of cable
  sim.run();
  expect(arrivals).toEqual([us(6), us(106)]);
  expect(sim.executedEvents).toBe(2);
});

test('what does not fit the queue is dropped, and the books still balance', () => {
  const { sim, frames, wire, arrivals, frame } = cable({ queueBytes: 2_500 });
  for (let i = 0; i < 5; i++) wire.transmit(frame(1250)); // one on the wire, two waiting, two too many
  expect(frames.totals()).toEqual({ sent: 5, delivered: 0, dropped: 2, inFlight: 3 });
  frames.assertConserved();
  sim.run();
  expect(arrivals).toHaveLength(3);
  expect(frames.drops()).toEqual(new Map([['QDISC_DROP', 2]]));
  frames.assertConserved();
});

test('a lossy wire loses its share: 10 % of 10,000 frames, within four standard deviations of 30', () => {
  const { sim, frames, wire, frame } = cable({ lossFraction: 0.1, queueBytes: 1e9 });
  for (let i = 0; i < 10_000; i++) wire.transmit(frame(125));
  sim.run();
  const lost = frames.drops().get('WIRE_LOSS')!;
  expect(Math.abs(lost - 1_000)).toBeLessThan(4 * 30);
});

/**
 * Mean wait in front of a 1 Gbit/s transmitter under Poisson arrivals, in mean service times of 10 us (1250 bytes), and
 * the half-width of its 99 % interval over 20 independent batches (t of 19 degrees of freedom: 2.861).
 */
function meanWait({ load, sizes }: { load: number; sizes: 'fixed' | 'exponential' }): {
  mean: number;
  halfWidth: number;
} {
  const batches = new Tally();
  for (let batch = 0; batch < 20; batch++) {
    const { sim, frames, wire, arrivals, frame } = cable({ queueBytes: 1e12 }, `wait-${batch}`);
    const random = sim.random.stream('arrivals');
    const unloaded: number[] = []; // when each frame would arrive if it were alone
    const send = (left: number): void => {
      const sizeBytes = sizes === 'fixed' ? 1250 : random.exponential(ns(1250));
      unloaded.push(sim.now + sizeBytes * 8 + us(5));
      wire.transmit(frame(sizeBytes));
      if (left > 1) wire.cpus.place.schedule(random.exponential(ns(us(10) / load)), send, left - 1);
    };
    send(5_000);
    sim.run();
    frames.assertConserved();
    const waits = new Tally();
    for (const [i, arrival] of arrivals.entries()) waits.record((arrival - unloaded[i]!) / us(10));
    batches.record(waits.mean);
  }
  return { mean: batches.mean, halfWidth: (2.861 * Math.sqrt(batches.variance)) / Math.sqrt(20) };
}

test('M/D/1: at 70 % load a frame waits rho / (2 (1 - rho)) = 1.167 service times', () => {
  const { mean, halfWidth } = meanWait({ load: 0.7, sizes: 'fixed' });
  expect(Math.abs(mean - 0.7 / (2 * 0.3))).toBeLessThan(halfWidth);
  expect(halfWidth).toBeLessThan(0.1);
});

test('M/M/1: at 70 % load a frame waits rho / (1 - rho) = 2.333 service times', () => {
  const { mean, halfWidth } = meanWait({ load: 0.7, sizes: 'exponential' });
  expect(Math.abs(mean - 0.7 / 0.3)).toBeLessThan(halfWidth);
  expect(halfWidth).toBeLessThan(0.3);
});
