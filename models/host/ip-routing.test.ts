// What a router does with single packets: each figure as seen on Linux 6.18.

import { beforeEach, describe, expect, test } from 'vitest';
import { ms, s } from '../../engine/time.ts';
import { type Frame, TCP_SYN } from '../packet/frame.ts';
import { formatIp, LIMITED_BROADCAST_IP, parseIp, parsePrefix } from '../packet/ip-address.ts';
import { BROADCAST_MAC } from '../packet/mac.ts';
import { type LabNode, loadRules, PacketLab } from './packet-lab.fixture.ts';

let lab: PacketLab;
let n1: LabNode;
let n2: LabNode;

beforeEach(() => {
  lab = new PacketLab();
  n1 = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24' });
  n2 = lab.addNode('n2', { ip: '192.168.0.2', podRange: '10.244.2.0/24' });
  lab.addPod(n1, 'p1', { ip: '10.244.1.2' });
  lab.addPod(n1, 'p2', { ip: '10.244.1.3' });
  lab.addPod(n2, 'p3', { ip: '10.244.2.2' });
});

/** What came back to the sender, ICMP's kind alone. */
const answers = (from: string, packet: string, fields?: Partial<Frame>): string[] =>
  lab
    .send(from, packet, fields)
    .filter((line) => line.startsWith(`${from}/eth0 in`))
    .map((line) => / icmp (\d+\/\d+)/.exec(line)?.[1] ?? line);

const answersTo = (count: number, from: string, packet: string, fields?: Partial<Frame>): number =>
  Array.from({ length: count }, () => answers(from, packet, fields)).filter(({ length }) => length > 0).length;

/** Why a packet that came in by n1's uplink as if from n2 was dropped, and after it the answer. */
function dropOf(packet: string, fields: Partial<Frame> = {}): string {
  const before = lab.frames.drops();
  lab.sendFrom(n2.uplink, n2.machine, packet, { dstMac: n1.uplink.mac, ...fields });
  const after = [...lab.frames.drops()].filter(([reason, count]) => count > (before.get(reason) ?? 0));
  return after.map(([reason]) => reason).join(' ');
}

describe('the time to live', () => {
  test('is one less behind each router: pod to pod across nodes arrives with 62, on one bridge with 64', () => {
    expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2').at(-1)).toBe(
      'p3/eth0 in 10.244.1.2:1 > 10.244.2.2:2 udp len 0 ttl 62',
    );
    expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.1.3:2').at(-1)).toBe(
      'p2/eth0 in 10.244.1.2:1 > 10.244.1.3:2 udp len 0 ttl 64',
    );
  });

  test('of 1 is answered by the gateway, which no rule of FORWARD sees', () => {
    loadRules(n1.root, '*filter\n:FORWARD DROP [0:0]\nCOMMIT\n');
    expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { ttl: 1 }).at(-1)).toBe(
      'p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp 11/0 ttl exceeded in transit about 10.244.1.2:1 > 10.244.2.2:2 udp ttl 64',
    );
  });

  test('of local senders is net.ipv4.ip_default_ttl', () => {
    n1.root.sysctl('net.ipv4.ip_default_ttl', 33);
    expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.96.0.1:2').at(-1)).toMatch(/icmp 3\/0 .* ttl 33$/);
  });
});

describe('without a way on', () => {
  test('the gateway says network unreachable, host unreachable or prohibited, and of a blackhole nothing', () => {
    expect(answers('p1', 'udp 10.244.1.2:1 > 10.96.0.1:2')).toEqual(['3/0']);
    n1.root.sysctl('net.ipv4.route.error_cost', 0);
    for (const [type, expected] of [
      ['unreachable', ['3/1']],
      ['prohibit', ['3/13']],
      ['blackhole', []],
    ] as const) {
      n1.root.stack.fib.add({ ...route('10.96.0.0/16'), type });
      expect(answers('p1', 'udp 10.244.1.2:1 > 10.96.0.1:2')).toEqual(expected);
    }
  });

  test('a host that does not forward is silent', () => {
    n1.root.sysctl('net.ipv4.conf.cbr0.forwarding', 0);
    expect(answers('p1', 'udp 10.244.1.2:1 > 10.96.0.1:2')).toEqual([]);
    expect(answers('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { ttl: 1 })).toEqual([]);
  });

  const route = (destination: string) => {
    const { device, gateway, source, metric } = n1.root.stack.fib.lookup(n2.ip)!;
    return { device, gateway, source, metric, destination: parsePrefix(destination) };
  };
});

describe('errors to one sender are limited', () => {
  beforeEach(() => {
    n1.root.sysctl('net.ipv4.icmp_ratelimit', 1_000);
  });

  test('to six in a row, then one a second', () => {
    expect(answersTo(20, 'p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { ttl: 1 })).toBe(6);
    lab.during(() => {}, s(1));
    expect(answersTo(20, 'p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { ttl: 1 })).toBe(1);
  });

  test('to two in a row about packets without a route: both limits take their second from the same account', () => {
    expect(answersTo(8, 'p1', 'udp 10.244.1.2:1 > 10.96.0.1:2')).toBe(2);
  });

  test('but not "fragmentation needed"', () => {
    n1.uplink.mtuBytes = 1_000;
    expect(answersTo(20, 'p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { dontFragment: true, payloadBytes: 1_000 })).toBe(
      20,
    );
  });
});

test('all errors together are limited to a thousand a second after fifty, or a hundred when credit was left', () => {
  const burst = (): number => answersTo(150, 'p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { ttl: 1 });
  const first = burst(); // 150 ms pass, in which 20 ms or more are refilled at a time
  expect(first).toBeGreaterThan(100);
  n1.root.sysctl('net.ipv4.icmp_msgs_per_sec', 0);
  lab.during(() => {}, ms(100));
  expect(burst()).toBeLessThan(60);
});

describe('a shorter way', () => {
  test('is told to a neighbor, about the packet as it goes on, and more rarely each time', () => {
    // 0 ms, then after 5 ticks times 2, 4, 8: at 40, 120, 280 ms
    const [first] = lab
      .send('p1', 'udp 10.244.1.2:1 > 10.244.1.3:2', { dstMac: n1.bridge!.mac })
      .filter((line) => line.startsWith('p1/eth0 in'));
    expect(first).toBe(
      'p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp 5/1 host redirect to 10.244.1.3 about 10.244.1.2:1 > 10.244.1.3:2 udp ttl 64',
    );
    const later = Array.from({ length: 300 }, (_, i) => ({
      afterMs: i + 1,
      told: answers('p1', 'udp 10.244.1.2:1 > 10.244.1.3:2', { dstMac: n1.bridge!.mac }).length,
    }));
    expect(later.filter(({ told }) => told > 0).map(({ afterMs }) => Math.round(afterMs / 10) * 10)).toEqual([
      40, 120, 280,
    ]);
  });

  test('is not told with send_redirects off for the device and for all', () => {
    n1.root.sysctl('net.ipv4.conf.cbr0.send_redirects', 0);
    expect(answers('p1', 'udp 10.244.1.2:1 > 10.244.1.3:2', { dstMac: n1.bridge!.mac })).toEqual(['5/1']);
    n1.root.sysctl('net.ipv4.conf.all.send_redirects', 0);
    expect(answers('p2', 'udp 10.244.1.3:1 > 10.244.1.2:2', { dstMac: n1.bridge!.mac })).toEqual([]);
  });
});

test('what a node sends itself is masqueraded with an address of another device: 127.0.0.1 is for no one else', () => {
  loadRules(n1.root, '*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -p udp -j MASQUERADE\nCOMMIT\n');
  const { udp } = n1.root;
  const heardFrom: string[] = [];
  udp.bind({ port: 53, cpu: 0 }, { onDatagram: (_, from) => heardFrom.push(formatIp(from.ip)) });
  const client = udp.bind({ cpu: 0 }, { onDatagram: () => {} });
  for (const ip of ['127.0.0.1', '10.244.1.1']) {
    lab.during(() => client.send({ ip: parseIp(ip), port: 53 }, { id: 1, sizeBytes: 4 }));
  }
  expect(heardFrom).toEqual(['192.168.0.1', '192.168.0.1']); // of eth0, the first after lo
});

describe('a packet from outside', () => {
  test('cannot come from a group, from nowhere, or from this host', () => {
    expect(dropOf('udp 224.0.0.1:1 > 10.244.1.2:2')).toBe('IP_INVALID_SOURCE');
    expect(dropOf('udp 255.255.255.255:1 > 10.244.1.2:2')).toBe('IP_INVALID_SOURCE');
    expect(dropOf('udp 0.0.0.0:1 > 10.244.1.2:2')).toBe('IP_INVALID_SOURCE');
    expect(dropOf('udp 0.0.0.1:1 > 10.244.1.2:2')).toBe('NETFILTER_DROP'); // 0.0.0.0/8 is like any other; the pod's own rule
    expect(dropOf('udp 192.168.0.1:1 > 10.244.1.2:2')).toBe('IP_LOCAL_SOURCE');
    n1.root.sysctl('net.ipv4.conf.all.accept_local', 1);
    expect(dropOf('udp 192.168.0.1:1 > 10.244.1.2:2')).toBe('NETFILTER_DROP'); // the pod's own rule
  });

  test('reaches 127.0.0.1 only with route_localnet', () => {
    expect(dropOf('udp 192.168.0.2:1 > 127.0.0.1:2')).toBe('IP_LOCALNET');
    expect(dropOf('udp 127.0.0.1:1 > 10.244.1.2:2')).toBe('IP_LOCALNET');
    n1.root.sysctl('net.ipv4.conf.eth0.route_localnet', 1);
    expect(dropOf('udp 192.168.0.2:1 > 127.0.0.1:2')).toBe('NO_SOCKET'); // the answer waits: nobody tells 127.0.0.1 where n2 is
  });

  test('rp_filter 1 wants the way back by the same device, 2 any way back, 0 none', () => {
    const byRpFilter = (value: number, packet: string): string => {
      n1.root.sysctl('net.ipv4.conf.eth0.rp_filter', value);
      return dropOf(packet);
    };
    const elsewhere = 'udp 10.244.1.3:1 > 10.244.1.2:2'; // p2's address, but by the uplink
    const nowhere = 'udp 172.16.0.1:1 > 10.244.1.2:2';
    expect([0, 1, 2].map((value) => byRpFilter(value, elsewhere))).toEqual([
      'NETFILTER_DROP',
      'IP_RPFILTER',
      'NETFILTER_DROP',
    ]);
    expect([0, 1, 2].map((value) => byRpFilter(value, nowhere))).toEqual([
      'NETFILTER_DROP',
      'IP_RPFILTER',
      'IP_RPFILTER',
    ]);
  });

  test('by a device without addresses, rp_filter 2 is as strict as 1', () => {
    const routed = lab.addNode('n3', { ip: '192.168.0.3', podRange: '10.244.3.0/24', routed: true });
    lab.addPod(routed, 'p5', { ip: '10.244.3.2' });
    lab.addPod(routed, 'p6', { ip: '10.244.3.3' });
    routed.root.sysctl('net.ipv4.conf.all.rp_filter', 2);
    expect(lab.send('p5', 'udp 10.244.3.3:1 > 10.244.1.2:2')).toHaveLength(1); // as p6
    expect(lab.frames.drops().get('IP_RPFILTER')).toBe(1);
    expect(lab.send('p5', 'udp 10.244.3.2:1 > 10.244.1.2:2').at(-1)).toContain('p1/eth0 in');
  });

  test('in a broadcast frame is not sent on', () => {
    expect(dropOf('udp 192.168.0.2:1 > 10.244.1.2:2', { dstMac: BROADCAST_MAC })).toBe('UNICAST_IN_L2_MULTICAST');
  });
});

describe('to everybody', () => {
  const broadcast = { dstMac: BROADCAST_MAC };

  test('a SYN, a datagram without a socket and an echo request are ignored without a word', () => {
    expect(answers('p1', 'tcp 10.244.1.2:1 > 10.244.1.255:2', { ...broadcast, tcpFlags: TCP_SYN })).toEqual([]);
    expect(answers('p1', 'udp 10.244.1.2:1 > 10.244.1.255:2', broadcast)).toEqual([]);
    expect(answers('p1', 'icmp 10.244.1.2 > 10.244.1.255', broadcast)).toEqual([]);
  });

  test('an echo request is answered from the own address without icmp_echo_ignore_broadcasts', () => {
    n1.root.sysctl('net.ipv4.icmp_echo_ignore_broadcasts', 0);
    const seen = lab.send('p1', 'icmp 10.244.1.2 > 10.244.1.255', broadcast);
    expect(seen).toContain('p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp echo reply id 0 seq 0 len 0 ttl 64');
  });

  test('a datagram for a socket is delivered', () => {
    const heard: number[] = [];
    n1.root.udp.bind({ port: 67, cpu: 0 }, { onDatagram: ({ id }) => heard.push(id) });
    const packet = { ...broadcast, message: { id: 5, sizeBytes: 0 } };
    lab.send('p1', 'udp 10.244.1.2:68 > 10.244.1.255:67', packet);
    lab.send('p1', 'udp 10.244.1.2:68 > 10.244.1.3:67', { ...packet, dstIp: LIMITED_BROADCAST_IP });
    expect(heard).toEqual([5, 5]);
  });
});
