/** A manifest that cannot be used. The message is one line: file, document, field, what was expected, what was there. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError';
}
