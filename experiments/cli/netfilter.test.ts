import { describe, expect, test } from 'vitest';
import { Cluster } from '../../models/cluster.ts';
import { printIptablesSave, saveTables } from '../../models/netfilter/iptables-save.ts';
import { podwire, TemporaryDirectory } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();

/** What iptables-save prints on a node of a cluster with so many Services of seven endpoints each. */
function dumpOf(services: number): string {
  const cluster = new Cluster({ seed: '1' });
  cluster.addNodes(1);
  for (let i = 1; i <= services; i++) cluster.addService({ name: `svc-${i}`, port: 80, endpoints: 7 });
  cluster.start();
  return printIptablesSave(saveTables(cluster.nodes[0]!.machine.root.netfilter!.tables));
}

const FIREWALL = directory.file(
  'firewall.rules',
  `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POLICY - [0:0]
-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
-A INPUT -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -o eth1 -j POLICY
-A POLICY -p udp -m udp --dport 53 -j RETURN
-A POLICY -m statistic --mode random --probability 0.25 -j DROP
-A POLICY -j REJECT --reject-with icmp-admin-prohibited
COMMIT
`,
);

const firewall = (packet: string, ...options: string[]) =>
  podwire(['netfilter', '--rules', FIREWALL, '--packet', packet, '--local', '192.0.2.1', ...options]);

describe('a node with 1,000 Services of seven endpoints', () => {
  const text = dumpOf(1_000);
  const rules = directory.file('node-1.rules', text);
  const [, clusterIp = ''] = /-d ([\d.]+)\/32 .*default\/svc-500 cluster IP/.exec(text) ?? [];
  const walk = (...options: string[]) =>
    podwire(['netfilter', '--rules', rules, '--packet', `tcp 10.244.0.5:4000 > ${clusterIp}:80`, ...options]);

  test('sends a seventh of the connections to each endpoint, and the shares sum to 1', async () => {
    const { exitCode, stdout, stderr } = await walk('--in', 'cbr0');
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    const [summary = ''] = stdout.split('in all');
    expect(summary.match(/^ +14\.285714 % {2}accepted .* to the next hop$/gm)).toHaveLength(7);
    expect(stdout).toMatch(/^ *100\.000000 % {2}in all$/m);
    expect(stdout).toMatch(new RegExp(`nat KUBE-SERVICES #\\d+ +-d ${clusterIp}/32 .*svc-500 cluster IP`));
  });

  test('says the same as JSON', async () => {
    const outcomes = JSON.parse((await walk('--json')).stdout) as { probability: number; walk: { stage: string }[] }[];
    expect(outcomes).toHaveLength(7);
    for (const { probability } of outcomes) expect(probability).toBeCloseTo(1 / 7, 8);
    expect(outcomes.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 12);
    expect(outcomes[0]!.walk.filter(({ stage }) => stage === 'rule').length).toBeGreaterThan(4);
  });
});

describe('a firewall', () => {
  test('is walked rule by rule, in the order of the hooks', async () => {
    expect((await firewall('tcp 198.51.100.7:4000 > 192.0.2.1:22', '--in', 'eth0')).stdout).toMatchInlineSnapshot(`
      "198.51.100.7:4000 > 192.0.2.1:22 tcp [S], in eth0

        conntrack    NEW tcp 198.51.100.7:4000 > 192.0.2.1:22
        route        192.0.2.1 is an address of the node
        INPUT        filter INPUT #2  -i eth0 -p tcp -m tcp --dport 22 -j ACCEPT
        conntrack    confirmed

      100.000000 %  accepted  198.51.100.7:4000 > 192.0.2.1:22 tcp [S] to this node
      "
    `);
  });

  test.for([
    ['tcp 198.51.100.7:4000 > 192.0.2.1:22', '', /100.000000 % {2}dropped/],
    ['tcp 198.51.100.7:4000 > 192.0.2.1:80', '--in eth0', /100.000000 % {2}dropped/],
    ['tcp 198.51.100.7:4000 > 192.0.2.1:80', '--in eth0 --state ESTABLISHED', /100.000000 % {2}accepted/],
    ['tcp 198.51.100.7:4000 > 192.0.2.9:80', '', /100.000000 % {2}accepted.* to the next hop/],
    ['tcp 198.51.100.7:4000 > 192.0.2.9:80', '--state invalid', /100.000000 % {2}dropped/],
    ['udp 198.51.100.7:4000 > 192.0.2.9:53', '--out eth1', /100.000000 % {2}accepted/],
    ['tcp 198.51.100.7:4000 > 192.0.2.9:80', '--out eth1', / 75.000000 % {2}rejected with icmp-admin-prohibited/],
    ['tcp 198.51.100.7:4000 > 192.0.2.9:80 [R]', '', /100.000000 % {2}dropped/], // no connection has that
    ['icmp 198.51.100.7 > 192.0.2.9', '--out eth1', / 25.000000 % {2}dropped/],
    ['icmp 192.0.2.1 > 192.0.2.9', '--sent-here', /100.000000 % {2}accepted/],
    ['tcp 192.0.2.1:4000 > 192.0.2.1:80', '--sent-here', /100.000000 % {2}dropped/],
  ] as const)('%s %s', async ([packet, options, expected]) => {
    const { stdout } = await firewall(packet, ...options.split(' ').filter((word) => word !== ''));
    expect(stdout).toMatch(expected);
  });
});

describe('wrong use is told in one line', () => {
  test.for([
    ['tcp 10.0.0.1 > 10.0.0.2:80', '"10.0.0.1"; expected ADDRESS:PORT'],
    ['tcp 10.0.0.1:4000 10.0.0.2:80', 'expected PROTOCOL ADDRESS:PORT > ADDRESS:PORT'],
    ['tcp 10.0.0.1:4000 > 10.0.0.300:80', 'IP address "10.0.0.300"'],
    ['tcp 10.0.0.1:4000 > 10.0.0.3:65536', 'expected ADDRESS:PORT'],
    ['tcp 10.0.0.1:4000 > [fd00::1]:80', 'addresses of two families'],
    ['icmp fd00::1 > fd00::2', 'expected icmp with IPv4 addresses'],
    ['gre 10.0.0.1 > 10.0.0.2', 'expected PROTOCOL'],
  ] as const)('--packet %s', async ([packet, message]) => {
    const { exitCode, stdout, stderr } = await firewall(packet);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  });

  test.for([
    ['no-such-file.rules', /cannot read no-such-file\.rules/],
    [directory.file('bad.rules', '*filter\n-A INPUT -j ACCEPT\nCOMMIT\n'), /bad\.rules:2: /],
    [directory.file('bytes.rules', new Uint8Array([0, 255, 10, 42, 200])), /bytes\.rules:\d+: /],
  ] as const)('--rules %s', async ([file, message]) => {
    const { exitCode, stderr } = await podwire(['netfilter', '--rules', file, '--packet', 'icmp 10.0.0.1 > 10.0.0.2']);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  });

  test('--state SLEEPING', async () => {
    const { stderr } = await firewall('icmp 10.0.0.1 > 10.0.0.2', '--state', 'SLEEPING');
    expect(stderr).toContain('Expected one of NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED.');
  });

  test('--local outside', async () => {
    const { exitCode, stderr } = await podwire([
      'netfilter',
      '--rules',
      FIREWALL,
      '--packet',
      'icmp 10.0.0.1 > 10.0.0.2',
      '--local',
      'here',
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining('IP address "here"') });
  });
});

test('IPv6 packets take the rules of ip6tables-save', async () => {
  const rules = directory.file(
    'node6.rules',
    `*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -d fd00:10:96::a/128 -p tcp -m tcp --dport 53 -j DNAT --to-destination [fd00:10:244::5]:8053
COMMIT
`,
  );
  const packet = 'tcp [fd00:10:244::9]:4000 > [fd00:10:96::a]:53';
  const { stdout } = await podwire(['netfilter', '--rules', rules, '--packet', packet]);
  expect(stdout).toContain('accepted  [fd00:10:244::9]:4000 > [fd00:10:244::5]:8053 tcp [S] to the next hop');
});

describe('nftables', () => {
  const rules = directory.file(
    'kube-proxy.nft',
    `table ip kube-proxy {
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.10 . tcp . 80 : goto service-web }
	}

	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @service-ips
	}

	chain service-web {
		numgen random mod 3 vmap { 0 : goto endpoint-a, 1 : goto endpoint-b, 2 : goto endpoint-c }
	}

	chain endpoint-a {
		meta l4proto tcp dnat to 10.244.1.2:8080
	}

	chain endpoint-b {
		meta l4proto tcp dnat to 10.244.1.3:8080
	}

	chain endpoint-c {
		meta l4proto tcp dnat to 10.244.2.2:8080
	}
}
`,
  );

  test('verdict maps and numgen branch like -m statistic', async () => {
    const packet = 'tcp 10.244.1.9:4000 > 10.96.0.10:80';
    const { exitCode, stdout, stderr } = await podwire(['netfilter', '--rules', rules, '--packet', packet]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    for (const endpoint of ['10.244.1.2', '10.244.1.3', '10.244.2.2'])
      expect(stdout).toContain(` 33.333333 %  accepted  10.244.1.9:4000 > ${endpoint}:8080 tcp [S] to the next hop\n`);
    expect(stdout).toContain('100.000000 %  in all');
    expect(stdout).toContain('ip daddr . meta l4proto . th dport vmap @service-ips');
  });
});

test('rules may name sets', async () => {
  const sets = directory.file('node.ipset', 'create BLOCKED hash:ip family inet\nadd BLOCKED 198.51.100.7\n');
  const rules = directory.file(
    'sets.rules',
    '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m set --match-set BLOCKED src -j DROP\nCOMMIT\n',
  );
  const walk = (source: string) =>
    podwire(['netfilter', '--rules', rules, '--ipset', sets, '--packet', `icmp ${source} > 10.244.1.2`]);
  expect((await walk('198.51.100.7')).stdout).toContain('dropped');
  expect((await walk('198.51.100.8')).stdout).toContain('accepted');
});

test('what is not modelled is an error with its line, or a note where leniency is asked for', async () => {
  const rules = directory.file(
    'u32.rules',
    '*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m u32 --u32 "6&0xFF=1" -j ACCEPT\nCOMMIT\n',
  );
  const walk = (...options: string[]) =>
    podwire(['netfilter', '--rules', rules, '--packet', 'icmp 10.0.0.1 > 10.0.0.2', ...options]);
  const strict = await walk();
  expect({ exitCode: strict.exitCode, stdout: strict.stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(strict.stderr).toMatch(/u32\.rules:3: .*u32/);
  const lenient = await walk('--lenient');
  expect(lenient.stdout).toContain('100.000000 %  dropped');
  expect(lenient.stderr).toMatch(/^not modelled, matches nothing: .*u32\.rules:3: .*u32/);
});
