// A dummy device (`ip link add NAME type dummy`): it has addresses, and whatever is sent by it is gone.

import type { Frame } from '../packet/frame.ts';
import { NetDevice } from './net-device.ts';

export class DummyDevice extends NetDevice {
  protected override carry(frame: Frame): void {
    this.frames.deliver(frame);
  }
}
