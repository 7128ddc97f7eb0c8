// The memory of a neighbor table: six of the run's numbers for each neighbor, in the order in which they were entered. What a
// frame or a timer waits for is not here, and most neighbors have none of it (neighbor-table.ts). Its slow twin, a Map for each
// device, stands in the test.

import type { NumberTable } from '../../engine/number-table.ts';
import type { Instant } from '../../engine/time.ts';
import type { Ip } from '../packet/ip-address.ts';
import { BROADCAST_MAC, type Mac } from '../packet/mac.ts';

export type NeighborState = 'INCOMPLETE' | 'REACHABLE' | 'STALE' | 'DELAY' | 'PROBE' | 'FAILED' | 'PERMANENT' | 'NOARP';

const STATES: readonly NeighborState[] = [
  ...(['FAILED', 'INCOMPLETE', 'REACHABLE', 'STALE'] as const),
  ...(['DELAY', 'PROBE', 'PERMANENT', 'NOARP'] as const),
];

// A record: an address and the index of the device behind which it is, the state by its place in the list, the MAC, when it was
// confirmed, and how often the neighbor has been asked.
const IP = 0;
const DEVICE = 1;
const STATE = 2;
const MAC = 3;
const CONFIRMED_AT = 4;
const PROBES = 5;
const NUMBERS_PER_RECORD = 6;
/** Most pods have one neighbor, their gateway. */
const FIRST_CAPACITY = 1;

/** Up to so many records are looked through one by one. */
const FEW = 8;

export const NO_RECORD = -1;

export class NeighborRecords {
  count = 0;
  readonly #numbers: NumberTable;
  #capacity = FIRST_CAPACITY;
  /** Where the records begin, among the run's numbers. */
  #first: number;
  /** A pod has one next hop, and packets of a flow follow each other. */
  #latest = NO_RECORD;
  /** Once there are many: records, counted from 1, by a hash of device and address; at most half of it is used. */
  #index: Int32Array | undefined;

  constructor(numbers: NumberTable) {
    this.#numbers = numbers;
    this.#first = numbers.add(FIRST_CAPACITY * NUMBERS_PER_RECORD);
  }

  find(device: number, ip: Ip): number {
    if (this.#latest !== NO_RECORD && this.#isOf(this.#latest, device, ip)) return this.#latest;
    const record = this.#index === undefined ? this.#scan(device, ip) : this.#index[this.#slotOf(device, ip)]! - 1;
    if (record !== NO_RECORD) this.#latest = record;
    return record;
  }

  /** One of whom nothing is known and who has not been asked: the first use starts to ask. */
  add(device: number, ip: Ip): number {
    if (this.count === this.#capacity) this.#grow();
    const record = this.count++;
    const { values } = this.#numbers;
    const at = this.#at(record);
    values[at + IP] = ip;
    values[at + DEVICE] = device;
    values[at + STATE] = 0;
    values[at + MAC] = BROADCAST_MAC;
    values[at + CONFIRMED_AT] = 0;
    values[at + PROBES] = 0;
    this.#latest = record;
    if (this.#index !== undefined && 2 * this.count <= this.#index.length)
      this.#index[this.#slotOf(device, ip)] = record + 1;
    else if (this.count > FEW) this.#indexAll();
    return record;
  }

  /** The others close ranks; returns which they were, in their order. */
  removeDevice(device: number): number[] {
    const { values } = this.#numbers;
    const kept: number[] = [];
    for (let record = 0; record < this.count; record++) {
      if (this.deviceOf(record) === device) continue;
      const from = this.#at(record);
      values.copyWithin(this.#at(kept.length), from, from + NUMBERS_PER_RECORD);
      kept.push(record);
    }
    this.count = kept.length;
    this.#latest = NO_RECORD;
    this.#index = undefined;
    if (this.count > FEW) this.#indexAll();
    return kept;
  }

  ipOf(record: number): Ip {
    return this.#numbers.values[this.#at(record) + IP]! as Ip;
  }

  deviceOf(record: number): number {
    return this.#numbers.values[this.#at(record) + DEVICE]!;
  }

  stateOf(record: number): NeighborState {
    return STATES[this.#numbers.values[this.#at(record) + STATE]!]!;
  }

  setState(record: number, state: NeighborState): void {
    this.#numbers.values[this.#at(record) + STATE] = STATES.indexOf(state);
  }

  macOf(record: number): Mac {
    return this.#numbers.values[this.#at(record) + MAC]! as Mac;
  }

  setMac(record: number, mac: Mac): void {
    this.#numbers.values[this.#at(record) + MAC] = mac;
  }

  confirmedAt(record: number): Instant {
    return this.#numbers.values[this.#at(record) + CONFIRMED_AT]! as Instant;
  }

  confirm(record: number, at: Instant): void {
    this.#numbers.values[this.#at(record) + CONFIRMED_AT] = at;
  }

  probesOf(record: number): number {
    return this.#numbers.values[this.#at(record) + PROBES]!;
  }

  setProbes(record: number, probes: number): void {
    this.#numbers.values[this.#at(record) + PROBES] = probes;
  }

  #at(record: number): number {
    return this.#first + record * NUMBERS_PER_RECORD;
  }

  #isOf(record: number, device: number, ip: Ip): boolean {
    const { values } = this.#numbers;
    const at = this.#at(record);
    return values[at + IP] === ip && values[at + DEVICE] === device;
  }

  #scan(device: number, ip: Ip): number {
    for (let record = 0; record < this.count; record++) if (this.#isOf(record, device, ip)) return record;
    return NO_RECORD;
  }

  /** Where the record stands in the index, or the free place where it belongs. */
  #slotOf(device: number, ip: Ip): number {
    const index = this.#index!;
    const product = Math.imul(ip ^ Math.imul(device, 0x85ebca6b), 0x9e3779b1);
    let slot = (product ^ (product >>> 15)) & (index.length - 1);
    while (index[slot] !== 0 && !this.#isOf(index[slot]! - 1, device, ip)) slot = (slot + 1) & (index.length - 1);
    return slot;
  }

  #indexAll(): void {
    this.#index = new Int32Array(4 << (32 - Math.clz32(this.count - 1)));
    for (let record = 0; record < this.count; record++)
      this.#index[this.#slotOf(this.deviceOf(record), this.ipOf(record))] = record + 1;
  }

  #grow(): void {
    const before = this.#first;
    const size = this.#capacity * NUMBERS_PER_RECORD;
    this.#capacity *= 2;
    this.#first = this.#numbers.add(2 * size);
    this.#numbers.values.copyWithin(this.#first, before, before + size);
  }
}
