import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { changesSince } from './compare.ts';
import type { MeasuredRow } from './report.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-bench-compare-'));
afterAll(() => rmSync(directory, { recursive: true }));

function baseline(lines: readonly string[], columns = 'bench,case,variant,unit,value,samples,rsd,yardstickNs'): string {
  const file = join(directory, 'baseline.csv');
  writeFileSync(file, [columns, ...lines].map((line) => `${line}\n`).join(''));
  return file;
}

const row = (values: Partial<MeasuredRow>): MeasuredRow => ({
  ...{ bench: 'b', case: 'c', variant: 'v', unit: 'packets/s', value: 1_000, rsd: 0.01, yardstickNs: 200 },
  ...values,
});

test('a slower machine is no slower program, and a slower program is one on a faster machine, too', () => {
  const file = baseline(['b,c,v,packets/s,1000,5,0.01,200', 'b,c,v,ns/hold,50,5,0.01,200']);
  const of = (values: Partial<MeasuredRow>) => changesSince(file, [row(values)])[0]!;
  expect(of({ value: 500, yardstickNs: 400 })).toMatchObject({ ratio: 1, verdict: 'same' });
  expect(of({ value: 1_000, yardstickNs: 100 })).toMatchObject({ ratio: 0.5, verdict: 'slower' });
  expect(of({ unit: 'ns/hold', value: 100, yardstickNs: 400 })).toMatchObject({ ratio: 1, verdict: 'same' });
  expect(of({ unit: 'ns/hold', value: 25 })).toMatchObject({ ratio: 2, verdict: 'faster' });
});

test('fewer bytes and collections are better, and no machine changes them, nor a ratio', () => {
  const lines = ['bytes/packet,180', 'collections/million packets,0', 'times,1'];
  const file = baseline(lines.map((line) => `b,c,v,${line},5,0,200`));
  const verdictOf = (values: Partial<MeasuredRow>) =>
    changesSince(file, [row({ rsd: 0, yardstickNs: 400, ...values })])[0]!.verdict;
  expect([20, 180, 200].map((value) => verdictOf({ unit: 'bytes/packet', value }))).toEqual([
    'faster',
    'same',
    'slower',
  ]);
  expect([0, 12].map((value) => verdictOf({ unit: 'collections/million packets', value }))).toEqual(['same', 'slower']);
  expect([0.9, 1, 1.1].map((value) => verdictOf({ unit: 'times', value }))).toEqual(['slower', 'same', 'faster']);
});

test('what lies within the spread of both reports is no change', () => {
  const file = baseline(['b,c,v,packets/s,1000,5,0.2,200']);
  const verdictOf = (values: Partial<MeasuredRow>) => changesSince(file, [row(values)])[0]!.verdict;
  expect(verdictOf({ value: 850 })).toBe('same'); // two standard errors are 18 %
  expect(verdictOf({ value: 800 })).toBe('slower');
  expect(verdictOf({ variant: 'another' })).toBe('new');
});

test('a report that does not say how fast its machine was is refused, and so is one of words', () => {
  expect(() =>
    changesSince(baseline(['b,c,v,packets/s,1000,5,0.2'], 'bench,case,variant,unit,value,samples,rsd'), []),
  ).toThrow(/baseline\.csv: no column yardstickNs; expected a report of npm run bench/);
  expect(() => changesSince(baseline(['b,c,v,packets/s,fast,5,0.2,200']), [])).toThrow(
    /value of b, c is "fast"; expected a number from 0/,
  );
});
