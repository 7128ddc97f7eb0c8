// The event list against C++'s std::priority_queue, heap-js, and the schedulers of ns-3, in the hold model of
// bench/event-list.bench.ts with the same delays.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../experiments/harness/user-error.ts';
import { DELAY_MIXES, type DelayMix, delaysOf, pendingOf } from '../event-list.bench.ts';
import type { Comparison, Contender, Missing, Subject } from './comparison.ts';
import { type Ns3Build, ns3Builds } from './ns3-build.ts';
import { compilerMissingFor, type Workbench } from './workbench.ts';

/** Ratios to reach with a network's mix of delays, by events pending. */
const TARGETS: Readonly<Record<'priority queue' | 'heap-js', Readonly<Record<number, number>>>> = {
  'priority queue': { 1000: 1, 10000: 1, 100000: 1 },
  'heap-js': { 10000: 4, 100000: 8 },
};

const SCHEDULERS = ['MapScheduler', 'HeapScheduler', 'PriorityQueueScheduler', 'CalendarScheduler'] as const;

export async function eventListSubject(workbench: Workbench): Promise<Subject> {
  const { pending } = workbench.sizes;
  const priorityQueue = await priorityQueueOf(workbench);
  const [ns3, notBuilt] = await ns3SchedulersOf(workbench);
  const comparisons = DELAY_MIXES.flatMap((mix) => {
    // A process for each number of events: code that has met a long list runs a short one differently, and the other way round.
    const held = (name: string, list: string) =>
      new Map(pending.map((size) => [size, workbench.podwire(name, ['hold', list, mix, size])]));
    const podwire = held('Podwire', 'wheel');
    const heapJs = held('heap-js', 'heap-js');
    const compare = (
      peerOf: (size: number) => Contender | Missing,
      targets: Readonly<Record<number, number>> = {},
    ): Comparison[] =>
      pending.map((size) => ({
        case: `${size.toLocaleString('en')} pending, ${mix} delays`,
        unit: 'holds/s',
        figure: String(size),
        podwire: podwire.get(size)!,
        peer: peerOf(size),
        ...(mix === 'network' && size in targets && { atLeast: targets[size]! }),
      }));
    const queue = priorityQueue(mix);
    return [
      ...compare(() => queue, TARGETS['priority queue']),
      ...compare((size) => heapJs.get(size)!, TARGETS['heap-js']),
      ...(mix === 'network' ? ns3.flatMap((peer) => compare(() => peer)) : []),
    ];
  });
  const remarks = [
    'Event list: an event of Podwire has a time and an order key of 53 bits each; one of std::priority_queue has 16' +
      " bytes in all. Of ns-3 it is the scheduler alone, without the simulator's event objects.",
    ...notBuilt,
  ];
  return { comparisons, remarks };
}

async function priorityQueueOf(workbench: Workbench): Promise<(mix: DelayMix) => Contender | Missing> {
  const name = 'C++ std::priority_queue';
  const missing = compilerMissingFor('hold.cc');
  if (missing !== undefined) return () => ({ name, missing });
  try {
    const program = await workbench.compile('hold.cc');
    return (mix) => ({
      name,
      measure: () => workbench.figures(program, [...mixFiles(workbench, mix), ...workbench.sizes.pending]),
    });
  } catch (error) {
    return () => ({ name, missing: messageOf(error) });
  }
}

/** Those of the best build; or none, and why. */
async function ns3SchedulersOf(workbench: Workbench): Promise<[(Contender | Missing)[], string[]]> {
  const builds = ns3Builds();
  if ('missing' in builds) return [[], [`ns-3's schedulers are not measured: ${builds.missing}`]];
  const build = builds.at(-1)!;
  try {
    const program = await build.compile(workbench, 'ns3-hold.cc', ['core']);
    return [SCHEDULERS.map((scheduler) => schedulerOf(workbench, { build, program, scheduler })), []];
  } catch (error) {
    return [[], [`ns-3's schedulers are not measured: ${messageOf(error)}`]];
  }
}

function schedulerOf(
  workbench: Workbench,
  { build, program, scheduler }: { build: Ns3Build; program: string; scheduler: string },
): Contender {
  const args = [`ns3::${scheduler}`, ...mixFiles(workbench, 'network'), ...workbench.sizes.pending];
  return { name: `${build.name} ${scheduler}`, measure: () => workbench.figures(program, args) };
}

/** Delays of a mix, and what is pending at first. */
function mixFiles(workbench: Workbench, mix: DelayMix): [delays: string, pending: string] {
  const write = (name: string, times: Iterable<number>): string => {
    const file = join(workbench.directory, `${name}-${mix}`);
    writeFileSync(file, Array.from(times, (time) => `${Math.round(time)}\n`).join(''));
    return file;
  };
  return [write('delays', delaysOf(mix)), write('pending', pendingOf(mix, Math.max(...workbench.sizes.pending)))];
}
