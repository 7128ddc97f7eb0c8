// An experiment: what varies (factors), how one run is built, and what is measured in it. The loops around it (plan,
// seeds, workers, rows) belong to the harness: plan.ts, sweep.ts, results.ts.
//
// A run builds a cluster, lets it warm up, resets the statistics of the load, and measures for a fixed time. Not
// offered: a run length that depends on the precision reached, and factors that are not plain values.

import type { Part } from '../../engine/parallel/part.ts';
import { after, type Duration, type Instant } from '../../engine/time.ts';
import type { CostModel } from '../../models/cpu/cost-model.ts';
import type { FrameTotals } from '../../models/packet/frame-store.ts';
import { type Finding, type MeasuredRun, MeasuredRuns } from './expectation.ts';
import { RUN_COLUMNS } from './plan.ts';
import { UserError } from './user-error.ts';
import { tuneFor, tuneForBuilding } from './v8.ts';

/** A value of a factor, as it stands in the CSV. */
export type Level = string | number | boolean;
export type Factors = Readonly<Record<string, readonly Level[]>>;
/** One level of each factor. */
export type Levels<F extends Factors = Factors> = { readonly [Name in keyof F]: F[Name][number] };
/** Name with its unit (`latencyP99Us`), and value. A value that is not finite leaves its cell empty. */
export type Measures = Readonly<Record<string, number>>;

/** A row of a further table: texts tell rows apart, numbers are measured; undefined leaves a cell empty. */
export type TableRow = Readonly<Record<string, string | number | undefined>>;
/** Further tables of one run, by name; each becomes `<experiment>-<table>.csv`. */
export type Tables = Readonly<Record<string, readonly TableRow[]>>;

/** What the harness asks of the cluster that an experiment builds with. */
export interface ExperimentCluster {
  readonly sim: { readonly now: Instant; readonly executedEvents: number; readonly fingerprint: string };
  readonly frames: { totals(): FrameTotals; drops(): ReadonlyMap<string, number> };
  /** What it simulates at once, to know whether it is large. */
  readonly pods?: readonly unknown[];
  run(until: Instant): void;
  /** The warm-up is over: loads forget what they have counted so far. */
  startMeasuring(): void;
  /**
   * The run is over; where it was divided over workers, what they measured comes to the first of them. False: this is not
   * that one.
   */
  gather?(): boolean;
  /** Throws when a frame is neither delivered nor dropped nor in flight. */
  assertConserved(): void;
}

/** A picture of one column of the results against another (plot.ts). */
export interface ChartColumns {
  readonly x: string;
  readonly y: string;
  /** A factor to tell apart by colour. */
  readonly by?: string;
  /** One of {@link ExperimentDefinition.tables}; absent: the results themselves. */
  readonly table?: string;
}

export interface ExperimentDefinition<C, F extends Factors, L, M extends Measures, O extends object = object> {
  /** Lower case words joined by hyphens; names the CSV. */
  readonly name: string;
  readonly question?: string;
  readonly factors: F;
  readonly replications: number;
  readonly warmUp: Duration;
  /** Measured time, after the warm-up. */
  readonly duration: Duration;
  /**
   * May one run be divided over workers, each of which simulates some of the nodes? True if build, story and measure go by
   * loads, by objects of the API server, and by what the cluster counts as a whole (frames, rulesVisited,
   * conntrackEntries), and not by what is on one node, or what they count themselves while it runs. A text says why not.
   */
  readonly divisible?: true | string;
  /** What the cluster has to be made with, for what cannot be changed once it is there. */
  clusterOptions?(levels: Levels<F>): Partial<O>;
  /** Builds one variant and returns its load. */
  build(levels: Levels<F>, cluster: C): L;
  measure(load: L, cluster: C): M;
  /** What does not fit in one row per run, for example a row per endpoint. */
  tables?(load: L, cluster: C): Tables;
  /** Files to keep of the first run, by path; a relative one is in the directory of the results. */
  files?(load: L, cluster: C): Readonly<Record<string, Uint8Array>>;
  /**
   * What happens while measuring: each yielded Duration passes before the generator goes on. A story that is still
   * going when the measured time ends is cut off there.
   */
  story?(cluster: C, load: L): Generator<Duration, void, void>;
  /** What came out beside what was expected. Asked once, after all runs; levels that were not asked for have no runs. */
  findings?(runs: MeasuredRuns<F, M>): readonly Finding[];
  /** Drawn beside the results. */
  readonly charts?: readonly ChartColumns[];
}

/** An experiment whose types have done their work: what plans, workers and the command handle. */
export interface Experiment {
  readonly kind: typeof EXPERIMENT_KIND;
  readonly name: string;
  readonly question: string | undefined;
  readonly factors: Factors;
  /** Left as the cluster has them, and without a column, unless somebody asks for levels of them. */
  readonly heldFactors: Factors;
  readonly replications: number;
  readonly warmUp: Duration;
  readonly duration: Duration;
  /** Why a run cannot be divided over workers; undefined if it can. */
  readonly indivisible: string | undefined;
  /**
   * One run, from an empty cluster to its measures; at the shipped costs unless others are given. `levels` has one of each
   * factor, and of the held factors that were asked for.
   */
  run(levels: Levels, seed: string, costs?: CostModel): RunResult;
  /** One worker's part of a run; the first worker gets the results of the whole. */
  runPart(levels: Levels, seed: string, part: Part, costs?: CostModel): RunResult | undefined;
  findings(runs: readonly MeasuredRun[]): readonly Finding[];
  readonly charts: readonly ChartColumns[];
}

export interface RunResult {
  readonly measures: Measures;
  readonly tables: Tables;
  readonly files: Readonly<Record<string, Uint8Array>>;
  readonly events: number;
  readonly fingerprint: string;
  readonly frames: FrameTotals;
  readonly drops: ReadonlyMap<string, number>;
}

// A string and not instanceof: a user's file may bring its own copy of this module.
const EXPERIMENT_KIND = 'podwire experiment';

/**
 * The function `experiment` for one kind of cluster, made with options O: `podwire.ts` has it for the real one, tests for a
 * small one. What of such a cluster can vary in every experiment are its `clusterFactors`, unless an experiment has a factor
 * of that name.
 */
export function experimentsOn<
  C extends ExperimentCluster,
  O extends object = object,
  const H extends Factors = Record<never, never>,
>(
  createCluster: (options: { seed: string; costs?: CostModel; part?: Part } & Partial<O> & Partial<Levels<H>>) => C,
  clusterFactors: H = {} as H,
) {
  return function experiment<const F extends Factors, L, M extends Measures>(
    definition: ExperimentDefinition<C, F, L, M, O>,
  ): Experiment {
    check(definition);
    const { name, question, factors, replications, warmUp, duration, charts = [] } = definition;
    const held = Object.entries(clusterFactors).filter(([factor]) => !Object.hasOwn(factors, factor));
    const { divisible = `experiment ${name} does not say that its runs are divisible` } = definition;
    const run = (levels: Levels, seed: string, costs?: CostModel, part?: Part): RunResult | undefined => {
      const asked = Object.fromEntries(
        Object.entries(levels).filter(([factor]) => held.some(([own]) => own === factor)),
      );
      const options = definition.clusterOptions?.(levels as Levels<F>) ?? ({} as Partial<O>);
      const given = { seed, ...(costs && { costs }), ...(part && { part }) };
      const cluster = createCluster({ ...given, ...options, ...(asked as Partial<Levels<H>>) });
      return runOnce(definition, cluster, levels as Levels<F>);
    };
    return {
      kind: EXPERIMENT_KIND,
      ...{ name, question, factors, replications, warmUp, duration, charts },
      heldFactors: Object.fromEntries(held),
      indivisible: divisible === true ? undefined : divisible,
      run: (levels, seed, costs) => run(levels, seed, costs)!,
      runPart: (levels, seed, part, costs) => run(levels, seed, costs, part),
      findings: (runs) => definition.findings?.(new MeasuredRuns(runs as readonly MeasuredRun<F, M>[])) ?? [],
    };
  };
}

export function isExperiment(value: unknown): value is Experiment {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === EXPERIMENT_KIND;
}

function runOnce<C extends ExperimentCluster, F extends Factors, L, M extends Measures>(
  definition: ExperimentDefinition<C, F, L, M>,
  cluster: C,
  levels: Levels<F>,
): RunResult | undefined {
  tuneForBuilding();
  const load = definition.build(levels, cluster);
  if (cluster.pods !== undefined) tuneFor(cluster.pods);
  cluster.run(after(cluster.sim.now, definition.warmUp));
  cluster.startMeasuring();
  const end = after(cluster.sim.now, definition.duration);
  const story = definition.story?.(cluster, load);
  if (story !== undefined) tell(story, cluster, end);
  cluster.run(end);
  if (cluster.gather?.() === false) return undefined;
  cluster.assertConserved();
  const { executedEvents: events, fingerprint } = cluster.sim;
  const frames = cluster.frames.totals();
  return {
    measures: definition.measure(load, cluster),
    tables: definition.tables?.(load, cluster) ?? {},
    files: definition.files?.(load, cluster) ?? {},
    ...{ events, fingerprint, frames, drops: cluster.frames.drops() },
  };
}

function tell(story: Generator<Duration, void, void>, cluster: ExperimentCluster, end: Instant): void {
  for (const pause of story) {
    const next = after(cluster.sim.now, pause);
    if (next > end) break;
    cluster.run(next);
  }
}

function check(definition: {
  readonly name: string;
  readonly factors: Factors;
  readonly replications: number;
  readonly warmUp: Duration;
  readonly duration: Duration;
}): void {
  const { name, factors, replications, warmUp, duration } = definition;
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name)) {
    throw new UserError(`experiment name "${name}"; expected lower case words joined by hyphens, like service-count`);
  }
  const fail = (problem: string) => {
    throw new UserError(`experiment "${name}": ${problem}`);
  };
  for (const [factor, levels] of Object.entries(factors)) checkFactor(factor, levels, fail);
  if (!(Number.isInteger(replications) && replications >= 1)) {
    fail(`replications is ${replications}; expected a whole number from 1`);
  }
  if (!(warmUp >= 0)) fail(`warmUp is ${warmUp}; expected a Duration, for example s(1)`);
  if (!(duration > 0)) fail(`duration is ${duration}; expected a Duration above zero, for example s(10)`);
}

function checkFactor(factor: string, levels: readonly Level[], fail: (problem: string) => void): void {
  if (!/^[a-z][A-Za-z0-9]*$/.test(factor)) fail(`factor name "${factor}"; expected a camelCase word`);
  if (RUN_COLUMNS.includes(factor)) fail(`factor name "${factor}" is taken by a column of the results`);
  if (!Array.isArray(levels) || levels.length === 0) fail(`factor "${factor}" has no levels`);
  const texts = new Set<string>();
  for (const level of levels) {
    if (!['string', 'number', 'boolean'].includes(typeof level) || level === '' || Number.isNaN(level)) {
      fail(`factor "${factor}" has the level ${JSON.stringify(level)}; expected a text, a number or a boolean`);
    }
    if (texts.has(String(level))) fail(`factor "${factor}" lists ${JSON.stringify(level)} twice`);
    texts.add(String(level));
  }
}
