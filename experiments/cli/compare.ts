// podwire compare: two results or bench reports, before and after. Exit code 1 when something got worse.

import { type ComparedMeasure, type Comparison, compareFiles } from '../harness/compare.ts';
import { formatNumbers, renderTable } from '../harness/report.ts';
import { type Command, type CommandContext, examples, percentage } from './command-line.ts';

const REGRESSION = 1;

export function addCompare(program: Command, context: CommandContext): void {
  program
    .command('compare')
    .description('Compare two results of one experiment, or two bench reports. Exits 1 on a regression.')
    .argument('<before>', 'CSV')
    .argument('<after>', 'CSV')
    .option('--threshold <percent>', 'how much worse is a regression (default: 5)', percentage)
    .addHelpText('after', examples(...EXAMPLES))
    .action((before: string, after: string, { threshold = 0.05 }: { threshold?: number }) => {
      const comparison = compareFiles(before, after, { threshold });
      context.stdout.write(render(comparison, { threshold, isTerminal: context.stdout.isTTY === true }));
      if (comparison.measures.some(({ isRegression }) => isRegression)) context.exitCode = REGRESSION;
    });
}

const EXAMPLES = [
  'podwire compare before/service-count.csv after/service-count.csv',
  'podwire compare before/services-latency.csv after/services-latency.csv --threshold 2',
];

function render(comparison: Comparison, { threshold, isTerminal }: { threshold: number; isTerminal: boolean }): string {
  const { variantColumns, measures, onlyBefore, onlyAfter } = comparison;
  const columns = [...variantColumns, 'measure', 'before', 'after', 'difference', 'relative', 'verdict'];
  const table = renderTable({ columns, rows: measures.map(rowOf), isTerminal });
  const regressions = measures.filter(({ isRegression }) => isRegression).length;
  const lines = [
    ...onlyBefore.map((series) => `only before: ${series}`),
    ...onlyAfter.map((series) => `only after: ${series}`),
    `${countVerdicts(measures)}; ${regressions} worse by more than ${(threshold * 100).toFixed(1)} %`,
  ];
  return `${table}\n${lines.join('\n')}\n`;
}

function rowOf({ variant, measure, before, after, difference, relative, verdict }: ComparedMeasure): string[] {
  const { mean, halfWidth } = difference;
  const numbers = formatNumbers([before, after, mean, ...(halfWidth === undefined ? [] : [halfWidth])]);
  const [beforeText, afterText, meanText, halfWidthText] = numbers as [string, string, string, string?];
  const differenceText = halfWidthText === undefined ? meanText : `${meanText} ± ${halfWidthText}`;
  const relativeText = Number.isFinite(relative) ? `${(relative * 100).toFixed(1)} %` : '-';
  return [...variant, measure, beforeText, afterText, differenceText, relativeText, verdict];
}

function countVerdicts(measures: readonly ComparedMeasure[]): string {
  const verdicts = ['better', 'worse', 'changed', 'same', 'unclear'] as const;
  const count = (verdict: string) => measures.filter((measure) => measure.verdict === verdict).length;
  return verdicts.map((verdict) => `${count(verdict)} ${verdict}`).join(', ');
}
