// Who answers for which address, and when: each figure as seen on Linux 6.18.

import { beforeEach, describe, expect, test } from 'vitest';
import { inSeconds, ms, s } from '../../engine/time.ts';
import { ARP_REPLY, ARP_REQUEST, ETHERTYPE_ARP, type Frame } from '../packet/frame.ts';
import { formatIp, parseIp } from '../packet/ip-address.ts';
import { BROADCAST_MAC, localMac, type Mac, ZERO_MAC } from '../packet/mac.ts';
import { type LabNode, type LabPod, PacketLab } from './packet-lab.fixture.ts';

let lab: PacketLab;
let node: LabNode;
let pod: LabPod;

describe('a node with routed veths', () => {
  beforeEach(() => {
    lab = new PacketLab();
    node = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24', routed: true });
    pod = lab.addPod(node, 'p1', { ip: '10.244.1.2' });
    lab.addPod(node, 'p2', { ip: '10.244.1.3' });
    node.root.stack.addRoute({
      destination: { family: 4, net: parseIp('0.0.0.0'), mask: 0, length: 0 },
      device: node.uplink,
      gateway: parseIp('192.168.0.9'),
    });
  });

  test('answers as a proxy for what it routes elsewhere, after up to 0.8 s', () => {
    expect(ask('169.254.1.1')).toEqual([]);
    node.root.sysctl('net.ipv4.conf.veth-p1.proxy_arp', 1);
    const [answer] = ask('169.254.1.1');
    expect(answer!.who).toBe(`169.254.1.1 is at the veth`);
    expect(answer!.afterMs).toBeGreaterThan(0);
    expect(answer!.afterMs).toBeLessThan(800);
    expect(ask('10.244.1.2')).toEqual([]); // it would be routed back to the asker
  });

  test('at once without proxy_delay, or if it alone was asked', () => {
    node.root.sysctl('net.ipv4.conf.veth-p1.proxy_arp', 1);
    expect(ask('169.254.1.1', { to: pod.hostDevice.mac })).toEqual([{ who: '169.254.1.1 is at the veth', afterMs: 0 }]);
    node.root.sysctl('net.ipv4.neigh.veth-p1.proxy_delay', 0);
    expect(ask('10.244.1.3')).toEqual([{ who: '10.244.1.3 is at the veth', afterMs: 0 }]);
  });

  test('not if it does not forward, has no route, or does not believe the asker', () => {
    node.root.sysctl('net.ipv4.conf.veth-p1.proxy_arp', 1);
    node.root.sysctl('net.ipv4.neigh.veth-p1.proxy_delay', 0);
    node.root.sysctl('net.ipv4.conf.all.rp_filter', 1);
    expect(ask('169.254.1.1', { from: '10.244.1.3' })).toEqual([]);
    expect(ask('169.254.1.1')).toHaveLength(1);
    node.root.sysctl('net.ipv4.conf.veth-p1.forwarding', 0);
    expect(ask('169.254.1.1')).toEqual([]);
    node.root.sysctl('net.ipv4.ip_forward', 1);
    node.root.stack.fib.remove({ family: 4, net: parseIp('0.0.0.0'), mask: 0, length: 0 });
    expect(ask('169.254.1.1')).toEqual([]);
  });

  test('answers for every address of its own on every device, or as arp_ignore says', () => {
    expect(ask('192.168.0.1')).toHaveLength(1);
    node.root.sysctl('net.ipv4.conf.veth-p1.arp_ignore', 1);
    expect(ask('192.168.0.1')).toEqual([]);
    node.root.stack.addAddress(pod.hostDevice, parseIp('10.9.0.1'), 24);
    expect(ask('10.9.0.1')).toHaveLength(1);
    node.root.sysctl('net.ipv4.conf.all.arp_ignore', 2);
    expect(ask('10.9.0.1')).toEqual([]);
    expect(ask('10.9.0.1', { from: '10.9.0.7' })).toHaveLength(1);
    node.root.sysctl('net.ipv4.conf.all.arp_ignore', 8);
    expect(ask('10.9.0.1', { from: '10.9.0.7' })).toEqual([]);
  });

  test('answers a probe for one of its addresses, but remembers nobody', () => {
    expect(ask('192.168.0.1', { from: '0.0.0.0' })).toHaveLength(1);
    expect([...node.root.stack.neighbors]).toEqual([]);
  });
});

describe('a node with a bridge', () => {
  beforeEach(() => {
    lab = new PacketLab();
    node = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24' });
    pod = lab.addPod(node, 'p1', { ip: '10.244.1.2' });
  });

  test.each([
    [0, '192.168.0.1'],
    [1, '10.244.1.1'],
    [2, '10.244.1.1'],
  ])('asks with the source of the packet that waits, or as arp_announce %i says', (announce, sender) => {
    node.root.sysctl('net.ipv4.conf.cbr0.arp_announce', announce);
    const asked: string[] = [];
    pod.device.tap = (frame, direction) => {
      if (direction === 'in' && frame.etherType === ETHERTYPE_ARP) asked.push(formatIp(frame.srcIp));
    };
    const socket = node.root.udp.bind({ ip: node.ip, cpu: 0 }, { onDatagram: () => {} });
    lab.during(() => socket.send({ ip: pod.ip, port: 1 }, { id: 1, sizeBytes: 1 }));
    expect(asked).toEqual([sender]);
  });

  test('takes the first of several answers for a second, then another', () => {
    const { neighbors } = node.root.stack;
    say({ arpOperation: ARP_REQUEST, srcMac: localMac(71) });
    expect(neighbors.known(node.bridge!, pod.ip)).toBe(localMac(71));
    say({ arpOperation: ARP_REPLY, srcMac: localMac(72) });
    expect(neighbors.known(node.bridge!, pod.ip)).toBe(localMac(71));
    lab.during(() => {}, s(1));
    say({ arpOperation: ARP_REPLY, srcMac: localMac(72) });
    expect(neighbors.known(node.bridge!, pod.ip)).toBe(localMac(72));
  });

  test('believes a gratuitous ARP at once, if it knows the address', () => {
    const { neighbors } = node.root.stack;
    const gratuitous = { arpOperation: ARP_REQUEST, dstIp: pod.ip, dstMac: BROADCAST_MAC };
    say({ ...gratuitous, srcMac: localMac(70) });
    expect(neighbors.known(node.bridge!, pod.ip)).toBeUndefined();
    say({ arpOperation: ARP_REQUEST, srcMac: localMac(71) });
    say({ ...gratuitous, srcMac: localMac(73) });
    expect(neighbors.known(node.bridge!, pod.ip)).toBe(localMac(73));
  });

  test('gives up on an address after three questions: the sender hears of it after 3.07 s', () => {
    const started = lab.sim.now;
    const asked: string[] = [];
    node.bridge!.tap = (frame, direction) => {
      if (direction === 'out' && frame.etherType === ETHERTYPE_ARP)
        asked.push(inSeconds(node.machine.cpus.instant).toFixed(2));
    };
    lab.send('p1', 'udp 10.244.1.2:1 > 192.168.0.1:9'); // the bridge learns where p1 is
    lab.during(() => {}, ms(1));
    const answers: string[] = [];
    pod.device.tap = (frame, direction) => {
      if (direction === 'in' && frame.protocol === 1) answers.push(inSeconds(lab.sim.now).toFixed(2));
    };
    lab.send('p1', 'udp 10.244.1.2:1 > 10.244.1.77:9', { dstMac: node.bridge!.mac });
    lab.during(() => {}, s(4));
    expect(started).toBe(0);
    expect(asked.filter((at) => at !== '0.00')).toEqual(['1.02', '2.05']);
    expect(answers).toEqual(['0.00', '3.07']); // the redirect to the address itself, then host unreachable
  });

  test('tells the senders of about 100 of 150 packets that waited: 50 by the credit left, 50 by the refill', () => {
    const send = (port: number): string[] =>
      lab.send('p1', `udp 10.244.1.2:${port} > 10.244.1.77:9`, { dstMac: node.bridge!.mac });
    node.root.sysctl('net.ipv4.conf.all.send_redirects', 0);
    node.root.sysctl('net.ipv4.conf.cbr0.send_redirects', 0);
    lab.send('p1', 'udp 10.244.1.2:1 > 10.244.1.1:9'); // port unreachable: from now on there is credit
    for (let port = 1; port <= 150; port++) send(port);
    const told = lab.during(() => {}, s(4)).filter((line) => line.includes('icmp 3/1'));
    // Each takes none, one or two of the credit (get_random_u32_below(3)): 100 give or take 8; 97 to 109 were seen.
    expect(Math.abs(told.length - 100)).toBeLessThan(24);
  });

  /** An ARP packet from the pod's device. */
  function say(fields: Partial<Frame>): void {
    const packet = {
      etherType: ETHERTYPE_ARP,
      dstMac: node.bridge!.mac,
      arpTargetMac: ZERO_MAC,
      dstIp: parseIp('10.244.1.1'),
    };
    lab.during(() => {
      const frame = Object.assign(lab.frames.allocate(), { ...packet, srcIp: pod.ip, ...fields });
      frame.updateSize();
      node.machine.cpus.submit(0, (sent: Frame) => pod.device.transmit(sent), frame);
    });
  }
});

/** Asks from the pod's device; who answers within a second, and after how many milliseconds. */
function ask(
  target: string,
  { from = formatIp(pod.ip), to = BROADCAST_MAC }: { from?: string; to?: Mac } = {},
): { who: string; afterMs: number }[] {
  const answers: { who: string; afterMs: number }[] = [];
  const asked = lab.sim.now;
  pod.device.tap = (frame, direction) => {
    if (direction === 'out' || frame.arpOperation !== ARP_REPLY) return;
    const at = frame.srcMac === pod.hostDevice.mac ? 'the veth' : 'somebody';
    answers.push({ who: `${formatIp(frame.srcIp)} is at ${at}`, afterMs: Math.round((lab.sim.now - asked) / ms(1)) });
  };
  lab.during(() => {
    const frame = lab.frames.allocate();
    const packet = { etherType: ETHERTYPE_ARP, arpOperation: ARP_REQUEST, arpTargetMac: ZERO_MAC };
    Object.assign(frame, packet, { srcIp: parseIp(from), dstIp: parseIp(target), srcMac: pod.device.mac, dstMac: to });
    frame.updateSize();
    node.machine.cpus.submit(0, (sent: Frame) => pod.device.transmit(sent), frame);
  }, s(1));
  return answers;
}
