import { describe, expect, test } from 'vitest';
import { podwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const pods = directory.file('two-nodes.yaml', TWO_NODES);
const policies = directory.file(
  'policies.yaml',
  `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {}}], ports: [{port: http}]}]
`,
);

const reach = (...args: string[]) => podwire(['reach', '-f', pods, '-f', policies, ...args]);

test('a matrix, and for each refused pair the policy that is in the way', async () => {
  const { exitCode, stdout, stderr } = await reach('--port', '8080/tcp');
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toBe(`8080/TCP over IPv4, from rows to columns: . reaches, X does not

                 123
1 default/client ...
2 default/web-0  X.X
3 outside        .X.

default/web-0 to default/client
  egress of default/web-0: NetworkPolicy default/web: no egress rule
default/web-0 to outside
  egress of default/web-0: NetworkPolicy default/web: no egress rule
outside to default/web-0
  ingress of default/web-0: NetworkPolicy default/web: spec.ingress[0]: no peer is 203.0.113.10
6 of 9 reach
`);
});

test.each(['4', '6'])('the same over IPv%s in a dual-stack cluster, as JSON', async (family) => {
  const { exitCode, stdout } = await reach('--port', '8080', '--ip-family', 'dual', '--family', family, '--json');
  expect(exitCode).toBe(0);
  const told = JSON.parse(stdout);
  expect(told).toMatchObject({ port: 8080, protocol: 'TCP', family: Number(family), disputed: [] });
  expect(told.reaches['default/client']).toEqual({ 'default/client': true, 'default/web-0': true, outside: true });
  expect(told.refused.map(({ from, to }: { from: string; to: string }) => `${from} ${to}`)).toEqual([
    'default/web-0 default/client',
    'default/web-0 outside',
    'outside default/web-0',
  ]);
  expect(told.refused[0].refusals).toEqual([
    {
      direction: 'Egress',
      pod: 'default/web-0',
      isolatedBy: [{ policy: 'default/web', missing: ['no egress rule'] }],
    },
  ]);
});

test('UDP and SCTP are other ports', async () => {
  for (const port of ['8080/udp', '8080/sctp', '80/tcp'])
    expect((await reach('--port', port)).stdout).toContain('1 default/client .X.');
});

test('without policies everybody reaches everybody, and the help has examples that work', async () => {
  const { stdout } = await podwire(['reach', '-f', pods]);
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('9 of 9 reach');
  const help = (await podwire(['reach', '--help'])).stdout;
  const [, example] = /^ {2}podwire (reach --port \S+)/m.exec(help)!;
  expect(await podwire(example!.split(' '))).toMatchObject({ exitCode: 0, stderr: '' });
});

describe('wrong use is told in one line', () => {
  test.each([
    [['--port', '0'], 'Expected a port from 1 to 65535 such as 80/tcp or 53/udp.'],
    [['--port', '80/icmp'], 'Expected a port from 1 to 65535 such as 80/tcp or 53/udp.'],
    [['--ip-family', 'ipv4', '--family', '6'], 'the cluster has no IPv6'],
  ])('%s', async (args, message) => {
    const { exitCode, stdout, stderr } = await reach(...args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });

  test('a policy that the API server refuses', async () => {
    const wrong = directory.file(
      'wrong.yaml',
      `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong}
spec: {podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]}
`,
    );
    const { exitCode, stderr } = await podwire(['reach', '-f', pods, '-f', wrong]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(
      'wrong.yaml: document 1 (NetworkPolicy default/wrong): spec.egress[0].to[0].ipBlock.except[0]: expected a range within 10.0.0.0/8 and smaller, got "11.0.0.0/9"',
    );
  });
});
