// Captures of a whole cluster: a pcapng with an interface per device.

import { writeFileSync } from 'node:fs';
import type { Cluster } from '../../models/cluster.ts';
import { PcapngWriter } from '../../models/packet/pcapng.ts';
import { cannot } from '../harness/user-error.ts';

/** Of all that happens from now on. */
export function captureOf(cluster: Cluster): PcapngWriter {
  const capture = new PcapngWriter();
  for (const machine of cluster.machines) {
    for (const namespace of machine.namespaces)
      for (const device of namespace.devices) device.tap = capture.addTap(device);
  }
  return capture;
}

export function writeCapture(file: string, capture: PcapngWriter): void {
  try {
    writeFileSync(file, capture.bytes());
  } catch (error) {
    throw cannot('write', file, error);
  }
}
