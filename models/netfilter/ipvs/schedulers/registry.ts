// Every scheduler that a virtual server may have. A new one is a file in this folder and a line here.

import type { SchedulerName, VirtualServerSettings } from '../virtual-server.ts';
import { AddressHash } from './address-hash.ts';
import { leastConnection, neverQueue, shortestExpectedDelay, weightedLeastConnection } from './least-connection.ts';
import { MaglevScheduler } from './maglev.ts';
import { RoundRobin } from './round-robin.ts';
import type { Scheduler } from './scheduler.ts';
import { WeightedRoundRobin } from './weighted-round-robin.ts';

const SCHEDULERS: Readonly<Record<SchedulerName, (settings: VirtualServerSettings) => Scheduler>> = {
  rr: () => new RoundRobin(),
  wrr: () => new WeightedRoundRobin(),
  lc: leastConnection,
  wlc: weightedLeastConnection,
  sh: (settings) => AddressHash.bySource(settings),
  dh: () => AddressHash.byDestination(),
  mh: (settings) => new MaglevScheduler(settings),
  sed: shortestExpectedDelay,
  nq: neverQueue,
};

export const newScheduler = (settings: VirtualServerSettings): Scheduler => SCHEDULERS[settings.scheduler](settings);
