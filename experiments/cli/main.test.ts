// The installed command as a process: needs `npm run build`, which `npm test` does first.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT, startPodwire, TemporaryDirectory } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const dice = join(ROOT, 'experiments', 'harness', 'testdata', 'dice.ts');

const podwire = (args: readonly string[], options: { interruptAt?: string } = {}) =>
  startPodwire(args, { cwd: directory.path, ...options });

test('run writes a row per run and a record, and shows the means', async () => {
  const { exitCode, stdout, stderr } = await podwire(['run', dice, '--set', 'dice=1', '--seed', '7', '--out', 'out']);
  expect(stderr).toBe(`6 runs in ${join('out', 'dice.csv')}\n`);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^dice +kind +mean eyes +measured \(ms\)\n/);
  const rows = readFileSync(directory.join(join('out', 'dice.csv')), 'utf8')
    .trim()
    .split('\n');
  expect(rows.map((row) => row.split(',').slice(0, 4).join())).toEqual([
    'dice,kind,replication,seed',
    ...['1,fair,1,7/1', '1,fair,2,7/2', '1,fair,3,7/3', '1,loaded,1,7/1', '1,loaded,2,7/2', '1,loaded,3,7/3'],
  ]);
  expect(JSON.parse(readFileSync(directory.join(join('out', 'dice.run.json')), 'utf8'))).toMatchObject({
    experiment: 'dice',
    runs: { planned: 6, finished: 6 },
  });
});

test('Ctrl-C keeps the rows so far and exits 130', async () => {
  // The third run asks for the signal and then never ends.
  const file = directory.join('endless.ts');
  writeFileSync(
    file,
    `import { writeSync } from 'node:fs';
     import { ms } from '${join(ROOT, 'engine', 'time.ts')}';
     import { experimentsOn } from '${join(ROOT, 'experiments', 'harness', 'experiment.ts')}';
     import { TickingCluster } from '${join(ROOT, 'experiments', 'harness', 'testdata', 'ticking-cluster.ts')}';
     export default experimentsOn((options) => new TickingCluster(options))({
       name: 'endless', factors: { size: [1, 2, 3] }, replications: 1, warmUp: ms(0), duration: ms(1),
       build({ size }) {
         if (size === 3) {
           writeSync(2, 'now');
           for (;;);
         }
       },
       measure: () => ({ answers: 42 }),
     });`,
  );
  const { exitCode, stderr } = await podwire(['run', file, '--workers', '1', '--out', 'out'], { interruptAt: 'now' });
  expect(stderr).toContain(`2 of 3 runs in ${join('out', 'endless.csv')}\n`);
  expect(exitCode).toBe(130);
  expect(readFileSync(directory.join(join('out', 'endless.csv')), 'utf8')).toBe(
    'size,replication,seed,answers\n1,1,1/1,42\n2,1,1/1,42\n',
  );
});

test("a bug in a user's file is shown with its place in that file", async () => {
  const file = directory.join('bug.ts');
  writeFileSync(file, 'interface Pod { name: string }\n\nconst pod = undefined as Pod | undefined;\npod!.name;\n');
  const { exitCode, stderr } = await podwire(['run', file]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^error: Cannot read properties of undefined \(reading 'name'\)\n +at .*bug\.ts:4:6/);
});
