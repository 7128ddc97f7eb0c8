// What rules of nftables match: every expression and statement that is modelled, one per rule with a counter behind it, and
// the same eight packets before all of them. What is compared is how often each rule matched.

import type { PacketStep, Topology } from '../case.ts';
import type { Fact } from './fact.ts';

/** `$` is where the counter stands, if not at the end. */
const FORMS = `
  ct state new
  ct state established,related
  ct state { new, established }
  ct state != invalid
  ct state vmap { invalid : jump svc, established : jump svc2, new : continue }
  ct status assured
  ct status seen-reply,dnat
  ct status & confirmed == confirmed
  ct direction original
  ct direction reply
  ct mark 0
  ct mark & 0xff != 0
  ct original ip saddr 10.244.1.2
  ct reply ip daddr 10.244.0.0/16
  ct original ip daddr != 10.244.2.2
  meta l4proto tcp ct original proto-dst 80
  meta l4proto tcp ct reply proto-src 80-90
  ct protocol udp
  ct zone 0
  ct expiration > 1m
  ct expiration < 31s
  meta l4proto { tcp, udp }
  meta l4proto != tcp
  iif != "lo"
  iifname "veth0"
  iifname "veth*"
  oifname != "veth*"
  iifname . oifname { "veth0" . "eth0" }
  iifname { "eth0", "veth*" }
  meta mark set 0x10
  meta mark & 0x30 == 0x10
  meta mark 1-16
  meta mark set meta mark & 0xff | 0x100
  meta mark { 0x110, 0x120 }
  meta mark set ip saddr map @m4
  meta mark 0x1
  meta mark set udp dport map @m2
  meta mark 2
  ct mark set meta mark
  ct mark 2
  meta nfproto ipv4
  meta protocol ip
  meta length 40
  meta length > 100
  meta length 28-40
  meta pkttype host
  meta pkttype != broadcast
  th dport 53
  th sport > 1000
  tcp dport 80-90
  tcp dport != { 80, 443 }
  tcp dport >= 443
  tcp dport < 443
  tcp flags syn
  tcp flags & (fin|syn|rst|ack) == syn
  tcp flags ! syn
  tcp flags != syn
  tcp flags == syn
  tcp flags syn,ack
  tcp flags { syn, ack }
  tcp flags syn / syn,ack
  tcp flags & (syn|ack) == syn|ack
  icmp type echo-request
  icmp type != echo-reply
  icmp code 0
  ip ttl < 10
  ip ttl 63
  ip ttl != 63
  ip length < 100
  ip dscp cs1
  ip dscp != cs0
  ip dscp { cs0, af11 }
  ip ecn not-ect
  ip frag-off & 0x1fff != 0
  ip frag-off & 0x4000 != 0
  ip id 0
  ip saddr @s1
  ip saddr != @s1
  ip saddr . meta l4proto . th dport @s2
  ip daddr . tcp dport @s4
  ip saddr { 10.244.1.2, 10.244.1.128-10.244.1.130, 10.244.2.0/24 }
  ip saddr 10.244.1.2-10.244.1.3
  ip saddr & 0.0.0.255 == 0.0.0.3
  ip saddr & 255.255.255.0 == 10.244.1.0
  ip daddr . tcp dport { 10.244.2.2 . 80, 10.244.1.0/24 . 400-450 }
  fib daddr type local
  fib daddr type unicast
  fib saddr type != local
  fib daddr type { unicast, broadcast }
  fib saddr . iif oif missing
  fib saddr . iif oif exists
  fib daddr oif exists
  fib daddr oifname "eth0"
  fib saddr oifname "veth0"
  fib daddr . iif type local
  fib daddr . iif type unicast
  fib daddr . oif type unicast
  fib daddr type vmap { unicast : jump svc, local : drop }
  numgen inc mod 2 0
  numgen inc mod 3 offset 5 6
  numgen inc mod 3 vmap { 0 : jump svc, 1 : continue }
  jhash ip saddr mod 4 seed 0x1234 0
  jhash ip saddr mod 4 seed 0x1234 1
  jhash ip saddr mod 4 seed 0x1234 2
  jhash ip saddr . tcp dport mod 8 seed 0xdeadbeef offset 1 > 4
  jhash ip saddr . ip daddr . meta l4proto mod 8 seed 7 > 4
  jhash iifname mod 8 seed 7 < 4
  jhash meta mark mod 8 seed 7 < 4
  jhash tcp dport . ip saddr . ct mark mod 100 seed 99 < 50
  update @s3 { ip saddr }
  ip daddr @s3
  add @s3 { ip daddr timeout 10s }
  ip saddr @s3
  delete @s3 { ip saddr }
  ip saddr @s3
  limit rate 2/hour burst 3 packets
  limit rate over 2/hour burst 3 packets
  limit rate over 1 bytes/hour burst 150 bytes
  limit rate 10 bytes/day burst 1 kbytes
  quota over 100 bytes
  quota until 100 bytes
  $ quota over 60 bytes
  counter name "cnt"
  tcp dport vmap { 80-90 : jump svc, * : continue }
  ip saddr vmap { 10.244.2.0/24 : jump svc, * : continue }
  ip daddr . th dport vmap { 10.244.2.2 . 53 : jump svc2 }
  tcp dport 80 tcp option maxseg size set 1200
  notrack
  ct state untracked
  icmpv6 type echo-request
  ip6 saddr fd00::1
`;

const TABLE = `table inet t {
	counter cnt {
	}
	set s1 {
		type ipv4_addr
		flags interval
		elements = { 10.244.0.0/16, 192.168.1.1-192.168.1.77 }
	}
	set s2 {
		type ipv4_addr . inet_proto . inet_service
		elements = { 10.244.1.2 . tcp . 80, 10.244.1.2 . udp . 53 }
	}
	set s3 {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 3h
	}
	set s4 {
		typeof ip daddr . tcp dport
		flags interval
		elements = { 10.244.2.0/24 . 80-90, 10.1.0.0-10.1.0.5 . 443 }
	}
	map m2 {
		type inet_service : mark
		elements = { 80 : 0x1, 53 : 0x2 }
	}
	map m4 {
		type ipv4_addr : mark
		flags interval
		elements = { 10.244.1.0/24 : 0x1, 10.244.2.0/24 : 0x2 }
	}
	chain svc {
		counter
	}
	chain svc2 {
		return
	}
`;

const TOPOLOGY: Topology = {
  nodes: [
    {
      name: 'n1',
      ip: '192.168.1.1',
      podCIDR: '10.244.1.0/24',
      bridge: false,
      pods: [
        { name: 'p1', ip: '10.244.1.2' },
        { name: 'p2', ip: '10.244.1.3' },
      ],
    },
    { name: 'n2', ip: '192.168.1.2', podCIDR: '10.244.2.0/24', pods: [{ name: 'q1', ip: '10.244.2.2' }] },
  ],
};

const fromP1 = { from: 'p1', src: '10.244.1.2', dst: '10.244.2.2', sport: 1234 } as const;
const fromQ1 = { from: 'q1', src: '10.244.2.2', dst: '10.244.1.3', sport: 53, seq: 5, ack: 6 } as const;
const PACKETS: readonly PacketStep[] = [
  { ...fromP1, proto: 'tcp', dport: 80, autoreply: true },
  { ...fromP1, proto: 'udp', dport: 53, autoreply: true, tos: 0x20 },
  { ...fromP1, proto: 'udp', dport: 53, autoreply: true, pad: 100 },
  { from: 'p2', proto: 'icmp', src: '10.244.1.3', dst: '10.244.2.2', ttl: 5 },
  { ...fromQ1, proto: 'tcp', dport: 443, flags: 'A' },
  { ...fromQ1, proto: 'tcp', dport: 444, flags: 'SA' },
  { ...fromP1, proto: 'tcp', dport: 80, flags: 'A', seq: 1, ack: 501 },
  { from: 'p2', proto: 'udp', src: '10.244.1.3', dst: '10.244.1.2', sport: 22, dport: 85, df: true },
];

const RULES_PER_CASE = 20;

/** Rules of one case see the marks and elements that rules before them have set. */
export const NFT_FORMS: readonly Fact[] = chunks(FORMS.trim().split(/\s*\n\s*/)).map((forms, i) => ({
  name: `nft-forms-${i + 1}`,
  says: `nftables: ${forms[0]}, ${forms[1]}, …: rule by rule, how many packets match`,
  case: { topology: TOPOLOGY, rules: { n1: { backend: 'nftnative', text: tableWith(forms) } }, packets: PACKETS },
  shows: [],
  watch: { steps: false },
}));

function tableWith(forms: readonly string[]): string {
  const rules = forms.map((form) => (form.includes('$') ? form.replace('$', 'counter') : `${form} counter`));
  const lines = ['type filter hook forward priority filter;', ...rules].map((line) => `\t\t${line}\n`);
  return `${TABLE}\tchain c {\n${lines.join('')}\t}\n}\n`;
}

function chunks(forms: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(forms.length / RULES_PER_CASE) }, (_, i) =>
    forms.slice(i * RULES_PER_CASE, (i + 1) * RULES_PER_CASE),
  );
}
