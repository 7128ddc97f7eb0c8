// The loopback device: what it transmits it receives, within the same visit. Conntrack and mark stay with the frame.

import type { Frame } from '../packet/frame.ts';
import { NetDevice } from './net-device.ts';

/** MTU of `lo` in Linux. */
export const LOOPBACK_MTU_BYTES = 65_536;

export class LoopbackDevice extends NetDevice {
  protected override carry(frame: Frame): void {
    frame.dstMac = this.mac;
    frame.srcMac = this.mac;
    frame.closeInnerChecksum();
    this.deliverInTurn(frame);
  }
}
