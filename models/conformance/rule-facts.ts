// What suites about the rules of one mode of kube-proxy have in common.

import { type RecordedCase, type RecordedMode, unmodelledGate } from './recorded-case.ts';
import { compareText, type Difference, type Tally } from './suite.ts';

/** A value with `cases` of which some have this field. */
export function hasCasesWith(field: string, value: object): boolean {
  const cases: unknown = Reflect.get(value, 'cases');
  return Array.isArray(cases) && cases.some((row) => row instanceof Object && field in row);
}

/** A fact about what a recorded node has in this mode. */
export function ruleFact(
  mode: RecordedMode,
  recorded: RecordedCase,
  tally: Tally,
  differences: () => readonly Difference[],
): void {
  const gate = unmodelledGate(recorded.config.featureGates);
  if (gate !== undefined) tally.notModelled(gate);
  else if (recorded.mode !== mode) tally.notModelled(`rules of ${mode} in mode ${recorded.mode}`);
  else tally.fact(`${recorded.id}: ${recorded.about}`, differences());
}

/** The first line that differs stands for all of its chain; `unit` says what a line is. */
export function compareLines(
  expected: readonly string[],
  got: readonly string[],
  { part, unit }: { readonly part: string; readonly unit: 'rule' | 'line' },
): Difference[] {
  const i = expected.findIndex((line, i) => line !== got[i]);
  if (i === -1 && expected.length === got.length) return [];
  const place = i === -1 ? expected.length : i;
  const end = `no more ${unit}s`;
  return compareText(expected[place] ?? end, got[place] ?? end, `${part}, ${unit} ${place + 1}`);
}
