// Where results go: directories are made, and what cannot be written is found out before the work, not after it.

import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { cannot } from './user-error.ts';

/**
 * As `mkdir -p`. Not with Node's own `recursive`: where the system refuses new directories with ENOENT, as below /proc,
 * Node 20 tries again for ever.
 */
export function makeDirectory(directory: string): void {
  if (existsSync(directory)) return;
  makeDirectory(dirname(directory));
  mkdirSync(directory);
}

/** Throws a UserError if the file could not be written; leaves everything as it is. */
export function checkWritable(file: string): void {
  const isNew = !existsSync(file);
  try {
    closeSync(openSync(file, 'a'));
  } catch (error) {
    throw cannot('write', file, error);
  }
  if (isNew) rmSync(file);
}
