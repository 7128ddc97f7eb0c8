// podwire calibrate: what packet work costs on this machine, measured in network namespaces, as a file for --cost.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CostFile, printCostFile } from '../../models/cpu/cost-file.ts';
import { LINUX_6_18, type PiecewiseLinear } from '../../models/cpu/cost-model.ts';
import { calibrate, NotPossible } from '../../models/parity/calibration/calibrate.ts';
import { NoisyMachine } from '../../models/parity/calibration/measurement.ts';
import { checkWritable } from '../harness/output-path.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { startProgress } from '../harness/progress.ts';
import { type Cell, renderTable } from '../harness/report.ts';
import { cannot } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples } from './command-line.ts';
import { INTERRUPTED, interruptible } from './interruption.ts';

interface CalibrateOptions {
  readonly out: string;
  readonly quick?: boolean;
}

export function addCalibrate(program: Command, context: CommandContext): void {
  program
    .command('calibrate')
    .description('Measure what packet work costs on this machine (Linux, root; under two minutes), for --cost.')
    .option('--out <file>', 'cost file to write', 'podwire-costs.json')
    .option('--quick', 'a third of the rounds and fewer sizes of rulesets')
    .addHelpText(
      'after',
      examples('podwire calibrate --out my-machine.json', 'podwire run service-count --cost my-machine.json'),
    )
    .action((options: CalibrateOptions) => calibrateMachine(options, context));
}

/** The folder with the program that measures; it is no module, so it is where it was before compiling. */
export const PROBE_SOURCES = join(PACKAGE_ROOT, 'models', 'parity', 'calibration');

async function calibrateMachine({ out, quick = false }: CalibrateOptions, context: CommandContext): Promise<void> {
  checkWritable(out);
  const costs = await measure(quick, context);
  if (costs === undefined) return;
  try {
    writeFileSync(out, printCostFile(costs));
  } catch (error) {
    throw cannot('write', out, error);
  }
  context.stdout.write(table(costs, context.stdout.isTTY === true));
  for (const [name, { reason }] of Object.entries(costs.costs))
    if (reason !== undefined) context.stderr.write(`note: ${name} is the shipped figure: ${reason}\n`);
  context.stderr.write(`costs of this machine in ${out}\n`);
}

/** Undefined if it could not be: the context's exit code says whether that is a failure. */
async function measure(quick: boolean, context: CommandContext): Promise<CostFile | undefined> {
  const interruption = interruptible();
  let progress: ReturnType<typeof startProgress> | undefined;
  try {
    return await calibrate({
      sources: PROBE_SOURCES,
      quick,
      signal: interruption.signal,
      onProgress(done, total) {
        progress ??= startProgress('calibrate', { total, unit: 'steps', isTerminal: context.stderr.isTTY === true });
        if (done > 0) progress.step();
      },
    });
  } catch (error) {
    if (interruption.signal.aborted) {
      context.exitCode = INTERRUPTED;
    } else if (error instanceof NotPossible) {
      context.stdout.write(`skipped: ${error.message}; the shipped costs stay in use\n`);
    } else if (error instanceof NoisyMachine) {
      context.exitCode = 1;
      context.stderr.write(`error: ${error.message}\n`);
    } else throw error;
    return undefined;
  } finally {
    progress?.stop();
    interruption.end();
  }
}

function table({ costs }: CostFile, isTerminal: boolean): string {
  const rows = Object.entries(costs).map(([name, { value, source, spread }]): Cell[] => [
    name,
    describe(value),
    spread === undefined ? '' : `${spread[0]} to ${spread[1]}`,
    describe(LINUX_6_18[name as keyof typeof LINUX_6_18]),
    source,
  ]);
  return renderTable({ columns: ['cost', 'measuredHere', 'quartiles', 'shipped', 'source'], rows, isTerminal });
}

/** A curve by its ends. */
function describe(value: number | PiecewiseLinear): string {
  if (typeof value === 'number') return String(value);
  const [first, last] = [value[0], value.at(-1)];
  return first === undefined || last === undefined ? '' : `${first[1]} at ${first[0]}, ${last[1]} at ${last[0]}`;
}
