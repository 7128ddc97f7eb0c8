// Outcomes as a table for people and as CSV.

import { cpus, release, type } from 'node:os';
import { csvLine } from '../../experiments/harness/csv.ts';
import { renderTable } from '../../experiments/harness/report.ts';
import type { Outcome } from './comparison.ts';

/** Rows with a target, then those for information, then why rows are missing. */
export function outcomeTables(outcomes: readonly Outcome[], { isTerminal }: { isTerminal: boolean }): string {
  const measured = outcomes.filter(({ ratio }) => ratio !== undefined);
  const tables = [
    measured.filter(({ atLeast }) => atLeast !== undefined),
    measured.filter(({ atLeast }) => atLeast === undefined),
  ].filter((rows) => rows.length > 0);
  const missing = outcomes.filter(({ ratio }) => ratio === undefined);
  return [
    ...tables.map((rows) => outcomeTable(rows, isTerminal)),
    ...(missing.length > 0 ? [missing.map(missingLine).join('')] : []),
  ].join('\n');
}

function outcomeTable(rows: readonly Outcome[], isTerminal: boolean): string {
  const hasTargets = rows.some(({ atLeast }) => atLeast !== undefined);
  return renderTable({
    columns: ['what', 'Podwire', 'beside', 'peer value', 'ratio', ...(hasTargets ? ['atLeast', 'met'] : [])],
    rows: rows.map((outcome) => {
      const { value, peer, peerValue, ratio, atLeast, isMet } = outcome;
      const target = hasTargets ? [`${atLeast}x`, isMet ? 'yes' : 'no'] : [];
      return [rowName(outcome), rounded(value!), peer.name, rounded(peerValue!), times(ratio!), ...target];
    }),
    isTerminal,
  });
}

export const rowName = ({ unit, case: conditions }: Outcome): string => `${unit}, ${conditions}`;

function missingLine(outcome: Outcome): string {
  const { peer, atLeast, why } = outcome;
  const target = atLeast === undefined ? '' : ` (at least ${atLeast}x)`;
  return `${rowName(outcome)}, beside ${peer.name}${target}: ${why}\n`;
}

const rounded = (value: number): string => Math.round(value).toLocaleString('en-US');
const times = (ratio: number): string => `${ratio.toPrecision(3)}x`;

const COLUMNS = [
  ...['case', 'unit', 'variant', 'value', 'beside', 'besideValue'],
  ...['ratio', 'lowestRatio', 'highestRatio', 'atLeast', 'met', 'rounds', 'why', 'node', 'cpu', 'cores', 'os'],
];

export function outcomeCsv(outcomes: readonly Outcome[]): string {
  const machine = [process.versions.node, cpus()[0]?.model ?? '', String(cpus().length), `${type()} ${release()}`];
  const lines = outcomes.map((outcome) => {
    const { case: conditions, unit, podwire, value, peer, peerValue, ratio, lowestRatio, highestRatio } = outcome;
    const { atLeast, isMet, rounds, why } = outcome;
    return csvLine([
      ...[conditions, unit, podwire.name, numberCell(value), peer.name, numberCell(peerValue)],
      ...[ratio, lowestRatio, highestRatio, atLeast].map(numberCell),
      ...[isMet === undefined ? '' : isMet ? 'yes' : 'no', String(rounds), why ?? '', ...machine],
    ]);
  });
  return [csvLine(COLUMNS), ...lines].join('');
}

const numberCell = (value: number | undefined): string =>
  value === undefined ? '' : String(Number(value.toPrecision(6)));
