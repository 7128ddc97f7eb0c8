// The CPUs of one machine as servers of packet work.
//
// Everything a machine's kernel does happens in a *visit*: one uninterrupted pass of one CPU, from a frame's arrival (or
// a system call, or a timer) to the last thing it emits. A visit starts when its CPU is free, each stage charges its
// cost, and what the visit emits happens at its own offset: `cpus.instant`. The CPU is then busy for the sum.
//
// Not modelled: preemption, interrupts inside a visit, NAPI batching, scheduling of processes against softirqs.

import type { NumberTable } from '../../engine/number-table.ts';
import type { Clock, Place } from '../../engine/simulator.ts';
import { type Duration, type Instant, ns } from '../../engine/time.ts';
import type { CostModel } from './cost-model.ts';

/** net.core.netdev_max_backlog, default of Linux. */
export const NETDEV_MAX_BACKLOG = 1_000;

export type Work = (argument: never) => void;

// Of each CPU, in the run's table of numbers.
const BUSY_UNTIL = 0;
const BUSY_NS = 1;
const NUMBERS_PER_CPU = 2;

const NONE = -1;

export class CpuSet {
  // First what every visit needs, in one line of the processor's cache or two.
  readonly #clock: Readonly<Clock>;
  /** The run's. */
  readonly numbers: NumberTable;
  readonly #firstNumber: number;
  #offsetNs = 0;
  /** Always, on a machine that another worker simulates: nothing begins there, and what is submitted is dropped. */
  #visiting: boolean;
  /** The CPU of the running visit. */
  current = 0;
  readonly costs: CostModel;
  readonly place: Place;
  readonly count: number;
  /** One less than their number if that is a power of two, else NONE. */
  readonly #mask: number;
  /**
   * Counts the changes of whatever decides where frames go on this machine: devices, addresses, routes, neighbors, rules,
   * settings. What has been remembered of ways is good for one generation (ip/flow-cache.ts).
   */
  generation = 0;
  /** Tunnels that the running visit is sending into at this point, one within another (dev_xmit_recursion). */
  tunnelDepth = 0;
  /** What waits for the end of a {@link batch}, if there is one. */
  #postponed: (() => void)[] | undefined;
  /**
   * Families whose ICMP the running visit is sending a message of at this point, as bits 1 << family: a CPU has one socket
   * for each, for all namespaces, and while it is locked nothing causes another message (icmp_xmit_lock).
   */
  icmpLocks = 0;
  /** Work that waits, by CPU; few ever have any. */
  readonly #queues: (WorkQueue | undefined)[];
  /** What is to be polled when nothing is postponed any more. */
  #polls: (() => void)[] = [];
  #held: (() => void)[] | undefined;
  #flowHashSecret: number | undefined;
  /** Some network namespace of the machine has asked for a neighbor, or been told of one. */
  hasNeighbors = false;

  constructor(place: Place, { count, costs }: { count: number; costs: CostModel }) {
    if (!(Number.isInteger(count) && count >= 1)) throw new RangeError(`${count} CPUs; expected at least 1`);
    this.place = place;
    this.costs = costs;
    this.#clock = place.clock;
    this.#visiting = !place.isHere;
    this.count = count;
    this.#mask = (count & (count - 1)) === 0 ? count - 1 : NONE;
    this.numbers = place.sim.numbers;
    this.#firstNumber = this.numbers.add(count * NUMBERS_PER_CPU);
    this.#queues = new Array(count).fill(undefined);
  }

  /** Receive-side scaling: flows of one hash, of 32 bits without a sign, always meet the same CPU. */
  cpuOf(hash: number): number {
    // V8 makes a floating-point division of `%` with such numbers.
    return this.#mask === NONE ? hash % this.count : hash & this.#mask;
  }

  /** Now, as the running visit sees it: its start plus what it has been charged so far. */
  get instant(): Instant {
    return (this.#clock.now + this.#offsetNs) as Instant;
  }

  /** Makes what hashes of flows decide unforeseeable, and is one for all namespaces of the machine (hashrnd): 31 bits. */
  get flowHashSecret(): number {
    this.#flowHashSecret ??= this.place.random('flow-hash').bits31();
    return this.#flowHashSecret;
  }

  /** Adds to the running visit. Whole nanoseconds. */
  charge(costNs: number): void {
    this.#offsetNs += costNs;
  }

  /** An event at {@link instant}, in the order in which visits ask for it. */
  schedule<A>(action: (argument: A) => void, argument: A): void {
    this.place.schedule(this.#offsetNs as Duration, action, argument);
  }

  /** An event so long after {@link instant}. */
  scheduleAfter<A>(delay: Duration, action: (argument: A) => void, argument: A): void {
    this.place.schedule((this.#offsetNs + delay) as Duration, action, argument);
  }

  /**
   * Runs `work(argument)` as a visit of CPU `cpu`: at once if it is free, else when its turn comes. Inside a visit it is
   * submitted when the visit has got there, at {@link instant}: visits do not nest, and on this CPU it waits for the end.
   */
  submit<A>(cpu: number, work: (argument: A) => void, argument: A): void {
    if (this.#visiting) {
      this.schedule(this.#submitLater, { cpu, work: work as Work, argument });
      return;
    }
    if (this.begin(cpu)) {
      work(argument);
      return this.end();
    }
    const queue = (this.#queues[cpu] ??= new WorkQueue());
    queue.push(work as Work, argument);
    if (queue.length === 1) this.#wakeWhenFree(cpu);
  }

  /**
   * {@link submit} without a function: true if CPU `cpu` is free, and then its visit has begun, lasts until {@link end}, and
   * is for the caller to do. False: nothing has been done.
   */
  begin(cpu: number): boolean {
    if (this.#visiting) return false;
    const freeForNs = this.#clock.now - this.numbers.values[this.#firstNumber + NUMBERS_PER_CPU * cpu + BUSY_UNTIL]!;
    // Others that wait are served at the very instant at which the CPU is free.
    if (freeForNs < 0 || (freeForNs === 0 && this.backlog(cpu) > 0)) return false;
    this.current = cpu;
    this.#visiting = true;
    return true;
  }

  end(): void {
    this.#visiting = false;
    const { values } = this.numbers;
    const at = this.#firstNumber + NUMBERS_PER_CPU * this.current;
    values[at + BUSY_NS]! += this.#offsetNs;
    values[at + BUSY_UNTIL] = this.#clock.now + this.#offsetNs;
    this.#offsetNs = 0;
  }

  /**
   * Runs `action` to its end before what it hands over with {@link postpone}, and that in order, as a softirq goes on with
   * the next frame when it has done with one: all fragments of a packet have left before the first is looked at.
   */
  batch(action: () => void): void {
    if (this.#postponed !== undefined) return action();
    const postponed: (() => void)[] = [];
    this.#postponed = postponed;
    action();
    const { tunnelDepth, icmpLocks } = this;
    this.tunnelDepth = this.icmpLocks = 0; // what is sent has been sent
    for (;;) {
      for (let i = 0; i < postponed.length; i++) postponed[i]!(); // what they hand over comes behind them
      postponed.length = 0;
      if (this.#polls.length === 0) break;
      for (const poll of this.#polls.splice(0)) poll();
    }
    this.#postponed = undefined;
    this.tunnelDepth = tunnelDepth;
    this.icmpLocks = icmpLocks;
  }

  /** Is what frames cause to wait for the end of a {@link batch}? */
  get isBatching(): boolean {
    return this.#postponed !== undefined;
  }

  /** Only within a {@link batch}. */
  postpone(work: () => void): void {
    this.#postponed?.push(work);
  }

  /** Only within a {@link batch}: when all that has been postponed is done, as an instance of NAPI that was scheduled meanwhile. */
  pollLater(poll: () => void): void {
    this.#polls.push(poll);
  }

  /** Runs `action`, then what it has held back: what frames of a list meet before the first of them goes on, and the rest. */
  together(action: () => void): void {
    const held: (() => void)[] = [];
    this.#held = held;
    action();
    this.#held = undefined;
    for (const work of held) work();
  }

  /** Is the frame that has come in one of a list? Then its further way is to be held back. */
  get isListing(): boolean {
    return this.#held !== undefined;
  }

  /** Only where {@link isListing}. */
  holdBack(work: () => void): void {
    this.#held?.push(work);
  }

  /** Where frames go on this machine has changed, or may have. */
  forgetWays(): void {
    this.generation++;
  }

  /** Visits that wait for this CPU. */
  backlog(cpu: number): number {
    return this.#queues[cpu]?.length ?? 0;
  }

  /** Total time that a CPU has worked, for utilization. */
  busyTime(cpu: number): Duration {
    return ns(this.numbers.values[this.#firstNumber + NUMBERS_PER_CPU * cpu + BUSY_NS]!);
  }

  #wakeWhenFree(cpu: number): void {
    const busyUntil = this.numbers.values[this.#firstNumber + NUMBERS_PER_CPU * cpu + BUSY_UNTIL]! as Instant;
    this.place.scheduleAt(busyUntil, this.#serveNext, cpu);
  }

  /** Nobody takes a CPU for which others wait, so it is free when it wakes. */
  readonly #serveNext = (cpu: number): void => {
    const queue = this.#queues[cpu]!;
    const work = queue.shiftWork() as (argument: unknown) => void;
    const argument = queue.shiftArgument();
    this.current = cpu;
    this.#visiting = true;
    work(argument);
    this.end();
    if (queue.length > 0) this.#wakeWhenFree(cpu);
  };

  readonly #submitLater = ({ cpu, work, argument }: Submission): void => {
    this.submit(cpu, work as (argument: unknown) => void, argument);
  };
}

interface Submission {
  readonly cpu: number;
  readonly work: Work;
  readonly argument: unknown;
}

/** A FIFO of (work, argument) in a ring, so that a long backlog neither shifts arrays nor allocates. */
class WorkQueue {
  length = 0;
  #works: (Work | undefined)[] = new Array(8).fill(undefined);
  #arguments: unknown[] = new Array(8).fill(undefined);
  #head = 0;

  push(work: Work, argument: unknown): void {
    if (this.length === this.#works.length) this.#grow();
    const tail = (this.#head + this.length) & (this.#works.length - 1);
    this.#works[tail] = work;
    this.#arguments[tail] = argument;
    this.length++;
  }

  /** Removes the oldest entry's work; take its argument with {@link shiftArgument} right after. */
  shiftWork(): Work {
    const work = this.#works[this.#head]!;
    this.#works[this.#head] = undefined;
    return work;
  }

  shiftArgument(): unknown {
    const argument = this.#arguments[this.#head];
    this.#arguments[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#works.length - 1);
    this.length--;
    return argument;
  }

  #grow(): void {
    const capacity = this.#works.length;
    const works = new Array(capacity * 2).fill(undefined);
    const args = new Array(capacity * 2).fill(undefined);
    for (let i = 0; i < capacity; i++) {
      works[i] = this.#works[(this.#head + i) & (capacity - 1)];
      args[i] = this.#arguments[(this.#head + i) & (capacity - 1)];
    }
    this.#works = works;
    this.#arguments = args;
    this.#head = 0;
  }
}
