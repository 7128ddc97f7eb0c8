import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { podwire, ROOT, TemporaryDirectory } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const bundled = (name: string): string => readFileSync(join(ROOT, 'models', 'conformance', `${name}.json`), 'utf8');

test('prints a line for each suite that comes with podwire', async () => {
  const { exitCode, stdout, stderr } = await podwire(['conformance']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).toMatch(/^kube-proxy-flows: \d+ of \d+ flows/m);
  expect(stdout).toMatch(/^kube-proxy-iptables-rules: (\d+) of \1 facts$/m);
  expect(stdout).toMatch(/^kube-proxy-nftables-rules: (\d+) of \1 facts$/m);
  expect(stdout).toMatch(/^endpoint-topology: (\d+) of \1 cases$/m);
  expect(stdout).toMatch(/^endpoint-slices: (\d+) of \1 facts$/m);
});

interface E2eRecord {
  readonly id: string;
  readonly simulatable: string;
}

test('lists the end-to-end tests, each with its outcome or the reason why it is not simulated', async () => {
  const { exitCode, stdout } = await podwire(['conformance', 'kubernetes-e2e']);
  expect(exitCode).toBe(0);
  const [, passed, total, left] = /^kubernetes-e2e: (\d+) of (\d+) tests; (\d+) not modelled: /.exec(stdout) ?? [];
  expect(stdout.match(/^ {2}pass: (conf|net)-\d+ /gm)).toHaveLength(Number(passed));
  expect(stdout.match(/^ {2}not simulated \([^)]+\): (conf|net)-\d+ /gm)).toHaveLength(Number(left));
  expect(Number(passed) + Number(left)).toBe(Number(total));
  // What a simulation of packets can show at all passes.
  const { conformance, further } = JSON.parse(bundled('kubernetes-e2e')) as Record<string, E2eRecord[]>;
  const simulatable = [...conformance!, ...further!].filter((record) => record.simulatable === 'yes');
  expect(simulatable.filter(({ id }) => !stdout.includes(`  pass: ${id} `))).toEqual([]);
});

test('takes a file of any name for what it is, and the name of a suite for that suite', async () => {
  const file = directory.file('some-facts.json', bundled('endpoint-topology'));
  const { stdout } = await podwire(['conformance', file, 'endpoint-topology']);
  const [first, second, rest] = stdout.split('\n');
  expect(first).toMatch(/^endpoint-topology: (\d+) of \1 cases$/);
  expect([second, rest]).toEqual([first, '']);
});

test('shows a mismatch and exits 1', async () => {
  const cases = JSON.parse(bundled('endpoint-topology'));
  cases[0].expect.hasAnyEndpoints = false;
  const file = directory.file('wrong.json', JSON.stringify(cases));
  const { exitCode, stdout } = await podwire(['conformance', file]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^endpoint-topology: \d+ of \d+ cases\n {2}zone-hints-used: .+\n {4}hasAnyEndpoints\n/);
  expect(stdout).toMatch(/\n {6}expected false\n {6}got {6}true\n$/);
});

test.for([
  [
    directory.file('cut.json', bundled('kube-proxy-flows').slice(0, 100_000)),
    /cut\.json:\d+:\d+: .+; expected JSON\n$/,
  ],
  [directory.file('other.json', '{"a":1}'), /other\.json: expected one of .+; got an object with a\n$/],
  ['nowhere.json', /cannot read nowhere\.json: ENOENT/],
] as const)('no suite: %s', async ([file, message]) => {
  const { exitCode, stdout, stderr } = await podwire(['conformance', 'endpoint-topology', file]);
  expect(stderr).toMatch(/^error: [^\n]+\n$/);
  expect(stderr).toMatch(message);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
});
