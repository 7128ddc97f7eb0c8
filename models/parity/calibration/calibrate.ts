// Measures what packet work costs on this machine, and makes a cost file of it. A stage that cannot be measured here (a
// command or a kernel module is missing) keeps the shipped figure and says why.

import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { COST_NAMES, type Cost, type CostFile, type CostName } from '../../cpu/cost-file.ts';
import { LINUX_6_18, type PiecewiseLinear } from '../../cpu/cost-model.ts';
import { CURVES, FORMULAS, type TimeOf } from './formulas.ts';
import { Lab } from './lab.ts';
import { isInstalled, runCommand } from './machine-commands.ts';
import { Measurement, NotMeasured, quantile, type Statistic } from './measurement.ts';
import { Probe } from './probe.ts';
import { calibrationSites, QUICK_RULE_COUNTS, RULE_COUNTS, type Site } from './sites.ts';

export interface CalibrationOptions {
  /** The folder with probe.c and probe.py. */
  readonly sources: string;
  readonly quick?: boolean;
  readonly signal?: AbortSignal;
  onProgress?(done: number, total: number): void;
}

/** Why this machine cannot be measured at all: said to the user, no failure. */
export class NotPossible extends Error {
  override readonly name = 'NotPossible';
}

/** Throws a NotPossible or a NoisyMachine. */
export async function calibrate(options: CalibrationOptions): Promise<CostFile> {
  const measurement = await measure(options);
  return costFileOf(measurement, { quick: options.quick ?? false, statistic: 'best' });
}

/** The rounds of a calibration, with further sites among them. Whatever happens, its namespaces are gone afterwards. */
export async function measure(
  { sources, quick = false, signal, onProgress }: CalibrationOptions,
  further: readonly Site[] = [],
): Promise<Measurement> {
  await assertPossible();
  const probe = await Probe.start(sources).catch((error: Error) => {
    throw new NotPossible(error.message);
  });
  const lab = new Lab(signal);
  const stopProbe = (): void => probe.stop();
  signal?.addEventListener('abort', stopProbe);
  try {
    const sites = [...calibrationSites(quick ? QUICK_RULE_COUNTS : RULE_COUNTS), ...further];
    const measurement = new Measurement({
      ...{ probe, sites, rounds: quick ? 3 : 9 },
      ...(onProgress && { onProgress }),
    });
    await measurement.build(lab, signal);
    assertBasics(measurement);
    await measurement.run(signal);
    return measurement;
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', stopProbe);
    stopProbe();
    await lab.destroy();
  }
}

export function costFileOf(
  measurement: Measurement,
  { quick, statistic }: { quick: boolean; statistic: Statistic },
): CostFile {
  const curves = CURVES(quick ? QUICK_RULE_COUNTS : RULE_COUNTS);
  const time: TimeOf = (path) => measurement.time(path, statistic);
  const isSlow = measurement.language === 'Python';
  // A slow sender's figures are right among themselves: a routed hop is taken to cost what it does by default.
  const scale = isSlow ? (LINUX_6_18.vethNs + LINUX_6_18.forwardNs) / (time('route') - time('veth')) : 1;

  const figure = (name: CostName): Cost => {
    const [formula, curve] = [FORMULAS[name], curves[name]];
    const source = isSlow ? 'ratio' : 'measured';
    if (curve !== undefined) return { value: cleanCurve(curve.of(time), scale), source, how: curve.how };
    if (formula === undefined) return { value: LINUX_6_18[name], source: 'default', reason: 'not measured' };
    const value = wholeNs(formula.of(time) * scale);
    const spread = spreadOf(measurement, (timeInRound) => formula.of(timeInRound) * scale);
    return { value, source: formula.derived ? 'derived' : source, how: formula.how, spread };
  };

  const figureOrDefault = (name: CostName): Cost => {
    try {
      return figure(name);
    } catch (error) {
      if (!(error instanceof NotMeasured)) throw error;
      return { value: LINUX_6_18[name], source: 'default', reason: error.message };
    }
  };

  return {
    machine: machineId(),
    notes: [
      `differences of ${statistic === 'best' ? 'minima' : 'medians'} over ${measurement.rounds} rounds; spread: quartiles of the differences within a round`,
      '60-byte UDP frames, one CPU',
      ...(isSlow ? ['no C compiler: ratios of a slow sender, scaled to the shipped cost of a routed hop'] : []),
    ],
    costs: Object.fromEntries(COST_NAMES.map((name) => [name, figureOrDefault(name)])),
  };
}

/** Quartiles of a formula over the rounds, each taken for itself. */
function spreadOf(measurement: Measurement, of: (time: TimeOf) => number): readonly [number, number] {
  const values = Array.from({ length: measurement.rounds }, (_, round) =>
    of((path) => measurement.timeInRound(path, round)),
  );
  return [Math.round(quantile(values, 0.25)), Math.round(quantile(values, 0.75))];
}

/** Never below zero, where noise is larger than what is measured. */
const wholeNs = (ns: number): number => Math.max(0, Math.round(ns));

/** Whole, and never falling: a knot that noise has put below its predecessor is lifted to it. */
function cleanCurve(knots: PiecewiseLinear, scale: number): PiecewiseLinear {
  let most = 0;
  return knots.map(([count, ns]): [number, number] => {
    most = Math.max(most, wholeNs(ns * scale));
    return [count, most];
  });
}

function machineId(): Record<string, string> {
  const all = cpus();
  return {
    cpu: `${all.length} x ${all[0]?.model.trim() ?? 'unknown'}`,
    kernel: release(),
    date: new Date().toISOString().slice(0, 10),
    conntrackBuckets: readSysctl('net/netfilter/nf_conntrack_buckets'),
  };
}

/** What a lookup costs depends on it. */
function readSysctl(path: string): string {
  try {
    return readFileSync(`/proc/sys/${path}`, 'utf8').trim();
  } catch {
    return 'none';
  }
}

async function assertPossible(): Promise<void> {
  if (process.platform !== 'linux') throw new NotPossible(`this is ${process.platform}; costs are measured on Linux`);
  if (!isInstalled('ip')) throw new NotPossible('ip (iproute2) is not installed');
  const name = `pwcal${process.pid}try`;
  try {
    await runCommand('ip', ['netns', 'add', name]);
  } catch (error) {
    const who = process.getuid?.() === 0 ? 'CAP_SYS_ADMIN and CAP_NET_ADMIN' : 'root';
    throw new NotPossible(`network namespaces need ${who}: ${error instanceof Error ? error.message : error}`);
  } finally {
    await runCommand('ip', ['netns', 'del', name], { shielded: true }).catch(() => undefined);
  }
}

/** Without these paths there is nothing to take differences from. */
function assertBasics(measurement: Measurement): void {
  for (const site of ['sender', 'veth', 'route']) {
    const reason = measurement.missing(site);
    if (reason !== undefined) throw new NotPossible(reason);
  }
}
