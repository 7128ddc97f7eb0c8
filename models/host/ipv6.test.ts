// What nodes and pods do with IPv6 packets. Expected lines are what Linux 6.18.44 did with the same packets in network
// namespaces of the same addresses, as seen by packet sockets; flow labels, which are hashes, are left out.

import { beforeEach, describe, expect, test } from 'vitest';
import { ms, s } from '../../engine/time.ts';
import { Ipv6Settings } from '../ip/ipv6-settings.ts';
import { Bridge } from '../link/bridge.ts';
import { printIptablesSave } from '../netfilter/iptables-save.ts';
import { PROTOCOL_UDP } from '../packet/frame.ts';
import { ALL_NODES_IPV6, ANY_IP, LOOPBACK_IPV6, parseIpv6, parseIpv6Prefix } from '../packet/ip-address.ts';
import { parseMac } from '../packet/mac.ts';
import { echo, GATEWAY, Ipv6Lab, P2, P3, syn, udp } from './ipv6-lab.fixture.ts';

const ABOUT = 'about [fd00:10:244:1::2]:4000 > ';

let lab: Ipv6Lab;
/** Who is where is known, and no error has been sent for a while. */
function settle(): void {
  lab.send(echo(P3));
  lab.send(echo(P2, { dstMac: parseMac('02:00:00:00:01:11') }));
  lab.runFor(s(2));
}

beforeEach(() => {
  lab = new Ipv6Lab();
});

/** Only what p1 hears. */
const heard = (lines: readonly string[]): string[] =>
  lines.filter((line) => line.startsWith('p1 in ')).map((line) => line.slice('p1 in '.length));

describe('neighbor discovery', () => {
  test('asks groups and answers senders, hop by hop, as a packet needs it', () => {
    expect(lab.send(udp(P3)).filter((line) => !line.startsWith('p2'))).toEqual([
      // n1 forwards: it asks from its link-local address, as the packet is not its own.
      'n1 out fe80::ff:fe00:102 > ff02::1:ff00:2 icmpv6 neighbor solicitation fd00:192:168::2 at 02:00:00:00:01:02 ttl 255',
      'n2 in fe80::ff:fe00:102 > ff02::1:ff00:2 icmpv6 neighbor solicitation fd00:192:168::2 at 02:00:00:00:01:02 ttl 255',
      'n2 out fd00:192:168::2 > fe80::ff:fe00:102 icmpv6 neighbor advertisement fd00:192:168::2 at 02:00:00:00:02:02 ttl 255',
      'n1 in fd00:192:168::2 > fe80::ff:fe00:102 icmpv6 neighbor advertisement fd00:192:168::2 at 02:00:00:00:02:02 ttl 255',
      'n1 out [fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp len 0 ttl 63',
      'n2 in [fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp len 0 ttl 63',
      'p3 in fe80::ff:fe00:201 > ff02::1:ff00:2 icmpv6 neighbor solicitation fd00:10:244:2::2 at 02:00:00:00:02:01 ttl 255',
      'p3 out fd00:10:244:2::2 > fe80::ff:fe00:201 icmpv6 neighbor advertisement fd00:10:244:2::2 at 02:00:00:00:02:10 ttl 255',
      'p3 in [fd00:10:244:1::2]:4000 > [fd00:10:244:2::2]:53 udp len 0 ttl 62',
      // p3 answers: the error is its own, and so is the address from which it asks.
      'p3 out fd00:10:244:2::2 > ff02::1:ff00:1 icmpv6 neighbor solicitation fd00:10:244:2::1 at 02:00:00:00:02:10 ttl 255',
      'p3 in fd00:10:244:2::1 > fd00:10:244:2::2 icmpv6 neighbor advertisement fd00:10:244:2::1 at 02:00:00:00:02:01 ttl 255',
      `p3 out fd00:10:244:2::2 > fd00:10:244:1::2 icmpv6 1/4 port unreachable ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 64`,
      'n2 out fe80::ff:fe00:202 > ff02::1:ff00:1 icmpv6 neighbor solicitation fd00:192:168::1 at 02:00:00:00:02:02 ttl 255',
      'n1 in fe80::ff:fe00:202 > ff02::1:ff00:1 icmpv6 neighbor solicitation fd00:192:168::1 at 02:00:00:00:02:02 ttl 255',
      'n1 out fd00:192:168::1 > fe80::ff:fe00:202 icmpv6 neighbor advertisement fd00:192:168::1 at 02:00:00:00:01:02 ttl 255',
      'n2 in fd00:192:168::1 > fe80::ff:fe00:202 icmpv6 neighbor advertisement fd00:192:168::1 at 02:00:00:00:01:02 ttl 255',
      `n2 out fd00:10:244:2::2 > fd00:10:244:1::2 icmpv6 1/4 port unreachable ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 63`,
      `n1 in fd00:10:244:2::2 > fd00:10:244:1::2 icmpv6 1/4 port unreachable ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 63`,
      'p1 in fe80::ff:fe00:101 > ff02::1:ff00:2 icmpv6 neighbor solicitation fd00:10:244:1::2 at 02:00:00:00:01:01 ttl 255',
      'p1 out fd00:10:244:1::2 > fe80::ff:fe00:101 icmpv6 neighbor advertisement fd00:10:244:1::2 at 02:00:00:00:01:10 ttl 255',
      `p1 in fd00:10:244:2::2 > fd00:10:244:1::2 icmpv6 1/4 port unreachable ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 62`,
    ]);
    lab.frames.assertConserved();
  });

  test('asks again after a second and once more, then tells the senders of what waited', () => {
    settle();
    lab.runFor(s(20)); // no doubts about others any more
    const nobody = parseIpv6('fd00:10:244:2::99');
    const question =
      'p3 in fe80::ff:fe00:201 > ff02::1:ff00:99 icmpv6 neighbor solicitation fd00:10:244:2::99 at 02:00:00:00:02:01 ttl 255';
    const asked = (lines: readonly string[]): string[] => lines.filter((line) => line.includes('ff00:99'));
    expect(asked(lab.send(udp(nobody, { srcPort: 1 })))).toEqual([question]);
    expect(asked(lab.send(udp(nobody, { srcPort: 2 })))).toEqual([]);
    // The kernel's timers of a second take up to 36 ms more.
    expect(asked(lab.runFor(ms(999)))).toEqual([]);
    expect(asked(lab.runFor(ms(40)))).toEqual([question]);
    expect(asked(lab.runFor(ms(1_040)))).toEqual([question]);
    // The packets are quoted as they would have left n2: p1 sent them with 64 hops, n1 and n2 took one each.
    expect(heard(lab.runFor(ms(1_040))).filter((line) => line.includes('icmpv6 1/'))).toEqual(
      [1, 2].map(
        (port) =>
          `fd00:192:168::2 > fd00:10:244:1::2 icmpv6 1/3 address unreachable about [fd00:10:244:1::2]:${port} > [fd00:10:244:2::99]:53 udp ttl 63`,
      ),
    );
  });

  test('doubts who has only asked, five seconds after it was answered, and is content without a MAC', () => {
    lab.send(udp(P3));
    const probes = lab.runFor(s(6)).filter((line) => line.startsWith('p1'));
    expect(probes).toEqual([
      'p1 out fe80::ff:fe00:110 > fe80::ff:fe00:101 icmpv6 neighbor solicitation fe80::ff:fe00:101 at 02:00:00:00:01:10 ttl 255',
      'p1 in fe80::ff:fe00:101 > fe80::ff:fe00:110 icmpv6 neighbor advertisement fe80::ff:fe00:101 ttl 255',
    ]);
  });
});

describe('a router', () => {
  beforeEach(settle);

  test('answers packets at the end of their hops, and those that it has no route for, from the address on the way back', () => {
    expect(heard(lab.send(udp(P3, { ttl: 1 })))).toEqual([
      `fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 3/0 ttl zero during transit ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 64`,
    ]);
    expect(heard(lab.send(udp(parseIpv6('fd00:99::1'))))).toEqual([
      `fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 1/0 no route ${ABOUT}[fd00:99::1]:53 udp ttl 64`,
    ]);
  });

  test.each([
    ['unreachable', ['icmpv6 1/0 no route']],
    ['prohibit', ['icmpv6 1/1 communication prohibited']],
    ['blackhole', []],
  ] as const)('by a route of type %s sends %j', (type, errors) => {
    const { ipv6 } = lab.namespace('n1').stack;
    const device = lab.namespace('n1').deviceNamed('lo');
    ipv6?.addRoute({ type, destination: parseIpv6Prefix('fd00:50::/64'), device });
    const lines = heard(lab.send(udp(parseIpv6('fd00:50::1'))));
    expect(lines.map((line) => / (icmpv6 .*?) about/.exec(line)?.[1])).toEqual(errors);
  });

  test('does not fragment: the sender hears what fits, and gets back as much as 1280 bytes hold', () => {
    lab = new Ipv6Lab({ fabricMtuBytes: 1450 });
    settle();
    // 1450 are 40 of IPv6, 8 of UDP and 1402.
    expect(heard(lab.send(udp(P3, { payloadBytes: 1402 })))[0]).toContain('1/4 port unreachable');
    const sizesBytes: number[] = [];
    const { device, tap } = tapOf(lab, 'p1');
    device.tap = (frame, direction, ...rest) => {
      if (direction === 'in') sizesBytes.push(frame.ipBytes());
      tap?.(frame, direction, ...rest);
    };
    expect(heard(lab.send(udp(P3, { payloadBytes: 1403 })))).toEqual([
      `fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 2/0 packet too big mtu 1450 ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 64`,
    ]);
    expect(sizesBytes).toEqual([1280]);
  });

  test('redirects from its link-local address, once it has not written to the sender for a second', () => {
    const redirect =
      'fe80::ff:fe00:101 > fd00:10:244:1::2 icmpv6 redirect fd00:10:244:1::3 at 02:00:00:00:01:11 about [fd00:10:244:1::2]:4000 > [fd00:10:244:1::3]:53 udp ttl 255';
    lab.send(udp(P2)); // the first one finds out where p2 is
    lab.runFor(s(2));
    expect(heard(lab.send(udp(P2)))[0]).toBe(redirect);
    // With net.ipv6.icmp.ratelimit = 0 an error uses up all that was saved for this peer, but not in the same jiffy.
    lab.send(udp(P3, { ttl: 1 }));
    expect(heard(lab.send(udp(P2)))[0]).toBe(redirect);
    lab.runFor(ms(8));
    lab.send(udp(P3, { ttl: 1 }));
    lab.runFor(ms(900));
    expect(heard(lab.send(udp(P2)))[0]).not.toBe(redirect);
    lab.runFor(s(2));
    expect(heard(lab.send(udp(P2)))[0]).toBe(redirect);
  });

  test('holds back the errors of net.ipv6.icmp.ratemask only', () => {
    const sysctls = lab.namespace('n1').sysctls;
    sysctls.write('net.ipv6.icmp.ratelimit', 1_000);
    const errors = () => Array.from({ length: 9 }, () => heard(lab.send(udp(P3, { ttl: 1 })))).flat().length;
    expect(errors()).toBe(6);
    sysctls.write('net.ipv6.icmp.ratemask', '0-2,4-127');
    expect(errors()).toBe(9);
    expect(sysctls.read('net.ipv6.icmp.ratemask')).toBe('0-2,4-127');
    expect(() => sysctls.write('net.ipv6.icmp.ratemask', '3-1')).toThrow(
      'sysctl net.ipv6.icmp.ratemask="3-1"; expected ICMP types and ranges such as 0-1,3-127',
    );
  });

  test('tells itself of a redirect that it rejects in OUTPUT, as it knows the link of the address that it is from', () => {
    settle();
    const rules = ['--icmpv6-type 137 -j REJECT', '--icmpv6-type 1'].map(
      (rest) => `-A OUTPUT -p icmpv6 -m icmp6 ${rest}\n`,
    );
    lab.restore('n1', `*filter\n:OUTPUT ACCEPT [0:0]\n${rules.join('')}COMMIT\n`);
    lab.send(udp(P2));
    const { tables6 } = lab.namespace('n1').enableNetfilter();
    const counters = printIptablesSave(tables6, { counters: true });
    expect(counters).toContain(':FORWARD ACCEPT [1:48]');
    expect(counters).toContain('[1:136] -A OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type 137');
    expect(counters).toContain('[1:184] -A OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type 1\n'); // 40 + 8 before it
  });

  test('keeps link-local sources on their link', () => {
    const linkLocal = parseIpv6('fe80::ff:fe00:110');
    const [line] = heard(lab.send(udp(P3, { srcIp: linkLocal }))).slice(-1);
    expect(line).toBe(
      'fe80::ff:fe00:101 > fe80::ff:fe00:110 icmpv6 1/2 beyond scope about [fe80::ff:fe00:110]:4000 > [fd00:10:244:2::2]:53 udp ttl 64',
    );
  });

  test.each([
    ['from ::1', udp(P3, { srcIp: LOOPBACK_IPV6 })],
    ['to ::1', udp(LOOPBACK_IPV6)],
    ['from ::', udp(P3, { srcIp: ANY_IP })],
    ['from a group', udp(P3, { srcIp: parseIpv6('ff02::5') })],
    ['to a group beyond the link', udp(parseIpv6('ff05::99'), { dstMac: parseMac('02:00:00:00:01:01') })],
    ['to one host in a frame for all', udp(P3, { ttl: 1, dstMac: parseMac('33:33:00:00:00:01') })],
  ])('says nothing about a packet %s', (_, packet) => {
    expect(lab.send(packet).filter((line) => !line.startsWith('p2 in'))).toEqual([]);
  });

  test('forwards what claims to come from itself', () => {
    expect(lab.send(udp(P3, { srcIp: GATEWAY }))[0]).toBe(
      'n1 out [fd00:10:244:1::1]:4000 > [fd00:10:244:2::2]:53 udp len 0 ttl 63',
    );
  });

  test('answers to the first address of a subnet: echoes from its own, errors from there', () => {
    const anycast = parseIpv6('fd00:10:244:1::');
    expect(heard(lab.send(echo(anycast)))).toEqual([
      'fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 echo reply id 7 seq 1 len 0 ttl 64',
    ]);
    expect(heard(lab.send(udp(anycast)))).toEqual([
      `fd00:10:244:1:: > fd00:10:244:1::2 icmpv6 1/4 port unreachable ${ABOUT}[fd00:10:244:1::]:53 udp ttl 64`,
    ]);
  });

  test('sends six errors to a peer at once, then one a second, whatever the length of the route', () => {
    lab = new Ipv6Lab({ ratelimit: 1_000 });
    settle();
    lab.runFor(s(8));
    const errors = (): number => Array.from({ length: 20 }, () => heard(lab.send(udp(P3, { ttl: 1 })))).flat().length;
    expect(errors()).toBe(6);
    lab.runFor(ms(450));
    expect(errors()).toBe(0);
    lab.runFor(ms(600)); // 1.05 s after the burst
    expect(errors()).toBe(1);
    lab.runFor(ms(2_100));
    expect(errors()).toBe(2);
  });

  test('sends one every 100 ms unless told otherwise', () => {
    lab = new Ipv6Lab({ ratelimit: new Ipv6Settings().icmp_ratelimit });
    settle();
    lab.runFor(s(8));
    const errors = (): number => Array.from({ length: 20 }, () => heard(lab.send(udp(P3, { ttl: 1 })))).flat().length;
    expect(errors()).toBe(6);
    lab.runFor(ms(210));
    expect(errors()).toBe(2);
  });
});

describe('a host', () => {
  beforeEach(settle);

  test('answers an echo to all nodes from an address of its own, and nothing else to a group', () => {
    const dstMac = parseMac('33:33:00:00:00:01');
    expect(heard(lab.send(echo(ALL_NODES_IPV6, { dstMac, typeOfService: 0x20 }))).toSorted()).toEqual([
      'fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 echo reply id 7 seq 1 len 0 ttl 64',
      'fd00:10:244:1::3 > fd00:10:244:1::2 icmpv6 echo reply id 7 seq 1 len 0 ttl 64',
    ]);
    expect(heard(lab.send(udp(ALL_NODES_IPV6, { dstMac })))).toEqual([]);
  });

  test('names the byte of the header that it does not understand', () => {
    expect(heard(lab.send({ protocol: 99, dstIp: GATEWAY, payloadBytes: 9 }))).toEqual([
      'fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 4/1 unknown header type at byte 6 about fd00:10:244:1::2 > fd00:10:244:1::1 protocol 99 ttl 64',
    ]);
  });

  test('that does not forward is silent about the packets of others if it has a route, and not if it has none', () => {
    const { ipv6 } = lab.namespace('p2').stack;
    const dstMac = parseMac('02:00:00:00:01:11');
    const elsewhere = parseIpv6('fd00:77::1');
    expect(heard(lab.send(udp(elsewhere, { dstMac })))).toEqual([]);
    ipv6?.fib.remove(parseIpv6Prefix('::/0'));
    expect(heard(lab.send(udp(elsewhere, { dstMac })))).toEqual([
      `fd00:10:244:1::3 > fd00:10:244:1::2 icmpv6 1/0 no route ${ABOUT}[fd00:77::1]:53 udp ttl 64`,
    ]);
  });
});

describe('fragments', () => {
  const large = { sizeBytes: 3_000, id: 1 };
  /** Lengths of the packets that came into a pod's eth0 or left it. */
  function lengths(pod: string, wanted: 'in' | 'out'): number[] {
    const sizesBytes: number[] = [];
    const { device, tap } = tapOf(lab, pod);
    device.tap = (frame, direction, ...rest) => {
      if (direction === wanted && frame.isFragment) sizesBytes.push(frame.ipBytes());
      tap?.(frame, direction, ...rest);
    };
    return sizesBytes;
  }

  function sendFromP1(): number[] {
    const heardBytes: number[] = [];
    const onDatagram = ({ sizeBytes }: { sizeBytes: number }) => heardBytes.push(sizeBytes);
    lab.namespace('p3').udp.bind({ family: 6, port: 53, cpu: 0 }, { onDatagram });
    const socket = lab.namespace('p1').udp.bind({ family: 6, cpu: 0 }, { onDatagram });
    socket.send({ family: 6, ip: P3, port: 53 }, large);
    lab.runFor(ms(1));
    return heardBytes;
  }

  beforeEach(settle);

  test('are made by the sender alone, and put together by the receiver', () => {
    const seen = lengths('p3', 'in');
    expect(sendFromP1()).toEqual([3_000]);
    // 3008 bytes with the header of UDP, cut at multiples of 8 that fit 1500 - 48: 1448, 1448 and 112.
    expect(seen).toEqual([1_496, 1_496, 160]);
    lab.frames.assertConserved();
  });

  test('pass a node that tracks connections in the sizes in which they came', () => {
    lab.restore('n1', '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID\nCOMMIT\n');
    const seen = lengths('p3', 'in');
    expect(sendFromP1()).toEqual([3_000]);
    expect(seen).toEqual([1_496, 1_496, 160]);
    expect(lab.namespace('n1').netfilter?.conntrack.list()).toHaveLength(1);
    lab.frames.assertConserved();
  });

  /** Sends a datagram in fragments that carry so many bytes; returns the lengths of the packets that p3 got. */
  function arrive(sizesBytes: readonly number[]): number[] {
    const seen: number[] = [];
    lab.namespace('p3').deviceNamed('eth0').tap = (frame, direction) => {
      if (direction === 'in' && frame.protocol === PROTOCOL_UDP) seen.push(frame.ipBytes());
    };
    for (let i = 0, fragmentOffset = 0; i < sizesBytes.length; fragmentOffset += sizesBytes[i++]!) {
      const payloadBytes = sizesBytes[i]! - (i === 0 ? 8 : 0);
      lab.send(udp(P3, { identification: 7, fragmentOffset, moreFragments: i < sizesBytes.length - 1, payloadBytes }));
    }
    return seen;
  }

  test('of a tracked datagram are as small as they were, although all of it would fit', () => {
    lab.restore('n1', '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID\nCOMMIT\n');
    expect(arrive([528, 180])).toEqual([576, 228]);
    expect(arrive([528, 528, 528, 24])).toEqual([576, 576, 576, 72]);
    expect(arrive([16, 4])).toEqual([60]); // 40 + 20 bytes are no more than the 40 + 8 + 16 of the largest
  });

  test('that a bridge has put together go on whole if they can, else as they came', () => {
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 1);
    lab.restore('n1', '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctstate INVALID\nCOMMIT\n');
    expect(arrive([528, 180])).toEqual([748]);
    expect(arrive([528, 528, 396])).toEqual([1_492]);
    expect(arrive([528, 528, 528, 24])).toEqual([576, 576, 576, 72]);
  });

  test('get smaller when a router says so, after the datagram that it could not take', () => {
    lab = new Ipv6Lab({ fabricMtuBytes: 1_400 });
    settle();
    const [left, seen] = [lengths('p1', 'out'), lengths('p3', 'in')];
    expect(sendFromP1()).toEqual([]); // both large fragments are refused
    expect(left).toEqual([1_496, 1_496, 160]);
    expect(seen).toEqual([160]);
    left.length = seen.length = 0;
    lab.namespace('p3').udp.closeAll();
    expect(sendFromP1()).toEqual([3_000]);
    expect(seen).toEqual([1_400, 1_400, 352]); // 1352, 1352 and 304
  });
});

describe('ip6tables', () => {
  const rejects = [
    ['icmp6-no-route', '1/0 no route'],
    ['icmp6-adm-prohibited', '1/1 communication prohibited'],
    ['icmp6-addr-unreachable', '1/3 address unreachable'],
    ['icmp6-port-unreachable', '1/4 port unreachable'],
    ['icmp6-policy-fail', '1/5 failed policy'],
    ['icmp6-reject-route', '1/6 reject route'],
  ] as const;
  const filter = (rule: string): string =>
    `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A FORWARD ${rule}\nCOMMIT\n`;

  const dnat = (target: string): string =>
    '*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n' +
    `-A PREROUTING -d fd00:10:96::a/128 -p udp -m udp --dport 80 -j DNAT ${target}\nCOMMIT\n`;

  beforeEach(settle);

  test.each(rejects)('-j REJECT --reject-with %s answers %s', (type, answer) => {
    lab.restore('n1', filter(`-p udp -m udp --dport 53 -j REJECT --reject-with ${type}`));
    expect(heard(lab.send(udp(P3)))).toEqual([
      `fd00:10:244:1::1 > fd00:10:244:1::2 icmpv6 ${answer} ${ABOUT}[fd00:10:244:2::2]:53 udp ttl 64`,
    ]);
  });

  test('sees bridged frames only with bridge-nf-call-ip6tables', () => {
    lab.restore('n1', filter('-p udp -m udp --dport 53 -j DROP'));
    const bridged = udp(P2, { dstMac: parseMac('02:00:00:00:01:11') });
    expect(heard(lab.send(bridged))).toHaveLength(1); // p2's port unreachable
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 1);
    expect(heard(lab.send(bridged))).toEqual([]);
  });

  test('sends the reset for a translated packet from the backend where a bridge port took it, else from the Service', () => {
    const reset = (lines: readonly string[]): string | undefined => heard(lines).at(-1);
    lab.restore('n1', filter('-p tcp -m tcp --dport 8080 -j REJECT --reject-with tcp-reset'));
    lab.restore(
      'n1',
      '*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n' +
        '-A PREROUTING -d fd00:10:96::a/128 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00:10:244:2::2]:8080\nCOMMIT\n',
    );
    const service = parseIpv6('fd00:10:96::a');
    expect(reset(lab.send(syn(service, 80)))).toBe(
      '[fd00:10:96::a]:80 > [fd00:10:244:1::2]:4000 tcp [R.] seq 0 ack 1001 win 0 len 0 ttl 64',
    );
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 1);
    expect(reset(lab.send({ ...syn(service, 80), srcPort: 4001 }))).toBe(
      '[fd00:10:244:2::2]:8080 > [fd00:10:244:1::2]:4001 tcp [R.] seq 0 ack 1001 win 0 len 0 ttl 64',
    );
  });

  test('translates a bridged packet to where no route leads: it ends, and nobody hears of it', () => {
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 1);
    lab.restore('n1', dnat('--to-destination [fd00:99::1]:8080'));
    expect(lab.send(udp(parseIpv6('fd00:10:96::a'), { dstPort: 80 }))).toEqual([]);
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 0);
    const [line] = heard(lab.send(udp(parseIpv6('fd00:10:96::a'), { srcPort: 4001, dstPort: 80 })));
    expect(line).toContain('icmpv6 1/0 no route about [fd00:10:244:1::2]:4001 > [fd00:10:96::a]:80');
  });

  test('makes a router believe that a translated packet came by the uplink, so that it redirects the sender there', () => {
    lab.namespace('n1').sysctl('net.bridge.bridge-nf-call-ip6tables', 1);
    lab.restore('n1', dnat('--to-destination [fd00:192:168::2]:8080'));
    const [line] = heard(lab.send(udp(parseIpv6('fd00:10:96::a'), { dstPort: 80 })));
    expect(line).toBe(
      'fe80::ff:fe00:101 > fd00:10:244:1::2 icmpv6 redirect fd00:192:168::2 at 02:00:00:00:02:02 about [fd00:10:244:1::2]:4000 > [fd00:192:168::2]:8080 udp ttl 255',
    );
  });

  // Self: p1 calls a Service whose only backend is p1. Peer: its backend is p2, on the same bridge.
  test.each([
    { calls: 1, hairpin: false, self: 'nothing', peer: 'ttl 64' },
    { calls: 1, hairpin: true, self: 'from fd00:10:244:1::1 ttl 64', peer: 'ttl 64' },
    { calls: 0, hairpin: false, self: 'from fd00:10:244:1::1 ttl 63', peer: 'ttl 63' },
    { calls: 0, hairpin: true, self: 'from fd00:10:244:1::1 ttl 63', peer: 'ttl 63' },
  ])(
    'DNAT to the same bridge, call-ip6tables $calls, hairpin $hairpin: self $self',
    ({ calls, hairpin, self, peer }) => {
      const n1 = lab.namespace('n1');
      n1.sysctl('net.bridge.bridge-nf-call-ip6tables', calls);
      setHairpin(n1.deviceNamed('cbr0'), hairpin);
      lab.restore(
        'n1',
        '*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n' +
          '-A PREROUTING -d fd00:10:96::a/128 -p udp -m udp --dport 80 -j DNAT --to-destination [fd00:10:244:1::2]:8080\n' +
          '-A PREROUTING -d fd00:10:96::a/128 -p udp -m udp --dport 81 -j DNAT --to-destination [fd00:10:244:1::3]:8080\n' +
          '-A POSTROUTING -s fd00:10:244:1::2/128 -d fd00:10:244:1::2/128 -j MASQUERADE\nCOMMIT\n',
      );
      const service = parseIpv6('fd00:10:96::a');
      const arrival = (lines: readonly string[], pod: string): string => {
        const line = lines.find((each) => each.startsWith(`${pod} in [`) && each.includes(']:8080 udp'));
        const [, source, ttl] = /in \[(.*)\]:\d+ > .* (ttl \d+)$/.exec(line ?? '') ?? [];
        if (line === undefined) return 'nothing';
        return source === 'fd00:10:244:1::2' ? `${ttl}` : `from ${source} ${ttl}`;
      };
      expect(arrival(lab.send(udp(service, { dstPort: 80 })), 'p1')).toBe(self);
      expect(arrival(lab.send(udp(service, { dstPort: 81 })), 'p2')).toBe(peer);
      lab.frames.assertConserved();
    },
  );
});

function setHairpin(bridge: unknown, hairpin: boolean): void {
  if (!(bridge instanceof Bridge)) throw new TypeError('cbr0 is no bridge');
  for (const port of bridge.ports) port.hairpin = hairpin;
}

function tapOf(of: Ipv6Lab, pod: string) {
  const device = of.namespace(pod).deviceNamed('eth0');
  return { device, tap: device.tap };
}
