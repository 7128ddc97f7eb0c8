import { expect, test } from 'vitest';
import { Part, sharedMemoryFor } from '../../engine/parallel/part.ts';
import { type Home, Simulator } from '../../engine/simulator.ts';
import { type Duration, END_OF_TIME, type Instant, ns, us } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { FrameStore } from '../packet/frame-store.ts';
import type { Mac } from '../packet/mac.ts';
import { FrameBorder } from './frame-border.ts';
import { connectWire, WireDevice } from './wire.ts';

const noMail = { send() {}, receive: () => [] };
const noMessages = { write() {}, read: () => ({ id: 0, sizeBytes: 0 }) };

/** Two machines on a wire, as each of two workers has them. */
function bothSides({
  delay = us(5),
  homes = [0, 1] as readonly Home[],
}: {
  delay?: Duration;
  homes?: readonly Home[];
}) {
  const memory = sharedMemoryFor(2);
  return [0, 1].map((index) => {
    const sim = new Simulator({ seed: 'border', worker: index });
    const frames = new FrameStore();
    const border = new FrameBorder(new Part({ index, workers: 2, memory }, noMail), { frames, messages: noMessages });
    const [left, right] = homes.map((home, i) => {
      const cpus = new CpuSet(sim.place(`machine-${i}`, { home }), { count: 1, costs: FREE });
      return new WireDevice({ name: 'eth0', mac: i as Mac, namespace: `machine-${i}`, index: 1, cpus, frames });
    }) as [WireDevice, WireDevice];
    const arrivals: [Instant, number][] = [];
    for (const device of [left, right])
      device.receiver = {
        receive(frame) {
          arrivals.push([sim.now, frame.ttl]);
          frames.deliver(frame);
        },
      };
    connectWire(left, right, { border, delay, rateBps: 1e9 });
    const send = (ttl: number): void => {
      const frame = frames.allocate();
      frame.ttl = ttl;
      frame.sizeBytes = 1_250;
      left.transmit(frame);
    };
    return { sim, frames, border, left, arrivals, send };
  }) as [Side, Side];
}

type Side = {
  sim: Simulator;
  frames: FrameStore;
  border: FrameBorder;
  left: WireDevice;
  arrivals: [Instant, number][];
  send(ttl: number): void;
};

test('a frame arrives at the other worker when it would have arrived here, and the books of both balance', () => {
  const [here, there] = bothSides({});
  expect([here.border.lookahead, there.border.lookahead]).toEqual([us(5), us(5)]);
  here.send(1);
  here.send(2); // 10 us each at 1 Gbit/s, then 5 us of cable
  expect(here.border.takeEarliestSent()).toBe(us(15));
  expect(here.border.takeEarliestSent()).toBe(END_OF_TIME);
  expect(there.sim.nextEvent).toBe(END_OF_TIME);
  here.border.publish();
  there.border.receive();
  expect(there.frames.ownTotals()).toEqual({ sent: 0, delivered: 0, dropped: 0, inFlight: 2 });
  there.sim.run();
  expect(there.arrivals).toEqual([
    [us(15), 1],
    [us(25), 2],
  ]);
  for (const { sent, delivered } of [here.frames.ownTotals(), there.frames.ownTotals()])
    expect(sent + delivered).toBe(2);
  here.frames.elsewhere = there.frames.ownTotals();
  here.frames.assertConserved();
});

test('a frame that nobody has taken over is missed', () => {
  const [here] = bothSides({});
  here.send(1);
  expect(() => here.frames.assertConserved()).toThrow('1 frames are missing');
});

test('what a machine of another worker is told to send is not sent', () => {
  const [, there] = bothSides({});
  there.left.cpus.submit(0, () => there.send(1), undefined);
  there.sim.run();
  expect(there.frames.ownTotals().sent).toBe(0);
});

test('wires within a worker do not count, and those between workers must take time', () => {
  expect(bothSides({ homes: [1, 1], delay: ns(0) })[0].border.lookahead).toBe(Number.POSITIVE_INFINITY);
  expect(() => bothSides({ delay: ns(0) })).toThrow('the wires between nodes have no delay');
});
