// podwire parity --latency: the table of what takes how long in the kernel of this machine and in the simulator.

import { isWithinTolerance, type LatencyParity, latencyParity, TOLERANCE } from '../../models/parity/latency.ts';
import { type Cell, renderTable } from '../harness/report.ts';
import type { CommandContext } from './command-line.ts';
import { onThisMachine } from './machine-measurement.ts';

export async function compareLatency(
  { quick = false, json = false }: { readonly quick?: boolean; readonly json?: boolean },
  context: CommandContext,
): Promise<void> {
  const parity = await onThisMachine(latencyParity, { name: 'latency', quick }, context);
  if (parity === undefined) return;
  if (!parity.agrees) context.exitCode = 1;
  context.stdout.write(json ? `${JSON.stringify(parity, undefined, 2)}\n` : describe(parity, context.stdout.isTTY));
}

function describe(parity: LatencyParity, isTerminal = false): string {
  const { rows, notCompared, noiseFraction, agrees } = parity;
  const columns = ['scenario', 'kernelUs', 'simulatorUs', 'ratio', 'noise', ''];
  const cells = rows.map((row): Cell[] => [
    row.scenario,
    row.kernelUs,
    row.simulatorUs,
    row.ratio.toFixed(3),
    percent(row.noiseFraction),
    isWithinTolerance(row) ? '' : 'off',
  ]);
  const off = rows.filter((row) => !isWithinTolerance(row)).length;
  return [
    renderTable({ columns, rows: cells, isTerminal }),
    ...notCompared.map(({ scenario, reason }) => `not compared: ${scenario}: ${reason}\n`),
    agrees
      ? `all ${rows.length} within ${percent(TOLERANCE)}`
      : `${off} of ${rows.length} more than ${percent(TOLERANCE)} off`,
    `; the kernel's rounds differ by up to ${percent(noiseFraction)} (noise: distance of the quartiles)\n`,
  ].join('');
}

const percent = (fraction: number): string => `${(100 * fraction).toFixed(0)} %`;
