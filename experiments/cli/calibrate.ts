// podwire calibrate: what packet work costs on this machine, measured in network namespaces, as a file for --cost.

import { writeFileSync } from 'node:fs';
import { type CostFile, printCostFile } from '../../models/cpu/cost-file.ts';
import { LINUX_6_18, type PiecewiseLinear } from '../../models/cpu/cost-model.ts';
import { calibrate } from '../../models/parity/calibration/calibrate.ts';
import { checkWritable } from '../harness/output-path.ts';
import { type Cell, renderTable } from '../harness/report.ts';
import { cannot } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples } from './command-line.ts';
import { onThisMachine } from './machine-measurement.ts';

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

async function calibrateMachine({ out, quick = false }: CalibrateOptions, context: CommandContext): Promise<void> {
  checkWritable(out);
  const costs = await onThisMachine((options) => calibrate(options), { name: 'calibrate', quick }, context);
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
