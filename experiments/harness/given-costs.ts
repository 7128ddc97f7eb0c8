// The costs of a run: those of a cost file, or the shipped ones; and a fingerprint that tells whether two runs had the
// same, whatever the file's name and remarks.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { COST_NAMES, costModelOf, parseCostFile } from '../../models/cpu/cost-file.ts';
import { type CostModel, LINUX_6_18 } from '../../models/cpu/cost-model.ts';
import { cannot } from './user-error.ts';

export interface GivenCosts {
  /** The cost file as it was named; `shipped` without one. */
  readonly file: string;
  readonly costs: CostModel;
}

export const SHIPPED_COSTS: GivenCosts = { file: 'shipped', costs: LINUX_6_18 };

/** Throws a UserError for a file that cannot be read, and a CostFileError for one that is no cost file. */
export function readCosts(file: string): GivenCosts {
  return { file, costs: costModelOf(parseCostFile(readText(file), file)) };
}

export function costsFingerprint({ costs }: GivenCosts): string {
  const figures = COST_NAMES.map((name) => [name, costs[name]]);
  return createHash('sha256').update(JSON.stringify(figures)).digest('hex').slice(0, 16);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw cannot('read', file, error);
  }
}
