// The neighbor table of one network namespace and family: which MAC stands behind a next hop. The kernel's states and
// timings (NUD); how an address is asked for is ARP's business (arp.ts) or neighbor discovery's.
//
// A REACHABLE entry that nobody confirmed for its reachable time counts as STALE when it is next used (the kernel's
// timer does the same, only earlier). Not modelled: garbage collection by gc_thresh.

import type { RandomStream, Reserved } from '../../engine/random.ts';
import { after, type Duration, type Instant, ms, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { CpuSet } from '../cpu/cpu-set.ts';
import type { NetDevice } from '../link/net-device.ts';
import type { Frame } from '../packet/frame.ts';
import type { FrameHolder, FrameStore } from '../packet/frame-store.ts';
import { formatIp, type Ip, type IpFamily } from '../packet/ip-address.ts';
import { BROADCAST_MAC, formatMac, type Mac } from '../packet/mac.ts';
import { truesizeBytes } from '../packet/truesize.ts';
import { timerDelay } from './kernel-timer.ts';
import { NeighborSettingsOfDevices } from './neighbor-settings.ts';

export type NeighborState = 'INCOMPLETE' | 'REACHABLE' | 'STALE' | 'DELAY' | 'PROBE' | 'FAILED' | 'PERMANENT' | 'NOARP';

/** How a frame goes on once the MAC is known. */
type Continuation = (frame: Frame, mac: Mac) => void;

interface WaitingFrame {
  readonly frame: Frame;
  readonly go: Continuation;
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
  #byDevice: Map<NetDevice, Map<Ip, Entry>> | undefined;
  /** net.ipv4.neigh.*, net.ipv6.neigh.* */
  readonly settings = new NeighborSettingsOfDevices();
  readonly #random: RandomStream;
  readonly #reachableDraw: Reserved;
  #waiting = 0;
  #latest: Entry | undefined;
  /** Made for the first timer that fires. */
  #onTimer: ((entry: Entry) => void) | undefined;

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
    return this.#byDevice === undefined;
  }

  get heldFrames(): number {
    return this.#waiting;
  }

  /** Fills in the MACs and sends the frame out of `device`, now or when the next hop has answered. */
  output(frame: Frame, device: NetDevice, nextHop: Ip): void {
    const entry = this.#entry(device, nextHop);
    if (this.#usable(entry)) return transmitTo(device, frame, entry.mac);
    this.#wait(entry, { frame, go: (resolved, mac) => transmitTo(device, resolved, mac) });
  }

  /** Calls `go` with the MAC of `nextHop`, now or later; the frame waits here, or ends if nobody answers. */
  resolve(frame: Frame, device: NetDevice, nextHop: Ip, go: Continuation): void {
    const entry = this.#entry(device, nextHop);
    if (this.#usable(entry)) return go(frame, entry.mac);
    this.#wait(entry, { frame, go });
  }

  /** The MAC behind `ip` if it is known and usable now. */
  known(device: NetDevice, ip: Ip): Mac | undefined {
    const entry = this.#byDevice?.get(device)?.get(ip);
    return entry === undefined || entry.state === 'INCOMPLETE' || entry.state === 'FAILED' ? undefined : entry.mac;
  }

  /** `ip neigh replace IP lladdr MAC dev DEVICE nud permanent`. */
  addPermanent(device: NetDevice, ip: Ip, mac: Mac): void {
    const entry = this.#entry(device, ip);
    entry.timer.stop();
    entry.mac = mac;
    entry.state = 'PERMANENT';
    this.#stack.cpus.forgetWays();
    this.#flush(entry);
  }

  /**
   * Somebody said where `ip` is, or (without a MAC) that it is where it was. Without `create` only an entry that is there
   * hears it; without `isOverride` another MAC than the known one only casts doubt on that (neigh_update).
   */
  learn(device: NetDevice, { ip, mac, state, create, isOverride = true, respectsLock = false }: NeighborNews): void {
    const entry = this.#byDevice?.get(device)?.get(ip) ?? (create ? this.#entry(device, ip) : undefined);
    if (entry === undefined || entry.state === 'PERMANENT') return;
    const isValid = entry.state !== 'INCOMPLETE' && entry.state !== 'FAILED';
    if (mac === undefined && !isValid) return;
    const isKnown = mac === undefined || entry.mac === mac;
    // An unsolicited hint with the MAC we have proves nothing new.
    if (state === 'STALE' && isValid && isKnown) return;
    if (respectsLock && isValid && !isKnown && this.#isLocked(entry)) return;
    this.#stack.cpus.forgetWays();
    if (isValid && !isKnown && !isOverride) {
      if (entry.state === 'REACHABLE') entry.state = 'STALE';
      return;
    }
    entry.timer.stop();
    if (mac !== undefined) entry.mac = mac;
    entry.state = state;
    entry.confirmedAt = this.#stack.cpus.instant;
    this.#flush(entry);
  }

  /** Of several answers right after each other, as proxies give them, the first counts. */
  #isLocked({ device, confirmedAt }: Entry): boolean {
    return this.#stack.cpus.instant - confirmedAt <= ms(10 * this.settings.of(device).locktime);
  }

  /** The device goes, and with it what is known of its link; frames that wait for somebody there end. */
  removeDevice(device: NetDevice): void {
    for (const entry of this.#byDevice?.get(device)?.values() ?? []) {
      entry.timer.stop();
      this.#fail(entry);
    }
    this.#byDevice?.delete(device);
    if (this.#latest?.device === device) this.#latest = undefined;
  }

  /** Entries as `ip neigh` lists them: without those that are not asked for. */
  *[Symbol.iterator](): Generator<Neighbor> {
    for (const entries of this.#byDevice?.values() ?? []) {
      for (const entry of entries.values()) {
        this.#age(entry);
        if (entry.state !== 'NOARP') yield entry;
      }
    }
  }

  #entry(device: NetDevice, ip: Ip): Entry {
    // A pod has one next hop, and packets of a flow follow each other.
    const latest = this.#latest;
    if (latest !== undefined && latest.ip === ip && latest.device === device) return latest;
    this.#byDevice ??= new Map();
    let entries = this.#byDevice.get(device);
    if (entries === undefined) this.#byDevice.set(device, (entries = new Map()));
    let entry = entries.get(ip);
    if (entry === undefined) {
      const made = new Entry(ip, device, new Timer(device.cpus.place, () => this.#expired(made)));
      entries.set(ip, (entry = made));
      const mac = device.linkAddressOf(ip);
      if (mac !== undefined) {
        made.mac = mac;
        made.state = 'NOARP'; // arp_constructor
      }
    }
    this.#latest = entry;
    return entry;
  }

  /** Can a frame be sent with what is known? Using a STALE entry starts its verification. */
  #usable(entry: Entry): boolean {
    this.#age(entry);
    switch (entry.state) {
      case 'REACHABLE': {
        const { recorder } = this.#stack.frames;
        if (recorder.isRecording) recorder.holdsUntil(after(entry.confirmedAt, this.#reachableTime(entry)));
        return true;
      }
      case 'PERMANENT':
      case 'NOARP':
      case 'DELAY':
      case 'PROBE':
        return true;
      case 'STALE':
        entry.state = 'DELAY';
        this.#startTimer(entry, s(this.settings.of(entry.device).delay_first_probe_time));
        return true;
      case 'INCOMPLETE':
      case 'FAILED':
        return false;
    }
  }

  #wait(entry: Entry, waiting: WaitingFrame): void {
    this.#enqueue(entry, waiting);
    if (entry.state === 'INCOMPLETE') return;
    entry.state = 'INCOMPLETE';
    entry.probes = 0;
    this.#probe(entry);
  }

  #age(entry: Entry): void {
    if (entry.state !== 'REACHABLE') return;
    if (this.#stack.cpus.instant - entry.confirmedAt > this.#reachableTime(entry)) entry.state = 'STALE';
  }

  #reachableTime({ device }: Entry): Duration {
    // Drawn between half and one and a half of the base, as RFC 4861 asks; the kernel redraws every five minutes.
    const fraction = 0.5 + this.#random.reserved(this.#reachableDraw);
    return ms(this.settings.of(device).base_reachable_time_ms * fraction);
  }

  #enqueue(entry: Entry, waiting: WaitingFrame): void {
    const size = truesizeBytes(waiting.frame.sizeBytes);
    const { unres_qlen_bytes } = this.settings.of(entry.device);
    while (entry.waitingBytes + size > unres_qlen_bytes && entry.waiting.length > 0) {
      const oldest = entry.waiting.shift()!;
      entry.waitingBytes -= truesizeBytes(oldest.frame.sizeBytes);
      this.#waiting--;
      this.#drop(oldest.frame, 'NEIGH_QUEUEFULL');
    }
    waiting.frame.journey?.add({
      at: this.#stack.cpus.instant,
      namespace: this.#stack.name,
      stage: 'neighbor',
      device: entry.device.name,
      text: `waits for the MAC of ${formatIp(entry.ip, this.#resolution.family)}`,
    });
    entry.waiting.push(waiting);
    entry.waitingBytes += size;
    this.#waiting++;
  }

  #flush(entry: Entry): void {
    const ready = entry.waiting;
    entry.waiting = [];
    entry.waitingBytes = 0;
    this.#waiting -= ready.length;
    for (const { frame, go } of ready) {
      frame.journey?.add({
        at: this.#stack.cpus.instant,
        namespace: this.#stack.name,
        stage: 'neighbor',
        device: entry.device.name,
        text: `${formatIp(entry.ip, this.#resolution.family)} is at ${formatMac(entry.mac)}`,
      });
      go(frame, entry.mac);
    }
  }

  /** The timer of an entry has fired; what follows is work for a CPU. */
  #expired(entry: Entry): void {
    this.#onTimer ??= (expired) => this.#lookAfter(expired);
    this.#stack.cpus.submit(0, this.#onTimer, entry);
  }

  #lookAfter(entry: Entry): void {
    if (entry.timer.armed) return; // restarted while it waited for the CPU
    switch (entry.state) {
      case 'DELAY':
        entry.state = 'PROBE';
        entry.probes = 0;
        return this.#probe(entry);
      case 'PROBE':
        return entry.probes < this.settings.of(entry.device).ucast_solicit ? this.#probe(entry) : this.#fail(entry);
      case 'INCOMPLETE':
        return entry.probes < this.settings.of(entry.device).mcast_solicit ? this.#probe(entry) : this.#fail(entry);
      case 'REACHABLE':
      case 'STALE':
      case 'FAILED':
      case 'PERMANENT':
      case 'NOARP':
        return;
    }
  }

  #probe(entry: Entry): void {
    entry.probes++;
    this.#startTimer(entry, ms(this.settings.of(entry.device).retrans_time_ms));
    const mac = entry.state === 'PROBE' ? entry.mac : undefined;
    this.#resolution.solicit(entry.device, entry.ip, mac, entry.waiting.at(-1)?.frame);
  }

  #startTimer(entry: Entry, delay: Duration): void {
    entry.timer.startAt(after(this.#stack.cpus.instant, timerDelay(this.#stack.cpus.instant, delay)));
  }

  #fail(entry: Entry): void {
    entry.state = 'FAILED';
    this.#stack.cpus.forgetWays();
    const lost = entry.waiting;
    entry.waiting = [];
    entry.waitingBytes = 0;
    this.#waiting -= lost.length;
    for (const { frame } of lost) this.#stack.unreachable(frame);
  }

  #drop(frame: Frame, reason: 'NEIGH_QUEUEFULL'): void {
    this.#stack.frames.drop(frame, reason, this.#stack.cpus.instant, this.#stack.name);
  }
}

class Entry implements Neighbor {
  state: NeighborState = 'FAILED'; // nothing known and nothing asked yet: the first use starts to ask
  mac: Mac = BROADCAST_MAC;
  probes = 0;
  confirmedAt = 0 as Instant;
  waiting: WaitingFrame[] = [];
  waitingBytes = 0;

  constructor(
    readonly ip: Ip,
    readonly device: NetDevice,
    readonly timer: Timer,
  ) {}
}

function transmitTo(device: NetDevice, frame: Frame, mac: Mac): void {
  frame.srcMac = device.mac;
  frame.dstMac = mac;
  device.transmit(frame);
}
