/** Something happens at once at places of two workers, or would have to: the run needs one worker. The text says what. */
export class CoupledError extends Error {
  override readonly name = 'CoupledError';
}
