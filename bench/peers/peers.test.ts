// Small sizes: that everything is built, runs, and ends up in the rows. What the ratios are is not for a test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { numberIn, readCsv } from '../../experiments/harness/csv.ts';
import { compilerMissingFor } from './workbench.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'bench', 'peers', 'main.js');
const directory = mkdtempSync(join(tmpdir(), 'podwire-peers-test-'));
const out = join(directory, 'peers.csv');
afterAll(() => rmSync(directory, { recursive: true }));

/** The compiled command, as `npm run bench:peers` starts it. */
async function peers(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing; run npm run build first`);
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
  const seen = { stdout: '', stderr: '' };
  child.stdout.on('data', (text) => (seen.stdout += text));
  child.stderr.on('data', (text) => (seen.stderr += text));
  const [status] = await once(child, 'close');
  return { status: status as number, ...seen };
}

/** Several programs are compiled and run, also on a busy machine. */
const PATIENCE_MS = 300_000;

describe('npm run bench:peers', () => {
  test(
    'without compilers and tools, measures Podwire beside heap-js and itself, and says how to get the rest',
    async () => {
      const { status, stdout } = await peers(['--quick', '--rounds', '1', '--out', out], { PATH: directory });
      expect(status).toBe(0);
      const { rows } = readCsv(out);
      const measured = rows.filter((row) => numberIn(row, 'ratio')! > 0).map(({ beside }) => beside);
      expect(new Set(measured)).toEqual(new Set(['Podwire', 'Podwire, 10 Services', 'Podwire, 3 x 2', 'heap-js']));
      expect(stdout).toMatch(/beside C\+\+ std::priority_queue: no C\+\+ compiler: apt-get install -y g\+\+/);
      expect(stdout).toMatch(/beside ns-3: .*apt-get install/);
      expect(stdout).toMatch(/beside kernel, router \+ DNAT \(at least 3x\): /);
      expect(existsSync(join(directory, 'peers.svg')) && existsSync(join(directory, 'peers.png'))).toBe(true);
    },
    PATIENCE_MS,
  );

  const noCompiler = compilerMissingFor('hold.cc') ?? compilerMissingFor('kernel-path.c');
  test.skipIf(noCompiler !== undefined)(
    `builds the peers that are here and measures each${noCompiler === undefined ? '' : ` (skipped: ${noCompiler})`}`,
    async () => {
      const { status, stderr } = await peers(['--quick', '--rounds', '1', '--out', out]);
      expect(stderr).toBe('building ...\n');
      expect(status).toBe(0);
      const { rows } = readCsv(out);
      for (const row of rows) expect(row.why !== '' || numberIn(row, 'ratio')! > 0, JSON.stringify(row)).toBe(true);
      const queue = rows.filter(({ beside }) => beside === 'C++ std::priority_queue');
      expect(queue.map((row) => [row.case, numberIn(row, 'ratio')! > 0])).toEqual([
        ['100 pending, network delays', true],
        ['100 pending, exponential delays', true],
        ['100 pending, bimodal delays', true],
      ]);
    },
    PATIENCE_MS,
  );

  test.each([
    [['--only', 'ns2'], '--only ns2: no such subject; there are ns3, kernel, event-list, itself'],
    [['--rounds', '0'], '--rounds 0: expected a whole number from 1 to 1000'],
    [['--out', 'peers.txt'], '--out peers.txt: expected a name ending in .csv'],
    [['--fast'], "Unknown option '--fast'"],
  ])('%j is refused in one line', async (args, message) => {
    const { status, stderr } = await peers(args);
    expect([status, stderr.trim().split('\n').length]).toEqual([2, 1]);
    expect(stderr).toContain(`error: ${message}`);
  });

  test('an NS3_DIR without a build is refused, and told how to make one', async () => {
    const { status, stderr } = await peers(['--only', 'ns3', '--out', out], { NS3_DIR: directory });
    expect(status).toBe(2);
    expect(stderr).toContain(`error: NS3_DIR ${directory}: no build of ns-3 there; in its source: ./ns3 configure`);
  });
});
