// What a tunnel between two nodes looks like from outside and inside: figures as seen on Linux 6.18.

import { beforeEach, describe, expect, test } from 'vitest';
import { printIptablesSave } from '../netfilter/iptables-save.ts';
import { formatTuple } from '../packet/describe.ts';
import { parseIp } from '../packet/ip-address.ts';
import { localMac, ZERO_MAC } from '../packet/mac.ts';
import { encodeFrame } from '../packet/wire-bytes.ts';
import { type LabNode, loadRules, PacketLab } from './packet-lab.fixture.ts';

let lab: PacketLab;
let n1: LabNode;
let n2: LabNode;

beforeEach(() => {
  lab = new PacketLab();
  n1 = lab.addNode('n1', { ip: '192.168.0.1', podRange: '10.244.1.0/24', overlay: true });
  n2 = lab.addNode('n2', { ip: '192.168.0.2', podRange: '10.244.2.0/24', overlay: true });
  lab.addPod(n1, 'p1', { ip: '10.244.1.2' });
  lab.addPod(n2, 'p2', { ip: '10.244.2.2' });
});

const sourcePortOf = (line: string): number => Number(/192\.168\.0\.1:(\d+) > /.exec(line)?.[1]);

test('a packet crosses as UDP of TTL 64 without DF, and has lost two of its own hops', () => {
  const seen = lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.2.2:53', { dontFragment: true, payloadBytes: 2 });
  const port = sourcePortOf(seen[1]!);
  expect(seen).toEqual([
    'p1/eth0 out 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 64 df',
    `n1/eth0 out 192.168.0.1:${port} > 192.168.0.2:8472 udp vxlan 1: 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 64`,
    `n2/eth0 in 192.168.0.1:${port} > 192.168.0.2:8472 udp vxlan 1: 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 64`,
    'p2/eth0 in 10.244.1.2:1000 > 10.244.2.2:53 udp len 2 ttl 62 df',
  ]);
});

test('the source port is hashed from the inner flow: 50 flows have as many ports from 32768 to 60999', () => {
  const ports = Array.from({ length: 50 }, (_, i) =>
    sourcePortOf(lab.send('p1', `udp 10.244.1.2:${1000 + i} > 10.244.2.2:53`)[1]!),
  );
  expect(new Set(ports).size).toBeGreaterThanOrEqual(49); // 50 * 49 / 2 pairs and 28,231 ports: two meet in one run of 23
  expect(ports.every((port) => port >= 32_768 && port <= 60_999)).toBe(true);
  expect(sourcePortOf(lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.2.2:53')[1]!)).toBe(ports[0]);
});

test('the tunnel takes 50 bytes: a packet of 1450 fits, one more with DF hears from its gateway', () => {
  expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { dontFragment: true, payloadBytes: 1422 })).toHaveLength(4);
  expect(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { dontFragment: true, payloadBytes: 1423 })).toEqual([
    'p1/eth0 out 10.244.1.2:1 > 10.244.2.2:2 udp len 1423 ttl 64 df',
    'p1/eth0 in 10.244.1.1 > 10.244.1.2 icmp 3/4 fragmentation needed mtu 1450 about 10.244.1.2:1 > 10.244.2.2:2 udp ttl 64',
  ]);
});

test('on the wire: outer headers, VXLAN header, and the inner frame as it is', () => {
  let bytes: Uint8Array = new Uint8Array();
  n1.uplink.tap = (frame) => {
    if (frame.inner !== undefined) bytes = encodeFrame(frame);
  };
  lab.send('p1', 'udp 10.244.1.2:1000 > 10.244.2.2:53', { payloadBytes: 2, typeOfService: 0xb9 });
  const hex = Buffer.from(bytes).toString('hex');
  expect(bytes).toHaveLength(50 + 14 + 30);
  expect(hex.slice(28, 36)).toBe('45010050'); // 80 bytes; of the inner TOS b9 only ECN is shown
  expect(hex.slice(84, 100)).toBe('0800000000000100'); // flags, VNI 1
  expect(hex.slice(100 + 28, 100 + 36)).toBe('45b9001e');
});

test('rules see the datagram in OUTPUT and INPUT, with the mark of the packet in it and a connection of its own', () => {
  loadRules(
    n1.root,
    `*mangle
    :FORWARD ACCEPT [0:0]
    :OUTPUT ACCEPT [0:0]
    -A FORWARD -m conntrack --ctstate NEW -j MARK --set-xmark 0x4000/0x4000
    -A OUTPUT -p udp -m mark --mark 0x4000/0x4000 -m conntrack --ctstate NEW -m udp --dport 8472 -j ACCEPT
    COMMIT`,
  );
  loadRules(
    n2.root,
    `*filter
    :INPUT ACCEPT [0:0]
    -A INPUT -p udp -m mark --mark 0x0 -m conntrack --ctstate NEW -m udp --dport 8472 -j ACCEPT
    COMMIT`,
  );
  lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
  const counters = (node: LabNode): string => printIptablesSave(node.root.netfilter!.tables, { counters: true });
  expect(counters(n1)).toContain('[1:78] -A OUTPUT'); // 28 bytes in 14 + 50, less the outer Ethernet header
  expect(counters(n2)).toContain('[1:78] -A INPUT');
  expect(n1.root.netfilter!.conntrack.list().map(({ original }) => formatTuple(original))).toEqual([
    '10.244.1.2:1 > 10.244.2.2:2',
    expect.stringContaining('192.168.0.2:8472'),
  ]);
});

describe('the forwarding database', () => {
  test('without an entry for the destination the frame is dropped', () => {
    n1.vxlan!.removeForwarding(n2.vxlan!.mac);
    lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
    expect(lab.frames.drops().get('NO_TX_TARGET')).toBe(1);
  });

  test('the entry of the zero address floods to every endpoint', () => {
    n1.vxlan!.removeForwarding(n2.vxlan!.mac);
    n1.vxlan!.appendForwarding(ZERO_MAC, n2.ip);
    n1.vxlan!.appendForwarding(ZERO_MAC, parseIp('192.168.0.3'));
    const seen = lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
    expect(seen.filter((line) => line.startsWith('n1/eth0 out'))).toHaveLength(1); // nobody is at 192.168.0.3
    expect(seen.at(-1)).toContain('p2/eth0 in');
  });

  test('a static entry is not moved by a frame from elsewhere; a learned one is', () => {
    const learning = n2.root.addVxlan({
      name: 'vx1',
      mac: localMac(99),
      vni: 2,
      local: n2.ip,
      lower: n2.uplink,
      port: 4789,
      learning: true,
    });
    const source = n1.root.addVxlan({
      name: 'vx1',
      mac: localMac(98),
      vni: 2,
      local: n1.ip,
      lower: n1.uplink,
      port: 4789,
    });
    source.appendForwarding(ZERO_MAC, n2.ip);
    const say = (): void => {
      const frame = lab.frames.allocate();
      frame.srcMac = localMac(98);
      frame.dstMac = localMac(50);
      frame.updateSize();
      lab.during(() => n1.machine.cpus.submit(0, () => source.transmit(frame), undefined));
    };
    say();
    expect(lab.frames.drops().get('OTHERHOST')).toBe(1); // came out of vx1, for a MAC that is not its own
    learning.removeForwarding(localMac(98));
    learning.appendForwarding(localMac(98), parseIp('192.168.0.7'));
    say();
    expect(lab.frames.drops().get('VXLAN_ENTRY_EXISTS')).toBe(1);
  });

  test('a datagram of an unknown network ends at the endpoint', () => {
    const other = n1.root.addVxlan({ name: 'vx9', mac: localMac(97), vni: 9, local: n1.ip, lower: n1.uplink });
    other.appendForwarding(ZERO_MAC, n2.ip);
    const frame = lab.frames.allocate();
    frame.updateSize();
    lab.during(() => n1.machine.cpus.submit(0, () => other.transmit(frame), undefined));
    expect(lab.frames.drops().get('VXLAN_VNI_NOT_FOUND')).toBe(1);
  });
});

describe('rules that send a tunnel into itself', () => {
  beforeEach(() =>
    loadRules(
      n1.root,
      `*mangle
      :OUTPUT ACCEPT [0:0]
      -A OUTPUT -p udp -m udp --dport 8472
      COMMIT
      *nat
      :OUTPUT ACCEPT [0:0]
      -A OUTPUT -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.2.2
      COMMIT`,
    ),
  );
  const counters = (): string => printIptablesSave(n1.root.netfilter!.tables, { counters: true });

  test('are heeded three times', () => {
    lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
    expect(counters()).toContain('[3:384] -A OUTPUT -p udp -m udp --dport 8472\n'); // 78, 128 and 178 bytes
    expect(lab.frames.drops().get('TX_RECURSION')).toBe(1);
  });

  test('see one connection: the hash of a frame with ports, and so the source port, is that of the first time', () => {
    lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
    expect(counters()).toMatch(/\[1:78\] -A OUTPUT .* -j DNAT/);
  });

  test('see two of a frame without ports, as the datagram around it has some', () => {
    lab.send('p1', 'icmp 10.244.1.2 > 10.244.2.2');
    expect(counters()).toMatch(/\[2:206\] -A OUTPUT .* -j DNAT/); // 78 and 128 bytes
  });
});

test('a route to the endpoint that leads into the tunnel is refused before any rule sees the datagram', () => {
  loadRules(n1.root, '*mangle\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp\nCOMMIT\n');
  n1.root.stack.addRoute({ destination: { ...n1.podRange, net: n2.ip, mask: -1, length: 32 }, device: n1.vxlan! });
  n1.root.stack.neighbors.addPermanent(n1.vxlan!, n2.ip, n2.vxlan!.mac);
  lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
  expect(lab.frames.drops().get('TX_RECURSION')).toBe(1);
  expect(printIptablesSave(n1.root.netfilter!.tables, { counters: true })).toContain('[0:0] -A OUTPUT');
});

describe('NAT of the datagrams', () => {
  beforeEach(() => {
    n1.root.stack.addAddress(n1.uplink, parseIp('192.168.0.9'), 24);
    loadRules(
      n1.root,
      `*nat
      :POSTROUTING ACCEPT [0:0]
      -A POSTROUTING -p udp -m udp --dport 8472 -j SNAT --to-source 192.168.0.9
      COMMIT`,
    );
  });
  const arrivals = (seen: readonly string[]): readonly string[] => seen.filter((line) => line.startsWith('p2/'));

  test('around a packet whose checksum its sender has written changes nothing for the receiver', () => {
    expect(arrivals(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2'))).toHaveLength(1);
  });

  test('around one whose checksum is still open spoils theirs: a cable brings them to a node that drops them', () => {
    loadRules(
      n2.root,
      '*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -m conntrack --ctstate INVALID\nCOMMIT\n',
    );
    expect(arrivals(lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2', { isChecksumOpen: true }))).toEqual([]);
    expect(lab.frames.drops().get('UDP_CSUM')).toBe(1);
    expect(printIptablesSave(n2.root.netfilter!.tables, { counters: true })).toContain('[1:78] -A PREROUTING');
  });
});

test('the hash of a flow does not cross a cable: every machine works out its own', () => {
  const isKnown: Record<string, boolean> = {};
  for (const { uplink } of [n1, n2]) uplink.tap = ({ flowHash }) => (isKnown[uplink.namespace] = flowHash !== 0);
  lab.send('p1', 'udp 10.244.1.2:1 > 10.244.2.2:2');
  expect(isKnown).toEqual({ n1: true, n2: false });
});

test('the port is taken: no socket can be bound to it', () => {
  expect(() => n1.root.udp.bind({ port: 8472, cpu: 0 }, { onDatagram: () => {} })).toThrow('address already in use');
  expect(() => n1.root.addVxlan({ name: 'vx1', mac: localMac(9), vni: 1, local: n1.ip, lower: n1.uplink })).toThrow(
    'VXLAN 1 on port 8472 exists in n1',
  );
});
