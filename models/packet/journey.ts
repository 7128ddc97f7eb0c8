// What happened to one frame, stage by stage. Recorded only for frames that are followed; never read by a model, so
// following a frame cannot change a run.

import type { Instant } from '../../engine/time.ts';

export type JourneyStage =
  | 'socket' //     sent or received by a socket; for TCP with the state of its connection
  | 'device' //     a device transmitted or received the frame
  | 'bridge' //     forwarding decision of a bridge
  | 'tunnel' //     put into another packet, or taken out of it
  | 'hook' //       one table of one netfilter hook: policy or empty
  | 'rule' //       a rule that matched
  | 'conntrack' //  lookup, new entry, confirm
  | 'nat' //        addresses before and after
  | 'ipvs' //       the same, by a virtual server
  | 'ebpf' //       the same, by a program at a device
  | 'route' //      routing decision
  | 'neighbor' //   next-hop address resolution
  | 'icmp' //       an ICMP error caused by this frame
  | 'cpu' //        waited for a CPU
  | 'wire' //       queueing and serialization on a wire
  | 'drop';

export interface JourneyStep {
  readonly at: Instant;
  /** Network namespace, for example `node-1` or `default/web-0`; the fabric's switch is `fabric`. */
  readonly namespace: string;
  readonly stage: JourneyStage;
  readonly device?: string;
  readonly hook?: string;
  readonly table?: string;
  readonly chain?: string;
  /** 1-based, as `iptables -L --line-numbers` counts. */
  readonly ruleNumber?: number;
  /** What the stage decided, in the notation of the tool that shows it (iptables-save, ip route, bridge fdb). */
  readonly text: string;
}

export class Journey {
  readonly steps: JourneyStep[] = [];
  /** `10.244.0.2:40000 > 10.96.0.10:80 tcp [S]`, as the frame was first sent; empty until then. */
  title = '';

  constructor(readonly frameId: number) {}

  add(step: JourneyStep): void {
    this.steps.push(step);
  }
}
