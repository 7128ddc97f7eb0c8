// Suites as text: JSON files in, results in lines out.

import type { ReadySuite, SuiteResult } from './suite.ts';
import { SuiteError } from './suite-error.ts';
import { SUITES } from './suites.ts';

/** Finds out which suite the text is of. Throws a SuiteError that names file, place and what was expected. */
export function parseSuite(text: string, fileName: string): ReadySuite {
  const value = readJson(text, fileName);
  const suite = SUITES.find(({ recognises }) => recognises(value));
  if (suite !== undefined) return suite.read(value, fileName);
  const forms = SUITES.map(({ name, content }) => `${content} (${name})`).join(', ');
  throw new SuiteError(`${fileName}: expected one of ${forms}; got ${describe(value)}`);
}

function readJson(text: string, fileName: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const before = text.slice(0, brokenAt(text)).split('\n');
    const place = `${before.length}:${before.at(-1)!.length + 1}`;
    // What follows quotes the text over many lines, or counts characters.
    const what = messageOf(error).replace(/(, (?="|\.{3})| in JSON at| is not valid|\s*\n).*$/s, '');
    throw new SuiteError(`${fileName}:${place}: ${what}; expected JSON`);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : `${error}`);

/** Where the text stops being the beginning of JSON: V8 tells it of some mistakes only. */
function brokenAt(text: string): number {
  let good = 0;
  let bad = text.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (isBeginning(text.slice(0, middle))) good = middle;
    else bad = middle;
  }
  return good;
}

/** It lacks nothing but more text. */
function isBeginning(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch (error) {
    const [, position] = / at position (\d+)/.exec(messageOf(error)) ?? [];
    return position === undefined ? messageOf(error).includes('end of JSON input') : Number(position) >= text.length;
  }
}

/** What the top of a file is, in few words. */
function describe(value: unknown): string {
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list that begins with ${describe(value[0])}`;
  if (!(value instanceof Object)) return JSON.stringify(value);
  const fields = Object.keys(value);
  return fields.length === 0 ? 'an empty object' : `an object with ${fields.slice(0, 8).join(', ')}`;
}

/** One line, `kube-proxy-flows: 231 of 231 flows`, and below it each mismatch with what was expected and what came. */
export function formatResult({ suite, unit, total, mismatches, notModelled, facts = [] }: SuiteResult): string {
  const left = [...notModelled.values()].reduce((sum, count) => sum + count, 0);
  const why = [...notModelled.keys()].join(', ');
  const lines = [
    `${suite}: ${total - left - mismatches.length} of ${total} ${unit}${left === 0 ? '' : `; ${left} not modelled: ${why}`}`,
  ];
  for (const { name, outcome, reason } of facts)
    lines.push(`  ${outcome}${reason === undefined ? '' : ` (${reason})`}: ${name}`);
  for (const { fact, differences } of mismatches) {
    lines.push(`  ${fact}`);
    for (const { part, expected, got } of differences) {
      if (part !== undefined) lines.push(`    ${part}`);
      lines.push(`      expected ${expected}`, `      got      ${got}`);
    }
  }
  return lines.map((line) => `${line}\n`).join('');
}
