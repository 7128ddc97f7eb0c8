// Loads an experiment that a user wrote: TypeScript or JavaScript, anywhere on disk, also outside a package. Node 20 runs
// no TypeScript, so the file and the files it imports by relative path are bundled into a temporary module. What it
// imports by name stays outside the bundle: `podwire` is this package, so that the compiled engine runs it, and other
// packages are looked up from the user's file. The one door to esbuild.
//
// Limits: types are not checked (that is tsc's job), and `import.meta.url` is the entry file's in every bundled file.

import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BuildFailure, build, type Plugin } from 'esbuild';
import { type Experiment, isExperiment } from './experiment.ts';
import { PACKAGE_ENTRY } from './package.ts';
import { UserError } from './user-error.ts';

export interface LoadedExperiment {
  readonly experiment: Experiment;
  /** URL of the module, for the workers of a sweep. */
  readonly module: string;
  /** What its default export makes the experiment from, if that is a function. */
  readonly options?: unknown;
}

/** Throws a UserError for what is wrong with the file. `podwire` is the URL of the module of that name. */
export async function loadExperimentFile(
  file: string,
  { podwire = PACKAGE_ENTRY }: { podwire?: URL } = {},
): Promise<LoadedExperiment> {
  const module = pathToFileURL(await compileFile(file, podwire)).href;
  process.setSourceMapsEnabled(true);
  const { default: experiment } = (await import(module)) as { default?: unknown };
  if (experiment === undefined)
    throw new UserError(`${file}: no default export; expected: export default experiment({`);
  if (!isExperiment(experiment)) throw new UserError(`${file}: the default export was not made by experiment()`);
  return { experiment, module };
}

/** Path of the compiled module. It is deleted when the process exits. */
export async function compileFile(file: string, podwire: URL = PACKAGE_ENTRY): Promise<string> {
  const entry = resolve(file);
  if (!statSync(entry, { throwIfNoEntry: false })?.isFile()) throw new UserError(`${file}: no such file`);
  const directory = mkdtempSync(join(tmpdir(), 'podwire-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const compiled = join(directory, `${basename(entry).replace(/\.[^.]+$/, '')}.mjs`);
  writeFileSync(compiled, await bundle(entry, { compiled, podwire }));
  return compiled;
}

async function bundle(entry: string, { compiled, podwire }: { compiled: string; podwire: URL }): Promise<string> {
  try {
    const { outputFiles } = await build({
      entryPoints: [entry],
      outfile: compiled,
      write: false,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      sourcemap: 'inline',
      define: { 'import.meta.url': JSON.stringify(pathToFileURL(entry).href) },
      plugins: [packagesStayOutside(podwire)],
      logLevel: 'silent',
    });
    return outputFiles[0]!.text;
  } catch (error) {
    throw isBuildFailure(error) ? new UserError(firstProblem(error)) : error;
  }
}

/** Imports by name become imports by URL, because the compiled module stands where no node_modules is. */
function packagesStayOutside(podwire: URL): Plugin {
  return {
    name: 'packages stay outside',
    setup({ onResolve, resolve }) {
      onResolve({ filter: /^podwire$/ }, () => ({ path: podwire.href, external: true }));
      onResolve({ filter: /^[^./]/ }, async ({ path, pluginData, ...where }) => {
        if (!IMPORTS.has(where.kind) || pluginData === RESOLVING) return undefined;
        const found = await resolve(path, { ...where, pluginData: RESOLVING });
        // A name that tsconfig's paths or a workspace's link turn into a source file is bundled like a relative import.
        if (found.errors.length > 0 || !found.path.includes(`${sep}node_modules${sep}`)) return found;
        return { path: pathToFileURL(found.path).href, external: true };
      });
    },
  };
}

const IMPORTS: ReadonlySet<string> = new Set(['import-statement', 'dynamic-import']);

/** Marks a question of the plugin to esbuild itself, which asks the plugin again. */
const RESOLVING = Symbol('resolving');

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && 'errors' in error && Array.isArray(error.errors);
}

function firstProblem({ errors, message }: BuildFailure): string {
  const [problem] = errors;
  if (!problem) return message;
  if (!problem.location) return problem.text;
  const { file, line, column } = problem.location;
  return `${file}:${line}:${column + 1}: ${problem.text}`;
}
