// A cost file: what stages cost on one machine, each figure with where it comes from. `podwire calibrate` writes one,
// runs read it with --cost. A hand-written one may name a few figures only; the others are the shipped ones.
//
//   { "podwireCosts": 1,
//     "machine": { "cpu": "...", "kernel": "6.18.0", "date": "2026-01-31" },
//     "costs": {
//       "vethNs": { "value": 412, "source": "measured", "how": "one veth pair more", "spread": [405, 431] },
//       "rulesNs": { "value": [[0, 0], [1000, 2436]], "source": "measured" },
//       "nicNs": { "value": 150, "source": "default", "reason": "no physical interface is measured" } } }

import { type CostModel, FREE, LINUX_6_18, type PiecewiseLinear } from './cost-model.ts';

export type CostName = keyof CostModel;

/** `derived`: from measured figures. `ratio`: measured with a slow sender, and scaled to the shipped figures. */
export const COST_SOURCES = ['measured', 'derived', 'ratio', 'default', 'assumed'] as const;
export type CostSource = (typeof COST_SOURCES)[number];

/** One figure. Everything but the value is for readers. */
export interface Cost {
  readonly value: number | PiecewiseLinear;
  readonly source: CostSource;
  /** The measurement, or the formula. */
  readonly how?: string;
  /** Why it was not measured. */
  readonly reason?: string;
  /** Quartiles over the rounds, of a number. */
  readonly spread?: readonly [number, number];
}

export interface CostFile {
  readonly machine: Readonly<Record<string, string>>;
  /** What of each round's figures counts, and other remarks on the whole. */
  readonly notes: readonly string[];
  /** All of {@link COST_NAMES}. */
  readonly costs: Readonly<Record<string, Cost>>;
}

export class CostFileError extends Error {
  override readonly name = 'CostFileError';
}

export const COST_NAMES = Object.keys(LINUX_6_18) as readonly CostName[];

/** For the simulation: the figures without their stories. */
export function costModelOf({ costs }: CostFile): CostModel {
  const values = Object.entries(costs).map(([name, { value }]) => [name, value] as const);
  return { ...LINUX_6_18, ...Object.fromEntries(values) };
}

export function printCostFile({ machine, notes, costs }: CostFile): string {
  const rows = Object.entries(costs).map(([name, cost]) => `    ${JSON.stringify(name)}: ${onOneLine(cost)}`);
  const head = [['podwireCosts', FORMAT] as const, ['machine', machine] as const, ['notes', notes] as const];
  const lines = head.map(([key, value]) => `  ${JSON.stringify(key)}: ${onOneLine(value)},\n`).join('');
  return `{\n${lines}  "costs": {\n${rows.join(',\n')}\n  }\n}\n`;
}

/** Throws a CostFileError that names the file, the field, and what was expected there. */
export function parseCostFile(text: string, fileName: string): CostFile {
  const fail = (problem: string): never => {
    throw new CostFileError(`${fileName}: ${problem}`);
  };
  const root = parseJson(text, fail);
  if (!isRecord(root) || root.podwireCosts === undefined)
    return fail('no cost file; expected "podwireCosts": 1, "machine" and "costs", as podwire calibrate writes it');
  if (root.podwireCosts !== FORMAT)
    return fail(`podwireCosts is ${show(root.podwireCosts)}; expected ${FORMAT}, the only format there is`);
  for (const key of Object.keys(root))
    if (!['podwireCosts', 'machine', 'notes', 'costs'].includes(key))
      fail(`unknown field ${key}; expected podwireCosts, machine, notes, costs`);
  const { machine = {}, notes = [], costs } = root;
  if (!isRecord(machine) || !Object.values(machine).every((value) => typeof value === 'string'))
    return fail(`machine is ${show(machine)}; expected names with texts`);
  if (!Array.isArray(notes) || !notes.every((note) => typeof note === 'string'))
    return fail(`notes is ${show(notes)}; expected a list of texts`);
  if (!isRecord(costs)) return fail(`costs is ${show(costs)}; expected figures by name`);
  return {
    machine: machine as Record<string, string>,
    notes: notes as string[],
    costs: parseCosts(costs, fail),
  };
}

type Fail = (problem: string) => never;

const FORMAT = 1;

function parseCosts(costs: Record<string, unknown>, fail: Fail): CostFile['costs'] {
  for (const name of Object.keys(costs)) {
    if (!Object.hasOwn(FREE, name)) fail(`costs.${name}: no such figure; expected one of ${COST_NAMES.join(', ')}`);
  }
  const parsed = COST_NAMES.map((name): [CostName, Cost] => {
    const given = costs[name];
    if (given === undefined) return [name, { value: LINUX_6_18[name], source: 'default' }];
    return [name, parseCost(`costs.${name}`, given, typeof LINUX_6_18[name] === 'number' ? wholeNs : curve, fail)];
  });
  return Object.fromEntries(parsed);
}

function parseCost(
  at: string,
  given: unknown,
  parseValue: (at: string, value: unknown, fail: Fail) => number | PiecewiseLinear,
  fail: Fail,
): Cost {
  if (!isRecord(given)) return fail(`${at} is ${show(given)}; expected { "value": ..., "source": ... }`);
  const { value, source = 'assumed', how, reason, spread, ...rest } = given;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) fail(`${at}.${unknown}: unknown field; expected value, source, how, reason, spread`);
  const known = COST_SOURCES.find((name) => name === source);
  if (known === undefined) return fail(`${at}.source is ${show(source)}; expected one of ${COST_SOURCES.join(', ')}`);
  return {
    value: parseValue(`${at}.value`, value, fail),
    source: known,
    ...(how !== undefined && { how: sentence(`${at}.how`, how, fail) }),
    ...(reason !== undefined && { reason: sentence(`${at}.reason`, reason, fail) }),
    ...(spread !== undefined && { spread: quartiles(`${at}.spread`, spread, fail) }),
  };
}

/** Virtual time is whole nanoseconds; more than a second per frame is a mistake in the unit. */
function wholeNs(at: string, value: unknown, fail: Fail): number {
  const isCost = typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= LARGEST_NS;
  return isCost ? value : fail(`${at} is ${show(value)}; expected whole nanoseconds from 0 to ${LARGEST_NS}`);
}

const LARGEST_NS = 1_000_000_000;

/** Costs that fall beyond the last knot would become negative. */
function curve(at: string, value: unknown, fail: Fail): PiecewiseLinear {
  if (!Array.isArray(value) || value.length === 0)
    return fail(`${at} is ${show(value)}; expected a list of [count, nanoseconds]`);
  let before: readonly [number, number] | undefined;
  return value.map((knot: unknown, i): readonly [number, number] => {
    if (!Array.isArray(knot) || knot.length !== 2)
      return fail(`${at}[${i}] is ${show(knot)}; expected [count, nanoseconds]`);
    const [count, ns] = [wholeNs(`${at}[${i}][0]`, knot[0], fail), wholeNs(`${at}[${i}][1]`, knot[1], fail)];
    if (before !== undefined && count <= before[0])
      return fail(`${at}[${i}][0] is ${count}, after ${before[0]}; expected rising counts`);
    if (before !== undefined && ns < before[1])
      return fail(`${at}[${i}][1] is ${ns}, after ${before[1]}; expected costs that do not fall`);
    before = [count, ns];
    return before;
  });
}

function sentence(at: string, value: unknown, fail: Fail): string {
  return typeof value === 'string' ? value : fail(`${at} is ${show(value)}; expected a text`);
}

function quartiles(at: string, value: unknown, fail: Fail): readonly [number, number] {
  const isPair = Array.isArray(value) && value.length === 2 && value.every((end) => typeof end === 'number');
  return isPair ? [value[0], value[1]] : fail(`${at} is ${show(value)}; expected two numbers`);
}

function parseJson(text: string, fail: Fail): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return fail(`no JSON: ${error instanceof Error ? error.message : error}`);
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

/** JSON with spaces after colons and commas, so that a figure and its story stand on one readable line. */
const onOneLine = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(onOneLine).join(', ')}]`;
  if (!isRecord(value)) return JSON.stringify(value);
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return fields.length === 0
    ? '{}'
    : `{ ${fields.map(([name, field]) => `${JSON.stringify(name)}: ${onOneLine(field)}`).join(', ')} }`;
};
