// Builds of ns-3 on this machine: Debian's, and with NS3_DIR=<directory> one's own, either where it was built or where it
// was installed.

import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../experiments/harness/user-error.ts';
import { compilerMissingFor, type Workbench } from './workbench.ts';

export interface Ns3Build {
  /** `ns-3 3.37 (Debian)`. */
  readonly name: string;
  /** Compiles a source of this folder against these modules of ns-3. */
  compile(workbench: Workbench, source: string, modules: readonly string[]): Promise<string>;
}

/** Debian's first, then that of NS3_DIR. At least one; or how to get one. */
export function ns3Builds(): readonly Ns3Build[] | { readonly missing: string } {
  const own = process.env.NS3_DIR;
  const ownBuild = own === undefined || own === '' ? undefined : buildIn(own, 'own build');
  if (own !== undefined && own !== '' && ownBuild === undefined) {
    throw new UserError(`NS3_DIR ${own}: no build of ns-3 there; in its source: ${HOW_TO_BUILD}`);
  }
  const missing = compilerMissingFor('ns3-cluster.cc');
  if (missing !== undefined) return { missing };
  const builds = [buildIn('/usr', 'Debian'), ownBuild].filter((build) => build !== undefined);
  return builds.length > 0 ? builds : { missing: HOW_TO_INSTALL };
}

export const HOW_TO_BUILD =
  './ns3 configure --build-profile=optimized --enable-modules=bridge,internet && ./ns3 build, then set NS3_DIR to it';

const HOW_TO_INSTALL = `not installed: apt-get install -y --no-install-recommends libns3-dev; or ${HOW_TO_BUILD}`;

function buildIn(directory: string, origin: string): Ns3Build | undefined {
  const includes = [join(directory, 'build', 'include'), join(directory, 'include')];
  const include = includes
    .flatMap((path) => [path, ...entriesOf(path).map((entry) => join(path, entry))]) // include/ns3.37/ns3 since 3.36
    .find((path) => existsSync(join(path, 'ns3', 'core-module.h')));
  const core = ['build/lib', 'lib', 'lib64']
    .map((path) => join(directory, path))
    .flatMap((path) => [
      path,
      ...entriesOf(path)
        .filter((entry) => entry.includes('-linux-'))
        .map((e) => join(path, e)),
    ])
    .flatMap((path) => entriesOf(path).map((entry) => ({ path, match: LIBRARY.exec(entry) })))
    .find(({ match }) => match !== null);
  if (include === undefined || core === undefined) return undefined;
  const { path, match } = core;
  const [file = '', prefix = '', suffix = ''] = match ?? [];
  const version =
    /3[.]\d+/.exec(prefix)?.[0] ?? `3.${/[.]so[.](\d+)/.exec(realpathSync(join(path, file)))?.[1] ?? '?'}`;
  return {
    name: `ns-3 ${version} (${origin})`,
    compile(workbench, source, modules) {
      const libraries = modules.map((module) => `-l${prefix}-${module}${suffix}`);
      const includePath = include === '/usr/include' ? [] : [`-I${include}`]; // GCC finds its own headers behind it
      return workbench.compile(source, { flags: [...includePath, `-L${path}`, `-Wl,-rpath,${path}`, ...libraries] });
    },
  };
}

/** `libns3-core.so`, `libns3.37-core-optimized.so`: what stands before and behind the module's name. */
const LIBRARY = /^lib(ns3[.\d]*)-core(|-[a-z]+)[.]so$/;

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // not there, or a file
  }
}
