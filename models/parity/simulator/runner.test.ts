import { expect, test } from 'vitest';
import type { Capture, NodeRules, ParityCase, Topology } from '../case.ts';
import { EndlessCaseError } from '../case-error.ts';
import { differencesOf } from '../judge.ts';
import { runInSimulator } from './runner.ts';

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
    { name: 'n2', ip: '192.168.1.2', podCIDR: '10.244.2.0/24', pods: [{ name: 'p3', ip: '10.244.2.2' }] },
  ],
};

const QUERY = { from: 'p1', proto: 'udp', src: '10.244.1.2', dst: '10.96.0.10', sport: 40_000, dport: 53 } as const;

const DNAT = `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -d 10.96.0.10/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.2.2:5353
COMMIT
`;

/** `n1/veth0 in 10.244.1.2:40000 > 10.96.0.10:53 ttl 64`, without address resolution. */
const path = (captures: readonly Capture[] = []): string[] =>
  captures
    .filter(({ arp }) => arp === undefined)
    .map(
      ({ ns, dev, dir, src, sport, dst, dport, ttl }) =>
        `${ns}/${dev} ${dir} ${src}:${sport} > ${dst}:${dport} ttl ${ttl}`,
    );

test('a packet to a Service is seen at every device on its way, and so is the automatic reply', () => {
  const parityCase: ParityCase = {
    topology: TWO_NODES,
    rules: { n1: { backend: 'legacy', text: DNAT } },
    packets: [{ ...QUERY, autoreply: true }],
  };
  const { steps, conntrack, counters } = runInSimulator(parityCase);
  expect(path(steps[0]!.captures)).toEqual([
    'n1/veth0 in 10.244.1.2:40000 > 10.96.0.10:53 ttl 64',
    'n1/eth0 out 10.244.1.2:40000 > 10.244.2.2:5353 ttl 63',
    'n2/eth0 in 10.244.1.2:40000 > 10.244.2.2:5353 ttl 63',
    'n2/veth0 out 10.244.1.2:40000 > 10.244.2.2:5353 ttl 62',
    'p3/eth0 in 10.244.1.2:40000 > 10.244.2.2:5353 ttl 62',
  ]);
  expect(path(steps[0]!.reply).at(-1)).toBe('p1/eth0 in 10.96.0.10:53 > 10.244.1.2:40000 ttl 62');
  expect(conntrack).toEqual({
    n1: [
      expect.stringMatching(
        /^ipv4 {5}2 udp {6}17 30 src=10.244.1.2 dst=10.96.0.10 sport=40000 dport=53 src=10.244.2.2/,
      ),
    ],
    n2: [],
  });
  expect(counters.n1).toContain('[1:28] -A PREROUTING');
});

test('time passes in a wait step only: a neighbor that is not there is given up after three seconds', () => {
  const parityCase: ParityCase = {
    topology: { ...TWO_NODES, cold: true },
    packets: [{ ...QUERY, dst: '10.244.2.77' }, { waitMs: 3_500 }],
  };
  const { steps } = runInSimulator(parityCase);
  expect(path(steps[0]!.captures).at(-1)).toBe('n2/eth0 in 10.244.1.2:40000 > 10.244.2.77:53 ttl 63');
  expect(steps[1]!.captures?.filter(({ type, code }) => type === 3 && code === 1).at(-1)).toMatchObject({ ns: 'p1' });
});

test('rules are replaced between packets, table by table', () => {
  const other = DNAT.replace('10.244.2.2:5353', '10.244.1.3:5353');
  const parityCase: ParityCase = {
    topology: TWO_NODES,
    rules: { n1: { backend: 'legacy', text: DNAT } },
    packets: [
      QUERY,
      { rules: { n1: { backend: 'legacy', text: other } } },
      QUERY,
      { flush: 'conntrack' },
      { ...QUERY, ttl: 9 },
    ],
  };
  const reached = runInSimulator(parityCase).steps.map(({ captures }) => captures?.at(-1)?.ns);
  expect(reached).toEqual(['p3', undefined, 'p3', undefined, 'p2']);
});

test('the pods of a node with routed veths are reached without a bridge', () => {
  const [n1, n2] = TWO_NODES.nodes;
  const topology = { nodes: [{ ...n1!, bridge: false }, n2!] };
  const { steps } = runInSimulator({ topology, packets: [{ ...QUERY, dst: '10.244.1.3' }] });
  expect(path(steps[0]!.captures)).toEqual([
    'n1/veth0 in 10.244.1.2:40000 > 10.244.1.3:53 ttl 64',
    'n1/veth1 out 10.244.1.2:40000 > 10.244.1.3:53 ttl 63',
    'p2/eth0 in 10.244.1.2:40000 > 10.244.1.3:53 ttl 63',
  ]);
});

test('sockets listen, connect and are refused', () => {
  const [n1, n2] = TWO_NODES.nodes;
  const nodes = [n1!, n2!].map((node) => ({ ...node, pods: node.pods.map((pod) => ({ ...pod, stack: true })) }));
  const call = { do: 'connect', in: 'p1', proto: 'tcp', ip: '10.244.2.2' } as const;
  const { steps } = runInSimulator({
    topology: { nodes },
    packets: [
      { socket: { do: 'listen', in: 'p3', proto: 'tcp', port: 80 } },
      { socket: { ...call, port: 80 } },
      { socket: { ...call, port: 81 } },
    ],
  });
  expect(steps.map(({ socket }) => socket)).toEqual(['listening', 'connected', 'ECONNREFUSED']);
  expect(steps[1]!.captures?.filter(({ ns, dir }) => ns === 'p3' && dir === 'in').map(({ flags }) => flags)).toEqual([
    'S',
    'A',
  ]);
});

test('the first fragment of a tunnel datagram shows what is in the tunnel', () => {
  const text = `*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.1.2
COMMIT
`;
  const { steps } = runInSimulator({
    topology: { ...TWO_NODES, overlay: 'vxlan' },
    rules: { n2: { backend: 'legacy', text } },
    packets: [{ ...QUERY, dst: '10.244.2.2', pad: 1400 }],
  });
  // n2 sends the 1478 bytes back into the tunnel, whose MTU is 1450.
  const sent = steps[0]!.captures!.filter(({ ns, dev, dir }) => ns === 'n2' && dev === 'eth0' && dir === 'out');
  expect(sent.map(({ inner }) => [inner?.len, inner?.frag, inner?.inner?.dst])).toEqual([
    [1_444, 0x2000, '10.244.2.2'],
    [54, 178, undefined],
  ]);
});

test('errors about errors in tunnels, for ever, are such a case, too', () => {
  const nat = (...rules: string[]): string =>
    `*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n${rules.map((rule) => `-A ${rule}\n`).join('')}COMMIT\n`;
  const toNobody = 'PREROUTING -p udp -j DNAT --to-destination 10.244.2.2:8080';
  const parityCase: ParityCase = {
    topology: { ...TWO_NODES, overlay: 'vxlan' },
    rules: {
      n1: { backend: 'legacy', text: nat(toNobody, 'POSTROUTING -j SNAT --to-source 10.244.1.2') },
      n2: { backend: 'legacy', text: nat('PREROUTING -p udp --dport 8080 -j REDIRECT') },
    },
    packets: [{ ...QUERY, dst: '10.96.0.1' }],
  };
  expect(() => runInSimulator(parityCase)).toThrow(EndlessCaseError);
});

test('a case that never ends is an error, and the kernel is not asked', async () => {
  /** What comes out of the tunnel goes into it, within headers of its own. */
  const back = (destination: string): NodeRules => ({
    backend: 'legacy',
    text: `*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp --dport 8472 -j DNAT --to-destination ${destination}\nCOMMIT\n`,
  });
  const parityCase: ParityCase = {
    topology: { ...TWO_NODES, overlay: 'vxlan' },
    rules: { n1: back('10.244.2.2'), n2: back('10.244.1.2') },
    packets: [{ ...QUERY, dst: '10.244.2.2' }],
  };
  expect(() => runInSimulator(parityCase)).toThrow(EndlessCaseError);
  expect(await differencesOf(parityCase, { run: () => expect.unreachable() })).toEqual([]);
});
