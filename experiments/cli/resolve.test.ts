import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { podwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
// The Service web has the address that kube-dns gets in clusters that kubeadm makes.
const file = directory.file('cluster.yaml', TWO_NODES.replace('10.96.0.10', '10.96.0.20'));
const resolve = (...args: string[]) => podwire(['resolve', '-f', file, '--from', 'client', ...args]);

test('a lookup is told query by query', async () => {
  const { stdout, exitCode } = await resolve('web');
  expect(exitCode).toBe(0);
  expect(stdout.replace(/\d+\.\d+ µs/g, 'TIME')).toBe(
    [
      '/etc/resolv.conf',
      '  search default.svc.cluster.local svc.cluster.local cluster.local',
      '  nameserver 10.96.0.10',
      '  options ndots:5',
      '',
      'TIME  A web.default.svc.cluster.local. to 10.96.0.10:53 over UDP: NOERROR after TIME',
      '  web.default.svc.cluster.local. 30 IN A 10.96.0.20',
      'TIME  AAAA web.default.svc.cluster.local. to 10.96.0.10:53 over UDP: NOERROR without data after TIME',
      '',
      '10.96.0.20 after TIME, 2 queries',
      '',
    ].join('\n'),
  );
});

describe('a CoreDNS of the manifests', () => {
  const own = `
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: CLUSTER_IP, selector: {k8s-app: kube-dns}, ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: coredns-abcde, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {nodeName: far, containers: [{name: coredns, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 9153}]}]}
`;
  const fileWith = (clusterIp: string) =>
    directory.file('own-dns.yaml', TWO_NODES + own.replace('CLUSTER_IP', clusterIp));

  test('answers', async () => {
    const { stdout } = await podwire(['resolve', '-f', fileWith('10.96.0.53'), '--from', 'client', 'web']);
    expect(stdout).toContain('  nameserver 10.96.0.53\n');
    expect(stdout).toMatch(/\n10\.96\.0\.10 after .*, 2 queries\n$/);
  });

  test('without an address for caches on nodes is an error', async () => {
    const args = ['resolve', '-f', fileWith('None'), '--from', 'client', 'web', '--node-local'];
    const { stderr, exitCode } = await podwire(args);
    expect(stderr).toContain('Service kube-system/kube-dns: spec.clusterIP: expected an address for caches on nodes');
    expect(exitCode).toBe(2);
  });
});

test('where another Service has the usual address of kube-dns, it gets another', async () => {
  const taken = directory.file('taken.yaml', TWO_NODES);
  const { stdout } = await podwire(['resolve', '-f', taken, '--from', 'client', 'web']);
  expect(stdout).not.toContain('nameserver 10.96.0.10\n');
  expect(stdout).toMatch(/\n10\.96\.0\.10 after .*, 2 queries\n$/);
});

test('one type of records; an address is looked up by its reverse name', async () => {
  expect((await resolve('web', 'srv')).stdout).toContain(' IN SRV 0 50 80 web.default.svc.cluster.local.');
  expect((await resolve('10.96.0.20', 'PTR')).stdout).toContain(
    '20.0.96.10.in-addr.arpa. 30 IN PTR web.default.svc.cluster.local.',
  );
});

test('a pod says by its spec where it asks', async () => {
  const pod = `
apiVersion: v1
kind: Pod
metadata: {name: impatient}
spec:
  nodeName: near
  dnsPolicy: None
  dnsConfig:
    nameservers: [203.0.113.10]
    searches: [corp.example]
    options: [{name: ndots, value: "2"}, {name: single-request}]
  hostAliases: [{ip: 192.0.2.7, hostnames: [seven]}]
  containers: [{name: main}]
`;
  const own = directory.file('impatient.yaml', `${TWO_NODES.replace('10.96.0.10', '10.96.0.20')}---${pod}`);
  const ask = (...args: string[]) => podwire(['resolve', '-f', own, '--from', 'impatient', ...args]);
  const { stdout } = await ask('intra', '--upstream', 'intra.corp.example=192.0.2.9');
  expect(stdout).toContain('  search corp.example\n  nameserver 203.0.113.10\n  options ndots:2 single-request\n');
  expect(stdout).toMatch(/\n192\.0\.2\.9 after .*, 2 queries\n$/);
  expect((await ask('seven')).stdout).toMatch(/\n192\.0\.2\.7 after 0\.0 µs, 0 queries\n$/);
});

test.each([
  ['--ip-family', 'ipv6', '--nodes', '2'],
  ['--ip-family', 'dual'],
  ['--node-local'],
  ['--proxy', 'nftables'],
  ['--libc', 'musl'],
])('with %s %s', async (...options) => {
  const { stdout, exitCode } = await podwire(['resolve', '--from', 'shop/orders-db-0', 'catalog', ...options]);
  expect(stdout).toMatch(/\n[\da-f.:, ]+ after [\d.]+ µs, 2 queries\n$/);
  expect(exitCode).toBe(0);
});

test('the capture has the messages', async () => {
  const pcap = directory.join('dns.pcapng');
  await resolve('web', '--pcap', pcap);
  expect(readFileSync(pcap).includes(Buffer.from('\x03web\x07default\x03svc\x07cluster\x05local\x00', 'latin1'))).toBe(
    true,
  );
});

describe('what does not resolve ends with the error of the C library, and exit code 1', () => {
  test.each([
    [['nobody.there'], 'EAI_NONAME: Name or service not known', 8],
    [['a'.repeat(300)], 'EAI_NONAME: Name or service not known', 0],
    [['a'.repeat(300), '--libc', 'musl'], 'EAI_NONAME: Name does not resolve', 0],
    [['loop.example.', '--upstream', 'loop.example=loop.example'], 'EAI_NONAME: Name or service not known', 2],
  ])('%s', async (args, message, queries) => {
    const { stdout, exitCode } = await resolve(...args);
    expect(stdout).toMatch(new RegExp(`\n${message} after .*, ${queries} queries\n$`));
    expect(exitCode).toBe(1);
  });
});

describe('wrong use is one line', () => {
  test.each([
    [['web', 'QQ'], "argument 'type'.*Expected a type of records: A, NS"],
    [['web', '--libc', 'bionic'], 'Expected glibc or musl'],
    [['web', '--upstream', 'www.example.com'], 'Expected NAME=ADDRESS'],
    [['web', '--cluster-domain', 'a..b'], 'Expected a domain such as cluster.local'],
  ])('%s', async (args, message) => {
    const { stderr, exitCode } = await resolve(...args);
    expect(stderr).toMatch(new RegExp(message));
    expect(exitCode).toBe(2);
  });

  test('a pod with dnsPolicy None and no name server', async () => {
    const text =
      '{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {dnsPolicy: None, containers: [{name: main}]}}';
    const { stderr, exitCode } = await podwire([
      'resolve',
      '-f',
      directory.file('none.yaml', text),
      '--from',
      'x',
      'web',
    ]);
    expect(stderr).toContain('spec.dnsConfig.nameservers: expected a name server, as dnsPolicy is None, got nothing');
    expect(exitCode).toBe(2);
  });
});
