// The qdisc `tbf`: a token bucket in front of a device's other end. Tokens are bytes; they come at the rate, as many as the
// bucket holds at most. A frame that finds enough of them and nobody waiting goes on at once, within its visit; others
// wait, and what finds the queue full is dropped (net/sched/sch_tbf.c with its default queue, bfifo).
//
// Not modelled: a peak rate, link-layer overhead, what the qdisc itself costs a CPU.

import { after, type Duration, type Instant } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameHolder, FrameStore } from '../packet/frame-store.ts';

export interface TokenBucketSettings {
  /** Bits per second. */
  readonly rateBps: number;
  /** What the bucket holds; a larger frame never passes. */
  readonly burstBytes: number;
  /** What may wait. */
  readonly limitBytes: number;
}

export interface TokenBucketPlace {
  /** For messages: `node-1/veth0001`. */
  readonly name: string;
  readonly namespace: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  /** Carries a frame that has its tokens; within a visit. */
  readonly forward: (frame: Frame) => void;
}

export class TokenBucket implements FrameHolder {
  readonly holderName: string;
  readonly settings: TokenBucketSettings;
  readonly #place: TokenBucketPlace;
  readonly #bytesPerNs: number;
  readonly #timer: Timer;
  #waiting: Frame[] = [];
  #waitingBytes = 0;
  #tokens: number;
  #countedAt: Instant;

  constructor(settings: TokenBucketSettings, place: TokenBucketPlace) {
    const { rateBps, burstBytes } = settings;
    if (!(rateBps > 0 && burstBytes > 0))
      throw new RangeError(`token bucket of ${rateBps} bit/s and ${burstBytes} bytes; expected more than 0 of both`);
    this.holderName = `token bucket of ${place.name}`;
    this.settings = settings;
    this.#place = place;
    this.#bytesPerNs = rateBps / 8e9;
    this.#tokens = burstBytes;
    const { cpus, frames } = place;
    this.#countedAt = cpus.instant;
    this.#timer = new Timer(cpus.place, () => cpus.submit(0, this.#serve, undefined));
    frames.addHolder(this);
  }

  get heldFrames(): number {
    return this.#waiting.length;
  }

  /** The frame goes on now, later or never. */
  take(frame: Frame): void {
    const { frames } = this.#place;
    const { burstBytes, limitBytes } = this.settings;
    frames.recorder.spoil(); // it depends on what came before, and when
    if (frame.sizeBytes > burstBytes || this.#waitingBytes + frame.sizeBytes > limitBytes) return this.#drop(frame);
    this.#refill();
    if (this.#waiting.length === 0 && this.#pay(frame)) return this.#place.forward(frame);
    this.#waiting.push(frame);
    this.#waitingBytes += frame.sizeBytes;
    if (!this.#timer.armed) this.#wait();
  }

  readonly #serve = (): void => {
    this.#refill();
    while (this.#waiting.length > 0 && this.#pay(this.#waiting[0]!)) {
      const frame = this.#waiting.shift()!;
      this.#waitingBytes -= frame.sizeBytes;
      this.#place.forward(frame);
    }
    if (this.#waiting.length > 0 && !this.#timer.armed) this.#wait();
  };

  #refill(): void {
    const now = this.#place.cpus.instant;
    if (now <= this.#countedAt) return; // visits of two CPUs overlap
    this.#tokens = Math.min(this.settings.burstBytes, this.#tokens + (now - this.#countedAt) * this.#bytesPerNs);
    this.#countedAt = now;
  }

  #pay({ sizeBytes }: Frame): boolean {
    if (this.#tokens < sizeBytes) return false;
    this.#tokens -= sizeBytes;
    return true;
  }

  /** Until the first one that waits has its tokens. */
  #wait(): void {
    const missingBytes = this.#waiting[0]!.sizeBytes - this.#tokens;
    const delay = Math.max(1, Math.ceil(missingBytes / this.#bytesPerNs)) as Duration;
    this.#timer.startAt(after(this.#place.cpus.instant, delay));
  }

  #drop(frame: Frame): void {
    const { frames, cpus, namespace } = this.#place;
    frames.drop(frame, 'QDISC_DROP', cpus.instant, namespace);
  }
}
