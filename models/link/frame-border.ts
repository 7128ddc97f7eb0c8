// The border between the parts of a run that several workers simulate (engine/parallel/part.ts). Frames cross it on wires,
// as records in rings of shared memory: the worker of the sender knows when a frame will arrive and with which order key,
// the worker of the receiver makes an event of that.

import { CoupledError } from '../../engine/parallel/coupled-error.ts';
import type { Border, Part } from '../../engine/parallel/part.ts';
import { RecordReader, RecordWriter } from '../../engine/parallel/records.ts';
import type { WordRing } from '../../engine/parallel/word-ring.ts';
import { type Duration, END_OF_TIME, type Instant } from '../../engine/time.ts';
import type { Frame } from '../packet/frame.ts';
import { FrameReader, FrameWriter, type MessageRecords, WholeNumbers } from '../packet/frame-record.ts';
import type { FrameStore } from '../packet/frame-store.ts';
import type { WireBorder, WireCrossing, WireDirection } from './wire.ts';

export class FrameBorder implements Border, WireBorder {
  readonly #part: Part;
  readonly #frames: FrameStore;
  /** By number, which is the same at all workers. */
  readonly #wires: WireDirection[] = [];
  /** By worker. */
  readonly #outlets: readonly (Outlet | undefined)[];
  readonly #inlets: readonly Inlet[];
  #lookahead = Number.POSITIVE_INFINITY as Duration;

  constructor(part: Part, { frames, messages }: { frames: FrameStore; messages: MessageRecords }) {
    this.#part = part;
    this.#frames = frames;
    const wholes = new WholeNumbers();
    const makeRoom = (): void => this.#makeRoom();
    this.#outlets = part.ringsTo.map((ring) => ring && new Outlet(ring, { frames, messages, wholes, makeRoom }));
    this.#inlets = part.ringsFrom.flatMap((ring) => {
      if (ring === undefined) return [];
      const record = new RecordReader(ring);
      return [{ record, reader: new FrameReader(record, messages) }];
    });
  }

  /** The shortest cable between places of two workers. */
  get lookahead(): Duration {
    return this.#lookahead;
  }

  add(wire: WireDirection): void {
    const number = this.#wires.length;
    this.#wires.push(wire);
    const { from, to } = wire.homes;
    if (from === to || from === 'everywhere' || to === 'everywhere') return;
    const { delay } = wire.settings;
    if (delay === 0) throw new CoupledError('the wires between nodes have no delay');
    if (delay < this.#lookahead) this.#lookahead = delay;
    if (from === this.#part.index) wire.cross(new Crossing(number, this.#outlets[to]!));
  }

  takeEarliestSent(): Instant {
    let earliest = END_OF_TIME;
    for (const outlet of this.#outlets) {
      if (outlet === undefined) continue;
      if (outlet.earliestSent < earliest) earliest = outlet.earliestSent;
      outlet.earliestSent = END_OF_TIME;
    }
    return earliest;
  }

  publish(): void {
    for (const outlet of this.#outlets) outlet?.record.publish();
  }

  receive(): void {
    for (const { record, reader } of this.#inlets) {
      if (!record.hasRecord()) continue;
      // One in the middle of a window may be of a wire that will be laid later in this window.
      while (record.hasRecord() && record.peek() < this.#wires.length) {
        const wire = this.#wires[record.take()]!;
        const at = record.takeFloat() as Instant;
        const key = record.takeFloat();
        wire.takeOver(reader.read(this.#frames.takeOver()), at, key);
      }
      record.release();
    }
  }

  /** The other worker may be waiting for room, too. What comes meanwhile lies beyond this window. */
  #makeRoom(): void {
    this.publish();
    this.receive();
    this.#part.rest();
  }
}

interface Inlet {
  readonly record: RecordReader;
  readonly reader: FrameReader;
}

/** What goes to one other worker. */
class Outlet {
  readonly record: RecordWriter;
  /** When the earliest frame arrives that was sent since somebody asked. */
  earliestSent = END_OF_TIME;
  readonly #writer: FrameWriter;
  readonly #frames: FrameStore;
  readonly #makeRoom: () => void;

  constructor(
    ring: WordRing,
    {
      frames,
      messages,
      wholes,
      makeRoom,
    }: { frames: FrameStore; messages: MessageRecords; wholes: WholeNumbers; makeRoom: () => void },
  ) {
    this.record = new RecordWriter(ring);
    this.#writer = new FrameWriter(this.record, messages, wholes);
    this.#frames = frames;
    this.#makeRoom = makeRoom;
  }

  send(wire: number, frame: Frame, at: Instant, key: number): void {
    const { record } = this;
    while (!record.hasRoom()) this.#makeRoom();
    record.put(wire);
    record.putFloat(at);
    record.putFloat(key);
    this.#writer.write(frame);
    if (at < this.earliestSent) this.earliestSent = at;
    this.#frames.handOver(frame);
  }
}

class Crossing implements WireCrossing {
  readonly #number: number;
  readonly #outlet: Outlet;

  constructor(number: number, outlet: Outlet) {
    this.#number = number;
    this.#outlet = outlet;
  }

  carry(frame: Frame, at: Instant, key: number): void {
    this.#outlet.send(this.#number, frame, at, key);
  }
}
