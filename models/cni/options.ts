// The options of a plugin as data: what each may be, and what it is if the configuration does not say. Reading a
// configuration with an option that the plugin does not have is an error, although the specification lets plugins ignore
// it: a misspelt option would have no effect, and nobody would know.

import { CNI_ERROR, CniError, invalidConfig } from './cni-error.ts';

export interface Option<T> {
  /** In words: `true or false`. */
  readonly expected: string;
  readonly isGood: (value: unknown) => boolean;
  readonly byDefault: T;
}

export type Options<T> = { readonly [Name in keyof T]-?: Option<T[Name]> };

export const flag = (byDefault = false): Option<boolean> => ({
  expected: 'true or false',
  isGood: (value) => typeof value === 'boolean',
  byDefault,
});

export const text = (byDefault: string): Option<string> => ({
  expected: 'a text',
  isGood: (value) => typeof value === 'string',
  byDefault,
});

export const oneOf = <T extends string>(values: readonly T[], byDefault: T): Option<T> => ({
  expected: values.join(' or '),
  isGood: (value) => (values as readonly unknown[]).includes(value),
  byDefault,
});

export const wholeNumber = (byDefault: number, { least = 0, most = 2 ** 53 } = {}): Option<number> => ({
  expected: `a whole number from ${least} to ${most}`,
  isGood: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  byDefault,
});

export const optional = <T>({ expected, isGood }: Option<T>): Option<T | undefined> => ({
  expected,
  isGood,
  byDefault: undefined,
});

/** Of what kind the entries are, the plugin says when it reads them. */
export const list = <T>(): Option<readonly T[]> => ({ expected: 'a list', isGood: Array.isArray, byDefault: [] });

export const map = <T extends object>(byDefault: T): Option<T> => ({
  expected: 'a map',
  isGood: (value) => value instanceof Object && !Array.isArray(value),
  byDefault,
});

/** What the specification puts beside a plugin's own options. */
const EVERYWHERE = new Set([
  'cniVersion',
  'name',
  'type',
  'ipam',
  'dns',
  'args',
  'capabilities',
  'runtimeConfig',
  'prevResult',
]);

/** `where`: `plugin bridge`. Throws a CniError that names the option, what it was and what was expected. */
export function readOptions<T>(options: Options<T>, config: Readonly<Record<string, unknown>>, where: string): T {
  for (const [name, value] of Object.entries(config)) {
    if (Object.hasOwn(options, name) || EVERYWHERE.has(name) || name.startsWith('cni.dev/')) continue;
    const known = Object.keys(options).join(', ') || 'none';
    throw new CniError(
      CNI_ERROR.unsupportedField,
      `${where}: unknown option "${name}": ${show(value)}; its options are ${known}`,
    );
  }
  const read: Record<string, unknown> = {};
  for (const [name, { expected, isGood, byDefault }] of Object.entries<Option<unknown>>(options)) {
    const value = config[name];
    if (value !== undefined && !isGood(value))
      throw invalidConfig(`${where}: option "${name}": expected ${expected}, got ${show(value)}`);
    read[name] = value ?? byDefault;
  }
  return read as T;
}

export const show = (value: unknown): string => JSON.stringify(value) ?? 'nothing';

/** An option that the real plugin has, and that would have no effect here. */
export const notModelled = (where: string, option: string, value: unknown): CniError =>
  new CniError(CNI_ERROR.unsupportedField, `${where}: option "${option}": ${show(value)}: is not modelled`);
