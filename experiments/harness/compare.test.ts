import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { compareFiles } from './compare.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-compare-'));

/** Compares two results of one variant and one measure, given by the values of its replications. */
function compare(
  measure: string,
  before: readonly number[],
  after: readonly number[],
  options: { seed?: string } = {},
) {
  const file = (name: string, values: readonly number[], seed: string) =>
    csv(
      name,
      `proxy,replication,seed,${measure}`,
      values.map((value, i) => `iptables,${i + 1},${seed}/${i + 1},${value}`),
    );
  const files = [file('before', before, '1'), file('after', after, options.seed ?? '1')] as const;
  const { measures } = compareFiles(...files, { threshold: 0.05 });
  return measures[0]!;
}

function csv(name: string, header: string, lines: readonly string[]): string {
  const file = join(directory, `${name}.csv`);
  writeFileSync(file, `${[header, ...lines].join('\n')}\n`);
  return file;
}

describe('the verdict', () => {
  test.each<[string, string, number[], number[], string, boolean]>([
    ['a latency that rises by a tenth', 'latencyUs', [100, 110, 120], [120, 131, 139], 'worse', true],
    [
      'a latency that rises by less than the threshold',
      'latencyUs',
      [100, 110, 120],
      [103, 113.1, 122.9],
      'worse',
      false,
    ],
    ['a latency that falls', 'latencyUs', [120, 131, 139], [100, 110, 120], 'better', false],
    ['a rate that falls', 'requestsPerSecond', [120, 131, 139], [100, 110, 120], 'worse', true],
    ['a number of rules that falls', 'rules', [80, 80, 80], [8, 8, 8], 'changed', false],
    ['failures where there were none', 'failed', [0, 0, 0], [2, 2, 2], 'worse', true],
    ['the same values', 'latencyUs', [100, 200, 300], [100, 200, 300], 'same', false],
    ['noise within the threshold', 'latencyUs', [100, 200, 300], [101, 199, 300], 'same', false],
    ['noise beyond the threshold', 'latencyUs', [100, 200, 300], [150, 140, 310], 'unclear', false],
    ['one replication each', 'latencyUs', [100], [200], 'unclear', false],
    ['one replication, the same', 'latencyUs', [100], [100], 'same', false],
  ])('on %s', (_, measure, before, after, verdict, isRegression) => {
    expect(compare(measure, before, after)).toMatchObject({ verdict, isRegression });
  });
});

test('runs with the same seed are compared pair by pair, others are not', () => {
  // The replications differ by far more than before and after do: only pairs can tell.
  expect(compare('latencyUs', [100, 500, 900], [111, 510, 911])).toMatchObject({ verdict: 'worse' });
  expect(compare('latencyUs', [100, 500, 900], [111, 510, 911], { seed: '2' })).toMatchObject({ verdict: 'unclear' });
});

test('a difference is also told as a fraction of before', () => {
  expect(compare('latencyUs', [100, 300], [110, 330])).toMatchObject({
    ...{ before: 200, after: 220, relative: 0.1 },
    difference: { mean: 20 },
  });
  expect(compare('failed', [0, 0], [1, 1]).relative).toBe(Number.POSITIVE_INFINITY);
});

test('variants are matched by their levels, wherever they stand', () => {
  const header = 'services,proxy,replication,seed,latencyUs';
  const before = csv('b', header, ['10,iptables,1,1/1,5', '10,ipvs,1,1/1,7', '20,iptables,1,1/1,9']);
  const after = csv('a', header, ['20,iptables,1,1/1,9', '10,iptables,1,1/1,5', '10,nftables,1,1/1,3']);
  const { variantColumns, measures, onlyBefore, onlyAfter } = compareFiles(before, after, { threshold: 0.05 });
  expect(variantColumns).toEqual(['services', 'proxy']);
  expect(measures.map(({ variant, verdict }) => [...variant, verdict])).toEqual([
    ['10', 'iptables', 'same'],
    ['20', 'iptables', 'same'],
  ]);
  expect(onlyBefore).toEqual(['services=10 proxy=ipvs latencyUs']);
  expect(onlyAfter).toEqual(['services=10 proxy=nftables latencyUs']);
});

describe('a bench report', () => {
  const header = 'bench,case,variant,unit,value,samples,rsd,cpu,node';
  const reports = (unit: string, before: string, after: string) =>
    [
      csv('before', header, [`event-list,hold 1e4,wheel,${unit},${before},EPYC,v20`]),
      csv('after', header, [`event-list,hold 1e4,wheel,${unit},${after},EPYC,v22`]),
    ] as const;

  test.each([
    ['ns/op', '60,100,0.02', '70,100,0.02', 'worse', true],
    ['ns/op', '60,100,0.02', '50,100,0.02', 'better', false],
    ['frames/s', '60,100,0.02', '50,100,0.02', 'worse', true],
    ['ns/op', '60,10,0.5', '62,10,0.5', 'unclear', false],
    ['ns/op', '60,1000,0.01', '60.02,1000,0.01', 'same', false],
    ['rules', '60,100,0.02', '70,100,0.02', 'changed', false],
  ])('in %s: %s and %s', (unit, before, after, verdict, isRegression) => {
    const { measures } = compareFiles(...reports(unit, before, after), { threshold: 0.05 });
    expect(measures).toMatchObject([
      { variant: ['event-list', 'hold 1e4', 'wheel'], measure: unit, verdict, isRegression },
    ]);
  });
});

test('files that have nothing in common are refused', () => {
  const one = csv('one', 'proxy,replication,seed,latencyUs', ['iptables,1,1/1,5']);
  const other = csv('other', 'nodes,replication,seed,latencyUs', ['3,1,1/1,5']);
  const third = csv('third', 'proxy,replication,seed,latencyUs', ['ipvs,1,1/1,5']);
  expect(() => compareFiles(one, other, { threshold: 0.05 })).toThrow(
    /one\.csv has the factors proxy, but .*other\.csv has nodes/,
  );
  expect(() => compareFiles(one, third, { threshold: 0.05 })).toThrow('have no variant and measure in common');
});
