import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LINUX_6_18 } from '../../models/cpu/cost-model.ts';
import { costsFingerprint, readCosts, SHIPPED_COSTS } from './given-costs.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-costs-'));
const fileOf = (name: string, costs: object, notes: readonly string[] = []): string => {
  const file = join(directory, name);
  writeFileSync(file, JSON.stringify({ podwireCosts: 1, notes, costs }));
  return file;
};

test('a fingerprint is that of the figures, not of the file', () => {
  const same = readCosts(fileOf('same.json', { vethNs: { value: LINUX_6_18.vethNs } }, ['by hand']));
  const other = readCosts(fileOf('other.json', { vethNs: { value: LINUX_6_18.vethNs + 1 } }));
  expect(costsFingerprint(same)).toBe(costsFingerprint(SHIPPED_COSTS));
  expect(costsFingerprint(other)).not.toBe(costsFingerprint(SHIPPED_COSTS));
});

test('what cannot be read is said with the file', () => {
  expect(() => readCosts(join(directory, 'absent.json'))).toThrow(/^cannot read .*absent\.json: ENOENT/);
  expect(() => readCosts(fileOf('wrong.json', { vethNs: 3 }))).toThrow(/wrong\.json: costs\.vethNs is 3; expected /);
});
