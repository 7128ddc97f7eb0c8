// What the runtime tells a plugin by environment variables, and which of them each operation needs
// (CNI specification 1.1, section 2).

import { CNI_ERROR, CniError } from './cni-error.ts';

export const VARIABLES = ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_ARGS', 'CNI_PATH'] as const;
export type Variable = (typeof VARIABLES)[number];

interface Use {
  readonly required: readonly Variable[];
  readonly optional: readonly Variable[];
}

export const CNI_COMMANDS = {
  ADD: {
    required: ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    optional: ['CNI_ARGS', 'CNI_PATH'],
  },
  DEL: { required: ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_IFNAME'], optional: ['CNI_NETNS', 'CNI_ARGS', 'CNI_PATH'] },
  CHECK: {
    required: ['CNI_COMMAND', 'CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME'],
    optional: ['CNI_ARGS', 'CNI_PATH'],
  },
  GC: { required: ['CNI_COMMAND', 'CNI_PATH'], optional: [] },
  STATUS: { required: [], optional: ['CNI_PATH'] },
  VERSION: { required: ['CNI_COMMAND'], optional: [] },
} as const satisfies Readonly<Record<string, Use>>;

export type CniCommand = keyof typeof CNI_COMMANDS;

/** Throws a CniError that names what is missing. */
export function checkParameters(command: CniCommand, environment: Readonly<Partial<Record<Variable, string>>>): void {
  const missing = CNI_COMMANDS[command].required.filter((name) => !environment[name]);
  if (missing.length > 0)
    throw new CniError(
      CNI_ERROR.invalidEnvironment,
      `required env variables ${missing.join(', ')} missing for ${command}`,
    );
}
