// What V8 is told about how to compile.

import { setFlagsFromString } from 'node:v8';

/** The state of so many does not fit the processor's caches, and a run of them is seldom over in a second. */
const PODS_OF_A_LONG_RUN = 500;

/**
 * In a large cluster more of the way from event to event is compiled into one function (of 1,800 bytes of bytecode, not 920),
 * which takes longer to compile. With 64 nodes of 16 pods 1.12 times as many packets per second; where all state fits the
 * caches anyway it gains nothing, and short runs lose what the compiler takes.
 */
export function compileFor(pods: readonly unknown[]): void {
  if (pods.length >= PODS_OF_A_LONG_RUN) setFlagsFromString('--max-inlined-bytecode-size-cumulative=1800');
}
