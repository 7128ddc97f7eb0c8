// A program at a device (tc's clsact, with BPF): sees IPv4 packets before the stack does, and last of all before they leave.

import type { Frame } from '../packet/frame.ts';

export interface DeviceProgram {
  /** The packet that goes on in place of this one, or undefined: it has ended, or left. */
  ingress(frame: Frame): Frame | undefined;
  /** May rewrite the packet. Not asked about what {@link IpStack.redirect} sends. */
  egress(frame: Frame): void;
}
