// podwire run services. Runs are done by the compiled command, as its workers need it; what goes wrong before any run is
// done in this process.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { MAIN, podwire, startPodwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const manifests = directory.file('two-nodes.yaml', TWO_NODES);

/** Several processes are started, each of which loads the charts' library. */
const OF_PROCESSES = { timeout: 60_000 };

const runServices = (line: string) =>
  startPodwire(['run', 'services', '--duration', '200', '--rate', '50', ...line.split(' ')], { cwd: directory.path });

const read = (file: string): string => readFileSync(directory.join(file), 'utf8');

test('writes tables, charts and a record, and notes what is odd once', OF_PROCESSES, async () => {
  const odd = directory.file(
    'odd.yaml',
    `${TWO_NODES}---
{apiVersion: v1, kind: Service, metadata: {name: typo}, spec: {selector: {app: wbe}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pods}, spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}
`,
  );
  const { exitCode, stdout, stderr } = await runServices(`-f ${odd} --replications 2 --duration 1500 --out odd`);
  expect(stderr).toBe(
    [
      `note: ${odd}: document 9: kind "ConfigMap" is not modelled; skipped`,
      `note: ${odd}: document 7 (Service default/typo): spec.selector: app=wbe matches no pod, so the Service has no endpoints`,
      'note: not asked: default/pods (headless)',
      `2 runs in ${join('odd', 'services.csv')}\n`,
    ].join('\n'),
  );
  expect(exitCode).toBe(0);
  for (const title of ['Latency by service port and path', 'Load by endpoint', 'Failed requests', 'Dropped frames'])
    expect(stdout).toContain(`\n${title}\n`);
  expect(readdirSync(directory.join('odd')).sort()).toEqual([
    ...['services-failures.csv', 'services-latency.csv', 'services-latency.png', 'services-latency.svg'],
    ...['services-load.csv', 'services-load.png', 'services-load.svg', 'services.csv', 'services.run.json'],
  ]);
  const [header, first] = read('odd/services-latency.csv').split('\n');
  expect(header).toMatch(/^replication,seed,servicePort,protocol,path,requests,latencyP50Us,/);
  expect(first).toMatch(/^1,1\/1,default\/web:http,TCP,(same|other) node,\d+,/);
  expect(read('odd/services-failures.csv')).toMatch(/^1,1\/1,default\/nobody:80,pods,refused,\d+$/m);
});

test('a table without rows leaves no file of an earlier run behind', OF_PROCESSES, async () => {
  writeFileSync(join(directory.join('odd'), 'services-failures.csv'), 'stale');
  const fine = directory.file('fine.yaml', TWO_NODES.slice(0, TWO_NODES.lastIndexOf('---')));
  expect((await runServices(`-f ${fine} --out odd`)).exitCode).toBe(0);
  expect(existsSync(directory.join('odd/services-failures.csv'))).toBe(false);
});

test('the same plan gives the same bytes: on one worker or two, with a capture or without', OF_PROCESSES, async () => {
  const variants = {
    one: '--workers 1',
    two: '--workers 2',
    seen: `--workers 2 --pcap ${directory.join('seen.pcapng')}`,
  };
  for (const [out, options] of Object.entries(variants)) {
    const { exitCode } = await runServices(`-f ${manifests} --replications 2 --duration 1500 --out ${out} ${options}`);
    expect(exitCode).toBe(0);
  }
  for (const file of ['services.csv', 'services-latency.csv', 'services-load.csv', 'services-failures.csv']) {
    expect(read(`two/${file}`), file).toBe(read(`one/${file}`));
    expect(read(`seen/${file}`), file).toBe(read(`one/${file}`));
  }
  const fingerprints = Object.keys(variants).map((out) => JSON.parse(read(`${out}/services.run.json`)).fingerprint);
  expect(new Set(fingerprints).size).toBe(1);
  expect(readFileSync(directory.join('seen.pcapng')).readUInt32LE(0)).toBe(0x0a0d0d0a);
  expect((await runServices(`-f ${manifests} --seed 2 --out other`)).exitCode).toBe(0);
  expect(read('other/services-latency.csv')).not.toBe(read('one/services-latency.csv'));
});

test('the run of the bundled shop gives the same bytes on one, two and three workers', OF_PROCESSES, async () => {
  for (const workers of [1, 2, 3]) {
    const { exitCode, stderr } = await runServices(`--duration 100 --out shop-${workers} --workers ${workers}`);
    expect(exitCode).toBe(0);
    expect(stderr).not.toContain('one worker');
  }
  const recordOf = (workers: number) => JSON.parse(read(`shop-${workers}/services.run.json`));
  for (const workers of [2, 3]) {
    for (const table of ['', '-latency', '-load'])
      expect(read(`shop-${workers}/services${table}.csv`)).toBe(read(`shop-1/services${table}.csv`));
    const { wallSeconds: _, packetsPerWallSecond: __, ...record } = recordOf(workers);
    expect({ ...record, workers: 1 }).toMatchObject(
      (({ wallSeconds: _, packetsPerWallSecond: __, ...one }) => one)(recordOf(1)),
    );
  }
});

test('a lone run with a capture says why it has one worker', OF_PROCESSES, async () => {
  const line = `-f ${manifests} --duration 200 --workers 2 --pcap ${directory.join('lone.pcapng')} --out lone`;
  const { exitCode, stderr } = await runServices(line);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('note: one worker, not 2: a capture has the packets of all nodes in their order\n');
});

test('compares IP families: both addresses of a Service are asked, and its load balancer', OF_PROCESSES, async () => {
  const both = TWO_NODES.replace('type: NodePort\n', 'type: LoadBalancer\n  ipFamilyPolicy: PreferDualStack\n');
  const file = directory.file(
    'balanced.yaml',
    both.replace(/ *clusterIP: 10\.96\.0\.10\n/, '').replace('clusterIP: 10.96.0.11, ', ''),
  );
  for (const workers of [1, 2]) {
    const line = `-f ${file} --set ipFamily=ipv4,ipv6,dual --workers ${workers} --duration 800 --out families-${workers}`;
    expect((await runServices(line)).exitCode).toBe(0);
  }
  for (const file of ['services.csv', 'services-latency.csv', 'services-load.csv'])
    expect(read(`families-2/${file}`), file).toBe(read(`families-1/${file}`));
  const rows = read('families-1/services-latency.csv')
    .split('\n')
    .map((row) => row.split(','));
  expect(rows[0]!.slice(0, 4)).toEqual(['ipFamily', 'replication', 'seed', 'servicePort']);
  const asked = new Set(
    rows.slice(1).map(([ipFamily, , , servicePort, , path]) => `${ipFamily} ${servicePort} ${path}`),
  );
  for (const [ipFamily, ...ports] of [
    ['ipv4', 'default/web:http'],
    ['ipv6', 'default/web:http'],
    ['dual', 'default/web:http IPv4', 'default/web:http IPv6'],
  ])
    for (const port of ports)
      for (const path of ['other node', 'outside', 'load balancer'])
        expect(asked).toContain(`${ipFamily} ${port} ${path}`);
});

test('manifests may come from stdin', OF_PROCESSES, () => {
  const fromStdin = (text: string, out: string) => {
    const script = `printf %s "$1" | "$2" "$3" run services -f - --duration 20 --out ${out}`;
    const options = { cwd: directory.path, encoding: 'utf8' } as const;
    const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', text, process.execPath, MAIN], options);
    return { status, stderr };
  };
  expect(fromStdin(TWO_NODES, 'piped')).toEqual({ status: 0, stderr: `1 run in ${join('piped', 'services.csv')}\n` });
  const { status, stderr } = fromStdin('kind: {', 'never');
  expect(stderr).toMatch(/^error: stdin:1:\d+: not YAML: [^\n]+\n$/);
  expect(status).toBe(2);
});

test('the help shows every option once', async () => {
  const { exitCode, stdout } = await podwire(['run', 'services', '--help']);
  expect(exitCode).toBe(0);
  const options = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option]) => option);
  expect(options).toEqual([...new Set(options)]);
  expect(options).toEqual(
    expect.arrayContaining(['--file', '--nodes', '--rate', '--duration', '--seed', '--out', '--pcap']),
  );
});

describe('wrong use is told in one line, and nothing is written', () => {
  const WEB_PODS = 'selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}';
  const DEPLOYMENT = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, ${WEB_PODS}, spec: {containers: [{name: web}]}}}}`;
  const pod = (name: string, rest: string) => `{apiVersion: v1, kind: Pod, metadata: {name: ${name}}, ${rest}}`;
  const CONTAINERS = 'containers: [{name: main}]';
  const out = directory.join('never');

  test.for([
    ['malformed YAML', 'a: [1\nb: }', 'bad.yaml:2:1: not YAML: '],
    [
      'a value of the wrong type',
      TWO_NODES.replace('port: 80,', 'port: "80",'),
      'bad.yaml: document 5 (Service default/web): spec.ports[0].port: expected a number from 1 to 65535, got "80"',
    ],
    [
      'a field that is missing',
      `{apiVersion: v1, kind: Pod, metadata: {name: a}}`,
      'bad.yaml: document 1 (Pod default/a): spec: expected a map, got nothing',
    ],
    [
      'a range of sources that is none',
      '{apiVersion: v1, kind: Service, metadata: {name: lb}, spec: {type: LoadBalancer, loadBalancerSourceRanges: [everywhere], ports: [{port: 80}]}}',
      'bad.yaml: document 1 (Service default/lb): spec.loadBalancerSourceRanges[0]: expected an IP range such as 10.0.0.0/8, got "everywhere"',
    ],
    [
      'an endpoint that is no address',
      '{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s}, addressType: IPv4, endpoints: [{addresses: [nowhere]}]}',
      'bad.yaml: document 1 (EndpointSlice default/s): endpoints[0].addresses[0]: expected an IPv4 address, got "nowhere"',
    ],
    [
      'a node without a usable address',
      '{apiVersion: v1, kind: Node, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: here}]}}',
      'bad.yaml: document 1 (Node n): status.addresses[0].address: expected an IP address, got "here"',
    ],
    [
      'a node with the address of the gateway',
      '{apiVersion: v1, kind: Node, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: 192.168.255.254}]}}',
      "bad.yaml: document 1 (Node n): status.addresses: 192.168.255.254 is the gateway's",
    ],
    ['no Service', pod('a', `spec: {${CONTAINERS}}`), 'the manifests hold no Service to ask'],
    [
      'two pods of one address',
      `${pod('a', `spec: {${CONTAINERS}}, status: {podIP: 10.244.0.9}`)}\n---\n${pod('b', `spec: {${CONTAINERS}}, status: {podIP: 10.244.0.9}`)}`,
      'bad.yaml: document 2 (Pod default/b): status.podIP: 10.244.0.9 already belongs to Pod default/a',
    ],
    [
      'an object twice',
      `${DEPLOYMENT}\n---\n${DEPLOYMENT}`,
      'bad.yaml: document 2 (Deployment default/web): metadata.name: stands already at',
    ],
    [
      'a pod range without room for a gateway',
      DEPLOYMENT,
      'Node node-1: spec.podCIDR: subnet 10.244.0.0/31: too small to allocate from; expected a prefix length of at most 30',
      '--pod-range 10.244.0.0/31 --nodes 1',
    ],
    [
      'more nodes than pod ranges',
      TWO_NODES,
      'bad.yaml: document 2 (Node far): spec.podCIDR: the pod range 10.244.0.0/24 is used up by one node',
      '--pod-range 10.244.0.0/24',
    ],
    [
      'more Services than addresses',
      `${TWO_NODES.replace('clusterIP: 10.96.0.11, ', '')}---
{apiVersion: v1, kind: Service, metadata: {name: asks}, spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}}`,
      'bad.yaml: document 6 (Service default/nobody): spec.clusterIP: range is full: every address of 10.96.0.8/30 is taken',
      '--service-range 10.96.0.8/30',
    ],
    [
      'only IPv6',
      '{apiVersion: v1, kind: Service, metadata: {name: six}, spec: {ipFamilies: [IPv6], ports: [{port: 80}]}}',
      'bad.yaml: document 1 (Service default/six): spec.ipFamilies[0]: IPv6 is not configured on this cluster; expected IPv4',
    ],
    [
      'an alias bomb',
      `a: &a [x]\n${[...'bcdefghi'].map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join()}]`).join('\n')}`,
      'bad.yaml: document 1: an anchor stands for more than 100 aliases',
    ],
    ['nesting without end', `a: ${'['.repeat(10_000)}`, 'bad.yaml:1: nested deeper than 200 levels'],
    [
      'a program',
      new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0x80, 0xff]),
      'bad.yaml: document 1: expected an object with apiVersion and kind, got "',
    ],
    [
      'something else than objects',
      '- a\n- b\n',
      'bad.yaml: document 1: expected an object with apiVersion and kind, got a list',
    ],
  ] as const)('%s', async ([, content, message, options = '']) => {
    const bad = directory.file('bad.yaml', content);
    const { exitCode, stdout, stderr } = await podwire([
      'run',
      'services',
      '-f',
      bad,
      '--out',
      out,
      ...options.split(' ').filter(Boolean),
    ]);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(existsSync(out)).toBe(false);
  });

  test.for([
    ['-f nowhere.yaml', 'cannot read nowhere.yaml: ENOENT: no such file or directory\n'],
    [`-f ${directory.path}`, `cannot read ${directory.path}: EISDIR: illegal operation on a directory\n`],
    ['-f /dev/zero', 'cannot read /dev/zero: larger than 64 MB'],
    [`-f ${manifests} -f ${manifests}`, 'metadata.name: stands already at'],
    ['--nodes 0', "argument '0' is invalid. Expected a whole number from 1."],
    ['--nodes 257', 'Node node-257: spec.podCIDR: the pod range 10.244.0.0/16 is used up by 256 nodes'],
    ['--seed x', "argument 'x' is invalid. Expected a whole number from 0."],
    ['--rate 1000000000', "argument '1000000000' is invalid. Expected a whole number from 1 to 1000000."],
    ['--duration 0', "argument '0' is invalid. Expected a whole number from 1 to 86400000."],
    ['--pod-range nonsense', 'Expected a range of addresses, or two, for example 10.96.0.0/12,fd00:10:96::/112.'],
    ['--pod-range 10.244.0.0', 'Expected a range of addresses, or two, for example 10.96.0.0/12,fd00:10:96::/112.'],
    ['--pod-range 10.96.0.0/12', 'pod range 10.96.0.0/12 overlaps service range 10.96.0.0/12'],
    ['--service-range 192.168.7.0/24', 'service range 192.168.7.0/24 overlaps node range 192.168.0.0/16'],
    ['--pod-range 127.0.0.0/16', 'pod range 127.0.0.0/16 overlaps loopback range 127.0.0.0/8'],
    ['--node-range 203.0.0.0/16', 'node range 203.0.0.0/16 overlaps network outside the cluster 203.0.113.0/24'],
    ['--node-range 192.168.0.0/28 --nodes 4', 'the node range 192.168.0.0/28 is used up'],
    ['--set services=10', 'no factor "services"; there are: proxy'],
    [`--pcap ${directory.path}`, `cannot write ${directory.path}: EISDIR`],
    [`--pcap ${directory.join('none/x.pcapng')}`, `cannot write ${directory.join('none/x.pcapng')}: ENOENT`],
    ['surplus', "too many arguments for 'services'"],
  ] as const)('%s', async ([line, message]) => {
    const { exitCode, stdout, stderr } = await podwire(['run', 'services', '--out', out, ...line.split(' ')]);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(existsSync(out)).toBe(false);
  });

  // Node's own recursive mkdir never comes back from the second.
  test.for([join(manifests, 'out'), '/proc/podwire/out'])('--out %s', async (where) => {
    const pcap = directory.join('unwritten.pcapng');
    const args = ['run', 'services', '-f', manifests, '--out', where, '--pcap', pcap];
    expect(await podwire(args)).toEqual({
      exitCode: 2,
      stdout: '',
      stderr: expect.stringMatching(/^error: cannot write .*services\.csv: E[A-Z]+: [^\n]+\n$/),
    });
    expect(existsSync(pcap)).toBe(false);
  });
});
