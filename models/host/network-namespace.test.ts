import { expect, test } from 'vitest';
import { DummyDevice } from '../link/dummy.ts';
import { localMac } from '../packet/mac.ts';
import { loadRules, PacketLab } from './packet-lab.fixture.ts';

test('a device that goes down takes the connections with it that it masquerades', () => {
  const lab = new PacketLab();
  const node = lab.addNode('n1', { ip: '192.168.1.1', podRange: '10.244.1.0/24' });
  lab.addNode('n2', { ip: '192.168.1.2', podRange: '10.244.2.0/24' });
  lab.addPod(node, 'p1', { ip: '10.244.1.2' });
  loadRules(node.root, '*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -p udp -j MASQUERADE\nCOMMIT\n');
  lab.send('p1', 'udp 10.244.1.2:4000 > 192.168.1.2:53');
  lab.send('p1', 'icmp 10.244.1.2 > 192.168.1.2');
  const tracked = () => node.root.netfilter?.conntrack.list().map(({ original }) => original.protocol);
  expect(tracked()).toEqual([17, 1]);
  node.root.takeDown(node.uplink);
  expect(node.uplink.up).toBe(false);
  expect(tracked()).toEqual([1]);
});

test('a device is found by its name, among few and among many, until it is gone', () => {
  const { root } = new PacketLab().addNode('n1', { ip: '192.168.1.1', podRange: '10.244.1.0/24' });
  const dummies = Array.from({ length: 20 }, (_, i) => {
    const added = root.add(new DummyDevice(root.device(`dummy${i}`, localMac(1_000 + i))));
    expect(root.findDevice(`dummy${i}`)).toBe(added);
    expect(root.findDevice('dummy99')).toBeUndefined();
    return added;
  });
  expect(() => root.device('dummy3', localMac(2_000))).toThrow('device dummy3 exists in n1; expected a new name');
  for (const dummy of dummies) {
    root.remove(dummy);
    expect(root.findDevice(dummy.name)).toBeUndefined();
  }
  expect(root.findDevice('eth0')?.name).toBe('eth0');
});

test('what captures at a device sees its frames again when it has been down', () => {
  const lab = new PacketLab();
  const { root } = lab.addNode('n1', { ip: '192.168.1.1', podRange: '10.244.1.0/24' });
  const device = root.add(new DummyDevice(root.device('dummy0', localMac(1))));
  const seen: string[] = [];
  const transmit = (): void => device.transmit(lab.frames.allocate());
  device.tap = (_, direction) => seen.push(direction);
  transmit();
  device.up = false;
  transmit();
  expect([device.up, seen]).toEqual([false, ['out']]);
  device.up = true;
  transmit();
  expect([device.up, seen]).toEqual([true, ['out', 'out']]);
  device.up = false;
  device.tap = undefined;
  device.up = true;
  transmit();
  expect([device.up, seen]).toEqual([true, ['out', 'out']]);
});
