import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { podwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const manifests = directory.file('two-nodes.yaml', TWO_NODES);

const trace = (line: string) => podwire(['trace', '-f', manifests, ...line.split(' ')]);

interface JourneyJson {
  readonly frameId: number;
  readonly title: string;
  readonly steps: readonly {
    readonly atNs: number;
    readonly namespace: string;
    readonly stage: string;
    readonly hook?: string;
    readonly table?: string;
    readonly chain?: string;
    readonly text: string;
  }[];
}

async function journeys(line: string): Promise<JourneyJson[]> {
  const { exitCode, stdout, stderr } = await trace(`${line} --json`);
  expect(stderr).toBe('');
  expect(exitCode).toBe(0);
  return JSON.parse(stdout);
}

/** A step in one line: `near rule PREROUTING nat KUBE-SERVICES -d 10.96.0.10/32 …`. */
const linesOf = ({ steps }: JourneyJson): string[] =>
  steps.map(({ namespace, stage, hook, table, chain, text }) =>
    [namespace, stage, hook, table, chain, text].filter((part) => part !== undefined).join(' '),
  );

/** Every pattern fits a line, each one further down than the one before. */
function expectInOrder(lines: readonly string[], patterns: readonly RegExp[]): void {
  let from = 0;
  for (const pattern of patterns) {
    const found = lines.findIndex((line, index) => index >= from && pattern.test(line));
    expect(found, `${pattern} after line ${from} of\n${lines.join('\n')}`).toBeGreaterThanOrEqual(from);
    from = found + 1;
  }
}

describe('a request from a pod to a ClusterIP, answered on another node', () => {
  test('is translated on its own node, routed, and delivered by the other', async () => {
    const [syn] = await journeys('--from default/client --to web');
    expect(syn!.title).toMatch(/^10\.244\.0\.2:\d+ > 10\.96\.0\.10:80 tcp \[S\]$/);
    expectInOrder(linesOf(syn!), [
      /^default\/client route 10\.96\.0\.10: default via 10\.244\.0\.1 dev eth0/,
      /^default\/client device .*eth0/,
      /^near device .*veth0001/,
      /^near conntrack .*NEW tcp/,
      /^near rule PREROUTING nat PREROUTING .*-j KUBE-SERVICES/,
      /^near rule PREROUTING nat KUBE-SERVICES -d 10\.96\.0\.10\/32 .*-j KUBE-SVC-/,
      /^near rule PREROUTING nat KUBE-SVC-\w+ .*-j KUBE-SEP-/,
      /^near rule PREROUTING nat KUBE-SEP-\w+ .*-j DNAT --to-destination 10\.244\.1\.2:8080/,
      /^near nat .*10\.96\.0\.10:80 becomes .*10\.244\.1\.2:8080/,
      /^near route 10\.244\.1\.2: 10\.244\.1\.0\/24 via 192\.168\.0\.22 dev eth0/,
      /^near rule FORWARD filter FORWARD/,
      /^near rule POSTROUTING nat POSTROUTING .*-j KUBE-POSTROUTING/,
      /^near conntrack .*confirmed/,
      /^near wire 0 ns queued, \d+ ns to serialize 74 bytes/,
      /^fabric bridge .*port-far/,
      /^far device .*eth0/,
      /^far route 10\.244\.1\.2: 10\.244\.1\.0\/24 dev cbr0/,
      /^far bridge .*veth0001/,
      /^default\/web-0 device .*eth0/,
    ]);
  });

  test('gets its answer from the ClusterIP', async () => {
    const told = await journeys('--from default/client --to web');
    const synAck = told.find(({ title }) => title.endsWith('tcp [S.]'))!;
    expect(synAck.title).toMatch(/^10\.244\.1\.2:8080 > 10\.244\.0\.2:\d+/);
    expectInOrder(linesOf(synAck), [
      /^default\/web-0 route 10\.244\.0\.2: default via 10\.244\.1\.1/,
      /^far conntrack .*ESTABLISHED/,
      /^far rule FORWARD filter KUBE-FORWARD .*RELATED,ESTABLISHED -j ACCEPT/,
      /^fabric /,
      /^near nat .*10\.244\.1\.2:8080 > 10\.244\.0\.2:\d+ becomes 10\.96\.0\.10:80 > 10\.244\.0\.2:\d+/,
      /^default\/client device .*eth0/,
      /^default\/client socket received by the connection, SYN_SENT > ESTABLISHED/,
    ]);
  });

  test('times never run backwards within a namespace', async () => {
    for (const { steps } of await journeys('--from default/client --to web --all')) {
      for (const [index, { atNs, namespace }] of steps.entries()) {
        expect(Number.isInteger(atNs)).toBe(true);
        const before = steps[index - 1];
        if (before?.namespace === namespace) expect(atNs).toBeGreaterThanOrEqual(before.atNs);
      }
    }
  });

  test('--all adds ARP and bare acknowledgements', async () => {
    const titles = (await journeys('--from default/client --to web --all')).map(({ title }) => title);
    expect(titles.some((title) => title.startsWith('arp who-has'))).toBe(true);
    expect(titles.some((title) => title.endsWith('tcp [.]'))).toBe(true);
    const told = (await journeys('--from default/client --to web')).map(({ title }) => title);
    expect(told.map((title) => title.replace(/^.* /, ''))).toEqual(['[S]', '[S.]', '[P.]', '[P.]', '[F.]', '[F.]']);
  });
});

describe('in a dual-stack cluster', () => {
  const both = TWO_NODES.replace('type: NodePort\n', 'type: LoadBalancer\n  ipFamilyPolicy: PreferDualStack\n');
  const file = directory.file('dual.yaml', both);
  const dual = (line: string) => podwire(['trace', '-f', file, '--ip-family', 'dual', ...line.split(' ')]);

  test.each([
    ['--from client --to web --family 6', '[fd00:10:96::'],
    ['--from client --to default/web-0 --family 6', '[fd00:10:244'],
    ['--from near --to web --family 6', '[fd00:10:96::'],
    ['--from outside --to near:30080 --family 6', '[fd00:192:168::'],
    ['--from outside --to 198.51.100.2:80', '198.51.100.2:80'],
    ['--from outside --to [2001:db8:198:51::2]:80', '[2001:db8:198:51::2]:80'],
    ['--from client --to web', '10.96.0.10:80'],
  ])('%s goes to %s… and is answered', async (line, address) => {
    const { exitCode, stdout, stderr } = await dual(line);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout.split('\n')[0]).toContain(` > ${address}`);
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^answered by default\/web-0 /);
  });

  test('a load balancer sends packets on as they are, and the node answers past it', async () => {
    const { stdout } = await dual('--from outside --to 198.51.100.2:80 --json');
    const [syn, synAck] = JSON.parse(stdout) as [JourneyJson, JourneyJson];
    expectInOrder(linesOf(syn), [
      /^gateway route 198\.51\.100\.2: 198\.51\.100\.2 dev eth0/,
      /^load-balancer route 198\.51\.100\.2: (near|far), one of 2 healthy nodes$/,
      /^(near|far) rule PREROUTING nat KUBE-SERVICES -d 198\.51\.100\.2\/32 .*loadbalancer IP/,
    ]);
    expect(linesOf(synAck).some((line) => line.startsWith('load-balancer'))).toBe(false);
  });

  test('neighbor discovery is told only by --all', async () => {
    const titlesOf = async (line: string) =>
      JSON.parse((await dual(`${line} --json`)).stdout).map(({ title }: JourneyJson) => title);
    const told: string[] = await titlesOf('--from client --to web --family 6');
    expect(told.map((title) => title.replace(/^.* /, ''))).toEqual(['[S]', '[S.]', '[P.]', '[P.]', '[F.]', '[F.]']);
    const all: string[] = await titlesOf('--from client --to web --family 6 --all');
    expect(all.some((title) => title.includes('icmpv6 neighbor solicitation'))).toBe(true);
  });

  test.each([
    ['--ip-family ipv5', "option '--ip-family <families>' argument 'ipv5' is invalid. Expected ipv4, ipv6 or dual."],
    ['--family 5', "option '--family <family>' argument '5' is invalid. Expected 4 or 6."],
    ['--pod-range 10.0.0.0/16 --ip-family ipv6', 'range 10.0.0.0/16 in a cluster whose family is IPv6'],
    ['--ip-family ipv6', 'dual.yaml: document 5 (Service default/web): spec.clusterIPs[0]: IPv4 is not configured'],
    ['--family 6 --ip-family ipv4', '"web": the Service has no IPv6 address'],
  ])('wrong use is told: %s', async (line, message) => {
    const { exitCode, stderr } = await podwire([
      'trace',
      '-f',
      file,
      '--from',
      'client',
      '--to',
      'web',
      ...line.split(' '),
    ]);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(2);
  });
});

describe('the last line tells the outcome', () => {
  test.each([
    ['--from default/client --to web', /^answered by default\/web-0 after \d+\.\d µs \(connect \d+\.\d µs\)$/],
    ['--from default/client --to web:stats --protocol udp', /^answered by default\/web-0 after \d+\.\d µs$/],
    ['--from default/client --to default/web-0:8080', /^answered by default\/web-0 /],
    ['--from default/web-0 --to web', /^answered by default\/web-0 /], // itself, through its Service
    ['--from near --to web:http', /^answered by default\/web-0 /],
    ['--from outside --to near:30080', /^answered by default\/web-0 /],
    ['--from outside --to 192.168.0.22:30125 --protocol udp', /^answered by default\/web-0 /],
    ['--from client --to nobody', /^no answer: refused$/],
    ['--from client --to default/web-0:9', /^no answer: refused$/],
    ['--from client --to default/web-0:9 --protocol udp', /^no answer: refused$/],
    ['--from outside --to web', /^no answer: (network|host) unreachable$/],
    ['--from client --to 10.244.0.77:80', /^no answer: (host unreachable|timed out)$/],
  ])('%s', async (line, outcome) => {
    const { exitCode, stdout, stderr } = await trace(line);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout.trim().split('\n').at(-1)).toMatch(outcome);
  });
});

test('a Service without endpoints rejects, and the error comes from the node', async () => {
  const [syn, error] = await journeys('--from default/client --to nobody');
  expectInOrder(linesOf(syn!), [
    /^near rule FORWARD filter KUBE-SERVICES .*-j REJECT --reject-with icmp-port-unreachable/,
    /^near icmp /,
    /^near drop NETFILTER_DROP$/,
  ]);
  expect(error!.title).toBe('10.244.0.1 > 10.244.0.2 icmp 3/3 port unreachable');
  expectInOrder(linesOf(error!), [/^near device .*veth0001/, /^default\/client device .*eth0/]);
});

test('the same seed gives the same text, another seed another port', async () => {
  const { stdout } = await trace('--from default/client --to web');
  expect((await trace('--from default/client --to web')).stdout).toBe(stdout);
  expect((await trace('--from default/client --to web --seed 2')).stdout).not.toBe(stdout);
});

test('the examples of the help work', async () => {
  const { stdout } = await podwire(['trace', '--help']);
  const commands = [...stdout.matchAll(/^ {2}podwire (trace --from .*)$/gm)].map(([, command]) => command!);
  expect(commands.length).toBeGreaterThanOrEqual(3);
  for (const command of commands) {
    const args = command.replace('node-port.pcapng', directory.join('node-port.pcapng')).split(' ');
    const seen = await podwire(args);
    expect(seen, command).toMatchObject({ exitCode: 0, stderr: '' });
    expect(seen.stdout).toMatch(/answered by (shop\/|outside)|shop\/metrics/);
  }
});

/** Several programs are started. */
const OF_PROCESSES = { timeout: 30_000 };

describe('a capture', () => {
  const capture = directory.join('trace.pcapng');
  const checks = ['ip', 'tcp', 'udp'].flatMap((protocol) => ['-o', `${protocol}.check_checksum:TRUE`]);
  const withoutTshark = spawnSync('tshark', ['--version']).status !== 0;

  /** A line per frame that the filter lets pass: its fields, with blanks between. */
  function tshark(file: string, filter: string, ...fields: readonly string[]): string[] {
    const shown = ['-T', 'fields', '-E', 'separator=/s', ...fields.flatMap((field) => ['-e', field])];
    const { status, stdout, stderr } = spawnSync('tshark', ['-r', file, ...checks, '-Y', filter, ...shown], {
      encoding: 'utf8',
    });
    expect(status, stderr).toBe(0);
    return stdout.split('\n').filter((line) => line !== '');
  }

  test.for([
    ['--from client --to web', ['default/client/eth0', 'near/veth0001', 'near/cbr0', 'near/eth0', 'far/eth0']],
    ['--from outside --to near:30125 --protocol udp', ['outside/eth0', 'gateway/eth1', 'near/eth0', 'far/cbr0']],
    ['--from client --to nobody', ['default/client/eth0', 'near/veth0001', 'near/cbr0']],
  ] as const)('%s: an interface per device, and no bad checksum', OF_PROCESSES, async ([line, devices], { skip }) => {
    skip(withoutTshark, 'needs tshark');
    expect(await trace(`${line} --pcap ${capture}`)).toMatchObject({ exitCode: 0, stderr: '' });
    const interfaces = new Set(tshark(capture, 'frame', 'frame.interface_name'));
    expect([...interfaces]).toEqual(expect.arrayContaining([...devices]));
    expect(tshark(capture, 'ip', 'ip.checksum.status')).not.toEqual([]);
    const bad = ['ip', 'tcp', 'udp', 'icmp'].map((protocol) => `${protocol}.checksum.status == "Bad"`).join(' || ');
    expect(tshark(capture, `${bad} || _ws.malformed`, 'frame.number')).toEqual([]);
  });

  test('tshark finds nothing wrong with the TCP stream on any one device', OF_PROCESSES, async ({ skip }) => {
    skip(withoutTshark, 'needs tshark');
    expect((await trace(`--from default/client --to web --pcap ${capture}`)).exitCode).toBe(0);
    for (const device of ['default/client/eth0', 'far/eth0']) {
      const one = directory.join('one.pcapng');
      spawnSync('tshark', ['-r', capture, '-Y', `frame.interface_name == "${device}"`, '-w', one]);
      const segments = tshark(one, 'tcp', 'tcp.stream', 'tcp.analysis.flags');
      expect(segments.length, device).toBeGreaterThanOrEqual(9); // from the SYN to the last acknowledgement
      expect([...new Set(segments)], device).toEqual(['0 ']); // one stream, no flags
    }
  });
});

describe('wrong use is told in one line, and nothing is written', () => {
  const TO_WEB = '--from client --to web';
  test.for([
    [
      '--from nobody --to web',
      '--from nobody: no pod default/nobody runs, and no node has that name; there are: outside,',
    ],
    ['--from shop/client --to web', '--from shop/client: no pod shop/client runs'],
    [
      '--from client --to nowhere',
      '"nowhere": no Service or Pod default/nowhere, and no Node nowhere; there are default/web',
    ],
    ['--from client --to web:81', '"web:81": no such TCP port; the Service has http 80/TCP, stats 8125/UDP'],
    ['--from client --to web:stats', '"web:stats": no such TCP port'],
    ['--from client --to web:http --protocol udp', '"web:http": no such UDP port'],
    ['--from web-0 --to default/client', '"default/client": the pod names no TCP port; expected default/client:PORT'],
    ['--from client --to default/client:0', 'port "0"; expected a number from 1 to 65535'],
    ['--from client --to default/client:99999', 'port "99999"; expected a number from 1 to 65535'],
    ['--from client --to default/client:x', 'port "x"; expected a number from 1 to 65535'],
    ['--from client --to 10.244.1.2', '"10.244.1.2": expected a port, as in 10.244.1.2:80'],
    ['--from client --to near', '"near": expected a port, as in near:80'],
    ['--from client --to :80', '":80": expected NAME, NAMESPACE/NAME, an IPv4 or [IPv6] address, and perhaps :PORT'],
    ['--from client --to a:b:c', '"a:b:c": expected NAME'],
    ['--from client --to fd00::1', '"fd00::1": expected NAME'],
    [
      '--from client --to http://nowhere.example/',
      '"http://nowhere.example/": no Ingress, Gateway or Service has the host',
    ],
    ['--from client --to http:///x', '"http:///x": expected a URL such as'],
    [`--from client --to http://web.default/ --protocol udp`, '--protocol udp: expected tcp, as --to is a URL'],
    [`${TO_WEB} --method POST`, '--method POST: expected --to to be a URL'],
    [`${TO_WEB} --header a:b`, '--header a:b: expected --to to be a URL'],
    [
      '--from client --to http://web.default/ --header nothing',
      "--header nothing: expected a header such as 'x-version: 2'",
    ],
    ['--from client --to outside:0', '--to outside:0: port "0"; expected a number from 1 to 65535'],
    [`${TO_WEB} --protocol sctp`, "argument 'sctp' is invalid. Expected tcp or udp."],
    [`${TO_WEB} --seed x`, "argument 'x' is invalid. Expected a whole number from 0."],
    [`${TO_WEB} --pcap ${directory.join('none/x.pcapng')}`, `cannot write ${directory.join('none/x.pcapng')}: ENOENT`],
    [`${TO_WEB} --pcap ${directory.path}`, `cannot write ${directory.path}: EISDIR`],
    ['--to web', "required option '--from <sender>' not specified"],
    ['--from client', "required option '--to <target>' not specified"],
  ] as const)('%s', async ([line, message]) => {
    const { exitCode, stdout, stderr } = await trace(line);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  });
});
