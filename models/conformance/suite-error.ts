/** A file that is no conformance suite. The message is one line: file, place, expectation, what was there. */
export class SuiteError extends Error {
  override readonly name = 'SuiteError';
}
