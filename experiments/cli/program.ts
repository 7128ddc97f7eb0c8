// The `podwire` command as a function: arguments in, exit code out.

import { messageOf } from '../harness/user-error.ts';
import { REGISTRY } from '../registry.ts';
import { addCalibrate } from './calibrate.ts';
import { type CommandContext, createProgram, isCommandLineExit } from './command-line.ts';
import { addCompare } from './compare.ts';
import { addConformance } from './conformance.ts';
import { addConntrack } from './conntrack.ts';
import { addList } from './list.ts';
import { addNetfilter } from './netfilter.ts';
import { addParity } from './parity.ts';
import { addPaths } from './paths.ts';
import { addPlot } from './plot.ts';
import { addReach } from './reach.ts';
import { addResolve } from './resolve.ts';
import { addRules } from './rules.ts';
import { addRun } from './run.ts';
import { addTrace } from './trace.ts';

/** Exit code for what the user can put right. */
const WRONG_USE = 2;
const FAILED = 1;

/** Errors whose message says all that a user needs: no stack trace. By name, because errors of workers have no class. */
const USER_ERRORS: ReadonlySet<string> = new Set([
  'CostFileError',
  'UserError',
  'CaseError',
  'CniError',
  'ManifestError',
  'ObjectError',
  'ProxyModeError',
  'RangesError',
  'RuleTextError',
  'SuiteError',
  'TargetError',
]);

const COMMANDS = [
  addRun,
  addTrace,
  addPaths,
  addReach,
  addResolve,
  addRules,
  addNetfilter,
  addConntrack,
  addList,
  addPlot,
  addCompare,
  addParity,
  addConformance,
  addCalibrate,
];

export async function runProgram(
  args: readonly string[],
  streams: Partial<Omit<CommandContext, 'exitCode'>> = {},
): Promise<number> {
  const context: CommandContext = {
    ...{ stdout: process.stdout, stderr: process.stderr, registry: REGISTRY, exitCode: 0 },
    ...streams,
  };
  const program = createProgram(context);
  for (const addCommand of COMMANDS) addCommand(program, context);
  try {
    await program.parseAsync(args, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    return report(error, context);
  }
}

function report(error: unknown, { stderr }: CommandContext): number {
  if (isCommandLineExit(error)) return error.exitCode === 0 ? 0 : WRONG_USE;
  if (isUserError(error)) {
    stderr.write(`error: ${messageOf(error).replace(/\s*\n\s*/g, ' ')}\n`);
    return WRONG_USE;
  }
  stderr.write(`error: ${messageOf(error)}\n`);
  if (error instanceof Error) stderr.write(callsOf(error));
  return FAILED;
}

/** A system error (disk full, permission denied) is one, too: it names the call and the file. */
function isUserError(error: unknown): boolean {
  return error instanceof Error && (USER_ERRORS.has(error.name) || 'syscall' in error);
}

/** The stack trace without the message above it. */
function callsOf({ stack = '' }: Error): string {
  return stack
    .split('\n')
    .filter((line) => /^ +at /.test(line))
    .map((line) => `${line}\n`)
    .join('');
}
