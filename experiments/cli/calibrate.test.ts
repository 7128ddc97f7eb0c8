import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { COST_NAMES } from '../../models/cpu/cost-file.ts';
import { LINUX_6_18 } from '../../models/cpu/cost-model.ts';
import { podwire, startPodwire, TemporaryDirectory, TWO_NODES } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const manifests = directory.file('two-nodes.yaml', TWO_NODES);
/** Figures by name; curves stay as shipped. */
const costFile = (name: string, of: (shipped: number) => number): string => {
  const numbers = COST_NAMES.flatMap((cost) => {
    const shipped = LINUX_6_18[cost];
    return typeof shipped === 'number' ? [[cost, { value: of(shipped) }]] : [];
  });
  return directory.file(name, JSON.stringify({ podwireCosts: 1, costs: Object.fromEntries(numbers) }));
};

const connectUs = async (...more: string[]): Promise<number> => {
  const { stdout } = await podwire(['trace', '-f', manifests, '--from', 'client', '--to', 'web:80', ...more]);
  return Number(/\(connect ([\d.]+) µs\)/.exec(stdout)?.[1]);
};

test('a slower machine connects more slowly', async () => {
  const shipped = await connectUs();
  expect(
    await connectUs(
      '--cost',
      costFile('same.json', (ns) => ns),
    ),
  ).toBe(shipped);
  const slow = await connectUs(
    '--cost',
    costFile('slow.json', (ns) => 2 * ns),
  );
  expect(slow).toBeGreaterThan(1.3 * shipped); // cables cost no CPU, and curves are the same
  expect(slow).toBeLessThan(2 * shipped);
});

test('a run hands costs to its workers, and its record names them', { timeout: 60_000 }, async () => {
  const run = async (out: string, ...more: string[]) => {
    const args = ['run', 'services', '-f', manifests, '--duration', '50', '--out', directory.join(out), ...more];
    expect(await startPodwire(args, { cwd: directory.path })).toMatchObject({ exitCode: 0 });
    return JSON.parse(readFileSync(directory.join(`${out}/services.run.json`), 'utf8'));
  };
  const shipped = await run('shipped');
  const slow = await run(
    'slow',
    '--cost',
    costFile('slow.json', (ns) => 2 * ns),
  );
  expect(shipped.costs.file).toBe('shipped');
  expect(slow.costs).toEqual({
    file: directory.join('slow.json'),
    fingerprint: expect.stringMatching(/^[0-9a-f]{16}$/),
  });
  expect(slow.costs.fingerprint).not.toBe(shipped.costs.fingerprint);
  expect(slow.fingerprint).not.toBe(shipped.fingerprint);
});

test.each([
  [
    ['trace', '--from', 'a', '--to', 'b', '--cost', '/nowhere.json'],
    'error: cannot read /nowhere.json: ENOENT: no such file or directory\n',
  ],
  [
    ['run', 'services', '--cost', directory.file('list.json', '[]')],
    /^error: .*list\.json: no cost file; expected "podwireCosts": 1, .*\n$/,
  ],
  [['parity', '--json', 'case.json'], 'error: --quick and --json go with --latency\n'],
  [
    ['calibrate', '--out', '/nowhere/costs.json'],
    'error: cannot write /nowhere/costs.json: ENOENT: no such file or directory\n',
  ],
])('podwire %j is refused in one line', async (args, message) => {
  const { exitCode, stdout, stderr } = await podwire(args);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
  expect(stderr).toMatch(message);
});
