import { describe, expect, test } from 'vitest';
import {
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_SCTP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_RST,
  TCP_SYN,
} from '../../packet/frame.ts';
import type { IpFamily } from '../../packet/ip-address.ts';
import { CT_DNAT, CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_SNAT, CT_UNTRACKED } from '../conntrack-state.ts';
import { TestNode } from '../netfilter.fixture.ts';
import { type FrameFields, frameOf, TestNamespace } from '../rules.fixture.ts';

/** A namespace with addresses 192.0.2.1 and 2001:db8::1 and one rule; does the rule match the frame that came by eth0 and leaves by cbr0? */
function matches(rule: string, fields: FrameFields = {}, family: IpFamily = 4): boolean {
  const node = new TestNamespace(`*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ${rule} -j DROP\nCOMMIT`, {
    local: ['192.0.2.1', '2001:db8::1'],
    family,
  });
  return node.walk(frameOf(fields), 'filter', 'FORWARD', { in: 'eth0', out: 'cbr0' }) === 'DROP';
}

test('nfacct counts the packets of all rules that name the account, and matches', () => {
  const node = new TestNode({
    rules: `
      filter FORWARD -p udp -m nfacct --nfacct-name here
      filter FORWARD -p udp -m udp --dport 53 -m nfacct --nfacct-name here -j DROP
      filter FORWARD -p tcp -m nfacct --nfacct-name there
    `,
  });
  for (const port of [53, 54]) node.forward(`udp 10.244.1.2:4000 > 10.244.2.2:${port}`);
  expect([...node.netfilter.accounts]).toEqual([['here', { packets: 3, bytes: 3 * 28 }]]);
});

describe('addresses, protocol and devices', () => {
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-s 10.0.0.0/24', { from: '10.0.0.255' }, true],
    ['-s 10.0.0.0/24', { from: '10.0.1.0' }, false],
    ['! -s 10.0.0.0/24', { from: '10.0.1.0' }, true],
    ['! -s 10.0.0.0/24', { from: '10.0.0.1' }, false],
    ['-d 192.168.0.0/16', { to: '192.168.255.255' }, true], // above 127.255.255.255: negative as int32
    ['! -d 192.168.0.0/16', { to: '192.168.255.255' }, false],
    ['-d 255.255.255.255/32', { to: '255.255.255.255' }, true],
    ['-p udp', {}, false],
    ['! -p udp', {}, true],
    ['-i eth0', {}, true],
    ['-i eth', {}, false],
    ['-i eth+', {}, true],
    ['-i +', {}, true],
    ['! -i eth+', {}, false],
    ['-o cbr0', {}, true],
    ['! -o cbr0', {}, false],
    ['! -o eth0', {}, true],
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, fields)).toBe(expected);
  });

  test('without a device only a negation and + match', () => {
    const node = new TestNamespace(`
      *filter
      :INPUT ACCEPT [0:0]
      -A INPUT -i + -m comment --comment any
      -A INPUT ! -i eth0 -m comment --comment not-eth0
      -A INPUT -i eth+ -m comment --comment eth
      COMMIT
    `);
    node.walk(frameOf(), 'filter', 'INPUT');
    expect(node.saved).toContain('[1:60] -A INPUT -m comment --comment any');
    expect(node.saved).toContain('[1:60] -A INPUT ! -i eth0 -m comment --comment not-eth0');
    expect(node.saved).toContain('[0:0] -A INPUT -i eth+ -m comment --comment eth');
  });
});

describe('IPv6', () => {
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-s fd00::1', {}, true],
    ['-s fd00::1', { from: 'fd00::2' }, false],
    ['-d ::/0', {}, true],
    ['-d fd00:1::/64', {}, true], // no multiple of 32: word by word
    ['-d fd00:1::/64', { to: 'fd00:1:0:1::' }, false],
    ['-d fd00:1::/63', { to: 'fd00:1:0:1::' }, true],
    ['! -s fd00::/8', {}, false],
    ['! -s fd00::1', { from: 'fd00::2' }, true],
    ['-p tcp --dport 80', {}, true],
    ['-p icmpv6 --icmpv6-type echo-request', { protocol: PROTOCOL_ICMPV6, icmpType: 128 }, true],
    ['-p icmpv6 --icmpv6-type 1/4', { protocol: PROTOCOL_ICMPV6, icmpType: 1, icmpCode: 3 }, false],
    ['-p icmpv6 ! --icmpv6-type 1/4', { protocol: PROTOCOL_ICMPV6, icmpType: 1, icmpCode: 3 }, true],
    ['-m iprange --src-range fd00::-fd00::9', { from: 'fd00::9' }, true],
    ['-m iprange --src-range fd00::-fd00::9', { from: 'fd00::a' }, false],
    ['-m iprange --src-range 7fff::-ffff::', { from: '8000::' }, true], // across the sign of a word
    ['-m addrtype --dst-type LOCAL', { to: '2001:db8::1' }, true],
    ['-m addrtype --dst-type LOCAL', {}, false],
    ['-m addrtype --dst-type UNICAST,LOCAL', { to: '2001:db8::1' }, true], // both
    ['-m addrtype --dst-type UNICAST,LOCAL', {}, false],
    ['-m addrtype --dst-type UNICAST', {}, true],
    ['-m addrtype --dst-type MULTICAST', { to: 'ff02::1' }, true],
    ['-m addrtype ! --src-type UNSPEC', { from: '::' }, false],
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, { from: 'fd00::1', to: 'fd00:1::1', ...fields }, 6)).toBe(expected);
  });
});

describe('ports, flags and ICMP types', () => {
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-p tcp --dport 80', { dstPort: 80 }, true],
    ['-p tcp --dport 80', { dstPort: 81 }, false],
    ['-p tcp --dport 80', { protocol: PROTOCOL_UDP, dstPort: 80 }, false],
    ['-p tcp ! --dport 80', { dstPort: 80 }, false],
    ['-p tcp --sport 40000:40001 --dport 80', { srcPort: 40_001 }, true],
    ['-p tcp --sport 40000:40001 ! --dport 80', { srcPort: 40_001, dstPort: 443 }, true],
    ['-p tcp -m tcp --dport 70:90 -m tcp --dport 80:99', { dstPort: 75 }, false], // both must hold
    ['-p tcp -m tcp --sport 40000:40001 -m tcp --dport 80', { srcPort: 1 }, false],
    ['-p udp --dport 53', { protocol: PROTOCOL_UDP, dstPort: 53 }, true],
    ['-p sctp --dport 53', { protocol: PROTOCOL_SCTP, dstPort: 53 }, true],
    ['-p tcp -m tcp', { fragmentOffset: 1_480, srcPort: 0, dstPort: 0 }, false], // a later fragment has no ports
    ['-p tcp', { fragmentOffset: 1_480, srcPort: 0, dstPort: 0 }, true],
    ['-p tcp --dport 0', { fragmentOffset: 1_480, srcPort: 0, dstPort: 0 }, false],
    ['-p tcp --syn', { tcpFlags: TCP_SYN }, true],
    ['-p tcp --syn', { tcpFlags: TCP_SYN | TCP_ACK }, false],
    ['-p tcp ! --syn', { tcpFlags: TCP_ACK }, true],
    ['-p tcp --tcp-flags ACK,RST RST', { tcpFlags: TCP_RST | TCP_SYN }, true],
    ['-p tcp -m multiport --dports 22,80,8000:8010', { dstPort: 8_005 }, true],
    ['-p tcp -m multiport --dports 22,80,8000:8010', { dstPort: 8_011 }, false],
    ['-p tcp -m multiport ! --dports 22,80', { dstPort: 81 }, true],
    ['-p tcp -m multiport --sports 80', { dstPort: 80 }, false],
    ['-p tcp -m multiport --ports 80', { dstPort: 80 }, true],
    ['-p icmp --icmp-type echo-request', { protocol: PROTOCOL_ICMP, icmpType: 8 }, true],
    ['-p icmp --icmp-type 3/4', { protocol: PROTOCOL_ICMP, icmpType: 3, icmpCode: 3 }, false],
    ['-p icmp --icmp-type 3', { protocol: PROTOCOL_ICMP, icmpType: 3, icmpCode: 3 }, true],
    ['-p icmp ! --icmp-type 3', { protocol: PROTOCOL_ICMP, icmpType: 3, icmpCode: 3 }, false],
    ['-p icmp --icmp-type any', { protocol: PROTOCOL_ICMP, icmpType: 11 }, true],
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, fields)).toBe(expected);
  });
});

describe('what the kernel knows about the frame', () => {
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-m conntrack --ctstate NEW', { conntrackState: CT_NEW }, true],
    ['-m conntrack --ctstate RELATED,ESTABLISHED', { conntrackState: CT_NEW }, false],
    ['-m conntrack --ctstate RELATED,ESTABLISHED', { conntrackState: CT_RELATED }, true],
    ['-m conntrack ! --ctstate RELATED,ESTABLISHED', { conntrackState: CT_ESTABLISHED }, false],
    ['-m conntrack --ctstate DNAT', { conntrackState: CT_ESTABLISHED | CT_DNAT }, true],
    ['-m conntrack --ctstate DNAT', { conntrackState: CT_ESTABLISHED | CT_SNAT }, false],
    ['-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT', { conntrackState: CT_NEW | CT_DNAT }, false],
    ['-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT', { conntrackState: CT_NEW }, true],
    ['-m conntrack --ctstate INVALID', { conntrackState: CT_INVALID }, true],
    ['-m conntrack --ctstate INVALID', { conntrackState: 0 }, true], // not seen by conntrack
    ['-m conntrack --ctstate INVALID', { conntrackState: CT_UNTRACKED }, false],
    ['-m conntrack --ctstate UNTRACKED', { conntrackState: CT_UNTRACKED }, true],
    ['-m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT', { conntrackState: CT_NEW | CT_DNAT }, false],
    ['-m conntrack --ctstate NEW,ESTABLISHED -m conntrack --ctstate DNAT', { conntrackState: CT_NEW | CT_DNAT }, true],
    ['-m state --state NEW', { conntrackState: CT_NEW | CT_SNAT }, true],
    ['-m mark --mark 0x4000/0x4000', { mark: 0x4001 }, true],
    ['-m mark --mark 0x4000', { mark: 0x4001 }, false],
    ['-m mark ! --mark 0x4000/0x4000', { mark: 1 }, true],
    ['-m mark --mark 0x80000000/0x80000000', { mark: -1 }, true], // bit 31 is the sign of an int32
    ['-m mark --mark 0x4000/0x0', { mark: 0x4000 }, false], // no bit of the mark can be that value
    ['-m mark --mark 0x1/0x1 -m mark --mark 0x2/0x2', { mark: 3 }, true],
    ['-m mark --mark 0x1/0x1 -m mark --mark 0x2/0x2', { mark: 1 }, false],
    ['-m addrtype --dst-type LOCAL', { to: '192.0.2.1' }, true],
    ['-m addrtype ! --dst-type LOCAL', { to: '192.0.2.1' }, false],
    ['-m addrtype --src-type LOCAL', { to: '192.0.2.1' }, false],
    ['-m addrtype ! --src-type LOCAL --dst-type LOCAL', { to: '192.0.2.1' }, true],
    ['-m iprange --src-range 10.0.0.1-10.0.0.9', { from: '10.0.0.9' }, true],
    ['-m iprange --src-range 10.0.0.1-10.0.0.9', { from: '10.0.0.10' }, false],
    ['-m iprange --dst-range 127.0.0.0-128.0.0.9', { to: '128.0.0.1' }, true], // across the sign of an int32
    ['-m iprange ! --dst-range 10.0.0.1-10.0.0.9', { to: '10.0.0.3' }, false],
    ['-m comment --comment anything', {}, true],
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, fields)).toBe(expected);
  });
});

describe('bridge ports', () => {
  const vethA = { name: 'veth-a', index: 7 };
  const vethB = { name: 'veth-b', index: 8 };
  test.each<[rule: string, fields: FrameFields, expected: boolean]>([
    ['-m physdev --physdev-is-bridged', { physIn: vethA, physOut: vethB }, true],
    ['-m physdev --physdev-is-bridged', { physIn: vethA }, false], // goes up to the IP stack
    ['-m physdev ! --physdev-is-bridged', { physIn: vethA }, true],
    ['-m physdev --physdev-in veth-a', { physIn: vethA }, true],
    ['-m physdev --physdev-in veth+', { physIn: vethA }, true],
    ['-m physdev ! --physdev-in veth-b', { physIn: vethA }, true],
    ['-m physdev --physdev-is-in', {}, false],
    ['-m physdev ! --physdev-is-in', {}, true],
    ['-m physdev --physdev-in veth-a', {}, false],
    ['-m physdev ! --physdev-in veth-a', {}, true],
    ['-m physdev --physdev-out veth-b', { physIn: vethA, physOut: vethB }, true],
    ['-m physdev ! --physdev-out veth-b', { physIn: vethA, physOut: vethB }, false],
    ['-m physdev ! --physdev-out veth-b', { physIn: vethA }, false], // no port to compare, although negated
    ['-m physdev --physdev-in veth-b', { physOut: vethB }, true], // no port to compare
  ])('%s of %o: %s', (rule, fields, expected) => {
    expect(matches(rule, fields)).toBe(expected);
  });
});
