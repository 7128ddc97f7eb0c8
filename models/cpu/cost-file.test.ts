import fc from 'fast-check';
import { expect, test } from 'vitest';
import { COST_NAMES, COST_SOURCES, type CostFile, costModelOf, parseCostFile, printCostFile } from './cost-file.ts';
import { LINUX_6_18 } from './cost-model.ts';

const file = (costs: unknown, rest: object = { podwireCosts: 1 }) => JSON.stringify({ ...rest, costs });

test('what a file does not name costs what it does by default', () => {
  const parsed = parseCostFile(file({ vethNs: { value: 412, source: 'measured', spread: [405, 431] } }), 'mine.json');
  expect(costModelOf(parsed)).toEqual({ ...LINUX_6_18, vethNs: 412 });
  expect(parsed.costs.vethNs).toEqual({ value: 412, source: 'measured', spread: [405, 431] });
  expect(parsed.costs.bridgeNs?.source).toBe('default');
});

test('a file reads back as it was written, whatever is in it', () => {
  const ns = fc.nat(1_000_000_000);
  const rising = fc.uniqueArray(ns, { minLength: 1, maxLength: 5 }).map((values) => values.sort((a, b) => a - b));
  const knots = fc.tuple(rising, rising).map(([xs, ys]) => {
    const count = Math.min(xs.length, ys.length);
    return xs.slice(0, count).map((x, i): [number, number] => [x, ys[i] ?? 0]);
  });
  const cost = (value: fc.Arbitrary<number | [number, number][]>) =>
    fc.record(
      { value, source: fc.constantFrom(...COST_SOURCES), how: fc.string(), spread: fc.tuple(ns, ns) },
      { requiredKeys: ['value', 'source'] },
    );
  const costs = fc.record(
    Object.fromEntries(COST_NAMES.map((name) => [name, cost(typeof LINUX_6_18[name] === 'number' ? ns : knots)])),
  );
  const files: fc.Arbitrary<CostFile> = fc.record({
    machine: fc.dictionary(fc.constantFrom('cpu', 'kernel', 'date'), fc.string()),
    notes: fc.array(fc.string(), { maxLength: 2 }),
    costs,
  });
  fc.assert(
    fc.property(files, (written) => {
      const text = printCostFile(written);
      const read = parseCostFile(text, 'any.json');
      expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(JSON.stringify(written)));
      expect(printCostFile(read)).toBe(text);
    }),
  );
});

test.each([
  ['{', /^mine\.json: no JSON: /],
  ['[]', 'no cost file; expected "podwireCosts": 1, "machine" and "costs", as podwire calibrate writes it'],
  ['{"costs": {}}', 'no cost file; expected "podwireCosts": 1'],
  [file({}, { podwireCosts: 2 }), 'mine.json: podwireCosts is 2; expected 1, the only format there is'],
  [file({}, { podwireCosts: 1, cots: 1 }), 'unknown field cots; expected podwireCosts, machine, notes, costs'],
  [file({}, { podwireCosts: 1, machine: { cpus: 2 } }), 'machine is {"cpus":2}; expected names with texts'],
  [file([]), 'costs is []; expected figures by name'],
  [file({ vethUs: { value: 1 } }), 'costs.vethUs: no such figure; expected one of socketSendNs, '],
  [file({ vethNs: 1 }), 'costs.vethNs is 1; expected { "value": ..., "source": ... }'],
  [file({ vethNs: { value: -1 } }), 'costs.vethNs.value is -1; expected whole nanoseconds from 0 to 1000000000'],
  [file({ vethNs: { value: 0.5 } }), 'costs.vethNs.value is 0.5; expected whole nanoseconds'],
  [file({ vethNs: {} }), 'costs.vethNs.value is undefined; expected whole nanoseconds'],
  [file({ vethNs: { value: 1, source: 'guessed' } }), 'costs.vethNs.source is "guessed"; expected one of measured, '],
  [file({ vethNs: { value: 1, spread: [1] } }), 'costs.vethNs.spread is [1]; expected two numbers'],
  [file({ vethNs: { value: 1, unit: 'ns' } }), 'costs.vethNs.unit: unknown field; expected value, source, how'],
  [file({ rulesNs: { value: 5 } }), 'costs.rulesNs.value is 5; expected a list of [count, nanoseconds]'],
  [file({ rulesNs: { value: [[0, 0, 0]] } }), 'costs.rulesNs.value[0] is [0,0,0]; expected [count, nanoseconds]'],
  [
    file({
      rulesNs: {
        value: [
          [9, 0],
          [9, 1],
        ],
      },
    }),
    'costs.rulesNs.value[1][0] is 9, after 9; expected rising counts',
  ],
  [
    file({
      rulesNs: {
        value: [
          [0, 5],
          [9, 1],
        ],
      },
    }),
    'costs.rulesNs.value[1][1] is 1, after 5; expected costs that do not',
  ],
])('%s is refused: %s', (text, message) => {
  expect(() => parseCostFile(text, 'mine.json')).toThrow(message);
});

test('random text is refused by a CostFileError and nothing else', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parseCostFile(text, 'any.json');
      } catch (error) {
        expect((error as Error).name).toBe('CostFileError');
      }
    }),
  );
});
