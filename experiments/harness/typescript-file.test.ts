import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { loadExperimentFile } from './typescript-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-files-'));

function write(name: string, text: string): string {
  const file = join(directory, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

/** Stands for this package. */
const podwire = pathToFileURL(
  write(
    'engine/podwire.mjs',
    `export const loads = { count: 0 };
     loads.count++;
     export const experiment = ({ name }) => ({ kind: 'podwire experiment', name });`,
  ),
);

test('TypeScript outside of any package is loaded, with what it imports', async () => {
  write('node_modules/colours/package.json', '{ "name": "colours", "exports": { "import": "./index.mjs" } }');
  write('node_modules/colours/index.mjs', 'export const colour = "red";');
  write('parts/size.ts', 'export enum Size { Small = 3 }');
  const file = write(
    'mine.ts',
    `import { basename } from 'node:path';
     import { experiment, type Experiment } from 'podwire';
     import { colour } from 'colours';
     import { Size } from './parts/size';
     const name: string = [basename(import.meta.url), colour, Size.Small].join('-');
     export default experiment({ name }) satisfies Experiment;`,
  );
  const { experiment } = await loadExperimentFile(file, { podwire });
  expect(experiment.name).toBe('mine.ts-red-3');
});

test('two files share one instance of podwire', async () => {
  const text = `import { experiment, loads } from 'podwire'; export default experiment({ name: 'n' + loads.count });`;
  for (const name of ['one.ts', 'two.js']) {
    const { experiment } = await loadExperimentFile(write(name, text), { podwire });
    expect(experiment.name).toBe('n1');
  }
});

test.each([
  ['syntax.ts', 'const factors = {\n  services: [10, 100;\n};\n', /syntax\.ts:2:21: Expected "]" but found ";"$/],
  [
    'lost.ts',
    "import { web } from './web.ts';\nexport default web;\n",
    /lost\.ts:1:21: Could not resolve "\.\/web\.ts"$/,
  ],
  [
    'unknown.ts',
    "import lodash from 'lodash';\nexport default lodash;\n",
    /unknown\.ts:1:20: Could not resolve "lodash"$/,
  ],
  [
    'empty.ts',
    'export const experiment = 1;\n',
    /empty\.ts: no default export; expected: export default experiment\(\{$/,
  ],
  ['other.ts', 'export default { name: "other" };\n', /other\.ts: the default export was not made by experiment\(\)$/],
])('%s is refused in one line', async (name, text, message) => {
  const error = await loadExperimentFile(write(name, text), { podwire }).catch((error) => error);
  expect(error.name).toBe('UserError');
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('\n');
});

test('a file that is not there is refused', async () => {
  await expect(loadExperimentFile('nowhere/x.ts')).rejects.toThrow('nowhere/x.ts: no such file');
  await expect(loadExperimentFile(directory)).rejects.toThrow('no such file');
});
