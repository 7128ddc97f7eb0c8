import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { csvLine, numberIn, readCsv, requireColumns } from './csv.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-csv-'));

function fileWith(text: string): string {
  const file = join(directory, 'table.csv');
  writeFileSync(file, text);
  return file;
}

test('rows are read by column name', () => {
  const table = readCsv(fileWith('connection,latencyUs\nkept alive,12.5\n"new, per request",\n'));
  expect(table.columns).toEqual(['connection', 'latencyUs']);
  expect(table.rows).toEqual([
    { connection: 'kept alive', latencyUs: '12.5' },
    { connection: 'new, per request', latencyUs: '' },
  ]);
  expect(table.rows.map((row) => numberIn(row, 'latencyUs'))).toEqual([12.5, undefined]);
});

test('what is written is read back', () => {
  const cell = fc.string({ unit: 'grapheme' });
  fc.assert(
    fc.property(fc.array(fc.tuple(cell, cell, cell), { minLength: 1 }), (rows) => {
      const file = fileWith(`a,b,c\n${rows.map(csvLine).join('')}`);
      expect(readCsv(file).rows.map(({ a, b, c }) => [a, b, c])).toEqual(rows);
    }),
  );
});

test('a file that cannot be read, is empty or is no table is refused by name', () => {
  expect(() => readCsv('/nowhere/x.csv')).toThrow('cannot read /nowhere/x.csv: ENOENT');
  expect(() => readCsv(fileWith(''))).toThrow('table.csv: empty; expected a CSV with a header');
  expect(() => readCsv(fileWith('a,b\n1,2\n3\n'))).toThrow(/table\.csv: not a CSV: .*line 3/);
});

test('a missing column is refused with those there are', () => {
  const table = { file: 'file.csv', columns: ['a', 'b', 'c'], rows: [] };
  expect(() => requireColumns(table, ['a', 'foo'])).toThrow('file.csv: no column "foo"; it has a, b, c');
});
