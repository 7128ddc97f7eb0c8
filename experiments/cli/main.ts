#!/usr/bin/env node
// podwire: the command that package.json installs.

import { runProgram } from './program.ts';

// A reader that leaves early, such as `podwire list | head -1`, is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exitCode = await runProgram(process.argv.slice(2));
