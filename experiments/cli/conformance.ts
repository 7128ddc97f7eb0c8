// podwire conformance: does the model agree with what real implementations were seen to do?

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatResult, parseSuite } from '../../models/conformance/suite-text.ts';
import { SUITES } from '../../models/conformance/suites.ts';
import { PACKAGE_ROOT } from '../harness/package.ts';
import { cannot } from '../harness/user-error.ts';
import { type Command, type CommandContext, examples } from './command-line.ts';

const NAMES: readonly string[] = SUITES.map(({ name }) => name);

export function addConformance(program: Command, context: CommandContext): void {
  program
    .command('conformance')
    .description('Check the model against recorded facts about real implementations.')
    .argument(
      '[files...]',
      `files of any of these forms, or their names for those that come with podwire: ${NAMES.join(', ')}`,
    )
    .addHelpText(
      'after',
      examples(
        'podwire conformance                      # every suite; exit code 1 if any fact differs',
        'podwire conformance kube-proxy-flows',
        'podwire conformance my-flows.json',
      ),
    )
    .action((files: readonly string[]) => {
      // A file that cannot be read should not be found out after minutes of others.
      const suites = (files.length === 0 ? NAMES : files).map((file) => parseSuite(readText(pathOf(file)), file));
      for (const suite of suites) {
        const result = suite.run();
        if (result.mismatches.length > 0) context.exitCode = 1;
        context.stdout.write(formatResult(result));
      }
    });
}

/** A file of that name goes before a suite that comes with podwire. */
const pathOf = (file: string): string =>
  NAMES.includes(file) && !existsSync(file) ? join(PACKAGE_ROOT, 'models', 'conformance', `${file}.json`) : file;

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw cannot('read', path, error);
  }
}
