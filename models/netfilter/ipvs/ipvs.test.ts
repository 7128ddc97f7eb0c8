import { beforeEach, describe, expect, test } from 'vitest';
import { minutes, ms, s } from '../../../engine/time.ts';
import { PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP } from '../../packet/frame.ts';
import { formatIp, parseIp, parseIpv6 } from '../../packet/ip-address.ts';
import { answerTo, TestNode } from '../netfilter.fixture.ts';
import type { IpvsSettings } from './ipvs.ts';
import { listIpvs, listIpvsConnections } from './ipvs-text.ts';
import type { VirtualServer, VirtualServerSettings } from './virtual-server.ts';

const VIP = parseIp('10.96.0.10');
const [A, B] = [parseIp('10.244.2.2'), parseIp('10.244.3.2')];

/** What kube-proxy sets. */
const KUBE_PROXY: Partial<IpvsSettings> = { conntrack: true, expireNodestConn: true, expireQuiescentTemplate: true };

let node: TestNode;
let web: VirtualServer;

/** A virtual server 10.96.0.10:80 with servers A and B; A is the first in turn. */
function start({
  settings = { scheduler: 'rr' },
  ipvs = KUBE_PROXY,
  protocol = PROTOCOL_TCP,
}: {
  settings?: VirtualServerSettings;
  ipvs?: Partial<IpvsSettings>;
  protocol?: number;
} = {}): void {
  node = new TestNode({ local: ['10.244.1.1', '10.96.0.10'], rules: MASQUERADING });
  node.netfilter.ipvs.configure(ipvs);
  web = node.netfilter.ipvs.addVirtual({ family: 4, protocol, ip: VIP, port: 80 }, settings);
  for (const ip of [B, A]) node.netfilter.ipvs.addServer(web, { ip, port: 8080, weight: 1 });
}

const MASQUERADING = `
  nat PREROUTING -s 203.0.113.0/24 -j MARK --set-xmark 0x4000/0x4000
  nat POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
`;

beforeEach(() => start());

const syn = (port: number, from = '10.244.1.2') => `tcp ${from}:${port} > 10.96.0.10:80 S seq 1000`;

/** A handshake, and who the server is. */
function connect(port: number, from = '10.244.1.2'): string {
  const toServer = node.receive(syn(port, from));
  const [client, server] = toServer.replace('tcp ', '').split(' > ');
  if (server === undefined) return toServer;
  node.forward(`tcp ${server} > ${client} S. seq 5000 ack 1001`);
  node.receive(`tcp ${from}:${port} > 10.96.0.10:80 . seq 1001 ack 5001`);
  return server;
}

describe('a connection through a virtual server', () => {
  test('goes from LOCAL_IN to POSTROUTING with the server as its destination; answers get the virtual address', () => {
    expect(node.receive(syn(4000))).toBe('tcp 10.244.1.2:4000 > 10.244.2.2:8080');
    expect(node.forward('tcp 10.244.2.2:8080 > 10.244.1.2:4000 S. seq 5000 ack 1001')).toBe(
      'tcp 10.96.0.10:80 > 10.244.1.2:4000',
    );
    expect(node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 . seq 1001 ack 5001')).toBe(
      'tcp 10.244.1.2:4000 > 10.244.2.2:8080',
    );
  });

  test('is one of conntrack, too: the server answers in the name of the virtual address', () => {
    connect(4000);
    expect(node.entries).toEqual([
      expect.stringMatching(
        /^tcp +6 \d+ ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=4000 dport=80 src=10.244.2.2 dst=10.244.1.2 sport=8080 dport=4000 \[ASSURED\]/,
      ),
    ]);
  });

  test('is masqueraded where rules say so, and the answer finds its way back', () => {
    expect(node.receive(syn(4000, '203.0.113.9'))).toBe('tcp 10.244.1.1:4000 > 10.244.2.2:8080');
    expect(node.forward('tcp 10.244.2.2:8080 > 10.244.1.1:4000 S. seq 5000 ack 1001')).toBe(
      'tcp 10.96.0.10:80 > 203.0.113.9:4000',
    );
  });

  test('begins on the host itself, too', () => {
    expect(node.send(syn(4000, '10.244.1.1'))).toBe('tcp 10.244.1.1:4000 > 10.244.2.2:8080');
    expect(node.receive('tcp 10.244.2.2:8080 > 10.244.1.1:4000 S. seq 5000 ack 1001')).toBe(
      'tcp 10.96.0.10:80 > 10.244.1.1:4000',
    );
  });

  test('to a server on the host itself stays here', () => {
    const { ipvs } = node.netfilter;
    for (const server of [...web.servers]) ipvs.deleteServer(web, server);
    ipvs.addServer(web, { ip: parseIp('10.244.1.1'), port: 6443, weight: 1 });
    expect(node.receive(syn(4000))).toBe('tcp 10.244.1.2:4000 > 10.244.1.1:6443');
    expect(node.send('tcp 10.244.1.1:6443 > 10.244.1.2:4000 S. seq 5000 ack 1001')).toBe(
      'tcp 10.96.0.10:80 > 10.244.1.2:4000',
    );
  });

  test('without vs.conntrack is none of conntrack, and rules cannot masquerade it', () => {
    start({ ipvs: {} });
    expect(node.receive(syn(4000, '203.0.113.9'))).toBe('tcp 203.0.113.9:4000 > 10.244.2.2:8080');
    expect(node.entries).toEqual([]);
  });

  test('a rule may ask for it behind OUTPUT (-m ipvs)', () => {
    node.addRules('filter OUTPUT -m ipvs --vproto 6 --vaddr 10.96.0.10 --vport 80 -j DROP');
    expect(node.receive(syn(4000))).toBe('NETFILTER_DROP');
    expect(node.send('tcp 10.244.1.1:4000 > 10.244.2.2:8080 S seq 1')).toBe('tcp 10.244.1.1:4000 > 10.244.2.2:8080');
  });

  test('UDP and SCTP go the same way', () => {
    for (const [name, protocol] of [
      ['udp', PROTOCOL_UDP],
      ['sctp', PROTOCOL_SCTP],
    ] as const) {
      start({ protocol });
      const request = `${name} 10.244.1.2:4000 > 10.96.0.10:80`;
      expect(node.receive(request)).toBe(`${name} 10.244.1.2:4000 > 10.244.2.2:8080`);
      const answer = answerTo(`${name} 10.244.1.2:4000 > 10.244.2.2:8080`);
      expect(node.forward(answer)).toBe(`${name} 10.96.0.10:80 > 10.244.1.2:4000`);
      expect(node.receive(request)).toBe(`${name} 10.244.1.2:4000 > 10.244.2.2:8080`);
    }
  });

  test('an ICMP error of the server comes from the virtual address, and is about what the client sent', () => {
    start({ protocol: PROTOCOL_UDP });
    node.receive('udp 10.244.1.2:4000 > 10.96.0.10:80');
    expect(node.forward('icmp 10.244.2.2 > 10.244.1.2 3/3 about udp 10.244.1.2:4000 > 10.244.2.2:8080')).toBe(
      'icmp 10.96.0.10 > 10.244.1.2 3/3 about udp 10.244.1.2:4000 > 10.96.0.10:80',
    );
  });

  test('one of a router on the client’s side goes to the server', () => {
    connect(4000);
    expect(node.receive('icmp 10.244.1.9 > 10.96.0.10 3/4 about tcp 10.96.0.10:80 > 10.244.1.2:4000')).toBe(
      'icmp 10.244.1.9 > 10.244.2.2 3/4 about tcp 10.244.2.2:8080 > 10.244.1.2:4000',
    );
  });
});

describe('in IPv6', () => {
  const [VIP6, SERVER6] = [parseIpv6('fd00:96::10'), parseIpv6('fd00:2::2')];

  beforeEach(() => {
    node = new TestNode({
      local: ['10.244.1.1', '10.96.0.10', 'fd00:1::1', 'fd00:96::10'],
      rules: 'ip6 nat POSTROUTING -s 2001:db8::/32 -j MASQUERADE',
    });
    const { ipvs } = node.netfilter;
    ipvs.configure(KUBE_PROXY);
    for (const protocol of [PROTOCOL_TCP, PROTOCOL_UDP])
      ipvs.addServer(ipvs.addVirtual({ family: 6, protocol, ip: VIP6, port: 80 }, { scheduler: 'rr' }), {
        ip: SERVER6,
        port: 8080,
        weight: 1,
      });
  });

  test('a connection goes the same way', () => {
    expect(node.receive('tcp [fd00:1::2]:4000 > [fd00:96::10]:80 S seq 1000')).toBe(
      'tcp [fd00:1::2]:4000 > [fd00:2::2]:8080',
    );
    expect(node.forward('tcp [fd00:2::2]:8080 > [fd00:1::2]:4000 S. seq 5000 ack 1001')).toBe(
      'tcp [fd00:96::10]:80 > [fd00:1::2]:4000',
    );
    expect(node.send('tcp [fd00:1::1]:4000 > [fd00:96::10]:80 S seq 1000')).toBe(
      'tcp [fd00:1::1]:4000 > [fd00:2::2]:8080',
    );
    expect(node.receive('tcp [2001:db8::9]:5000 > [fd00:96::10]:80 S seq 1000')).toBe(
      'tcp [fd00:1::1]:5000 > [fd00:2::2]:8080',
    );
    expect(listIpvs(node.netfilter.ipvs)).toContain('TCP  [fd00:96::10]:80 rr\n  -> [fd00:2::2]:8080');
  });

  test('an ICMPv6 error of the server comes from the virtual address', () => {
    node.receive('udp [fd00:1::2]:4000 > [fd00:96::10]:80');
    expect(node.forward('icmpv6 fd00:2::2 > fd00:1::2 1/4 about udp [fd00:1::2]:4000 > [fd00:2::2]:8080')).toBe(
      'icmpv6 fd00:96::10 > fd00:1::2 1/4 about udp [fd00:1::2]:4000 > [fd00:96::10]:80',
    );
  });

  test('a rule may ask for it (-m ipvs)', () => {
    node.addRules('ip6 filter OUTPUT -m ipvs --vproto 6 --vaddr fd00:96::10 --vport 80 -j DROP');
    expect(node.receive('tcp [fd00:1::2]:4000 > [fd00:96::10]:80 S seq 1000')).toBe('NETFILTER_DROP');
  });

  test('without servers a client is refused in its own family', () => {
    const { ipvs } = node.netfilter;
    for (const virtual of ipvs.virtualServers())
      for (const server of [...virtual.servers]) ipvs.deleteServer(virtual, server);
    expect(node.receive('tcp [fd00:1::2]:4000 > [fd00:96::10]:80 S seq 1000')).toBe('NETFILTER_DROP');
    expect(node.rejects).toEqual(['icmp6-port-unreachable: tcp [fd00:1::2]:4000 > [fd00:96::10]:80']);
  });

  test('an IPv4 packet with the same numbers for addresses is none of its connections', () => {
    node.receive('tcp [fd00:1::2]:4000 > [fd00:96::10]:80 S seq 1000');
    node.netfilter.ipvs.addVirtual({ family: 4, protocol: PROTOCOL_TCP, ip: VIP, port: 80 }, { scheduler: 'rr' });
    const [client, server] = [parseIpv6('fd00:1::2'), SERVER6].map((handle) => formatIp(handle, 4));
    const packet = `tcp ${server}:8080 > ${client}:4000`;
    expect(node.forward(`${packet} S. seq 5000 ack 1001`)).toBe(packet);
  });
});

test('without servers a client is refused', () => {
  for (const server of [...web.servers]) node.netfilter.ipvs.deleteServer(web, server);
  expect(node.receive(syn(4000))).toBe('NETFILTER_DROP');
  expect(node.rejects).toEqual(['icmp-port-unreachable: tcp 10.244.1.2:4000 > 10.96.0.10:80']);
});

test('a segment in the midst of an unknown connection is the host’s own business, which resets it', () => {
  expect(node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 . seq 9 ack 9')).toBe('tcp 10.244.1.2:4000 > 10.96.0.10:80');
});

describe('idle connections', () => {
  const segment = 'tcp 10.244.1.2:4000 > 10.96.0.10:80 P. seq 1001 ack 5001 len 10';

  test.each([
    [899, 'tcp 10.244.1.2:4000 > 10.244.2.2:8080'],
    [901, 'tcp 10.244.1.2:4000 > 10.96.0.10:80'],
  ])('of TCP after %i s: 900 s is the limit', (seconds, outcome) => {
    connect(4000);
    node.wait(s(seconds));
    expect(node.receive(segment)).toBe(outcome);
  });

  test('what conntrack remembers of them ends with them', () => {
    connect(4000);
    node.wait(s(901));
    node.receive('tcp 10.244.1.9:1 > 10.96.0.10:80 . seq 9 ack 9');
    expect(node.entries.filter((entry) => entry.includes('sport=4000'))).toEqual([]);
  });

  test('a packet either way begins the time anew', () => {
    connect(4000);
    node.wait(s(600));
    node.forward('tcp 10.244.2.2:8080 > 10.244.1.2:4000 P. seq 5001 ack 1001 len 1');
    node.wait(s(600));
    expect(node.receive(segment)).toBe('tcp 10.244.1.2:4000 > 10.244.2.2:8080');
  });

  test('of UDP after 300 s go to the server whose turn it is', () => {
    start({ protocol: PROTOCOL_UDP });
    const request = 'udp 10.244.1.2:4000 > 10.96.0.10:80';
    expect(node.receive(request)).toContain('10.244.2.2');
    node.wait(s(299));
    expect(node.receive(request)).toContain('10.244.2.2');
    node.wait(s(301));
    expect(node.receive(request)).toContain('10.244.3.2');
  });

  test('a closed one is remembered for 120 s in TIME_WAIT', () => {
    connect(4000);
    node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 F. seq 1001 ack 5001');
    node.forward('tcp 10.244.2.2:8080 > 10.244.1.2:4000 F. seq 5001 ack 1002');
    const states = () => node.netfilter.ipvs.connections().map(({ state }) => state);
    node.wait(s(119));
    expect(states()).toHaveLength(1);
    node.wait(s(2));
    expect(states()).toEqual([]);
    expect(web.servers.map(({ connections }) => connections)).toEqual([0, 0]);
  });
});

test('the numbers of active and inactive connections follow the states; UDP is inactive', () => {
  const counts = () => web.servers.map(({ activeConnections: a, inactiveConnections: i }) => `${a}+${i}`);
  connect(4000);
  expect(counts()).toEqual(['1+0', '0+0']);
  node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 F. seq 1001 ack 5001');
  expect(counts()).toEqual(['0+1', '0+0']);
  start({ protocol: PROTOCOL_UDP });
  node.receive('udp 10.244.1.2:4000 > 10.96.0.10:80');
  expect(counts()).toEqual(['0+1', '0+0']);
});

describe('persistence', () => {
  beforeEach(() => start({ settings: { scheduler: 'rr', persistenceSeconds: 100 } }));

  test('a client keeps its server for a while after its last new connection; another has another', () => {
    expect(connect(4000)).toBe('10.244.2.2:8080');
    node.wait(s(99));
    expect(connect(4001)).toBe('10.244.2.2:8080');
    expect(connect(4000, '10.244.1.3')).toBe('10.244.3.2:8080');
    node.wait(s(99));
    expect(connect(4002)).toBe('10.244.2.2:8080');
  });

  test('as long as connections live the client does not lose its server', () => {
    connect(4000);
    node.wait(s(500)); // five times the timeout, but within the idle time of the connection
    expect(connect(4001)).toBe('10.244.2.2:8080');
  });

  test('when all is over the turn decides', () => {
    connect(4000);
    node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 R seq 1001');
    node.wait(s(200));
    expect(connect(4001)).toBe('10.244.3.2:8080');
  });

  test('a server of weight 0 keeps its clients, or not with vs.expire_quiescent_template', () => {
    const { ipvs } = node.netfilter;
    connect(4000);
    ipvs.setWeight(web, web.find(A, 8080)!, 0);
    ipvs.configure({ expireQuiescentTemplate: false });
    expect(connect(4001)).toBe('10.244.2.2:8080');
    ipvs.configure({ expireQuiescentTemplate: true });
    expect(connect(4002)).toBe('10.244.3.2:8080');
  });
});

describe('a server that is to go', () => {
  test('with weight 0 keeps its connections and gets no new ones', () => {
    connect(4000);
    node.netfilter.ipvs.setWeight(web, web.find(A, 8080)!, 0);
    expect(node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 P. seq 1001 ack 5001 len 5')).toContain('10.244.2.2');
    expect([connect(4001), connect(4002)]).toEqual(['10.244.3.2:8080', '10.244.3.2:8080']);
  });

  test('deleted, has its connections ended by their next packet (vs.expire_nodest_conn); else they hang', () => {
    const segment = 'tcp 10.244.1.2:4000 > 10.96.0.10:80 P. seq 1001 ack 5001 len 5';
    connect(4000);
    node.netfilter.ipvs.deleteServer(web, web.find(A, 8080)!);
    expect(node.receive(segment)).toBe('NETFILTER_DROP'); // conntrack's entry was for that server
    expect(node.receive(segment)).toBe('tcp 10.244.1.2:4000 > 10.96.0.10:80'); // to be reset
    start({ ipvs: { ...KUBE_PROXY, expireNodestConn: false } });
    connect(4000);
    node.netfilter.ipvs.deleteServer(web, web.find(A, 8080)!);
    expect([node.receive(segment), node.receive(segment)]).toEqual(['NETFILTER_DROP', 'NETFILTER_DROP']);
  });

  test('added again, has the connections that it had', () => {
    connect(4000);
    const { ipvs } = node.netfilter;
    ipvs.deleteServer(web, web.find(A, 8080)!);
    ipvs.addServer(web, { ip: A, port: 8080, weight: 1 });
    expect(web.find(A, 8080)!.activeConnections).toBe(1);
    expect(node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 P. seq 1001 ack 5001 len 5')).toContain('10.244.2.2');
  });
});

describe('a client that uses the port of a closed connection again', () => {
  /** The first connection is over, but remembered; both ends have waited 60 s. */
  function reuse(settings: Partial<IpvsSettings>): string[] {
    start({ ipvs: { ...KUBE_PROXY, ...settings } });
    connect(4000);
    node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 F. seq 1001 ack 5001');
    node.forward('tcp 10.244.2.2:8080 > 10.244.1.2:4000 F. seq 5001 ack 1002');
    node.receive('tcp 10.244.1.2:4000 > 10.96.0.10:80 . seq 1002 ack 5002');
    node.wait(s(60));
    const again = 'tcp 10.244.1.2:4000 > 10.96.0.10:80 S seq 900000';
    const outcomes = [node.receive(again)];
    node.wait(ms(1_000));
    return [...outcomes, node.receive(again)];
  }

  test('is served at once, by the server whose turn it is', () => {
    expect(reuse({})[0]).toBe('tcp 10.244.1.2:4000 > 10.244.3.2:8080');
  });

  test('waited a second before Linux 5.9, for its second SYN', () => {
    expect(reuse({ reusesAtOnce: false })).toEqual(['NETFILTER_DROP', 'tcp 10.244.1.2:4000 > 10.244.3.2:8080']);
  });

  test('with vs.conn_reuse_mode=0, kube-proxy’s way there, goes to the old server', () => {
    expect(reuse({ reusesAtOnce: false, connReuseMode: 0 })[0]).toBe('tcp 10.244.1.2:4000 > 10.244.2.2:8080');
  });
});

test('rr deals 100,000 connections to 7 servers out to within one', () => {
  for (let i = 2; i < 7; i++)
    node.netfilter.ipvs.addServer(web, { ip: parseIp(`10.244.9.${i}`), port: 8080, weight: 1 });
  const received = new Map<string, number>();
  for (let i = 0; i < 100_000; i++) {
    const client = `10.250.${i >> 12}.${(i >> 4) & 255}`;
    const server = node.receive(`tcp ${client}:${5_000 + (i & 15)} > 10.96.0.10:80 S seq 1`).split(' > ')[1]!;
    received.set(server, (received.get(server) ?? 0) + 1);
  }
  // 100,000 = 7 · 14,285 + 5
  expect([...received.values()].sort()).toEqual([14_285, 14_285, 14_286, 14_286, 14_286, 14_286, 14_286]);
});

test('ipvsadm -Ln and -Lnc print what there is', () => {
  const { ipvs } = node.netfilter;
  const dns = ipvs.addVirtual(
    { family: 4, protocol: PROTOCOL_UDP, ip: VIP, port: 53 },
    { scheduler: 'mh', hashesPort: true, persistenceSeconds: 10_800 },
  );
  ipvs.addServer(dns, { ip: A, port: 53, weight: 1 });
  connect(4000);
  node.receive('udp 10.244.1.2:5353 > 10.96.0.10:53');
  expect(listIpvs(ipvs).split('\n')).toEqual([
    'IP Virtual Server version 1.2.1 (size=4096)',
    'Prot LocalAddress:Port Scheduler Flags',
    '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
    'TCP  10.96.0.10:80 rr',
    '  -> 10.244.2.2:8080              Masq    1      1          0         ',
    '  -> 10.244.3.2:8080              Masq    1      0          0         ',
    'UDP  10.96.0.10:53 mh (mh-port) persistent 10800',
    '  -> 10.244.2.2:53                Masq    1      0          1         ',
    '',
  ]);
  node.wait(minutes(1));
  expect(listIpvsConnections(ipvs, node.now).split('\n')).toEqual([
    'IPVS connection entries',
    'pro expire state       source             virtual            destination',
    'TCP 14:00  ESTABLISHED 10.244.1.2:4000    10.96.0.10:80      10.244.2.2:8080',
    'UDP 179:00 NONE        10.244.1.2:0       10.96.0.10:53      10.244.2.2:53',
    'UDP 04:00  UDP         10.244.1.2:5353    10.96.0.10:53      10.244.2.2:53',
    '',
  ]);
});
