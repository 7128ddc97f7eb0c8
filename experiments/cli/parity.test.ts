import { expect, test } from 'vitest';
import { KernelRunner } from '../../models/parity/kernel/runner.ts';
import { podwire, TemporaryDirectory } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();

const CASE = {
  topology: {
    nodes: [
      {
        name: 'n1',
        podCIDR: '10.244.1.0/24',
        pods: [
          { name: 'p1', ip: '10.244.1.2' },
          { name: 'p2', ip: '10.244.1.3' },
        ],
      },
    ],
  },
  rules: {
    n1: {
      backend: 'legacy',
      text: '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p udp -m udp --dport 54 -j DROP\nCOMMIT\n',
    },
  },
  packets: [53, 54].map((dport) => ({
    ...{ from: 'p1', proto: 'udp', src: '10.244.1.2', dst: '10.244.1.3', sport: 40_000, dport },
  })),
};
const file = directory.file('case.json', JSON.stringify(CASE));

const { ok: hasKernel } = await KernelRunner.probe();

test('--on simulator prints the outcome as JSON', async () => {
  const { exitCode, stdout, stderr } = await podwire(['parity', file, '--on', 'simulator']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const { steps, counters } = JSON.parse(stdout);
  expect(steps.map(({ captures }: { captures: { ns: string }[] }) => captures.at(-1)?.ns)).toEqual(['p2', 'n1']);
  expect(counters.n1).toContain('[1:28] -A FORWARD -p udp -m udp --dport 54 -j DROP');
});

test('--jsonl answers every line in a line, and a wrong one with what is wrong', async () => {
  const lines = directory.file(
    'cases.jsonl',
    [JSON.stringify(CASE), '{"topology":7}', JSON.stringify(CASE)].join('\n'),
  );
  const { exitCode, stdout } = await podwire(['parity', lines, '--jsonl', '--on', 'simulator']);
  const answers = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(answers).toHaveLength(3);
  expect(answers[1]).toEqual({ error: 'line 2: topology: expected an object, got 7' });
  expect(answers[2]).toEqual(answers[0]);
  expect(exitCode).toBe(1);
});

test('without a kernel to ask, it says what is missing; with one, both agree', async () => {
  const { exitCode, stdout } = await podwire(['parity', file]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(hasKernel ? /^no differences\n$/ : /^skipped: ./);
});

test('--random makes the cases of a seed, runs them on the backends and sums up', { timeout: 60_000 }, async ({
  skip,
}) => {
  if (!hasKernel) return skip('needs a kernel that can be asked');
  const line = `parity --random 2 --seed 5 --features filter,bridge --backends legacy,nft --out ${directory.path}`;
  const { exitCode, stdout } = await podwire(line.split(' '));
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringMatching(
      /^4 cases \(2 each on legacy, nft\), \d+ packets, seed 5: 0 with differences, \d+ s\n$/,
    ),
  });
});

test('--services makes a cluster, asks both sides about its packets and sums up', { timeout: 60_000 }, async ({
  skip,
}) => {
  if (!hasKernel) return skip('needs a kernel that can be asked');
  const line = `parity --services 20 --packets 30 --seed 5 --proxy nftables --out ${directory.path}`;
  const { exitCode, stdout } = await podwire(line.split(' '));
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: expect.stringMatching(
      /^nftables: 20 services, 30 packets \(\d+ delivered, \d+ refused, \d+ lost\), every endpoint of some looked for, seed 5: 0 cases with differences, \d+ s\n$/,
    ),
  });
});

test.for([
  [['parity', '--services', '5'], 'Expected a whole number from 20 to 249'],
  [['parity', '--services', '200', '--proxy', 'ipvs'], 'Expected iptables or nftables'],
  [['parity', '--random', '3', '--features', 'nat,magic'], 'Unknown "magic"; expected some of nat, filter'],
  [['parity', '--random', '3', '--backends', 'ebpf'], 'Unknown "ebpf"; expected some of legacy, nft, nftnative'],
  [['parity'], 'expected a file with a case, --jsonl, --random'],
  [['parity', 'nowhere.json', '--on', 'simulator'], 'cannot read nowhere.json: ENOENT'],
  [['parity', file, '--on', 'moon'], 'Expected simulator, kernel or both'],
  [['parity', directory.file('broken.json', '{"packets":[]}'), '--on', 'simulator'], 'topology: expected an object'],
  [
    ['parity', directory.file('rule.json', JSON.stringify(CASE).replace('-j DROP', '-j SING')), '--on', 'simulator'],
    'rules.n1.text:3',
  ],
] as const)('wrong use is told in one line: %s', async ([args, message]) => {
  const { exitCode, stdout, stderr } = await podwire(args);
  expect(stderr).toMatch(/^error: [^\n]+\n$/);
  expect(stderr).toContain(message);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
});
