// npm run bench:peers: Podwire and what users would compare it with, by turns on one core: ratios as a table, as CSV, and
// as a picture.
//
//   npm run bench:peers -- --only ns3 --rounds 3 --out results/bench/peers.csv
//
// Peers are built here and now; for one that is not on this machine its row says how to get it.

import { writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { INTERRUPTED, interruptible } from '../../experiments/cli/interruption.ts';
import { writeChart } from '../../experiments/harness/chart.ts';
import { checkWritable, makeDirectory } from '../../experiments/harness/output-path.ts';
import { startProgress } from '../../experiments/harness/progress.ts';
import { cannot, messageOf, UserError } from '../../experiments/harness/user-error.ts';
import { ratioChart } from './chart.ts';
import { compareByTurns, contendersOf, type Outcome, type Subject } from './comparison.ts';
import { eventListSubject } from './event-list.peer.ts';
import { itselfSubject } from './itself.peer.ts';
import { kernelSubject } from './kernel.peer.ts';
import { ns3Subject } from './ns3.peer.ts';
import { outcomeCsv, outcomeTables } from './report.ts';
import { FULL, Workbench } from './workbench.ts';

/** One file per subject; each makes rows. */
const SUBJECTS: Readonly<Record<string, (workbench: Workbench) => Promise<Subject>>> = {
  ns3: ns3Subject,
  kernel: kernelSubject,
  'event-list': eventListSubject,
  itself: itselfSubject,
};

/** For the test of the bench: everything is built and runs, and the ratios mean nothing. */
const QUICK = {
  packets: 2_000,
  packetsOfSlowPeers: 500,
  clusters: [
    { nodes: 2, podsPerNode: 2 },
    { nodes: 3, podsPerNode: 2 },
  ],
  largest: { nodes: 4, podsPerNode: 2 },
  pending: [100],
  manyServices: 20,
};

interface Options {
  readonly subjects: readonly string[];
  readonly rounds: number;
  readonly quick: boolean;
  /** The CSV; pictures stand beside it. */
  readonly out: string;
}

try {
  process.exitCode = await main(optionsFrom(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = 2;
}

/** Returns the exit code: 1 if something that is there could not be measured, or did not reach its target. */
async function main({ subjects, rounds, quick, out }: Options): Promise<number> {
  const picture = out.slice(0, out.length - extname(out).length);
  makeDirectoryOf(out);
  checkWritable(out);
  const interruption = interruptible();
  const workbench = new Workbench(quick ? QUICK : FULL);
  try {
    process.stderr.write('building ...\n');
    const made: Subject[] = [];
    for (const name of subjects) made.push(await SUBJECTS[name]!(workbench));
    const comparisons = made.flatMap((subject) => subject.comparisons);
    const total = rounds * contendersOf(comparisons).length;
    const progress = startProgress('peers', { total, unit: 'measured', isTerminal: process.stderr.isTTY === true });
    const busy = busyNote();
    const outcomes = await compareByTurns(comparisons, {
      rounds,
      signal: interruption.signal,
      onMeasured: () => progress.step(),
    });
    progress.stop();
    writeFileSync(out, outcomeCsv(outcomes));
    const pictures = outcomes.some(({ ratio }) => ratio !== undefined)
      ? await writeChart(ratioChart(outcomes), picture)
      : [];
    const remarks = [...made.flatMap((subject) => subject.remarks), ...busy];
    process.stdout.write(`${outcomeTables(outcomes, { isTerminal: process.stdout.isTTY === true })}\n`);
    process.stdout.write(`${remarks.map((remark) => `- ${remark}\n`).join('')}\n${[out, ...pictures].join('\n')}\n`);
    if (interruption.signal.aborted) return INTERRUPTED;
    const isWrong = ({ ratio, peer, isMet }: Outcome): boolean =>
      ratio === undefined ? !('missing' in peer) : isMet === false && !quick;
    return outcomes.some(isWrong) ? 1 : 0;
  } finally {
    workbench.remove();
    interruption.end();
  }
}

function optionsFrom(args: readonly string[]): Options {
  const { only, rounds: roundsText, quick, out } = parse(args);
  if (only !== undefined && !(only in SUBJECTS)) {
    throw new UserError(`--only ${only}: no such subject; there are ${Object.keys(SUBJECTS).join(', ')}`);
  }
  const rounds = Number(roundsText);
  if (!(Number.isInteger(rounds) && rounds >= 1 && rounds <= 1_000)) {
    throw new UserError(`--rounds ${roundsText}: expected a whole number from 1 to 1000`);
  }
  if (extname(out) !== '.csv') throw new UserError(`--out ${out}: expected a name ending in .csv`);
  return { subjects: only === undefined ? Object.keys(SUBJECTS) : [only], rounds, quick, out };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: 'string' },
        rounds: { type: 'string', default: '5' },
        quick: { type: 'boolean', default: false },
        out: { type: 'string', default: join('results', 'out', 'peers.csv') },
      },
    }).values;
  } catch (error) {
    throw new UserError(messageOf(error));
  }
}

function makeDirectoryOf(file: string): void {
  try {
    makeDirectory(dirname(file));
  } catch (error) {
    throw cannot('write', file, error);
  }
}

/** Programs take turns, so one core is enough; but others who use caches and memory disturb some programs more. */
function busyNote(): string[] {
  const [load] = loadavg();
  const cores = availableParallelism();
  return load! < cores ? [] : [`The machine was busy when this began: load ${load!.toFixed(1)} on ${cores} cores.`];
}
