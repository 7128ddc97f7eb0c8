// A tunnel between two nodes over IPv6: what is other than over IPv4 (vxlan.test.ts). The kernel's own answers are among the
// facts of models/parity.

import { beforeEach, expect, test } from 'vitest';
import { s } from '../../engine/time.ts';
import type { VxlanDevice } from '../link/vxlan.ts';
import { type Ip, parseIp, parseIpv6, parseIpv6Prefix } from '../packet/ip-address.ts';
import { parseMac } from '../packet/mac.ts';
import { encodeFrame } from '../packet/wire-bytes.ts';
import { echo, Ipv6Lab, P3, udp } from './ipv6-lab.fixture.ts';
import type { NetworkNamespace } from './network-namespace.ts';

let lab: Ipv6Lab;
let n1: NetworkNamespace;
let n2: NetworkNamespace;
let tunnel: VxlanDevice;

const N1 = parseIpv6('fd00:192:168::1');
const N2 = parseIpv6('fd00:192:168::2');

function addTunnel(node: NetworkNamespace, local: Ip, last: number): VxlanDevice {
  const lower = node.deviceNamed('eth0');
  return node.addVxlan({ name: 'vx6', mac: parseMac(`02:00:00:00:0f:0${last}`), vni: 1, family: 6, local, lower });
}

function join(from: NetworkNamespace, device: VxlanDevice, peer: { ip: Ip; device: VxlanDevice; range: string }): void {
  const destination = parseIpv6Prefix(peer.range);
  const ipv6 = from.stack.enableIpv6();
  device.appendForwarding(peer.device.mac, peer.ip);
  ipv6.neighbors.addPermanent(device, destination.net, peer.device.mac);
  ipv6.addRoute({ destination, device, gateway: destination.net });
}

beforeEach(() => {
  lab = new Ipv6Lab();
  n1 = lab.namespace('n1');
  n2 = lab.namespace('n2');
  tunnel = addTunnel(n1, N1, 1);
  const other = addTunnel(n2, N2, 2);
  join(n1, tunnel, { ip: N2, device: other, range: 'fd00:10:244:2::/64' });
  join(n2, other, { ip: N1, device: tunnel, range: 'fd00:10:244:1::/64' });
  lab.send(echo(P3)); // all is resolved
  lab.runFor(s(2));
});

test('a packet crosses as UDP of hop limit 64, and has lost two of its own hops', () => {
  const seen = lab.send(udp(P3, { payloadBytes: 2 }));
  const port = Number(/fd00:192:168::1\]:(\d+)/.exec(seen[0]!)?.[1]);
  expect(port >= 32_768 && port <= 60_999).toBe(true);
  const inner = '[fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp len 2';
  expect(seen.slice(0, 3)).toEqual([
    `n1 out [fd00:192:168::1]:${port} > [fd00:192:168::2]:8472 udp vxlan 1: ${inner} ttl 64`,
    `n2 in [fd00:192:168::1]:${port} > [fd00:192:168::2]:8472 udp vxlan 1: ${inner} ttl 64`,
    `p3 in ${inner} ttl 62`,
  ]);
});

test('on the wire it has 70 bytes more, a checksum and no flow label', () => {
  let bytes: Uint8Array = new Uint8Array();
  n1.deviceNamed('eth0').tap = (frame, direction) => {
    if (direction === 'out' && frame.inner !== undefined) bytes = encodeFrame(frame);
  };
  lab.send(udp(P3, { payloadBytes: 2, typeOfService: 0xb9 }));
  const hex = Buffer.from(bytes).toString('hex');
  expect(bytes).toHaveLength(70 + 14 + 50);
  expect(hex.slice(24, 44)).toBe('86dd' + '60100000' + '0050' + '11' + '40'); // of traffic class b9 ECN; 80 bytes of UDP
  expect(hex.slice(120, 124)).not.toBe('0000'); // checksum
  expect(hex.slice(124, 140)).toBe('0800000000000100'); // flags, VNI 1
});

test('it has room for 1430 bytes; one more, and the gateway says so', () => {
  expect(tunnel.mtuBytes).toBe(1430);
  expect(lab.send(udp(P3, { payloadBytes: 1382 }))[2]).toContain('p3 in');
  expect(lab.send(udp(P3, { payloadBytes: 1383 }))).toEqual([
    'p1 in fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 2/0 packet too big mtu 1430 about [fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp ttl 64',
  ]);
});

test('where the way is narrower than the link, the first packet is lost, and the next one hears of it', () => {
  n1.stack.updatePathMtu(N2, 1400, 6);
  const send = (): string[] => lab.send(udp(P3, { payloadBytes: 1300 })); // 1348 bytes, and 1404 outside
  expect(send()).toEqual([]);
  expect(lab.frames.drops().get('PKT_TOO_BIG')).toBe(1);
  expect(send()).toEqual([
    'p1 in fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 2/0 packet too big mtu 1330 about [fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp ttl 64',
  ]);
  expect(n1.stack.mtuTo(P3, 6)).toBe(1330);
});

test('a route to the endpoint that leads into the tunnel is refused', () => {
  n1.stack.ipv6!.addRoute({ destination: parseIpv6Prefix('fd00:192:168::2/128'), device: tunnel });
  expect(lab.send(udp(P3))).toEqual([]);
  expect(lab.frames.drops().get('TX_RECURSION')).toBe(1);
});

test('the port is taken in IPv6, and free in IPv4: also for a tunnel of the same network', () => {
  const handlers = { onDatagram: () => {} };
  const taken = 'address already in use';
  expect(() => n1.udp.bind({ family: 6, port: 8472, cpu: 0 }, handlers)).toThrow(taken);
  expect(() => n1.udp.bind({ family: 6, ip: N1, port: 8472, cpu: 0 }, handlers)).toThrow(taken);
  n1.udp.bind({ port: 8472, cpu: 0 }, handlers).close();
  const link = { mac: parseMac('02:00:00:00:0f:04'), vni: 1, lower: n1.deviceNamed('eth0') };
  n1.addVxlan({ ...link, name: 'vx4', local: parseIp('192.168.0.1') });
  expect(() => n1.udp.bind({ port: 8472, cpu: 0 }, handlers)).toThrow(taken);
  expect(() => n1.addVxlan({ ...link, name: 'vx7', family: 6, local: N1 })).toThrow(
    'VXLAN 1 on port 8472 exists in n1',
  );
});

test('a datagram of its port over IPv4 is not for it', () => {
  n2.stack.addAddress(n2.deviceNamed('eth0'), parseIp('192.168.0.2'), 24);
  n1.stack.addAddress(n1.deviceNamed('eth0'), parseIp('192.168.0.1'), 24);
  const errors: unknown[] = [];
  const socket = n1.udp.bind({ port: 0, cpu: 0 }, { onDatagram: () => {}, onError: (error) => errors.push(error) });
  socket.send({ ip: parseIp('192.168.0.2'), port: 8472 }, { id: 1, sizeBytes: 100 });
  lab.runFor(s(1));
  expect(errors).toEqual(['refused']);
});
