import { beforeEach, expect, test } from 'vitest';
import { Simulator } from '../../engine/simulator.ts';
import { after, type Duration, type Instant, inSeconds, ms, START, s } from '../../engine/time.ts';
import { FREE } from '../cpu/cost-model.ts';
import { CpuSet } from '../cpu/cpu-set.ts';
import { NetDevice } from '../link/net-device.ts';
import { ARP_REPLY, ARP_REQUEST, ETHERTYPE_ARP, type Frame } from '../packet/frame.ts';
import { FrameStore } from '../packet/frame-store.ts';
import { ANY_IP, type Ip, parseIp, prefix } from '../packet/ip-address.ts';
import { BROADCAST_MAC, formatMac, localMac } from '../packet/mac.ts';
import { Arp, type ArpStack } from './arp.ts';
import { Ipv4Settings } from './ipv4-settings.ts';
import type { NeighborTable } from './neighbor-table.ts';

const OWN_IP = parseIp('10.0.0.1');
const PEER_IP = parseIp('10.0.0.2');
const PEER_MAC = localMac(2);

/** Writes down what leaves: `0.000 arp broadcast`, `1.000 data`. */
class Recorder extends NetDevice {
  readonly log: string[] = [];

  protected override carry(frame: Frame): void {
    const at = inSeconds(this.cpus.instant).toFixed(3);
    const what =
      frame.etherType === ETHERTYPE_ARP ? `arp ${frame.arpOperation === ARP_REQUEST ? 'request' : 'reply'}` : 'data';
    this.log.push(`${at} ${what} ${frame.dstMac === BROADCAST_MAC ? 'broadcast' : formatMac(frame.dstMac)}`);
    this.frames.deliver(frame);
  }
}

let sim: Simulator;
let cpus: CpuSet;
let settings: Ipv4Settings;
let frames: FrameStore;
let device: Recorder;
let arp: Arp;
let table: NeighborTable;
let unreachable: number;

beforeEach(() => {
  sim = new Simulator({ seed: 'neighbor' });
  frames = new FrameStore();
  unreachable = 0;
  cpus = new CpuSet(sim.place('host'), { count: 1, costs: FREE });
  device = new Recorder({ name: 'eth0', mac: localMac(1), namespace: 'host', index: 2, cpus, frames });
  settings = new Ipv4Settings();
  settings.addDevice(device, [device]);
  const isLocal = (ip: Ip) => ip === OWN_IP;
  const stack: ArpStack = {
    name: 'host',
    cpus,
    frames,
    settings,
    addressOn: () => OWN_IP,
    isLocal,
    isAddressOf: (_, ip) => isLocal(ip),
    shareSubnet: () => true,
    inputRoute: (_, _source, ip) => ({
      type: isLocal(ip) ? 'local' : 'unicast',
      destination: prefix(ip, 32),
      device,
      gateway: ANY_IP,
      source: ANY_IP,
      metric: 0,
    }),
    unreachable: (frame: Frame) => {
      unreachable++;
      frames.drop(frame, 'NEIGH_FAILED', sim.now, 'host');
    },
  };
  arp = new Arp(stack, sim.random.stream('neighbor'));
  table = arp.neighbors;
});

const send = (): void => {
  const frame = frames.allocate();
  frame.updateSize();
  table.output(frame, device, PEER_IP);
};

function hear(operation: number, { from = PEER_IP, to = OWN_IP } = {}): void {
  const frame = frames.allocate();
  Object.assign(frame, { etherType: ETHERTYPE_ARP, arpOperation: operation, srcIp: from, dstIp: to });
  frame.srcMac = PEER_MAC;
  frame.dstMac = device.mac;
  arp.receive(frame, device);
}

const state = (): string | undefined => [...table][0]?.state;
const runFor = (duration: Duration): void => sim.run({ until: (sim.now + duration) as Instant });

test('an unknown next hop is asked for three times, a second or a little more apart; then its frames fail', () => {
  send();
  send();
  expect(state()).toBe('INCOMPLETE');
  expect(frames.totals().inFlight).toBe(2);
  frames.assertConserved();
  sim.run();
  expect(device.log).toEqual([
    '0.000 arp request broadcast',
    '1.024 arp request broadcast',
    '2.048 arp request broadcast',
  ]);
  expect([state(), unreachable, inSeconds(sim.now)]).toEqual(['FAILED', 2, 3.072]);
  frames.assertConserved();
});

test('an answer sends what waited, in order, and makes the entry reachable', () => {
  send();
  runFor(ms(1));
  hear(ARP_REPLY);
  send();
  expect(device.log).toEqual([
    '0.000 arp request broadcast',
    '0.001 data 02:00:00:00:00:02',
    '0.001 data 02:00:00:00:00:02',
  ]);
  expect(state()).toBe('REACHABLE');
  frames.assertConserved();
});

test('a request for our address is answered, and its sender is known but not proven', () => {
  hear(ARP_REQUEST);
  expect(device.log).toEqual(['0.000 arp reply 02:00:00:00:00:02']);
  expect(state()).toBe('STALE');
});

test('an unconfirmed entry is used for 5 s, probed three times by unicast, and fails at 8.2 s', () => {
  hear(ARP_REQUEST);
  send();
  expect(state()).toBe('DELAY');
  runFor(s(20));
  expect(device.log.slice(1)).toEqual([
    '0.000 data 02:00:00:00:00:02',
    '5.120 arp request 02:00:00:00:00:02',
    '6.144 arp request 02:00:00:00:00:02',
    '7.168 arp request 02:00:00:00:00:02',
  ]);
  expect(state()).toBe('FAILED');
});

test('when a device goes, the frames that wait there end, and what is asked on another goes on', () => {
  const other = new Recorder({ name: 'eth1', mac: localMac(3), namespace: 'host', index: 3, cpus, frames });
  settings.addDevice(other, [device, other]);
  send();
  const frame = frames.allocate();
  frame.updateSize();
  table.output(frame, other, parseIp('10.0.1.2'));
  table.removeDevice(device);
  expect([unreachable, [...table].length]).toEqual([1, 1]);
  sim.run();
  expect(other.log.map((line) => line.slice(6))).toEqual(Array(3).fill('arp request broadcast'));
  expect([unreachable, state()]).toEqual([2, 'FAILED']);
  frames.assertConserved();
});

test('a timer whose CPU is busy is forgotten if the neighbor is known before its turn comes', () => {
  send();
  sim.place('work').scheduleAt(
    after(START, ms(1_023)),
    () => {
      cpus.begin(0);
      cpus.charge(ms(10));
      cpus.end();
    },
    undefined,
  );
  runFor(ms(1_026)); // the timer has fired at 1.024 s
  hear(ARP_REQUEST);
  send();
  expect(state()).toBe('DELAY');
  runFor(s(1));
  expect(state()).toBe('DELAY');
});

test('a reachable entry goes stale after its reachable time of 15 to 45 s', () => {
  send();
  hear(ARP_REPLY);
  runFor(s(14.9));
  expect(state()).toBe('REACHABLE');
  runFor(s(30.2)); // 45.1 s in all
  expect(state()).toBe('STALE');
});

test('a full queue lets go of the oldest: 212,992 bytes hold 277 small frames', () => {
  for (let i = 0; i < 300; i++) send();
  expect(frames.totals().inFlight).toBe(277);
  expect(frames.drops()).toEqual(new Map([['NEIGH_QUEUEFULL', 23]]));
  frames.assertConserved();
});

test('a permanent entry is neither asked for nor changed by what is heard', () => {
  table.addPermanent(device, PEER_IP, localMac(9));
  hear(ARP_REPLY);
  send();
  expect(device.log).toEqual(['0.000 data 02:00:00:00:00:09']);
});
