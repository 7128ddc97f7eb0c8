// What the walk does next, as small integers for the hot loop. A whole walk ends with ACCEPT, DROP or TARGET.

/** On to the next rule: the target left its mark and no more, or there is no target. */
export const CONTINUE = 0;
export const ACCEPT = 1;
export const DROP = 2;
export const RETURN = 3;
export const JUMP = 4;
export const GOTO = 5;
/** The walk stops; netfilter executes `context.decidingRule.spec.target` (REJECT, NAT). */
export const TARGET = 6;

export type Action =
  | typeof CONTINUE
  | typeof ACCEPT
  | typeof DROP
  | typeof RETURN
  | typeof JUMP
  | typeof GOTO
  | typeof TARGET;

export type Verdict = typeof ACCEPT | typeof DROP | typeof TARGET;
