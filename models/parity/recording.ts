// What the kernel answered once, kept so that machines whose kernel cannot be asked compare with it all the same.
// `podwire parity --record` writes recordings.

import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PACKAGE_ROOT } from '../../experiments/harness/package.ts';
import type { Outcome } from './case.ts';

export interface Recording {
  /** Who answered: `Linux 6.18.44`, `iptables v1.8.9`, `nftables v1.0.6`. */
  readonly kernel: string;
  readonly iptables: string;
  readonly nft: string;
  readonly outcome: Outcome;
}

export type Versions = Omit<Recording, 'outcome'>;

/** Not compiled: recordings stay beside their sources when this module stands in `dist/`. */
const RECORDINGS = join(PACKAGE_ROOT, 'models', 'parity', 'recorded');

export const recordingPath = (name: string): string => join(RECORDINGS, `${name}.json`);

/** Throws an Error that says how to make it if nothing was recorded under that name. */
export function readRecording(name: string): Recording {
  try {
    return JSON.parse(readFileSync(recordingPath(name), 'utf8')) as Recording;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    throw new Error(`no recording of ${name}; where the kernel can be asked, \`podwire parity --record\` makes one`);
  }
}

/** Frames go one to a line, so that a recording that changes can be read as a diff. Returns the path. */
export function writeRecording(name: string, versions: Versions, outcome: Outcome): string {
  const path = recordingPath(name);
  writeFileSync(path, `${printRecording({ ...versions, outcome: withoutTimes(outcome) })}\n`);
  return path;
}

export async function toolVersions(kernel: string): Promise<Versions> {
  const [iptables, nft] = await Promise.all(
    ['iptables', 'nft'].map(async (tool) => {
      const { stdout } = await promisify(execFile)(tool, ['--version']);
      return stdout.trim().replace(/ \(.*$/, '');
    }),
  );
  return { kernel, iptables: iptables ?? '', nft: nft ?? '' };
}

/** When a frame passed and when a step began is no part of the answer. */
const withoutTimes = (outcome: Outcome): Outcome =>
  JSON.parse(JSON.stringify(outcome, (key, value) => (key === 't' || key === 'at' ? undefined : value)));

/** Indented down to the depth of frames, connections and counter texts, which are one line each. */
function printRecording(recording: Recording): string {
  const lines = JSON.stringify(recording, undefined, 1).split('\n');
  const joined: string[] = [];
  for (const line of lines) {
    const depth = line.search(/\S/);
    if (depth > FRAME_DEPTH || (depth === FRAME_DEPTH && /^\s*[}\]]/.test(line)))
      joined.push(`${joined.pop()}${line.trim()}`);
    else joined.push(line);
  }
  return joined.join('\n');
}

/** outcome, steps, step, captures, frame */
const FRAME_DEPTH = 5;
