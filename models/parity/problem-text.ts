// What is wrong with a value that came from JSON, in the words of error lines: place, expectation, what was there.

import type { z } from 'zod';

/** The first wrong field: `topology.nodes[0].name: expected a string, got 7`. */
export function describeProblem({ issues }: z.ZodError, value: unknown): string {
  const issue = issues[0] as z.core.$ZodIssue;
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') return `${formatPath([...path, issue.keys[0]!])}: expected only known fields`;
  const field = path.length === 0 ? '' : `${formatPath(path)}: `;
  return `${field}expected ${issue.message}, got ${show(valueAt(value, path))}`;
}

/** In words, what a schema without a message of its own expects. */
export function describeExpectation(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return EXPECTED[issue.expected as string] ?? `a ${issue.expected}`;
    case 'invalid_value':
      return issue.values
        .map(String)
        .join(', ')
        .replace(/, ([^,]*)$/, ' or $1');
    default:
      return 'another value';
  }
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: 'a string',
  object: 'an object',
  record: 'an object',
  array: 'a list',
  boolean: 'true or false',
};

/** `topology.nodes[0].pods[1].ip` */
const formatPath = (path: readonly string[]): string =>
  path
    .map((key) => (/^\d+$/.test(key) ? `[${key}]` : `.${key}`))
    .join('')
    .replace(/^\./, '');

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, key) => (inner instanceof Object ? Reflect.get(inner, key) : undefined), value);
}

/** A value in an error line: short, and on one line. */
function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
