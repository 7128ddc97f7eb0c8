/** A parity case that cannot be read or run. The message is one line: file, place, expectation, what was there. */
export class CaseError extends Error {
  override readonly name = 'CaseError';
}

/**
 * A step whose frames never come to rest, as nothing between namespaces takes time: nodes that translate each other's tunnel
 * into the tunnel do that, where every round adds headers with a TTL of their own. The kernel goes on until the namespaces
 * are gone or it has no room for the headers.
 */
export class EndlessCaseError extends CaseError {}
