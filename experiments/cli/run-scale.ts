// podwire run scale: how Podwire itself grows with the cluster, as a table, pictures, and the exponent of each curve.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkMemory } from '../cluster-memory.ts';
import { csvLine, readCsv } from '../harness/csv.ts';
import { type GrowthCurve, growthCurves } from '../harness/growth.ts';
import { planRuns, selectLevels } from '../harness/plan.ts';
import { renderTable } from '../harness/report.ts';
import { UserError } from '../harness/user-error.ts';
import scale, { type ScaleLevels, sizeOf } from '../scale.ts';
import { type Command, type CommandContext, collect, examples } from './command-line.ts';
import { addSweepOptions, type RunOptions, runExperiment } from './run.ts';

const FACTORS = ['nodes', 'services'] as const;
const MEASURES = [
  ...['buildWallSeconds', 'heapBytes', 'packetsPerWallSecond'],
  ...['conntrackEntries', 'endpointChangeWallMs', 'endpointChangeMs'],
];

export const SCALE = {
  name: scale.name,
  question: scale.question!,
  addTo(run: Command, context: CommandContext): void {
    addSweepOptions(run.command(scale.name))
      .description(
        'Build clusters of up to 5,000 nodes and 10,000 Services. Wall time and memory differ from run to run: ' +
          'with several --workers they disturb each other.',
      )
      .option(
        '--set <factor=level,...>',
        'run only these levels of nodes or services, or with one other proxy, ipFamily or cni (may be repeated)',
        collect,
      )
      .addHelpText(
        'after',
        examples(
          'podwire run scale --workers 1',
          'podwire run scale --set nodes=10,100',
          'podwire run scale --set nodes=10,100 --set ipFamily=ipv6',
        ),
      )
      .action(async (_: unknown, command: Command) => runScale(command.optsWithGlobals<RunOptions>(), context));
  },
};

async function runScale(options: RunOptions, context: CommandContext): Promise<void> {
  // The largest first, before anything is written.
  const factors = selectLevels(scale.factors, options.set ?? [], scale.heldFactors);
  for (const [factor, levels] of Object.entries(factors))
    if (factor in scale.heldFactors && levels.length > 1)
      throw new UserError(`--set ${factor}=${levels.join()}: curves are of one kind of cluster; expected one level`);
  const runs = planRuns({ factors, replications: 1, seed: '' });
  for (const { levels } of runs) checkMemory(sizeOf(levels as ScaleLevels & typeof levels));
  const module = new URL(`../scale${import.meta.url.slice(import.meta.url.lastIndexOf('.'))}`, import.meta.url).href;
  await runExperiment({ experiment: scale, module }, options, context);
  if (context.exitCode !== 0) return;
  const file = join(options.out, `${scale.name}.csv`);
  const curves = growthCurves(readCsv(file), { factors: FACTORS, measures: MEASURES });
  writeCurves(curves, join(options.out, `${scale.name}-growth.csv`), context);
  // Imported here because the chart library takes longer to load than other commands take to run.
  const { plotCsv } = await import('../harness/plot.ts');
  for (const [x, by] of [FACTORS, [...FACTORS].reverse() as [string, string]]) {
    for (const y of MEASURES) {
      const paths = await plotCsv({ file, x, y, by, out: join(options.out, `${scale.name}-${y}-by-${x}.svg`) });
      context.stderr.write(`${paths.join(', ')}\n`);
    }
  }
}

const COLUMNS = ['measure', 'growsWith', 'at', 'exponent', 'lastExponent'] as const;

function writeCurves(curves: readonly GrowthCurve[], path: string, { stdout }: CommandContext): void {
  const rows = curves.map((curve) => COLUMNS.map((column) => curve[column]));
  const texts = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toFixed(2) : cell)));
  writeFileSync(path, [COLUMNS, ...texts].map((cells) => csvLine([...cells])).join(''));
  if (rows.length > 0)
    stdout.write(`\n${renderTable({ columns: COLUMNS, rows: texts, isTerminal: stdout.isTTY === true })}`);
}
