// What a user can put right: a wrong option, a file that is not there, a factor without levels. The `podwire` command
// prints the message as one line, without a stack trace, and exits with code 2.

export class UserError extends Error {
  override readonly name = 'UserError';
}

/** `cannot write out/dice.csv: ENOTDIR: not a directory`. */
export function cannot(action: 'read' | 'write', file: string, cause: unknown): UserError {
  // Node ends its message with the call and, once more, the path: ", open 'out/dice.csv'".
  return new UserError(`cannot ${action} ${file}: ${messageOf(cause).replace(/, \w+( '.*')?$/, '')}`);
}

/** The message of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
