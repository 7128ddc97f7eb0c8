import { afterAll, describe, expect, test } from 'vitest';
import type { Capture, NodeRules, PacketStep, ParityCase, Topology } from '../case.ts';
import { KernelRefusal, KernelRunner } from './runner.ts';

const TWO_NODES: Topology = {
  nodes: [
    {
      name: 'n1',
      ip: '192.168.1.1',
      podCIDR: '10.244.1.0/24',
      pods: [
        { name: 'p1', ip: '10.244.1.2' },
        { name: 'p2', ip: '10.244.1.3' },
      ],
    },
    { name: 'n2', ip: '192.168.1.2', podCIDR: '10.244.2.0/24', pods: [{ name: 'q1', ip: '10.244.2.2' }] },
  ],
};

const DUAL_STACK: Topology = {
  nodes: [
    {
      name: 'n1',
      podCIDR: '10.244.1.0/24',
      podCIDR6: 'fd00:10:244:1::/64',
      pods: [
        { name: 'p1', ip: '10.244.1.2', ip6: 'fd00:10:244:1::2' },
        { name: 'p2', ip: '10.244.1.3', ip6: 'fd00:10:244:1::3' },
      ],
    },
  ],
};

const QUERY: PacketStep = {
  from: 'p1',
  proto: 'udp',
  src: '10.244.1.2',
  dst: '10.96.0.10',
  sport: 40_000,
  dport: 53,
};
const NAT_CHAINS =
  '*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n';
const nat = (...rules: string[]): NodeRules => ({
  backend: 'legacy',
  text: `${NAT_CHAINS}${rules.join('\n')}\nCOMMIT\n`,
});
const dnatTo = (to: string): string => `-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to ${to}`;

/** `n1/veth0 in 10.244.1.2:40000 > 10.96.0.10:53 ttl 64`, without address resolution. */
const path = (captures: readonly Capture[] = []): string[] =>
  captures
    .filter(({ arp }) => arp === undefined)
    .map(
      ({ ns, dev, dir, src, sport, dst, dport, ttl }) =>
        `${ns}/${dev} ${dir} ${src}:${sport} > ${dst}:${dport} ttl ${ttl}`,
    );

const probe = await KernelRunner.probe();
if (!probe.ok) console.warn(`skipped: the kernel of this machine cannot be asked: ${probe.missing.join('; ')}`);

describe.skipIf(!probe.ok)('the kernel says', () => {
  const kernel = new KernelRunner();
  afterAll(() => kernel.close());

  test('a bridge carries a packet between its pods, and nobody else sees it', async () => {
    const { steps } = await kernel.run({ topology: TWO_NODES, packets: [{ ...QUERY, dst: '10.244.1.3' }] });
    expect(path(steps[0]?.captures)).toEqual([
      'n1/veth0 in 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      'n1/veth1 out 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
      'p2/eth0 in 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
    ]);
  });

  test.each(['legacy', 'nft', 'nftnative'] as const)(
    'a Service on another node is translated, and so is its reply, by %s',
    async (backend) => {
      const native =
        'table ip nat { chain prerouting { type nat hook prerouting priority dstnat; ' +
        'ip daddr 10.96.0.10 udp dport 53 counter dnat to 10.244.2.2:5353; }; }\n';
      const text = backend === 'nftnative' ? native : nat(dnatTo('10.244.2.2:5353')).text;
      const { steps, conntrack, counters } = await kernel.run({
        topology: TWO_NODES,
        rules: { n1: { backend, text } },
        packets: [{ ...QUERY, autoreply: true }],
      });
      expect(path(steps[0]?.captures).at(-1)).toBe('q1/eth0 in 10.244.1.2:40000 > 10.244.2.2:5353 ttl 62');
      expect(path(steps[0]?.reply).at(-1)).toBe('p1/eth0 in 10.96.0.10:53 > 10.244.1.2:40000 ttl 62');
      expect(conntrack).toEqual({
        n1: [
          expect.stringMatching(
            /^ipv4 {5}2 udp {6}17 (30|29) src=10.244.1.2 dst=10.96.0.10 sport=40000 dport=53 src=10.244.2.2 dst=10.244.1.2 sport=5353 dport=40000 mark=0 use=1$/,
          ),
        ],
        n2: [],
      });
      expect(counters.n1).toContain(
        backend === 'nftnative' ? '"counter": {"packets": 1, "bytes": 28}' : '[1:28] -A PRE',
      );
    },
  );

  // The table of a pod that calls itself through a Service: bridge-nf-call-iptables × hairpin mode × who is masqueraded.
  test.each([
    {
      bridgeNf: 0,
      hairpin: false,
      masquerade: false,
      delivered: 'p1/eth0 in 10.244.1.2:40000 > 10.244.1.2:5353 ttl 63',
    },
    {
      bridgeNf: 0,
      hairpin: false,
      masquerade: true,
      delivered: 'p1/eth0 in 10.244.1.1:40000 > 10.244.1.2:5353 ttl 63',
    },
    { bridgeNf: 1, hairpin: false, masquerade: true, delivered: undefined },
    {
      bridgeNf: 1,
      hairpin: true,
      masquerade: false,
      delivered: 'p1/eth0 in 10.244.1.2:40000 > 10.244.1.2:5353 ttl 64',
    },
    { bridgeNf: 1, hairpin: true, masquerade: true, delivered: 'p1/eth0 in 10.244.1.1:40000 > 10.244.1.2:5353 ttl 64' },
  ])('a pod calls itself: $bridgeNf, hairpin $hairpin, masquerade $masquerade', async (row) => {
    const masquerade = '-A POSTROUTING -s 10.244.1.2/32 -d 10.244.1.2/32 -j MASQUERADE';
    const topology: Topology = {
      nodes: [
        {
          name: 'n1',
          podCIDR: '10.244.1.0/24',
          sysctls: { 'net.bridge.bridge-nf-call-iptables': row.bridgeNf },
          pods: [{ name: 'p1', ip: '10.244.1.2', hairpin: row.hairpin }],
        },
      ],
    };
    const rules = { n1: nat(dnatTo('10.244.1.2:5353'), ...(row.masquerade ? [masquerade] : [])) };
    const { steps } = await kernel.run({ topology, rules, packets: [QUERY] });
    const arrived = path(steps[0]?.captures?.filter(({ ns, proto }) => ns === 'p1' && proto === 'udp'));
    expect(arrived).toEqual(row.delivered === undefined ? [] : [row.delivered]);
  });

  test('REJECT says port unreachable, quoting the address that the sender used', async () => {
    const filter = '*filter\n-A FORWARD -p udp -m udp --dport 5353 -j REJECT\nCOMMIT\n';
    const text = nat(dnatTo('10.244.2.2:5353')).text + filter;
    const rules: ParityCase['rules'] = { n1: { backend: 'legacy', text } };
    const { steps } = await kernel.run({ topology: TWO_NODES, rules, packets: [QUERY] });
    expect(steps[0]?.captures?.at(-1)).toMatchObject({
      ...{ ns: 'p1', dir: 'in', proto: 'icmp', type: 3, code: 3, src: '10.96.0.10' },
      quoted: { src: '10.244.1.2', dst: '10.96.0.10', dport: 53, ttl: 63 },
    });
  });

  test('VXLAN wraps what crosses nodes', async () => {
    const topology: Topology = { ...TWO_NODES, overlay: 'vxlan' };
    const { steps } = await kernel.run({ topology, packets: [{ ...QUERY, dst: '10.244.2.2' }] });
    expect(steps[0]?.captures?.find(({ ns, dev }) => ns === 'n2' && dev === 'eth0')).toMatchObject({
      ...{ src: '192.168.1.1', dst: '192.168.1.2', dport: 8472, ttl: 64, len: 28 + 50, vni: 1 },
      inner: { src: '10.244.1.2', dst: '10.244.2.2', ttl: 63, len: 28 },
    });
    expect(path(steps[0]?.captures).at(-1)).toBe('q1/eth0 in 10.244.1.2:40000 > 10.244.2.2:53 ttl 62');
  });

  test('an IPv6 echo request is answered', async () => {
    const ping: PacketStep = { from: 'p1', proto: 'icmpv6', src: 'fd00:10:244:1::2', dst: 'fd00:10:244:1::3' };
    const { steps } = await kernel.run({ topology: DUAL_STACK, packets: [{ ...ping, autoreply: true }] });
    expect(steps[0]?.captures?.at(-1)).toMatchObject({ ns: 'p2', proto: 'icmpv6', type: 128, ttl: 64 });
    expect(steps[0]?.reply?.at(-1)).toMatchObject({ ns: 'p1', proto: 'icmpv6', type: 129, id: 7 });
  });

  test.each([
    // 8 of the UDP header and 1400: 976 and 432, with 20 of IP each.
    { bridge: false, arrived: ['996 at 0', '452 at 976'] },
    // Reassembled while bridging, the datagram goes up to IP as one, and nobody remembers that it was not (ip_rcv_core).
    { bridge: true, arrived: ['1428 at 0'] },
  ])('rules see fragments as one datagram, which leaves as it came if not bridged: $bridge', async (row) => {
    const [n1, n2] = TWO_NODES.nodes;
    if (n1 === undefined || n2 === undefined) throw new Error('there are two nodes');
    const text = '*filter\n-A FORWARD -p udp -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT\n';
    const { steps, counters } = await kernel.run({
      topology: { nodes: [{ ...n1, bridge: row.bridge }, n2] },
      rules: { n1: { backend: 'legacy', text } },
      packets: [{ ...QUERY, dst: '10.244.2.2', pad: 1400, fragmentMtu: 1000 }],
    });
    const arrived = steps[0]?.captures?.filter(({ ns }) => ns === 'q1');
    expect(arrived?.map(({ len, frag = 0 }) => `${len} at ${(frag & 0x1fff) * 8}`)).toEqual(row.arrived);
    expect(counters.n1).toContain('[1:1428] -A FORWARD');
  });

  test('sockets connect, are refused, and hear echoes', async () => {
    const [n1, n2] = TWO_NODES.nodes;
    if (n1 === undefined || n2 === undefined) throw new Error('there are two nodes');
    const withStacks = (node: typeof n1) => ({ ...node, pods: node.pods.map((pod) => ({ ...pod, stack: true })) });
    const to = { in: 'p1', ip: '10.244.2.2', port: 80 } as const;
    const { steps } = await kernel.run({
      topology: { nodes: [withStacks(n1), withStacks(n2)] },
      packets: [
        { socket: { do: 'connect', proto: 'tcp', ...to } },
        { socket: { do: 'listen', in: 'q1', proto: 'tcp', port: 80 } },
        { socket: { do: 'connect', proto: 'tcp', ...to, sport: 40_000 } },
        { socket: { do: 'connect', proto: 'udp', ...to } },
        { socket: { do: 'listen', in: 'q1', proto: 'udp', port: 80 } },
        { socket: { do: 'connect', proto: 'udp', ...to } },
        { socket: { do: 'connect', proto: 'tcp', in: 'p1', ip: '10.244.1.99', port: 80, timeoutMs: 20 } },
      ],
    });
    const words = steps.map(({ socket }) => socket);
    const [refused, listening] = ['ECONNREFUSED', 'listening'];
    expect(words).toEqual([refused, listening, 'connected', refused, listening, 'answered', 'ETIMEDOUT']);
    const flags = steps[2]?.captures?.filter(({ ns, dir }) => ns === 'p1' && dir === 'out').map((frame) => frame.flags);
    expect(flags).toEqual(['S', 'A']);
  });

  test('rules of an earlier case are gone, whatever their backend', async () => {
    const drop = '*filter\n:FORWARD DROP [0:0]\nCOMMIT\n';
    const ipset = 'create blocked hash:ip\nadd blocked 10.244.1.2\n';
    const withSet = '*raw\n-A PREROUTING -m set --match-set blocked src -j DROP\nCOMMIT\n';
    const native = 'table ip t { chain c { type filter hook forward priority 0; policy drop; }; }\n';
    const cases: NodeRules[] = [
      { backend: 'legacy', text: drop },
      { backend: 'legacy', text: withSet, ipset },
      { backend: 'nft', text: drop },
      { backend: 'nft', text: withSet, ipset },
      { backend: 'nftnative', text: native },
    ];
    for (const rules of cases) {
      const packets = [{ ...QUERY, dst: '10.244.2.2' }];
      const blocked = await kernel.run({ topology: TWO_NODES, rules: { n1: rules }, packets });
      expect(path(blocked.steps[0]?.captures)).toEqual(['n1/veth0 in 10.244.1.2:40000 > 10.244.2.2:53 ttl 64']);
      const free = await kernel.run({ topology: TWO_NODES, packets });
      expect(path(free.steps[0]?.captures)).toHaveLength(5);
      expect(free.conntrack).toEqual({ n1: [], n2: [] });
      expect(free.counters).toEqual({});
    }
  });

  describe('what an earlier case cannot take back is not met by the next', () => {
    /** By node that sent it. */
    const redirects = (captures: readonly Capture[] = []): string[] =>
      captures.filter(({ dir, type }) => dir === 'out' && (type === 5 || type === 137)).map(({ ns }) => ns);

    test('hooks of a legacy nat table that was loaded on the way', async () => {
      const tracking = '*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n';
      const parityCase: ParityCase = {
        topology: TWO_NODES,
        rules: { n2: { backend: 'legacy', text: tracking } },
        packets: [{ ...QUERY, from: 'n1/eth0', src: '192.168.1.1', dst: '10.244.1.3' }, { rules: { n2: nat() } }],
      };
      for (const time of ['first', 'second']) {
        const { steps } = await kernel.run(parityCase);
        expect(redirects(steps[0]?.captures), time).toEqual(['n2']);
      }
    });

    test.each(['fd00:10:96::1', 'fd00:10:244:1::77'])('a limit that ICMPv6 about %s has used up', async (dst) => {
      const query = { ...QUERY, src: 'fd00:10:244:1::2' };
      await kernel.run({ topology: DUAL_STACK, packets: Array<PacketStep>(6).fill({ ...query, dst }) });
      const { steps } = await kernel.run({ topology: DUAL_STACK, packets: [{ ...query, dst: 'fd00:10:244:1::78' }] });
      expect(redirects(steps[0]?.captures)).toEqual(['n1']);
    });

    test('fragments that wait for the rest of their datagram', async () => {
      const tracking = nat('-A POSTROUTING -s 10.244.9.9/32 -j MASQUERADE');
      const dropRest: NodeRules = { backend: 'legacy', text: '*raw\n-A PREROUTING -f -j DROP\nCOMMIT\n' };
      const datagram = { ...QUERY, dst: '10.244.2.2', pad: 1_400, ipid: 7 };
      const arrived = async (n1: NodeRules | undefined, fragmentMtu: number): Promise<number | undefined> => {
        const rules: ParityCase['rules'] = n1 === undefined ? { n2: tracking } : { n1, n2: tracking };
        const { steps } = await kernel.run({ topology: TWO_NODES, rules, packets: [{ ...datagram, fragmentMtu }] });
        return steps[0]?.captures?.filter(({ ns }) => ns === 'q1').length;
      };
      expect(await arrived(dropRest, 576)).toBe(0);
      expect(await arrived(undefined, 1_000)).toBe(2);
    });
  });

  test('a rule that its tool refuses is an error with the line, and the next case is not affected', async () => {
    const wrong = { n1: nat('-A PREROUTING -j NOWHERE') };
    const refusal = kernel.run({ topology: TWO_NODES, rules: wrong, packets: [QUERY] });
    await expect(refusal).rejects.toThrow(KernelRefusal);
    await expect(refusal).rejects.toThrow(
      /^n1: iptables-legacy-restore: .*\bline: 6\b|^n1: iptables-legacy-restore: .*line 6\b/s,
    );
    const { counters } = await kernel.run({ topology: TWO_NODES, packets: [] });
    expect(counters).toEqual({});
  });
});
