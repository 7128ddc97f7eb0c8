// The protocol of windows in one thread: the workers' turns are taken one after the other.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Home, Simulator } from '../simulator.ts';
import { type Duration, END_OF_TIME, type Instant, ms, ns, us } from '../time.ts';
import { type Border, Windows } from './part.ts';

const LOOKAHEAD = us(5);
const PLACES = 7;

interface Parcel {
  readonly at: Instant;
  readonly key: number;
  readonly to: number;
  readonly hops: number;
}

/** Places that pass parcels on, after a time of their own and one that depends on the lot. */
class ParcelService implements Border {
  readonly lookahead = LOOKAHEAD;
  readonly sim: Simulator;
  readonly log: string[] = [];
  readonly #places;
  readonly #outgoing: Parcel[] = [];
  readonly #peers: readonly ParcelService[];
  #incoming: Parcel[] = [];
  #earliestSent = END_OF_TIME;

  /** `peers`: by worker; this one is added. */
  constructor(seed: string, worker: number, workers: number, peers: ParcelService[]) {
    this.sim = new Simulator({ seed, worker });
    const everywhere = this.sim.place('post office', { home: 'everywhere' });
    this.#places = Array.from({ length: PLACES }, (_, i) => this.sim.place(`place-${i}`, { home: i % workers }));
    this.#peers = peers;
    peers.push(this);
    // Opens a new lot at all places every 300 us, wherever they are.
    const open = (lot: number): void => {
      for (let to = 0; to < PLACES; to++) this.#pass({ to, hops: lot });
      if (lot < 4) everywhere.schedule(us(300), open, lot + 1);
    };
    everywhere.schedule(us(1), open, 0);
  }

  readonly #pass = ({ to, hops }: { readonly to: number; readonly hops: number }): void => {
    const place = this.#places[to]!;
    if (!place.isHere) return;
    this.log.push(`${this.sim.now} ${to} ${hops}`);
    if (hops > 40) return;
    const random = place.random('parcels');
    place.schedule(ns(random.int(3_000)), () => {}, undefined);
    const next = random.int(PLACES);
    const home = this.#places[next]!.home as number;
    const delay = (LOOKAHEAD + random.int(20_000)) as Duration;
    if (home === this.sim.worker) return place.schedule(delay, this.#pass, { to: next, hops: hops + 1 });
    const parcel = { at: (this.sim.now + delay) as Instant, key: place.takeKey(), to: next, hops: hops + 1 };
    this.#outgoing.push(parcel);
    this.#earliestSent = Math.min(this.#earliestSent, parcel.at) as Instant;
  };

  takeEarliestSent(): Instant {
    const earliest = this.#earliestSent;
    this.#earliestSent = END_OF_TIME;
    return earliest;
  }

  publish(): void {
    for (const parcel of this.#outgoing.splice(0))
      this.#peers[this.#places[parcel.to]!.home as number]!.#incoming.push(parcel);
  }

  receive(): void {
    for (const { at, key, ...parcel } of this.#incoming) this.sim.insertFrom(at, key, this.#pass, parcel);
    this.#incoming = [];
  }
}

function deliver(seed: string, workers: number, until: Instant) {
  const services: ParcelService[] = [];
  for (let worker = 0; worker < workers; worker++) new ParcelService(seed, worker, workers, services);
  const windows = services.map((service) => new Windows(service.sim, service));
  for (let goesOn = true; goesOn; ) {
    const earliest = Math.min(...windows.map((window) => window.proposal())) as Instant;
    goesOn = windows.map((window) => window.run(earliest, until)).every(Boolean);
  }
  const [first, ...others] = services;
  for (const { sim } of others) first!.sim.addRun(sim);
  const { fingerprint, executedEvents, now } = first!.sim;
  return { fingerprint, executedEvents, now, log: services.flatMap(({ log }) => log).sort() };
}

test('two, three and seven workers do what one does, event by event', () => {
  fc.assert(
    fc.property(fc.nat(), fc.constantFrom(2, 3, 7), fc.integer({ min: 0, max: ms(2) }), (seed, workers, until) => {
      const expected = deliver(`${seed}`, 1, until as Instant);
      expect(deliver(`${seed}`, workers, until as Instant)).toEqual(expected);
    }),
    { numRuns: 40 },
  );
  expect(deliver('1', 1, END_OF_TIME).executedEvents).toBeGreaterThan(1_000);
});

test('what another place does is dropped where that place is not at home', () => {
  const sim = new Simulator({ seed: 'x', worker: 1 });
  const homes: readonly Home[] = ['everywhere', 0, 1];
  const places = homes.map((home) => sim.place(`at ${home}`, { home }));
  const ran: string[] = [];
  const handles = places.map((place) => place.scheduleCancellable(us(1), () => ran.push(place.name), undefined));
  expect(places.map(({ isHere }) => isHere)).toEqual([true, false, true]);
  expect(places[1]!.cancel(handles[1]!)).toBe(false);
  sim.run();
  expect(ran).toEqual(['at everywhere', 'at 1']);
  expect(sim.executedEvents).toBe(1); // the first worker counts what happens everywhere
});
