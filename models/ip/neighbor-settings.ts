// net.{ipv4,ipv6}.neigh.* of one network namespace and family, under the kernel's own names: a set of values for devices
// to come, and one for each device.

import type { DeviceRef } from '../packet/frame.ts';

/** Defaults of Linux 6.18. */
export class NeighborSettings {
  /** Milliseconds for which an answer is believed, on average: each table draws between half and one and a half. */
  base_reachable_time_ms = 30_000;
  /** Seconds between the use of a stale entry and the first question whether it still holds. */
  delay_first_probe_time = 5;
  /** Milliseconds between questions. */
  retrans_time_ms = 1_000;
  /** Questions to everybody, and to the one who had the address, before giving up. */
  mcast_solicit = 3;
  ucast_solicit = 3;
  /** Memory of the frames that wait for one answer, in bytes of truesize. */
  unres_qlen_bytes = 212_992;
  /** Hundredths of a second in which an answer is not replaced by another one's. */
  locktime = 100;
  /** Proxy ARP: the longest wait before an answer for somebody else, in hundredths of a second; and how many may wait. */
  proxy_delay = 80;
  proxy_qlen = 64;
}

export type NeighborSetting = keyof NeighborSettings;

export const NEIGHBOR_SETTINGS = Object.keys(new NeighborSettings()) as readonly NeighborSetting[];

const DEFAULTS: Readonly<NeighborSettings> = new NeighborSettings();

export class NeighborSettingsOfDevices {
  /** Sets are never changed, but replaced: nearly all devices of a cluster share one. */
  #default = DEFAULTS;
  /** By device index; undefined: those of Linux. */
  #own: (Readonly<NeighborSettings> | undefined)[] | undefined;
  #devices: readonly DeviceRef[] = [];

  of(device: DeviceRef): Readonly<NeighborSettings> {
    return this.#own?.[device.index] ?? DEFAULTS;
  }

  /** A new device starts with the values of `default`. `devices`: all that there are then. */
  addDevice(device: DeviceRef, devices: readonly DeviceRef[]): void {
    this.#devices = devices;
    if (this.#default !== DEFAULTS) this.#setOwn(device, this.#default);
  }

  removeDevice(device: DeviceRef, devices: readonly DeviceRef[]): void {
    this.#devices = devices;
    if (this.#own !== undefined) this.#own[device.index] = undefined;
  }

  /** `scope`: default, or the name of a device. Undefined for another name. */
  read(scope: string, setting: NeighborSetting): number | undefined {
    return this.#set(scope)?.[setting];
  }

  /** False: there is no such device. */
  write(scope: string, setting: NeighborSetting, value: number): boolean {
    const set = this.#set(scope);
    if (set === undefined) return false;
    const written = { ...set, [setting]: value };
    if (scope === 'default') this.#default = written;
    else this.#setOwn(this.#named(scope)!, written);
    return true;
  }

  #set(scope: string): Readonly<NeighborSettings> | undefined {
    if (scope === 'default') return this.#default;
    const device = this.#named(scope);
    return device === undefined ? undefined : this.of(device);
  }

  #setOwn({ index }: DeviceRef, settings: Readonly<NeighborSettings>): void {
    this.#own ??= [];
    this.#own[index] = settings;
  }

  #named(name: string): DeviceRef | undefined {
    return this.#devices.find((device) => device.name === name);
  }
}
