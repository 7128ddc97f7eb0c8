// The part of a rule that selects frames, compiled to one flat record: every field is present, and a wildcard is a value
// that matches everything, so that passing a rule by costs a few loads and compares.
//
// What flat fields cannot say (negations, sets, matches that remember) is a list of tests, run when the fields agree.

import type { Frame } from '../packet/frame.ts';
import { CT_INVALID } from './conntrack-state.ts';
import type { WalkContext } from './walk-context.ts';

export type FrameTest = (frame: Frame, context: WalkContext) => boolean;

/** Below every port: a wildcard range starts here, and a later fragment, which has no ports, is here. */
export const NO_PORT = -1;
export const LAST_PORT = 65_535;

export class Selector {
  /** Masks of 0 accept every address. */
  dstNet = 0;
  dstMask = 0;
  srcNet = 0;
  srcMask = 0;
  /** IP protocol number; 0 accepts all. */
  protocol = 0;
  dstPortFirst = NO_PORT;
  dstPortLast = LAST_PORT;
  srcPortFirst = NO_PORT;
  srcPortLast = LAST_PORT;
  /** `frame.conntrackState` has one of these bits; 0 accepts all. */
  stateMask = 0;
  markMask = 0;
  markValue = 0;
  /** Exact device names; empty accepts all, also "no device". */
  inName = '';
  outName = '';
  /** The remaining tests, in order. */
  tests: readonly FrameTest[] | undefined = undefined;
  /** The tests find the same for every packet of an established connection that comes the same way. */
  isOfFlow = true;

  /** The frame's addresses, protocol, ports and metadata, and every further test, agree. */
  matches(frame: Frame, context: WalkContext): boolean {
    if ((frame.dstIp & this.dstMask) !== this.dstNet) return false; // most selective in kube-proxy's chains
    if ((frame.srcIp & this.srcMask) !== this.srcNet) return false;
    if (this.protocol !== 0 && this.protocol !== frame.protocol) return false;
    if (context.dstPort < this.dstPortFirst || context.dstPort > this.dstPortLast) return false;
    if (context.srcPort < this.srcPortFirst || context.srcPort > this.srcPortLast) return false;
    if ((frame.mark & this.markMask) !== this.markValue) return false;
    // A frame without a conntrack entry that is not marked untracked counts as invalid (xt_conntrack.c).
    if (this.stateMask !== 0 && ((frame.conntrackState || CT_INVALID) & this.stateMask) === 0) return false;
    if (this.inName !== '' && this.inName !== context.inName) return false;
    if (this.outName !== '' && this.outName !== context.outName) return false;
    return this.tests === undefined || this.#passesTests(this.tests, frame, context);
  }

  #passesTests(tests: readonly FrameTest[], frame: Frame, context: WalkContext): boolean {
    if (!this.isOfFlow) context.recorder.spoil();
    for (const test of tests) if (!test(frame, context)) return false;
    return true;
  }
}
