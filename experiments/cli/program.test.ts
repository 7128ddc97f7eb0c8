import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { compileFile } from '../harness/typescript-file.ts';
import type { RegisteredExperiment } from '../registry.ts';
import { podwire as runPodwire, TemporaryDirectory } from './podwire.fixture.ts';

const directory = new TemporaryDirectory();
const dice = await compileFile(join(import.meta.dirname, '..', 'harness', 'testdata', 'dice.ts'));

const registry: readonly RegisteredExperiment[] = [
  { name: 'dice', module: pathToFileURL(dice) },
  {
    name: 'greeting',
    question: 'Does anyone answer?',
    addTo: (run, { stdout }) => {
      run
        .command('greeting')
        .option('--nodes <n>', 'nodes', '1')
        .action(({ nodes }) => {
          stdout.write(`hello ${nodes} nodes\n`);
        });
    },
  },
];

const podwire = (...args: string[]) => runPodwire(args, { registry });

describe('help', () => {
  test('is printed for the program and for every command, with examples', async () => {
    const { exitCode, stdout } = await podwire('--help');
    expect(exitCode).toBe(0);
    for (const command of ['run', 'list', 'plot', 'compare']) {
      expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
      const help = await podwire(command, '--help');
      expect(help.exitCode).toBe(0);
      expect(help.stdout).toContain(`Usage: podwire ${command}`);
      expect(help.stdout).toContain('\nExamples:\n  podwire ');
    }
  });

  test('is what one gets without a command, as an error', async () => {
    const { exitCode, stderr } = await podwire();
    expect(exitCode).toBe(2);
    expect(stderr).toContain('Usage: podwire');
  });
});

test('--version prints the version', async () => {
  expect(await podwire('--version')).toEqual({
    exitCode: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: '',
  });
});

test('list shows every experiment with its question and factors', async () => {
  const { exitCode, stdout } = await podwire('list');
  expect(exitCode).toBe(0);
  expect(`\n${stdout}`).toBe(`
experiment  question                                    factors
──────────────────────────────────────────────────────────────────────────
dice        What does the mean of some dice depend on?  dice: 400, 4, 1
                                                        kind: fair, loaded
greeting    Does anyone answer?                         -
`);
});

test('an experiment may bring options of its own', async () => {
  expect(await podwire('run', 'greeting', '--nodes', '3')).toEqual({
    exitCode: 0,
    stdout: 'hello 3 nodes\n',
    stderr: '',
  });
});

describe('wrong use is told in one line, with exit code 2', () => {
  const blocked = join(directory.file('blocked', ''), 'out');
  const broken = directory.file('broken.ts', 'const = 1;\n');

  test.each([
    ['run dicey', 'no experiment "dicey"; there are: dice, greeting (a file\'s name ends in .ts or .js)'],
    ['run nowhere.ts', 'nowhere.ts: no such file'],
    ['run ./shop.yaml', './shop.yaml is no experiment; for manifests: podwire run services -f ./shop.yaml'],
    [`plot ${directory.file('some.csv', 'x,y\n1,2\n')} --x z --y y`, /some\.csv: no column "z"; it has x, y$/],
    [
      `plot ${directory.join('some.csv')} --x x --y y --out /proc/podwire/chart`,
      /^error: cannot write .*chart\.svg: E/,
    ],
    [`compare ${directory.join('some.csv')} ${directory.file('none.csv', '')}`, /none\.csv: empty; expected a CSV/],
    [`run ${broken}`, /broken\.ts:1:7: Expected identifier but found "="$/],
    ['run dice --set eyes=1', 'no factor "eyes"; there are: dice, kind'],
    ['run dice --set kind=fair,marked', 'factor "kind" has no level "marked"; it has: fair, loaded'],
    [`run dice --out ${blocked}`, `cannot write ${join(blocked, 'dice.csv')}: ENOTDIR`],
    ['plot nowhere.csv --x a --y b', 'cannot read nowhere.csv: ENOENT'],
    ['compare nowhere.csv other.csv', 'cannot read nowhere.csv: ENOENT'],
  ])('%s', async (command, message) => {
    const { exitCode, stdout, stderr } = await podwire(...command.split(' '));
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    if (typeof message === 'string') expect(stderr).toContain(`error: ${message}`);
    else expect(stderr.trim()).toMatch(message);
  });

  test.each([
    ['run', "missing required argument 'experiment'"],
    ['run dice --replications 0', "argument '0' is invalid. Expected a whole number from 1 to 100000."],
    ['run dice --workers two', "argument 'two' is invalid. Expected a whole number from 1."],
    ['run dice --sed 1', "unknown option '--sed' (Did you mean one of --seed, --set?)"],
    ['compare a.csv b.csv --threshold much', "argument 'much' is invalid. Expected a percentage, for example 5."],
    ['fly', "unknown command 'fly'"],
  ])('%s', async (command, message) => {
    const { exitCode, stderr } = await podwire(...command.split(' '));
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/^error: [^\n]+\n$/);
    expect(stderr).toContain(message);
  });
});

test('plot names the files it has written', async () => {
  const csv = directory.file('small.csv', 'services,replication,seed,latencyUs\n10,1,1/1,40\n20,1,1/1,50\n');
  const { exitCode, stdout } = await podwire('plot', csv, '--x', 'services', '--y', 'latencyUs');
  expect(exitCode).toBe(0);
  expect(stdout).toBe(`${directory.join('small-latencyUs.svg')}\n${directory.join('small-latencyUs.png')}\n`);
});

describe('compare', () => {
  const header = 'proxy,replication,seed,latencyUs,failed';
  const before = directory.file(
    'before.csv',
    `${header}\niptables,1,1/1,100,0\niptables,2,1/2,110,0\nipvs,1,1/1,9,0\n`,
  );
  const after = directory.file('after.csv', `${header}\niptables,1,1/1,120,0\niptables,2,1/2,130,0\n`);

  test('exits 1 on a regression beyond the threshold', async () => {
    const { exitCode, stdout } = await podwire('compare', before, after);
    expect(exitCode).toBe(1);
    expect(`\n${stdout}`).toBe(`
proxy     measure    before  after  difference  relative  verdict
─────────────────────────────────────────────────────────────────
iptables  latencyUs     105    125      20 ± 0    19.0 %  worse
iptables  failed          0      0       0 ± 0     0.0 %  same

only before: proxy=ipvs latencyUs
only before: proxy=ipvs failed
0 better, 1 worse, 0 changed, 1 same, 0 unclear; 1 worse by more than 5.0 %
`);
  });

  test('exits 0 within it', async () => {
    const { exitCode, stdout } = await podwire('compare', before, after, '--threshold', '20%');
    expect(exitCode).toBe(0);
    expect(stdout).toContain('0 worse by more than 20.0 %');
  });
});
