// The plan of a sweep: every combination of factor levels, every replication of it, each with its seed.
//
// Seeds are paired: replication r has the same seed in every variant, so that variants meet the same random numbers and
// differ only by their levels (common random numbers).

import type { Factors, Level, Levels } from './experiment.ts';
import { UserError } from './user-error.ts';

/** Columns of every result besides factors and measures. */
export const RUN_COLUMNS: readonly string[] = ['replication', 'seed'];

export interface PlannedRun {
  /** Position in the plan, from 0; rows of results are in this order. */
  readonly index: number;
  readonly levels: Levels;
  /** From 1. */
  readonly replication: number;
  readonly seed: string;
}

/** The first factor varies slowest, replications fastest. */
export function planRuns(options: { factors: Factors; replications: number; seed: string }): PlannedRun[] {
  const plan: PlannedRun[] = [];
  for (const levels of variants(options.factors)) {
    for (let replication = 1; replication <= options.replications; replication++) {
      plan.push({ index: plan.length, levels, replication, seed: `${options.seed}/${replication}` });
    }
  }
  return plan;
}

/**
 * Narrows factors to the levels asked for, each request as on the command line: `proxy=iptables,nftables`. Held factors
 * join those that vary when they are asked for.
 */
export function selectLevels(factors: Factors, requests: readonly string[], heldFactors: Factors = {}): Factors {
  const selected: Record<string, readonly Level[]> = { ...factors };
  const all = { ...factors, ...heldFactors };
  const seen = new Set<string>();
  for (const request of requests) {
    const [, factor, texts] = /^([^=]+)=(.+)$/.exec(request) ?? [];
    if (factor === undefined || texts === undefined) throw new UserError(`"${request}"; expected factor=level,level`);
    if (seen.has(factor)) throw new UserError(`factor "${factor}" is set twice`);
    seen.add(factor);
    selected[factor] = levelsNamed(all, factor, texts.split(','));
  }
  return selected;
}

/** `services=10 proxy=iptables`, the way messages name a variant. */
export function describeLevels(levels: Levels): string {
  return Object.entries(levels)
    .map(([factor, level]) => `${factor}=${level}`)
    .join(' ');
}

function variants(factors: Factors): Levels[] {
  return Object.entries(factors).reduce<Levels[]>(
    (variants, [factor, levels]) =>
      variants.flatMap((variant) => levels.map((level) => ({ ...variant, [factor]: level }))),
    [{}],
  );
}

/** In the order of the experiment, so that rows come in the same order however they were asked for. */
function levelsNamed(factors: Factors, factor: string, texts: readonly string[]): Level[] {
  const levels = factors[factor];
  if (levels === undefined) {
    throw new UserError(`no factor "${factor}"; there are: ${Object.keys(factors).join(', ') || 'none'}`);
  }
  for (const text of texts) {
    if (!levels.some((level) => String(level) === text)) {
      throw new UserError(`factor "${factor}" has no level "${text}"; it has: ${levels.join(', ')}`);
    }
  }
  return levels.filter((level) => texts.includes(String(level)));
}
