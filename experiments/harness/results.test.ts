import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { planRuns } from './plan.ts';
import { ResultFile, resultColumns, TableFiles } from './results.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-results-'));
const factors = { services: [10, 100], connection: ['kept alive', 'new, each time'] };
const plan = planRuns({ factors, replications: 1, seed: '1' });

describe('a result file', () => {
  test('has a row per run: levels, replication, seed, measures', () => {
    const results = new ResultFile({ directory: join(directory, 'deep', 'er'), name: 'small', factors });
    for (const run of plan) results.write(run, { latencyP50Us: 40 + run.index / 7, failed: run.index });
    results.close();
    expect(readFileSync(results.path, 'utf8')).toBe(
      'services,connection,replication,seed,latencyP50Us,failed\n' +
        '10,kept alive,1,1/1,40.000,0\n' +
        '10,"new, each time",1,1/1,40.143,1\n' +
        '100,kept alive,1,1/1,40.286,2\n' +
        '100,"new, each time",1,1/1,40.429,3\n',
    );
  });

  test('holds every row as soon as it is written', () => {
    const results = new ResultFile({ directory, name: 'prefix', factors });
    results.write(plan[0]!, { failed: 0 });
    expect(readFileSync(results.path, 'utf8').split('\n')).toHaveLength(3);
    results.write(plan[1]!, { failed: 0 });
    expect(readFileSync(results.path, 'utf8').split('\n')).toHaveLength(4);
    results.close();
  });

  test('leaves the cell of a mean over nothing empty', () => {
    const results = new ResultFile({ directory, name: 'empty', factors });
    results.write(plan[0]!, { latencyP50Us: 0 / 0, failed: 3 });
    results.close();
    expect(readFileSync(results.path, 'utf8').split('\n')[1]).toBe('10,kept alive,1,1/1,,3');
  });

  test('refuses a directory that cannot be written', () => {
    const file = join(directory, 'file');
    writeFileSync(file, '');
    expect(() => new ResultFile({ directory: join(file, 'out'), name: 'x', factors })).toThrow(
      /^cannot write .*x\.csv: ENOTDIR/,
    );
  });

  test('refuses measures that change their names or take that of another column', () => {
    const results = new ResultFile({ directory, name: 'names', factors });
    expect(() => results.write(plan[0]!, { services: 1 })).toThrow('measure "services" has the name of another column');
    results.write(plan[0]!, { failed: 0, completed: 1 });
    results.write(plan[1]!, { completed: 1, failed: 0 });
    expect(() => results.write(plan[2]!, { failed: 0 })).toThrow('measure gives failed after failed, completed');
    results.close();
    expect(readFileSync(results.path, 'utf8').trim().split('\n').at(-1)).toMatch(/,0,1$/);
  });
});

test('a table without rows has no file, not even one of an earlier sweep', () => {
  const tables = new TableFiles({ directory, name: 'sweep' });
  const stale = join(directory, 'sweep-failures.csv');
  writeFileSync(stale, 'stale');
  tables.write(plan[0]!, { failures: [], load: [{ endpoint: 'web-0', requests: 3 }] });
  tables.write(plan[1]!, { failures: [{ cause: 'refused', requests: 1 }], load: [] });
  tables.close();
  expect(readFileSync(stale, 'utf8')).toBe(
    'services,connection,replication,seed,cause,requests\n10,"new, each time",1,1/1,refused,1\n',
  );
  expect(readFileSync(join(directory, 'sweep-load.csv'), 'utf8')).toBe(
    'services,connection,replication,seed,endpoint,requests\n10,kept alive,1,1/1,web-0,3\n',
  );
});

describe('the columns of a table', () => {
  test('are factors before the columns of the run and measures behind them', () => {
    const columns = ['services', 'proxy', 'replication', 'seed', 'latencyUs'];
    expect(resultColumns({ file: 'x.csv', columns, rows: [] })).toEqual({
      factors: ['services', 'proxy'],
      measures: ['latencyUs'],
    });
  });

  test('are factors, too, behind them if they hold texts, as those of further tables do', () => {
    const columns = ['replication', 'seed', 'servicePort', 'path', 'latencyUs', 'chiSquareP'];
    const rows = [
      { replication: '1', seed: '1/1', servicePort: 'web:80', path: 'outside', latencyUs: '180', chiSquareP: '' },
      { replication: '1', seed: '1/1', servicePort: 'db:sql', path: 'outside', latencyUs: '', chiSquareP: '' },
    ];
    expect(resultColumns({ file: 'x.csv', columns, rows })).toEqual({
      factors: ['servicePort', 'path'],
      measures: ['latencyUs', 'chiSquareP'],
    });
  });

  test('are measures if they hold numbers, where there is no run', () => {
    const rows = [
      { service: 'web', p50Us: '' },
      { service: 'api', p50Us: '12' },
    ];
    expect(resultColumns({ file: 'x.csv', columns: ['service', 'p50Us'], rows })).toEqual({
      factors: ['service'],
      measures: ['p50Us'],
    });
  });
});
