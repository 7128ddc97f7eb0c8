import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { podwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const manifests = directory.file('two-nodes.yaml', TWO_NODES);

const rules = (line: string) => podwire(['rules', '-f', manifests, ...line.split(' ')]);

test('prints what iptables-save prints on the node', async () => {
  const { exitCode, stdout, stderr } = await rules('--node near');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const tables = stdout.split('\n').filter((line) => line.startsWith('*'));
  expect(tables.sort()).toEqual(['*filter', '*mangle', '*nat']);
  const portal = '-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp';
  expect(stdout).toMatch(new RegExp(`^${portal} --dport 80 -j KUBE-SVC-[A-Z2-7]{16}$`, 'm'));
  expect(stdout).toMatch(/^-A KUBE-SEP-\w+ -p tcp .* -j DNAT --to-destination 10\.244\.1\.2:8080$/m);
  expect(stdout).toMatch(
    /^-A KUBE-SERVICES -d 10\.96\.0\.11\/32 .*has no endpoints.* -j REJECT --reject-with icmp-port/m,
  );
});

test('the same seed gives the same text; nodes differ in nothing but the order of Services', async () => {
  const near = (await rules('--node near')).stdout;
  expect((await rules('--node near')).stdout).toBe(near);
  const far = (await rules('--node far')).stdout;
  expect(far.split('\n').sort()).toEqual(near.split('\n').sort());
});

test('in nftables mode, prints what nft list ruleset prints', async () => {
  const { exitCode, stdout, stderr } = await rules('--node near --proxy nftables');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.match(/^table .*$/gm)).toEqual(['table ip kube-proxy {']);
  expect(stdout).toMatch(/10\.96\.0\.10 \. tcp \. 80 : goto service-[A-Z2-7]{8}-default\/web\/tcp\/http/);
  expect(stdout).toMatch(/^\t\tmeta l4proto tcp dnat to 10\.244\.1\.2:8080$/m);
  expect(stdout).toMatch(/10\.96\.0\.11 \. \w+ \. \d+ comment "[^"]+" : goto reject-chain/);
});

test('in IPVS mode, prints what ipvsadm -Ln, ipset list and iptables-save print', async () => {
  const { exitCode, stdout, stderr } = await rules('--node near --proxy ipvs');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout.match(/^# .*$/gm)).toEqual(['# ipvsadm -Ln', '# ipset list', '# iptables-save']);
  expect(stdout).toMatch(/^TCP {2}10\.96\.0\.10:80 rr\n {2}-> 10\.244\.1\.2:8080 +Masq +1 +0 +0 +$/m);
  expect(stdout).toMatch(/^Name: KUBE-CLUSTER-IP\nType: hash:ip,port\n(.*\n)+?10\.96\.0\.10,tcp:80$/m);
  expect(stdout).toMatch(/^-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT$/m);
});

test('of the eBPF-style replacement, prints its table, and says what it is', async () => {
  const { exitCode, stdout, stderr } = await rules('--node near --proxy ebpf');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toMatch(/^# ebpf is .* a model without an oracle/);
  expect(stdout).toMatch(/^10\.96\.0\.10:80 tcp {2}default\/web:http\n {2}sockets: 10\.244\.1\.2:8080/m);
});

test('in a dual-stack cluster, prints the tables of either family', async () => {
  const dual = ['rules', '--node', 'node-1', '--ip-family', 'dual'];
  const { stdout: ipv4 } = await podwire(dual);
  expect(ipv4).toBe((await podwire(['rules', '--node', 'node-1'])).stdout);
  const { stdout: ipv6 } = await podwire([...dual, '--family', '6']);
  expect(ipv6).toMatch(/^-A KUBE-SERVICES -d fd00:10:96::[0-9a-f:]+\/128 -p tcp .*"shop\/cart:grpc cluster IP"/m);
  expect(ipv6).toMatch(/-j DNAT --to-destination \[fd00:10:244:\d::[0-9a-f]+\]:\d+$/m);
  expect(ipv6).toMatch(/^-A POSTROUTING -s fd00:10:244::\/56 ! -d fd00:10:244::\/56 .* -j MASQUERADE$/m);
  const { stdout: nft } = await podwire([...dual, '--proxy', 'nftables']);
  expect(nft.match(/^table .*$/gm)).toEqual(['table ip kube-proxy {', 'table ip6 kube-proxy {']);
});

test('in IPVS mode in a dual-stack cluster, prints both families’ servers and sets, and the tables of either', async () => {
  const ipvs = ['rules', '--node', 'node-1', '--proxy', 'ipvs', '--ip-family', 'dual'];
  const { stdout: ipv4 } = await podwire(ipvs);
  const { stdout: ipv6 } = await podwire([...ipvs, '--family', '6']);
  expect(ipv4.match(/^# .*$/gm)).toEqual(['# ipvsadm -Ln', '# ipset list', '# iptables-save']);
  expect(ipv6.match(/^# .*$/gm)).toEqual(['# ipvsadm -Ln', '# ipset list', '# ip6tables-save']);
  const upToTables = (text: string): string => text.split(/^# ip6?tables-save$/m)[0]!;
  expect(upToTables(ipv6)).toBe(upToTables(ipv4));
  expect(ipv6).toMatch(/^TCP {2}\[fd00:10:96::[0-9a-f]+\]:80 rr\n {2}-> \[fd00:10:244:\d::[0-9a-f]+\]:\d+ +Masq/m);
  expect(ipv4).toMatch(/^-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT$/m);
  expect(ipv6).toMatch(/^-A KUBE-SERVICES -m set --match-set KUBE-6-CLUSTER-IP dst,dst -j ACCEPT$/m);
});

test.for(['ipv6', 'dual'])('the eBPF-style replacement is refused in a cluster with ipFamily %s', async (ipFamily) => {
  const refused = await podwire(['rules', '--node', 'node-1', '--proxy', 'ebpf', '--ip-family', ipFamily]);
  expect(refused).toMatchObject({
    exitCode: 2,
    stdout: '',
    stderr: 'error: proxy ebpf serves no IPv6; expected ipFamily ipv4, or another proxy: iptables, nftables, ipvs\n',
  });
});

describe('the real tool accepts them', () => {
  const isRoot = process.getuid?.() === 0;
  test.for([
    ['iptables-legacy-restore', `-f ${manifests} --node near`],
    ['iptables-restore', `-f ${manifests} --node near`],
    ['iptables-restore', '--node node-2'], // the bundled shop
    ['ip6tables-restore', '--node node-2 --ip-family dual --family 6'],
    ['ip6tables-legacy-restore', '--node node-2 --ip-family ipv6'],
  ] as const)('%s --test: podwire rules %s', { timeout: 30_000 }, async ([tool, line], { skip }) => {
    skip(!isRoot, 'needs root');
    skip(spawnSync(tool, ['--version']).status !== 0, `needs ${tool}`);
    const { stdout: input } = await podwire(['rules', ...line.split(' ')]);
    const { status, stderr } = spawnSync(tool, ['--test'], { input, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

test.for([`-f ${manifests} --node near`, '--node node-2', '--node node-2 --ip-family dual'])(
  'the real nft takes and lists them: podwire rules --proxy nftables %s',
  { timeout: 30_000 },
  async (line, { skip }) => {
    skip(process.getuid?.() !== 0, 'needs root');
    skip(spawnSync('nft', ['--version']).status !== 0, 'needs nft');
    const { stdout: input } = await podwire(['rules', '--proxy', 'nftables', ...line.split(' ')]);
    const commands = 'nft -f - && nft list ruleset';
    const { status, stderr, stdout } = spawnSync('unshare', ['--net', 'sh', '-c', commands], {
      input,
      encoding: 'utf8',
    });
    expect({ status, stderr, stdout }).toEqual({ status: 0, stderr: '', stdout: input });
  },
);

test('--sets prints the ipsets that rules of policies name', async () => {
  const policies = directory.file(
    'policies.yaml',
    `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
`,
  );
  const run = (...args: string[]) => podwire(['rules', '-f', manifests, '-f', policies, '--node', 'near', ...args]);
  const { stdout } = await run('--sets');
  expect(stdout).toMatch(/^create (KUBE-SRC-\w+) hash:ip family inet [^\n]*\nadd \1 10\.244\.1\.2\n$/);
  const [, set] = /create (\S+)/.exec(stdout)!;
  expect((await run()).stdout).toContain(`-m set --match-set ${set} src -j MARK --set-xmark 0x10000/0x10000`);
  expect((await rules('--node near --sets')).stdout).toBe('');
});

describe('wrong use is told in one line', () => {
  test.for([
    ['--node nowhere', '--node nowhere: no such node; there are: near, far'],
    ['--node near --seed -1', "argument '-1' is invalid. Expected a whole number from 0."],
    ['--node near --proxy userspace', "argument 'userspace' is invalid. Expected iptables, nftables, ipvs or ebpf."],
    ['--seed 1', "required option '--node <name>' not specified"],
  ] as const)('%s', async ([line, message]) => {
    const { exitCode, stdout, stderr } = await rules(line);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  });
});
