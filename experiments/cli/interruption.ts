// Ctrl-C during long work: the first one ends the work in order, a second one ends the process.

/** What the shell reports for a process that Ctrl-C ended. */
export const INTERRUPTED = 130;

export function interruptible(): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const interrupt = () => controller.abort();
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  return {
    signal: controller.signal,
    end() {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
    },
  };
}
