import { describe, expect, test } from 'vitest';
import { podwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const manifests = directory.file('two-nodes.yaml', TWO_NODES);

/** The words of a line; what stands in quotes is one word. */
const conntrack = (line: string) =>
  podwire(['conntrack', '-f', manifests, ...[...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, a, b]) => a ?? b ?? '')]);

async function printed(line: string): Promise<string[]> {
  const { exitCode, stdout, stderr } = await conntrack(line);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout.split('\n').slice(0, -1);
}

const WEB = '--from client --to web:80 --node near';
const PORTS = /port=\d{5}/g;

test('prints the connections of a node as conntrack -L does', async () => {
  const [entry = '', ...others] = await printed(WEB);
  expect(others).toEqual([]);
  expect(entry.replace(PORTS, 'port=PORT')).toBe(
    'tcp      6 119 TIME_WAIT src=10.244.0.2 dst=10.96.0.10 sport=PORT dport=80 ' +
      'src=10.244.1.2 dst=10.244.0.2 sport=8080 dport=PORT [ASSURED] mark=0 use=1',
  );
  expect(await printed(`${WEB} -o extended`)).toEqual([`ipv4     2 ${entry}`]);
});

test('prints them at any time: TIME_WAIT lasts two minutes', async () => {
  const [entry = ''] = await printed(`${WEB} --at 100s`);
  expect(entry).toMatch(/^tcp {6}6 (19|20) TIME_WAIT /);
  expect(await printed(`${WEB} --at 121s`)).toEqual([]);
});

test('prints some of them, their number, and what each CPU has counted', async () => {
  const twice = '--from client --to web:8125 --protocol udp --node near --requests 2';
  expect(await printed(twice)).toHaveLength(2);
  expect(await printed(`${twice} --filter '-p udp --dst-nat 10.244.1.2'`)).toHaveLength(2);
  expect(await printed(`${twice} --filter '-p tcp'`)).toEqual([]);
  expect(await printed(`${twice} -C`)).toEqual(['2']);
  const statistics = await printed(`${twice} -S`);
  expect(statistics.map((line) => line.slice(0, 24))).toEqual([
    'cpu=0   \tfound=0 invalid',
    'cpu=1   \tfound=0 invalid',
  ]);
});

describe('wrong use is told in one line', () => {
  test.for([
    ['--from client --to web:80 --node nowhere', '--node nowhere: no such node; there are: near, far'],
    [`${WEB} --at 5`, "argument '5' is invalid. Expected a time with its unit, for example 500ms or 2s."],
    [`${WEB} --filter '-p'`, '-p without a value; expected a number from 0 to 255'],
    [`${WEB} -o xml`, "argument 'xml' is invalid. Expected extended."],
    ['--node near --to web:80', "required option '--from <sender>' not specified"],
  ] as const)('%s', async ([line, message]) => {
    const { exitCode, stdout, stderr } = await conntrack(line);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
