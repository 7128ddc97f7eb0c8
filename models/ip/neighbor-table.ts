// The neighbor table of one network namespace and family: which MAC stands behind a next hop. The kernel's states and
// timings (NUD); how an address is asked for is ARP's business (arp.ts) or neighbor discovery's.
//
// A REACHABLE entry that nobody confirmed for its reachable time counts as STALE when it is next used (the kernel's
// timer does the same, only earlier). Not modelled: garbage collection by gc_thresh.

import type { RandomStream, Reserved } from '../../engine/random.ts';
import { after, type Duration, ms, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { NetDevice } from '../link/net-device.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameHolder, FrameStore } from '../packet/frame-store.ts';
import { formatIp, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { formatMac, type Mac } from '../packet/mac.ts';
import { truesizeBytes } from '../packet/truesize.ts';
import { timerDelay } from './kernel-timer.ts';
import { NeighborRecords, type NeighborState, NO_RECORD } from './neighbor-records.ts';
import { NeighborSettingsOfDevices } from './neighbor-settings.ts';

/** How a frame goes on once the MAC is known. */
type Continuation = (frame: Frame, mac: Mac) => void;

interface WaitingFrame {
  readonly frame: Frame;
  readonly go: Continuation;
}

/** What is under way with a neighbor: frames wait, or a timer runs. */
interface Inquiry {
  readonly device: NetDevice;
  readonly timer: Timer;
  /** Where it stands now. */
  record: number;
  waiting: WaitingFrame[];
  waitingBytes: number;
}

export interface Neighbor {
  readonly ip: Ip;
  readonly device: NetDevice;
  readonly state: NeighborState;
  readonly mac: Mac;
}

/** What the table needs of the IP stack it belongs to. */
export interface NeighborStack {
  readonly name: string;
  readonly cpus: CpuSet;
  readonly frames: FrameStore;
  /** Nobody answered for the next hop of this frame: ICMP unreachable to its sender, then drop. */
  unreachable(frame: Frame): void;
}

/** What a neighbor said. */
export interface NeighborNews {
  readonly ip: Ip;
  readonly mac: Mac | undefined;
  /** REACHABLE: it answered a question of ours. */
  readonly state: 'REACHABLE' | 'STALE';
  readonly create: boolean;
  readonly isOverride?: boolean;
  /** Does another MAC have to wait for the end of the settings' `locktime`? */
  readonly respectsLock?: boolean;
}

/** How the table asks who has an address. */
export interface AddressResolution {
  readonly family: IpFamily;
  /** Asks everybody; with `mac` only the one who had the address. `waiting` is the latest frame that wants to know. */
  solicit(device: NetDevice, ip: Ip, mac: Mac | undefined, waiting: Frame | undefined): void;
}

export class NeighborTable implements FrameHolder {
  readonly #stack: NeighborStack;
  readonly #resolution: AddressResolution;
  /** Made for the first neighbor, as are the lists: there are as many tables as pods. */
  #records: NeighborRecords | undefined;
  /** By index. */
  #devices: (NetDevice | undefined)[] | undefined;
  /** By record; most have none. */
  #inquiries: (Inquiry | undefined)[] | undefined;
  /** net.ipv4.neigh.*, net.ipv6.neigh.* */
  readonly settings = new NeighborSettingsOfDevices();
  readonly #random: RandomStream;
  readonly #reachableDraw: Reserved;
  #waiting = 0;
  /** Made for the first timer that fires. */
  #onTimer: ((inquiry: Inquiry) => void) | undefined;

  constructor(stack: NeighborStack, resolution: AddressResolution, random: RandomStream) {
    this.#stack = stack;
    this.#resolution = resolution;
    this.#random = random;
    this.#reachableDraw = random.reserve();
    stack.frames.addHolder(this);
  }

  get holderName(): string {
    return `neighbor queue of ${this.#stack.name}`;
  }

  /** Nobody has been asked for, or entered: there is nobody of whom news could be. */
  get isEmpty(): boolean {
    return this.#records === undefined;
  }

  get heldFrames(): number {
    return this.#waiting;
  }

  /** Fills in the MACs and sends the frame out of `device`, now or when the next hop has answered. */
  output(frame: Frame, device: NetDevice, nextHop: Ip): void {
    const record = this.#find(device, nextHop) ?? this.#add(device, nextHop);
    if (this.#usable(record)) return transmitTo(device, frame, this.#records!.macOf(record));
    this.#wait(record, { frame, go: (resolved, mac) => transmitTo(device, resolved, mac) });
  }

  /** Calls `go` with the MAC of `nextHop`, now or later; the frame waits here, or ends if nobody answers. */
  resolve(frame: Frame, device: NetDevice, nextHop: Ip, go: Continuation): void {
    const record = this.#find(device, nextHop) ?? this.#add(device, nextHop);
    if (this.#usable(record)) return go(frame, this.#records!.macOf(record));
    this.#wait(record, { frame, go });
  }

  /** The MAC behind `ip` if it is known and usable now. */
  known(device: NetDevice, ip: Ip): Mac | undefined {
    const record = this.#find(device, ip);
    return record === undefined || !this.#isValid(record) ? undefined : this.#records!.macOf(record);
  }

  /** `ip neigh replace IP lladdr MAC dev DEVICE nud permanent`. */
  addPermanent(device: NetDevice, ip: Ip, mac: Mac): void {
    const record = this.#find(device, ip) ?? this.#add(device, ip);
    const records = this.#records!;
    records.setMac(record, mac);
    records.setState(record, 'PERMANENT');
    this.#stack.cpus.forgetWays();
    this.#settle(record);
  }

  /**
   * Somebody said where `ip` is, or (without a MAC) that it is where it was. Without `create` only an entry that is there
   * hears it; without `isOverride` another MAC than the known one only casts doubt on that (neigh_update).
   */
  learn(device: NetDevice, { ip, mac, state, create, isOverride = true, respectsLock = false }: NeighborNews): void {
    const record = this.#find(device, ip) ?? (create ? this.#add(device, ip) : undefined);
    if (record === undefined) return;
    const records = this.#records!;
    const before = records.stateOf(record);
    if (before === 'PERMANENT') return;
    const isValid = this.#isValid(record);
    if (mac === undefined && !isValid) return;
    const isKnown = mac === undefined || records.macOf(record) === mac;
    // An unsolicited hint with the MAC we have proves nothing new.
    if (state === 'STALE' && isValid && isKnown) return;
    if (respectsLock && isValid && !isKnown && this.#isLocked(record, device)) return;
    this.#stack.cpus.forgetWays();
    if (isValid && !isKnown && !isOverride) {
      if (before === 'REACHABLE') records.setState(record, 'STALE');
      return;
    }
    if (mac !== undefined) records.setMac(record, mac);
    records.setState(record, state);
    records.confirm(record, this.#stack.cpus.instant);
    this.#settle(record);
  }

  #isValid(record: number): boolean {
    const state = this.#records!.stateOf(record);
    return state !== 'INCOMPLETE' && state !== 'FAILED';
  }

  /** Of several answers right after each other, as proxies give them, the first counts. */
  #isLocked(record: number, device: NetDevice): boolean {
    const since = this.#stack.cpus.instant - this.#records!.confirmedAt(record);
    return since <= ms(10 * this.settings.of(device).locktime);
  }

  /** The device goes, and with it what is known of its link; frames that wait for somebody there end. */
  removeDevice(device: NetDevice): void {
    const records = this.#records;
    if (records === undefined || this.#devices![device.index] === undefined) return;
    for (let record = 0; record < records.count; record++) {
      if (records.deviceOf(record) !== device.index) continue;
      this.#inquiries![record]?.timer.stop();
      this.#fail(record);
    }
    this.#devices![device.index] = undefined;
    this.#inquiries = records.removeDevice(device.index).map((before, record) => {
      const inquiry = this.#inquiries![before];
      if (inquiry !== undefined) inquiry.record = record;
      return inquiry;
    });
  }

  /** Entries as `ip neigh` lists them: without those that are not asked for, those of one device side by side. */
  *[Symbol.iterator](): Generator<Neighbor> {
    const records = this.#records;
    if (records === undefined) return;
    const all = Array.from({ length: records.count }, (_, record) => record);
    for (const index of new Set(all.map((record) => records.deviceOf(record)))) {
      for (const record of all.filter((each) => records.deviceOf(each) === index)) {
        const device = this.#deviceOf(record);
        this.#age(record, device);
        const state = records.stateOf(record);
        if (state !== 'NOARP') yield { ip: records.ipOf(record), device, state, mac: records.macOf(record) };
      }
    }
  }

  #find(device: NetDevice, ip: Ip): number | undefined {
    const record = this.#records === undefined ? NO_RECORD : this.#records.find(device.index, ip);
    return record === NO_RECORD ? undefined : record;
  }

  #add(device: NetDevice, ip: Ip): number {
    const { cpus } = this.#stack;
    cpus.hasNeighbors = true;
    this.#records ??= new NeighborRecords(cpus.numbers);
    this.#devices ??= [];
    this.#inquiries ??= [];
    this.#devices[device.index] = device;
    this.#inquiries.push(undefined);
    const record = this.#records.add(device.index, ip);
    const mac = device.linkAddressOf(ip);
    if (mac !== undefined) {
      this.#records.setMac(record, mac);
      this.#records.setState(record, 'NOARP'); // arp_constructor
    }
    return record;
  }

  #deviceOf(record: number): NetDevice {
    return this.#devices![this.#records!.deviceOf(record)]!;
  }

  #inquiryOf(record: number): Inquiry {
    let inquiry = this.#inquiries![record];
    if (inquiry === undefined) {
      const device = this.#deviceOf(record);
      const timer = new Timer(device.cpus.place, () => this.#expired(made));
      const made: Inquiry = { device, timer, record, waiting: [], waitingBytes: 0 };
      this.#inquiries![record] = inquiry = made;
    }
    return inquiry;
  }

  /** Can a frame be sent with what is known? Using a STALE entry starts its verification. */
  #usable(record: number): boolean {
    const records = this.#records!;
    if (records.stateOf(record) === 'REACHABLE') this.#age(record, this.#deviceOf(record));
    switch (records.stateOf(record)) {
      case 'REACHABLE': {
        const { recorder } = this.#stack.frames;
        if (recorder.isRecording)
          recorder.holdsUntil(after(records.confirmedAt(record), this.#reachableTime(this.#deviceOf(record))));
        return true;
      }
      case 'PERMANENT':
      case 'NOARP':
      case 'DELAY':
      case 'PROBE':
        return true;
      case 'STALE':
        records.setState(record, 'DELAY');
        this.#startTimer(record, s(this.settings.of(this.#deviceOf(record)).delay_first_probe_time));
        return true;
      case 'INCOMPLETE':
      case 'FAILED':
        return false;
    }
  }

  #wait(record: number, waiting: WaitingFrame): void {
    this.#enqueue(this.#inquiryOf(record), waiting);
    const records = this.#records!;
    if (records.stateOf(record) === 'INCOMPLETE') return;
    records.setState(record, 'INCOMPLETE');
    records.setProbes(record, 0);
    this.#probe(record);
  }

  #age(record: number, device: NetDevice): void {
    const records = this.#records!;
    if (records.stateOf(record) !== 'REACHABLE') return;
    if (this.#stack.cpus.instant - records.confirmedAt(record) > this.#reachableTime(device))
      records.setState(record, 'STALE');
  }

  #reachableTime(device: NetDevice): Duration {
    // Drawn between half and one and a half of the base, as RFC 4861 asks; the kernel redraws every five minutes.
    const fraction = 0.5 + this.#random.reserved(this.#reachableDraw);
    return ms(this.settings.of(device).base_reachable_time_ms * fraction);
  }

  #enqueue(inquiry: Inquiry, waiting: WaitingFrame): void {
    const { device, record } = inquiry;
    const size = truesizeBytes(waiting.frame.sizeBytes);
    const { unres_qlen_bytes } = this.settings.of(device);
    while (inquiry.waitingBytes + size > unres_qlen_bytes && inquiry.waiting.length > 0) {
      const oldest = inquiry.waiting.shift()!;
      inquiry.waitingBytes -= truesizeBytes(oldest.frame.sizeBytes);
      this.#waiting--;
      this.#drop(oldest.frame, 'NEIGH_QUEUEFULL');
    }
    this.#note(waiting.frame, device, `waits for the MAC of ${this.#textOf(record)}`);
    inquiry.waiting.push(waiting);
    inquiry.waitingBytes += size;
    this.#waiting++;
  }

  /** The neighbor is known: nothing is under way any more, and what has waited goes. */
  #settle(record: number): void {
    const inquiry = this.#inquiries![record];
    if (inquiry === undefined) return;
    this.#inquiries![record] = undefined;
    inquiry.timer.stop();
    const { device, waiting } = inquiry;
    this.#waiting -= waiting.length;
    const mac = this.#records!.macOf(record);
    const text = waiting.length === 0 ? '' : `${this.#textOf(record)} is at ${formatMac(mac)}`;
    for (const { frame, go } of waiting) {
      this.#note(frame, device, text);
      go(frame, mac);
    }
  }

  #textOf(record: number): string {
    return formatIp(this.#records!.ipOf(record), this.#resolution.family);
  }

  #note(frame: Frame, device: NetDevice, text: string): void {
    const { cpus, name: namespace } = this.#stack;
    frame.journey?.add({ at: cpus.instant, namespace, stage: 'neighbor', device: device.name, text });
  }

  /** A timer has fired; what follows is work for a CPU. */
  #expired(inquiry: Inquiry): void {
    this.#onTimer ??= (expired) => this.#lookAfter(expired);
    this.#stack.cpus.submit(0, this.#onTimer, inquiry);
  }

  #lookAfter(inquiry: Inquiry): void {
    const { record, timer, device } = inquiry;
    // Settled, or restarted, while it waited for the CPU.
    if (this.#inquiries![record] !== inquiry || timer.armed) return;
    const records = this.#records!;
    const { ucast_solicit, mcast_solicit } = this.settings.of(device);
    switch (records.stateOf(record)) {
      case 'DELAY':
        records.setState(record, 'PROBE');
        records.setProbes(record, 0);
        return this.#probe(record);
      case 'PROBE':
        return records.probesOf(record) < ucast_solicit ? this.#probe(record) : this.#fail(record);
      case 'INCOMPLETE':
        return records.probesOf(record) < mcast_solicit ? this.#probe(record) : this.#fail(record);
      case 'REACHABLE':
      case 'STALE':
      case 'FAILED':
      case 'PERMANENT':
      case 'NOARP':
        return;
    }
  }

  #probe(record: number): void {
    const records = this.#records!;
    const { device, waiting } = this.#inquiryOf(record);
    records.setProbes(record, records.probesOf(record) + 1);
    this.#startTimer(record, ms(this.settings.of(device).retrans_time_ms));
    const mac = records.stateOf(record) === 'PROBE' ? records.macOf(record) : undefined;
    this.#resolution.solicit(device, records.ipOf(record), mac, waiting.at(-1)?.frame);
  }

  #startTimer(record: number, delay: Duration): void {
    const { instant } = this.#stack.cpus;
    this.#inquiryOf(record).timer.startAt(after(instant, timerDelay(instant, delay)));
  }

  #fail(record: number): void {
    this.#records!.setState(record, 'FAILED');
    this.#stack.cpus.forgetWays();
    const lost = this.#inquiries![record]?.waiting ?? [];
    this.#inquiries![record] = undefined;
    this.#waiting -= lost.length;
    for (const { frame } of lost) this.#stack.unreachable(frame);
  }

  #drop(frame: Frame, reason: 'NEIGH_QUEUEFULL'): void {
    this.#stack.frames.drop(frame, reason, this.#stack.cpus.instant, this.#stack.name);
  }
}

function transmitTo(device: NetDevice, frame: Frame, mac: Mac): void {
  frame.srcMac = device.mac;
  frame.dstMac = mac;
  device.transmit(frame);
}
