import { expect, test } from 'vitest';
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
