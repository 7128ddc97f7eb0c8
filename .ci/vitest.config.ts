// How `npm test` runs tests: against the modules that it has just compiled, and long files first.
//
// Modules that Vite transforms reach each other's names through getters, so that a simulation takes twice as long, and each has
// to be transformed. Those of dist/ are loaded as Node.js does it for users. Test files and fixtures stay where they are, as
// their paths lead to data beside them. Without this config, as with `npx vitest FILE`, the sources are tested.

import { dirname, join, relative, resolve } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const ROOT = join(import.meta.dirname, '..');
const COMPILED = join(ROOT, 'dist');
const NOT_COMPILED = /\.(?:test|fixture)\.ts$|\/testdata\//;

/** Vitest knows the sizes of files only, where they have not run yet: one that begins last keeps all others waiting. */
const LONG: readonly string[] = [
  'experiments/findings.test.ts',
  'experiments/cli/services.test.ts',
  'models/parity/latency.test.ts',
  'models/cluster-reachability.property.test.ts',
  'experiments/harness/divided-run.property.test.ts',
  'bench/peers/peers.test.ts',
  'models/parity/calibration/calibrate.test.ts',
  'models/parity/service-cases.test.ts',
  'models/parity/facts/facts.test.ts',
];

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONG.indexOf(relative(ROOT, moduleId));
      return place < 0 ? LONG.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  root: ROOT,
  plugins: [
    {
      name: 'compiled-modules',
      enforce: 'pre',
      resolveId(source, importer) {
        if (importer === undefined || !/^\.{1,2}\/.*\.ts$/.test(source)) return undefined;
        const file = resolve(dirname(importer), source);
        return NOT_COMPILED.test(file) ? undefined : join(COMPILED, relative(ROOT, file).replace(/\.ts$/, '.js'));
      },
    },
  ],
  test: {
    server: { deps: { external: [/\/dist\/(?:bench|engine|experiments|models)\//] } },
    sequence: { sequencer: LongFirst },
  },
});
