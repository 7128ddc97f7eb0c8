// What a user can put right: a wrong option, a file that is not there, a factor without levels. The `podwire` command
// prints the message as one line, without a stack trace, and exits with code 2.

export class UserError extends Error {
  override readonly name = 'UserError';
}

/** First line of the message of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
