import { beforeEach, expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import type { Frame } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { BROADCAST_MAC, localMac, type Mac } from '../packet/mac.ts';
import { Bridge } from './bridge.ts';
import type { NetDevice } from './net-device.ts';
import { createVethPair, type VethDevice } from './veth.ts';

/** Three stations behind a bridge; `heard` lists who got a frame, in order. */
let bridge: Bridge;
let stations: VethDevice[];
let frames: FrameStore;
let heard: string[];

beforeEach(() => {
  const sim = new Simulator({ seed: 'bridge' });
  const cpus = new CpuSet(sim.place('node'), { count: 1, costs: FREE });
  frames = new FrameStore();
  heard = [];
  let index = 0;
  const device = (name: string) => ({ name, mac: localMac(++index), namespace: 'node', index, cpus, frames });
  const listen = (target: NetDevice): void => {
    target.receiver = {
      receive(frame, by) {
        heard.push(by.name);
        frames.deliver(frame);
      },
    };
  };
  bridge = new Bridge(device('cbr0'));
  listen(bridge);
  stations = ['a', 'b', 'c'].map((name) => {
    const { inside, outside } = createVethPair({ inside: device(name), outside: device(`veth-${name}`) });
    bridge.addPort(outside);
    listen(inside);
    return inside;
  });
});

function say(from: NetDevice, to: Mac): string[] {
  const frame: Frame = frames.allocate();
  frame.srcMac = from.mac;
  frame.dstMac = to;
  heard.length = 0;
  from.transmit(frame);
  frames.assertConserved();
  return [...heard];
}

test('an unknown destination is flooded to every port but the ingress; an answer is learned', () => {
  const [a, b, c] = stations as [VethDevice, VethDevice, VethDevice];
  expect(say(a, b.mac)).toEqual(['c', 'b']); // the newest port first
  expect(say(b, a.mac)).toEqual(['a']);
  expect(say(a, b.mac)).toEqual(['b']);
  expect(say(c, b.mac)).toEqual(['b']);
});

test('a broadcast goes to every other port and up', () => {
  expect(say(stations[0]!, BROADCAST_MAC)).toEqual(['c', 'b', 'cbr0']);
});

test("a frame for the bridge's own MAC goes up and nowhere else", () => {
  expect(say(stations[0]!, bridge.mac)).toEqual(['cbr0']);
});

test('a frame never leaves by its ingress port, unless hairpin mode is on', () => {
  const [a] = stations as [VethDevice];
  say(a, BROADCAST_MAC);
  expect(say(a, a.mac)).toEqual([]);
  expect(frames.drops()).toEqual(new Map([['BRIDGE_NO_EGRESS', 1]]));
  bridge.ports[0]!.hairpin = true;
  expect(say(a, a.mac)).toEqual(['a']);
  expect(say(a, BROADCAST_MAC)).toEqual(['c', 'b', 'a', 'cbr0']);
});

test('the IP stack sends through the bridge: flooded while unknown, to one port once learned', () => {
  const [a, b] = stations as [VethDevice, VethDevice];
  expect(say(bridge, b.mac)).toEqual(['c', 'b', 'a']);
  say(b, BROADCAST_MAC);
  expect(say(bridge, b.mac)).toEqual(['b']);
  bridge.removePort(bridge.ports[1]!);
  expect(say(bridge, b.mac)).toEqual(['c', 'a']);
  expect(say(a, b.mac)).toEqual(['c']);
});

test('a device that is down neither sends nor receives', () => {
  const [a, b] = stations as [VethDevice, VethDevice];
  say(b, BROADCAST_MAC);
  b.up = false;
  expect(say(a, b.mac)).toEqual([]);
  expect(say(b, a.mac)).toEqual([]);
  expect(frames.drops()).toEqual(new Map([['DEV_READY', 2]]));
});
