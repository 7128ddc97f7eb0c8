// What the commands of `podwire` share: the program they are added to, where they write, and how options are read. The
// one door to commander.

import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { type Duration, ms, s, us } from '../../engine/time.ts';
import { packageVersion } from '../harness/package.ts';
import type { RegisteredExperiment } from '../registry.ts';

export type { Command };

/** A stream of the process, or a test's. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
}

export interface CommandContext {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly registry: readonly RegisteredExperiment[];
  /** What the process is to exit with; a command sets it for an outcome that is not an error. */
  exitCode: number;
}

/** Usage errors and help throw; see {@link isCommandLineExit}. */
export function createProgram({ stdout, stderr }: CommandContext): Command {
  return new Command('podwire')
    .description('A packet-level discrete-event simulator of Kubernetes networking.')
    .version(packageVersion(), '-V, --version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      // "Did you mean …?" stands on a line of its own otherwise.
      outputError: (text, write) => write(`${text.trim().replace(/\s*\n\s*/g, ' ')}\n`),
    })
    .helpCommand(false);
}

/** Commander has printed help, the version or a usage error, and wants to exit. */
export function isCommandLineExit(error: unknown): error is Error & { readonly exitCode: number } {
  return error instanceof CommanderError;
}

/** An option's value by `parse`, whose RangeError becomes a usage error that names the option. */
export function optionValue<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw error instanceof RangeError ? new InvalidArgumentError(error.message) : error;
    }
  };
}

/** A whole number, from 1 unless said otherwise. */
export function wholeNumber({ from = 1, to = Number.MAX_SAFE_INTEGER } = {}): (text: string) => number {
  return optionValue((text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < from || value > to) {
      const upTo = to === Number.MAX_SAFE_INTEGER ? '' : ` to ${to}`;
      throw new RangeError(`Expected a whole number from ${from}${upTo}.`);
    }
    return value;
  });
}

/** One of these words. */
export const oneOf = <T extends string>(words: readonly T[]): ((text: string) => T) =>
  optionValue((text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new RangeError(`Expected ${inWords(words)}.`);
    return word;
  });

/** `iptables, nftables or ipvs` */
export const inWords = (words: readonly string[]): string =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;

/** A percentage as a fraction: `5` and `5%` are 0.05. */
export const percentage = optionValue((text: string) => {
  const [, percent] = /^(\d+(?:\.\d+)?) ?%?$/.exec(text) ?? [];
  if (percent === undefined) throw new RangeError('Expected a percentage, for example 5.');
  return Number(percent) / 100;
});

/** A time with its unit: `500ms`, `1.5s`, `2m`. */
export const duration = optionValue((text: string): Duration => {
  const [, value, unit] = /^(\d+(?:\.\d+)?)(us|ms|s|m|h)$/.exec(text) ?? [];
  const make = UNITS[unit ?? ''];
  if (make === undefined) throw new RangeError('Expected a time with its unit, for example 500ms or 2s.');
  return make(Number(value));
});

const UNITS: Readonly<Record<string, (count: number) => Duration>> = {
  us,
  ms,
  s,
  m: (count) => s(60 * count),
  h: (count) => s(3_600 * count),
};

/** For an option that may be given several times. */
export function collect(text: string, earlier: readonly string[] = []): string[] {
  return [...earlier, text];
}

/** Lines to show below `--help`. */
export function examples(...lines: readonly string[]): string {
  return ['', 'Examples:', ...lines.map((line) => `  ${line}`)].join('\n');
}
