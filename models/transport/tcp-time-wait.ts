// What remains of a connection that this side closed first: enough to answer stray segments for a minute, and no more,
// because a busy client or server has tens of thousands of them (the kernel's inet_timewait_sock).

import type { Place } from '../../engine/simulator.ts';
import { after, type Duration, type Instant } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { Ip, IpFamily } from '../packet/ip-address.ts';
import type { ConnectedSocket } from './socket-table.ts';

export class TimeWait implements ConnectedSocket {
  readonly family: IpFamily;
  readonly localIp: Ip;
  readonly localPort: number;
  readonly remoteIp: Ip;
  readonly remotePort: number;
  /** SND.NXT and RCV.NXT; both FINs are behind. */
  readonly sendNext: number;
  readonly receiveNext: number;
  /** Timestamp of the peer's last segment; 0 without the option. */
  readonly recentTimestamp: number;
  /** That of the connection's segments. */
  readonly flowHash: number;
  readonly enteredAt: Instant;
  expiresAt: Instant;

  constructor(
    { family, localIp, localPort, remoteIp, remotePort }: ConnectedSocket,
    last: { sendNext: number; receiveNext: number; recentTimestamp: number; flowHash: number; now: Instant },
  ) {
    this.family = family;
    this.localIp = localIp;
    this.localPort = localPort;
    this.remoteIp = remoteIp;
    this.remotePort = remotePort;
    this.sendNext = last.sendNext;
    this.receiveNext = last.receiveNext;
    this.recentTimestamp = last.recentTimestamp;
    this.flowHash = last.flowHash;
    this.enteredAt = last.now;
    this.expiresAt = last.now;
  }

  /** Where a new connection with these addresses starts, beyond everything that this one sent (tcp_twsk_unique). */
  get nextInitialSequence(): number {
    return (this.sendNext + 65_537) | 0;
  }
}

/** Ends each TIME_WAIT after the same time, so that a queue and one timer are enough. */
export class TimeWaitQueue {
  readonly #place: Place;
  readonly #length: Duration;
  readonly #expire: (timeWait: TimeWait) => void;
  #timer: Timer | undefined;
  // Deadlines rise. A restarted TIME_WAIT stands here twice; its first turn is skipped.
  #queue: { readonly timeWait: TimeWait; readonly deadline: Instant }[] = [];
  #head = 0;

  constructor(place: Place, length: Duration, expire: (timeWait: TimeWait) => void) {
    this.#place = place;
    this.#length = length;
    this.#expire = expire;
  }

  /** Starts or restarts its time at `now`. */
  start(timeWait: TimeWait, now: Instant): void {
    const deadline = after(now, this.#length);
    timeWait.expiresAt = deadline;
    this.#queue.push({ timeWait, deadline });
    this.#timer ??= new Timer(this.#place, () => this.#expireDue());
    if (!this.#timer.armed) this.#timer.startAt(deadline);
  }

  #expireDue(): void {
    const queue = this.#queue;
    while (this.#head < queue.length && queue[this.#head]!.deadline <= this.#place.now) {
      const { timeWait, deadline } = queue[this.#head++]!;
      if (timeWait.expiresAt === deadline) this.#expire(timeWait);
    }
    if (this.#head * 2 > queue.length) {
      this.#queue = queue.slice(this.#head);
      this.#head = 0;
    }
    const first = this.#queue[this.#head];
    if (first !== undefined) this.#timer?.startAt(first.deadline);
  }
}
