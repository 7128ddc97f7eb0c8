// A program in a network namespace: its system calls run on one CPU of the machine.
//
// Not modelled: migration between CPUs, threads that share a socket across CPUs.

import type { Place } from '../../engine/simulator.ts';
import type { NetworkNamespace } from './network-namespace.ts';

export interface Process {
  /** Unique in a run: `default/web-0`, or `node-1` and `outside` for programs outside pods. */
  readonly name: string;
  readonly place: Place;
  readonly namespace: NetworkNamespace;
  readonly cpu: number;
}
