// podwire plot: a chart from a result.

import { type Command, type CommandContext, examples } from './command-line.ts';

interface PlotCommandOptions {
  readonly x: string;
  readonly y: string;
  readonly by?: string;
  readonly out?: string;
}

export function addPlot(program: Command, context: CommandContext): void {
  program
    .command('plot')
    .description('Draw one column of a result against another, as SVG and PNG.')
    .argument('<file>', 'CSV, for example one that podwire run wrote')
    .requiredOption('--x <column>', 'horizontal axis: a factor, or a measure for a scatter plot')
    .requiredOption('--y <column>', 'vertical axis: a measure')
    .option('--by <column>', 'a factor to tell apart by colour')
    .option('--out <file>', 'an .svg or .png; without extension both (default: <file>-<y>)')
    .addHelpText('after', examples(...EXAMPLES))
    .action(async (file: string, { x, y, by, out = `${file.replace(/\.csv$/, '')}-${y}` }: PlotCommandOptions) => {
      // Imported here because the chart library takes longer to load than other commands take to run.
      const { plotCsv } = await import('../harness/plot.ts');
      const paths = await plotCsv({ file, x, y, by, out });
      context.stdout.write(paths.map((path) => `${path}\n`).join(''));
    });
}

const EXAMPLES = [
  'podwire plot results/out/services-latency.csv --x servicePort --y latencyP99Us --by path',
  'podwire plot results/out/service-count.csv --x services --y latencyP50Us --by connection --out latency.svg',
];
