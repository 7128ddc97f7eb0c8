// What IP-in-IP between two nodes looks like from outside and inside. The expectations are from the kernel's source
// (net/ipv4/ipip.c, ip_tunnel.c, ip_tunnel_core.c of Linux 6.18) and RFC 2003: no kernel with the module was at hand.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { printIptablesSave } from '../netfilter/iptables-save.ts';
import { formatTuple } from '../packet/describe.ts';
import type { Frame } from '../packet/frame.ts';
import { parseIp, prefix } from '../packet/ip-address.ts';
import { PcapngWriter } from '../packet/pcapng.ts';
import { encodeFrame } from '../packet/wire-bytes.ts';
import { type LabNode, loadRules, PacketLab } from './packet-lab.fixture.ts';

let lab: PacketLab;
let n1: LabNode;
let n2: LabNode;

beforeEach(() => {
  lab = new PacketLab();
  n1 = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24', ipip: true });
  n2 = lab.addNode('n2', { ip: '192.168.0.2', podRange: '10.244.2.0/24', ipip: true });
  lab.addPod(n1, 'p1', { ip: '10.244.1.2' });
  lab.addPod(n2, 'p2', { ip: '10.244.2.2' });
});

const PACKET = 'udp 10.244.1.2:1000 > 10.244.2.2:53';
const counters = (node: LabNode): string => printIptablesSave(node.root.netfilter!.tables, { counters: true });

/** What `look` says of the packet of protocol 4 that leaves n1. */
function outside<T>(look: (frame: Frame) => T, fields: Partial<Frame> = {}): T {
  const seen: T[] = [];
  n1.uplink.tap = (frame) => {
    if (frame.inner !== undefined) seen.push(look(frame));
  };
  lab.send('p1', PACKET, { payloadBytes: 2, ...fields });
  expect(seen).toHaveLength(1);
  return seen[0]!;
}

describe('the packet outside', () => {
  test('has the TTL and DF of the packet inside, which has lost two of its own hops in the end', () => {
    expect(lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 2 })).toEqual([
      'p1/eth0 out 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 64 df',
      'n1/eth0 out 192.168.0.1 > 192.168.0.2 ipip: 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 63 df',
      'n2/eth0 in 192.168.0.1 > 192.168.0.2 ipip: 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 63 df',
      'p2/eth0 in 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 62 df',
    ]);
    expect(lab.send('p1', PACKET, { ttl: 9, payloadBytes: 2 })[1]).toMatch(/udp len 2 ttl 8$/);
  });

  test('has DF also where sockets look for no path MTU', () => {
    n1.root.sysctl('net.ipv4.ip_no_pmtu_disc', 1);
    expect(outside(({ dontFragment }) => dontFragment, { dontFragment: true })).toBe(true);
  });

  test('is 20 bytes longer, without a second Ethernet header, its checksum is its own', () => {
    const bytes = outside(encodeFrame, { typeOfService: 0xb9 });
    expect(bytes).toHaveLength(14 + 20 + 30);
    const hex = Buffer.from(bytes).toString('hex');
    expect(hex.slice(28, 36)).toBe('45010032'); // 50 bytes; of the inner TOS b9 only ECN is shown
    expect(hex.slice(44, 48)).toBe('3f04'); // TTL 63, protocol 4
    expect(hex.slice(68, 76)).toBe('45b9001e'); // the packet inside, of 30 bytes
    for (const at of [14, 34]) expect(onesComplementSum(bytes.subarray(at, at + 20))).toBe(0xffff);
  });

  test('is readable for others', ({ skip }) => {
    try {
      execFileSync('tshark', ['--version'], { stdio: 'ignore' });
    } catch {
      skip('needs tshark');
    }
    const capture = new PcapngWriter();
    n1.uplink.tap = capture.addTap(n1.uplink);
    n1.ipip!.tap = capture.addTap(n1.ipip!);
    lab.send('p1', PACKET, { payloadBytes: 2 });
    const directory = mkdtempSync(join(tmpdir(), 'podwire-ipip-'));
    try {
      const file = join(directory, 'ipip.pcapng');
      writeFileSync(file, capture.bytes());
      const fields = ['frame.interface_name', 'frame.protocols', 'ip.src', 'ip.checksum.status', 'udp.checksum.status'];
      const checks = ['ip.check_checksum:TRUE', 'udp.check_checksum:TRUE'].flatMap((check) => ['-o', check]);
      const shown = ['-Y', 'udp', '-T', 'fields', '-E', 'separator=;', ...fields.flatMap((field) => ['-e', field])];
      const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
      const text = execFileSync('tshark', ['-r', file, ...checks, ...shown], { encoding: 'utf8', stdio });
      const protocols = (line: string): string => line.replace(/;([^;]*?):(udp)[^;]*/, ';$1:$2');
      expect(text.trim().split('\n').map(protocols)).toEqual([
        'n1/tunl0;raw:ip:udp;10.244.1.2;1;1',
        'n1/eth0;eth:ethertype:ip:ip:udp;192.168.0.1,10.244.1.2;1,1;1',
      ]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('sizes', () => {
  test('a packet of 1480 fits, one more with DF hears from its gateway, and one more without is cut before the tunnel', () => {
    expect(lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 1452 })).toHaveLength(4);
    expect(lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 1453 })).toEqual([
      'p1/eth0 out 10.244.1.2:1000 > 10.244.2.2:53 udp len 1453 ttl 64 df',
      'p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp 3/4 fragmentation needed mtu 1480 about 10.244.1.2:1000 > 10.244.2.2:53 udp ttl 64',
    ]);
    const cut = lab.send('p1', PACKET, { payloadBytes: 1453 }).filter((line) => line.startsWith('n1/eth0 out'));
    expect(cut).toHaveLength(2);
    for (const line of cut) expect(line).toMatch(/^n1\/eth0 out 192.168.0.1 > 192.168.0.2 ipip: .* ttl 63$/);
  });

  test('what a router says of the packet outside the sender of the next packet inside hears, less 20 bytes', () => {
    const router = lab.addNode('n3', { ip: '192.168.0.3', podRange: '10.244.3.0/24' });
    router.uplink.mtuBytes = 1400;
    router.root.sysctl('net.ipv4.conf.all.send_redirects', 0);
    router.root.sysctl('net.ipv4.conf.eth0.send_redirects', 0);
    n1.root.stack.addRoute({ destination: prefix(n2.ip, 32), device: n1.uplink, gateway: router.ip });
    expect(lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 1353 }).at(-1)).toBe(
      'n1/eth0 in 192.168.0.3 > 192.168.0.1 icmp 3/4 fragmentation needed mtu 1400 about 192.168.0.1 > 192.168.0.2 ipip ttl 64',
    );
    const fits = lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 1352 }); // 28 + 1352 + 20 = 1400
    expect(fits.at(-1)).toMatch(/^p2\/eth0 in/);
    expect(lab.send('p1', PACKET, { dontFragment: true, payloadBytes: 1353 }).at(-1)).toMatch(
      /^p1\/eth0 in 10.244.1.1 > 10.244.1.2 icmp 3\/4 fragmentation needed mtu 1380 about/,
    );
    expect(lab.frames.drops().get('PKT_TOO_BIG')).toBe(2);
    expect(n1.root.stack.mtuTo(parseIp('10.244.2.2'))).toBe(1380); // for what n1 itself sends there
  });

  test('without DF the packet outside is cut for a narrow way, and the other node joins it', () => {
    n1.root.stack.updatePathMtu(n2.ip, 1400);
    const seen = lab.send('p1', PACKET, { payloadBytes: 1452 });
    expect(seen.filter((line) => line.startsWith('n1/eth0 out'))).toHaveLength(2);
    expect(seen.at(-1)).toBe('p2/eth0 in 10.244.1.2:1000 > 10.244.2.2:53 udp len 1452 ttl 62');
  });
});

describe('rules', () => {
  test('see the packet outside in OUTPUT and INPUT, and the one inside with tunl0, by connections of their own', () => {
    loadRules(
      n1.root,
      `*mangle
      :FORWARD ACCEPT [0:0]
      :OUTPUT ACCEPT [0:0]
      :POSTROUTING ACCEPT [0:0]
      -A FORWARD -o tunl0 -m conntrack --ctstate NEW -j MARK --set-xmark 0x4000/0x4000
      -A OUTPUT -o eth0 -p 4 -m mark --mark 0x4000/0x4000 -m conntrack --ctstate NEW -j ACCEPT
      -A POSTROUTING -o tunl0 -p udp
      -A POSTROUTING -o eth0 -p 4
      COMMIT`,
    );
    loadRules(
      n2.root,
      `*mangle
      :PREROUTING ACCEPT [0:0]
      :INPUT ACCEPT [0:0]
      -A PREROUTING -i tunl0 -p udp
      -A INPUT -i eth0 -p 4 -m mark --mark 0x0 -m conntrack --ctstate NEW -j ACCEPT
      COMMIT`,
    );
    lab.send('p1', PACKET);
    expect(counters(n1)).toContain('[1:28] -A POSTROUTING -o tunl0');
    expect(counters(n1)).toContain('[1:48] -A OUTPUT');
    expect(counters(n1)).toContain('[1:48] -A POSTROUTING -o eth0 -p ipencap');
    expect(counters(n2)).toContain('[1:48] -A INPUT');
    expect(counters(n2)).toContain('[1:28] -A PREROUTING -i tunl0');
    expect(n1.root.netfilter!.conntrack.list().map(({ original }) => formatTuple(original))).toEqual([
      '10.244.1.2:1000 > 10.244.2.2:53',
      '192.168.0.1 > 192.168.0.2',
    ]);
  });

  test('that translate the packet outside spoil no checksum, as there is none around an open one inside', () => {
    n1.root.stack.addAddress(n1.uplink, parseIp('192.168.0.9'), 32);
    loadRules(
      n1.root,
      `*nat
      :POSTROUTING ACCEPT [0:0]
      -A POSTROUTING -p 4 -j SNAT --to-source 192.168.0.9
      COMMIT`,
    );
    loadRules(
      n2.root,
      '*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p 4 -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n',
    );
    const seen = lab.send('p1', PACKET, { isChecksumOpen: true });
    expect(seen.at(-2)).toContain('n2/eth0 in 192.168.0.9 > 192.168.0.2 ipip');
    expect(seen.at(-1)).toContain('p2/eth0 in 10.244.1.2:1000');
  });

  test('that send the tunnel into itself are heeded three times', () => {
    loadRules(
      n1.root,
      `*nat
      :OUTPUT ACCEPT [0:0]
      -A OUTPUT -p 4 -j DNAT --to-destination 10.244.2.2
      COMMIT`,
    );
    lab.send('p1', PACKET);
    expect(lab.frames.drops().get('TX_RECURSION')).toBe(1);
  });
});

describe('ECN (RFC 6040)', () => {
  /** n1 sends `inner`, a rule on its way marks the packet outside: what p2 sees, or why it sees nothing. */
  function arriving(inner: number, outer: number): number | 'lost' {
    let arrived: number | 'lost' = 'lost';
    n2.uplink.tap = (frame, direction) => {
      if (direction === 'in' && frame.inner !== undefined) frame.typeOfService = outer;
    };
    lab.pod('p2').device.tap = ({ typeOfService }) => (arrived = typeOfService);
    lab.send('p1', PACKET, { typeOfService: inner });
    return arrived;
  }

  test.each<[inner: number, outer: number, arrives: number | 'lost']>([
    [0xb8, 0, 0xb8],
    [0xb8, 3, 'lost'], // not ECN-capable: the loss is the message
    [0xba, 3, 0xbb],
    [0xb9, 3, 0xbb],
    [0xba, 1, 0xb9],
    [0xba, 0, 0xba],
    [0xbb, 2, 0xbb],
  ])('inside %i, outside %i: arrives as %s', (inner, outer, arrives) => {
    expect(arriving(inner, outer)).toBe(arrives);
    expect(lab.frames.drops().get('IP_TUNNEL_ECN')).toBe(arrives === 'lost' ? 1 : undefined);
  });

  test('congestion inside is not shown outside', () => {
    expect(outside(({ typeOfService }) => typeOfService, { typeOfService: 3 })).toBe(2);
  });
});

describe('a packet ends', () => {
  test('where the route to the other node leads into the tunnel', () => {
    n1.root.stack.addRoute({ destination: prefix(n2.ip, 32), device: n1.ipip! });
    lab.send('p1', PACKET);
    expect(lab.frames.drops().get('TX_RECURSION')).toBe(1);
  });

  test('at a device that is down, with port unreachable', () => {
    n2.root.takeDown(n2.ipip!);
    expect(lab.send('p1', PACKET).at(-1)).toContain('n1/eth0 in 192.168.0.2 > 192.168.0.1 icmp 3/3');
  });

  test('at a node without the module, with protocol unreachable', () => {
    const n3 = lab.addNode('n3', { ip: '192.168.0.3', podRange: '10.244.3.0/24' });
    lab.addPod(n3, 'p3', { ip: '10.244.3.2' });
    expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.3.2:2').at(-1)).toContain('192.168.0.3 > 192.168.0.1 icmp 3/2');
  });
});

test('nobody is asked for the next hop’s MAC, and `ip neigh` lists none for tunl0', () => {
  lab.send('p1', PACKET);
  const devices = [...n1.root.stack.neighbors].map(({ device }) => device.name);
  expect(devices).toContain('eth0');
  expect(devices).not.toContain('tunl0');
});

test('a namespace has one such device', () => {
  expect(() => n1.root.addIpip({ name: 'tunl1', mtuBytes: 1480 })).toThrow(
    'n1 has a tunnel of IP in IP; expected no other than that one',
  );
});

function onesComplementSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
