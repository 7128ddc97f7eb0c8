/** A parity case that cannot be read or run. The message is one line: file, place, expectation, what was there. */
export class CaseError extends Error {
  override readonly name = 'CaseError';
}
