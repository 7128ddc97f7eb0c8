// What a conformance suite is: a form of files with recorded facts, and how to ask the model about each fact in one.

import type { z } from 'zod';
import { describeExpectation, describeProblem } from '../parity/problem-text.ts';
import { SuiteError } from './suite-error.ts';

export interface Suite {
  readonly name: string;
  /** In words, what its files hold. */
  readonly content: string;
  /** By the form alone: a file may have any name. */
  recognises(value: unknown): boolean;
  /** Throws a SuiteError unless every field is as it should be. */
  read(value: unknown, fileName: string): ReadySuite;
}

/** A file that has been read. */
export interface ReadySuite {
  run(): SuiteResult;
}

export interface SuiteResult {
  readonly suite: string;
  /** What is counted, in the plural: `flows`. */
  readonly unit: string;
  readonly total: number;
  readonly mismatches: readonly Mismatch[];
  /** Facts that were not asked about, by what the model lacks: `mode nftables`. */
  readonly notModelled: ReadonlyMap<string, number>;
  /** Every fact by name, in order, where a suite lists them. */
  readonly facts?: readonly NamedFact[];
}

export interface NamedFact {
  readonly name: string;
  readonly outcome: 'pass' | 'fail' | 'not simulated';
  /** Why it is not simulated. */
  readonly reason?: string;
}

/** A fact that the model does not agree with. */
export interface Mismatch {
  readonly fact: string;
  readonly differences: readonly Difference[];
}

export interface Difference {
  /** Which part of the fact; absent where it has only one. */
  readonly part?: string;
  readonly expected: string;
  readonly got: string;
}

export function defineSuite<Schema extends z.ZodType>(definition: {
  readonly name: string;
  readonly unit: string;
  readonly content: string;
  readonly schema: Schema;
  readonly recognises: (value: unknown) => boolean;
  /** Tells the tally of every fact. */
  readonly check: (content: z.output<Schema>, tally: Tally) => void;
}): Suite {
  const { name, unit, content, schema, recognises, check } = definition;
  return {
    ...{ name, content, recognises },
    read: (value, fileName) => {
      const parsed = schema.safeParse(value, { error: describeExpectation });
      if (!parsed.success) throw new SuiteError(`${fileName}: ${describeProblem(parsed.error, value)}`);
      return {
        run: () => {
          const tally = new Tally();
          check(parsed.data, tally);
          return { suite: name, unit, ...tally.result() };
        },
      };
    },
  };
}

export class Tally {
  #total = 0;
  readonly #mismatches: Mismatch[] = [];
  readonly #notModelled = new Map<string, number>();
  #facts: NamedFact[] | undefined;

  /** From now on every fact is listed by name. */
  listFacts(): void {
    this.#facts = [];
  }

  /** A fact that was asked about; without differences the model agrees. */
  fact(fact: string, differences: readonly Difference[]): void {
    this.#total++;
    if (differences.length > 0) this.#mismatches.push({ fact, differences });
    this.#facts?.push({ name: fact, outcome: differences.length > 0 ? 'fail' : 'pass' });
  }

  notModelled(what: string, count = 1, name = what): void {
    this.#facts?.push({ name, outcome: 'not simulated', reason: what });
    this.#total += count;
    this.#notModelled.set(what, (this.#notModelled.get(what) ?? 0) + count);
  }

  result(): Omit<SuiteResult, 'suite' | 'unit'> {
    const facts = this.#facts && { facts: this.#facts };
    return { total: this.#total, mismatches: this.#mismatches, notModelled: this.#notModelled, ...facts };
  }
}

/** None if the texts agree. */
export function compareText(expected: string, got: string, part?: string): Difference[] {
  return expected === got ? [] : [{ ...(part !== undefined && { part }), expected, got }];
}

/** Each field of `expected`, as JSON, with the same field of what the model says; fields that only the model has are its own. */
export const compareFields = (expected: object, got: object): Difference[] =>
  Object.entries(expected).flatMap(([field, value]) =>
    compareText(toJson(value), toJson(Reflect.get(got, field)), field),
  );

/** Like {@link compareFields}, where the model may have no field besides. */
export const compareExactly = (expected: object, got: object): Difference[] => [
  ...compareFields(expected, got),
  ...Object.entries(got).flatMap(([field, value]) =>
    Object.hasOwn(expected, field) ? [] : compareText('nothing', toJson(value), field),
  ),
];

const toJson = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value));
