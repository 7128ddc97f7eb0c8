// podwire run: every variant and replication of an experiment, on all cores, into a CSV.

import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { PROXY_MODE_NOTES, PROXY_MODES } from '../../models/kube/kube-proxy/proxy-mode.ts';
import { describeFinding, type Finding, type MeasuredRun } from '../harness/expectation.ts';
import type { Experiment, Factors } from '../harness/experiment.ts';
import { type GivenCosts, readCosts, SHIPPED_COSTS } from '../harness/given-costs.ts';
import { planRuns, selectLevels } from '../harness/plan.ts';
import { startProgress } from '../harness/progress.ts';
import { ResultFile, TableFiles } from '../harness/results.ts';
import { RunRecord } from '../harness/run-record.ts';
import { Summary, TableSummary } from '../harness/summary.ts';
import { sweep } from '../harness/sweep.ts';
import { type LoadedExperiment, loadExperimentFile } from '../harness/typescript-file.ts';
import { UserError } from '../harness/user-error.ts';
import { loadRegistered, type RegisteredExperiment } from '../registry.ts';
import { type Command, type CommandContext, collect, examples, wholeNumber } from './command-line.ts';
import { INTERRUPTED, interruptible } from './interruption.ts';

export interface RunOptions {
  readonly set?: readonly string[];
  readonly replications?: number;
  readonly seed: number;
  /** Default: one per CPU. A lone run is divided over them only if they are asked for. */
  readonly workers?: number;
  readonly out: string;
  /** Read already. */
  readonly cost?: GivenCosts;
  /** The compiled sweep-worker.ts, where it is not beside sweep.ts. */
  readonly workerModule?: URL;
}

export function addRun(program: Command, context: CommandContext): void {
  const run = addSweepOptions(program.command('run'))
    .description('Run an experiment: every variant, every replication. Writes <name>.csv and <name>.run.json.')
    .argument('<experiment>', 'a built-in experiment (see podwire list), or a .ts or .js file')
    .option(
      '--set <factor=level,...>',
      'run only these levels of a factor, or vary proxy, ipFamily or cni (may be repeated)',
      collect,
    )
    .addHelpText('after', examples(...EXAMPLES))
    .action(async (argument: string, options: RunOptions) => {
      const loaded = await findExperiment(argument, context.registry);
      await runExperiment(loaded, options, context);
    });
  for (const registered of context.registry) if ('addTo' in registered) registered.addTo(run, context);
}

/** Options of everything that runs a sweep. */
export function addSweepOptions(command: Command): Command {
  return command
    .option('--replications <n>', "runs per variant (default: the experiment's)", wholeNumber({ to: 100_000 }))
    .option('--seed <n>', 'seed of all random numbers', wholeNumber({ from: 0 }), 1)
    .option('--workers <n>', 'worker threads; a lone run is divided over them (default: one per CPU)', wholeNumber())
    .option('--out <dir>', 'directory of the results', join('results', 'out'))
    .option(
      '--cost <file>',
      'what packet work costs, from podwire calibrate (default: the shipped figures)',
      readCosts,
    );
}

const EXAMPLES = [
  'podwire run service-count',
  "podwire run service-count --set services=10,100 --set 'connection=kept alive' --replications 3",
  'podwire run load-distribution --set ipFamily=ipv4,ipv6,dual',
  'podwire run service-count --cost my-machine.json',
  'podwire run ./my-experiment.ts --workers 1 --seed 7 --out results/mine',
];

/** Throws a UserError that lists the names there are. */
export async function findExperiment(
  argument: string,
  registry: readonly RegisteredExperiment[],
): Promise<LoadedExperiment> {
  if (/\.(ya?ml|json)$/.test(argument))
    throw new UserError(`${argument} is no experiment; for manifests: podwire run services -f ${argument}`);
  if (/[/\\]|\.[cm]?[jt]s$/.test(argument)) return loadExperimentFile(argument);
  const registered = registry.find(({ name }) => name === argument);
  if (registered !== undefined && 'module' in registered) {
    return { experiment: await loadRegistered(registered), module: registered.module.href };
  }
  const names = registry.map(({ name }) => name).join(', ') || 'none';
  throw new UserError(`no experiment "${argument}"; there are: ${names} (a file's name ends in .ts or .js)`);
}

/** What there is to tell of a sweep, besides its files. */
export interface FinishedSweep {
  readonly record: RunRecord;
  readonly tables: TableSummary;
  readonly wallSeconds: number;
}

/** Runs the sweep, writes its files and prints its summary. */
export async function runExperiment(
  loaded: LoadedExperiment,
  options: RunOptions,
  context: CommandContext,
): Promise<FinishedSweep> {
  const { experiment, module, options: moduleOptions } = loaded;
  const { name } = experiment;
  const { cost = SHIPPED_COSTS, workers = availableParallelism() } = options;
  const about = describeSweep(experiment, options);
  const plan = planRuns(about);
  const results = new ResultFile({ directory: options.out, name, factors: about.factors });
  const tableFiles = new TableFiles({ directory: options.out, name });
  const notes = notesOn(about.factors);
  const record = new RunRecord({ ...about, experiment, plannedRuns: plan.length, costs: cost, notes });
  const summary = new Summary();
  const tables = new TableSummary();
  const measured: MeasuredRun[] = [];
  let findings: readonly Finding[] = [];
  const isTerminal = context.stderr.isTTY === true;
  const progress = startProgress(name, { total: plan.length, isTerminal });
  const started = performance.now();
  const secondsSoFar = () => (performance.now() - started) / 1e3;
  const interruption = interruptible();
  try {
    const outcome = await sweep({
      ...{ plan, module, options: moduleOptions, workers, signal: interruption.signal },
      costs: cost.costs,
      ...(options.workers !== undefined && {
        onUndivided: (reason: string) => context.stderr.write(`note: one worker, not ${workers}: ${reason}\n`),
      }),
      ...(options.workerModule && { workerModule: options.workerModule }),
      onFinished: progress.step,
      onResult(run, result) {
        results.write(run, result.measures);
        tableFiles.write(run, result.tables);
        if (run.index === 0) writeFiles(options.out, result.files);
        record.add(result);
        summary.add(run, result.measures);
        tables.add(run, result.tables);
        measured.push({ levels: run.levels, measures: result.measures });
      },
    });
    if (outcome === 'interrupted') context.exitCode = INTERRUPTED;
    else findings = experiment.findings(measured);
  } finally {
    interruption.end();
    progress.stop();
    results.close();
    tableFiles.close();
    record.write(join(options.out, `${name}.run.json`), { wallSeconds: secondsSoFar(), workers, findings });
  }
  context.stdout.write(summary.render({ isTerminal: context.stdout.isTTY === true }));
  if (findings.length > 0)
    context.stdout.write(`\n${findings.map((finding) => `${describeFinding(finding)}\n`).join('')}`);
  for (const note of notes) context.stderr.write(`note: ${note}\n`);
  const finished = record.finishedRuns === plan.length ? '' : `${record.finishedRuns} of `;
  const runs = plan.length === 1 ? 'run' : 'runs';
  context.stderr.write(`${finished}${plan.length} ${runs} in ${results.path}\n`);
  if (context.exitCode === 0) await drawCharts(experiment, options.out, context);
  return { record, tables, wallSeconds: secondsSoFar() };
}

async function drawCharts({ name, charts }: Experiment, directory: string, { stderr }: CommandContext): Promise<void> {
  if (charts.length === 0) return;
  // Imported here because the chart library takes longer to load than other commands take to run.
  const { plotCsv } = await import('../harness/plot.ts');
  for (const { table, ...columns } of charts) {
    const source = table === undefined ? name : `${name}-${table}`;
    const file = join(directory, `${source}.csv`);
    const paths = await plotCsv({ ...columns, file, out: join(directory, `${source}-${columns.y}.svg`) });
    stderr.write(`${paths.join(', ')}\n`);
  }
}

/** Of levels that are not what they may be taken for. */
const notesOn = ({ proxy = [] }: Factors): string[] =>
  PROXY_MODES.filter((mode) => proxy.includes(mode)).flatMap((mode) => PROXY_MODE_NOTES[mode] ?? []);

function writeFiles(directory: string, files: Readonly<Record<string, Uint8Array>>): void {
  for (const [path, bytes] of Object.entries(files)) writeFileSync(resolve(directory, path), bytes);
}

function describeSweep(experiment: Experiment, { set = [], replications, seed }: RunOptions) {
  return {
    factors: selectLevels(experiment.factors, set, experiment.heldFactors),
    replications: replications ?? experiment.replications,
    seed: String(seed),
  };
}
