// net.ipv4.* of one network namespace, under the kernel's own names: values for the whole namespace, and three kinds of
// sets of values about devices: one for all devices, one for devices to come, and one for each device. What a device
// does is combined from its own set and the one for all, every value in its own way (include/linux/inetdevice.h).

import type { DeviceRef } from '../packet/frame.ts';

/** net.ipv4.conf.*, with the defaults of Linux 6.18. Never changed, but replaced: most devices of a cluster share one. */
export class DeviceSettings {
  /** Are packets from other hosts believed that say they come from an address of this one? */
  accept_local = 0;
  /** Source of ARP requests: 0 any own address, 1 one in the target's subnet, 2 the device's best. */
  arp_announce = 0;
  /** Which own addresses are answered for: 0 all, 1 the device's, 2 the device's in the asker's subnet, 8 none. */
  arp_ignore = 0;
  /** Are packets that came in by the device sent on? */
  forwarding = 0;
  /** Are ARP requests answered for addresses that are routed elsewhere? */
  proxy_arp = 0;
  /** May 127.0.0.0/8 come in by other devices than lo, and leave by them? */
  route_localnet = 0;
  /** Reverse path: 0 ignored, 1 the way back must be this device, 2 there must be a way back. */
  rp_filter = 0;
  /** Are senders told of a shorter way (ICMP redirect)? */
  send_redirects = 1;
}

export type DeviceSetting = keyof DeviceSettings;

/** How the set for all devices and the device's own make what holds: IN_DEV_MAXCONF, IN_DEV_ORCONF, IN_DEV_CONF_GET. */
const COMBINED: Readonly<Record<DeviceSetting, (all: number, own: number) => number>> = {
  accept_local: (all, own) => all | own,
  arp_announce: Math.max,
  arp_ignore: Math.max,
  forwarding: (_all, own) => own,
  proxy_arp: (all, own) => all | own,
  route_localnet: (all, own) => all | own,
  rp_filter: Math.max,
  send_redirects: (all, own) => all | own,
};

export const DEVICE_SETTINGS = Object.keys(COMBINED) as readonly DeviceSetting[];

/** Other net.ipv4.*, of the whole namespace. Never changed, but replaced, too. */
export class HostSettings {
  /** net.ipv4.ip_default_ttl */
  ip_default_ttl = 64;
  /** net.ipv4.icmp_ratelimit: milliseconds between ICMP errors to one destination; 0 for no limit. */
  icmp_ratelimit = 1_000;
  /** net.ipv4.icmp_ratemask: bit n set: ICMP type n is limited. Unreachable, source quench, time exceeded, parameter. */
  icmp_ratemask = 6_168;
  /** net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst, of all limited messages together. */
  icmp_msgs_per_sec = 1_000;
  icmp_msgs_burst = 50;
  /** net.ipv4.icmp_echo_ignore_all, icmp_echo_ignore_broadcasts: which echo requests are not answered. */
  icmp_echo_ignore_all = 0;
  icmp_echo_ignore_broadcasts = 1;
  /** net.ipv4.icmp_errors_use_inbound_ifaddr: errors come from the device that the packet came in by. */
  icmp_errors_use_inbound_ifaddr = 0;
  /** net.ipv4.ipfrag_time: seconds for which a fragment waits for the others; ipfrag_high_thresh: bytes that may wait. */
  ipfrag_time = 30;
  ipfrag_high_thresh = 4_194_304;
  /** net.ipv4.ip_no_pmtu_disc: packets of this host leave without DF, and what routers say of MTUs is not heard. */
  ip_no_pmtu_disc = 0;
  /** net.ipv4.ip_forward_use_pmtu: what routers said holds for forwarded packets too. */
  ip_forward_use_pmtu = 0;
  /** net.ipv4.route.mtu_expires: seconds for which a path MTU is believed; min_pmtu: the smallest that is, in bytes. */
  mtu_expires = 600;
  min_pmtu = 552;
  /** net.ipv4.route.*: answers to packets without a route, and redirects; ticks of 4 ms. */
  error_cost = 250;
  error_burst = 1_250;
  redirect_load = 5;
  redirect_number = 9;
  redirect_silence = 5_120;
}

const HOST_DEFAULTS: Readonly<HostSettings> = new HostSettings();

export class Ipv4Settings {
  #host = HOST_DEFAULTS;
  #all = DEFAULTS;
  #default = DEFAULTS;
  /** By device index. Lists are replaced, and one list if both are the same, as they are in nearly all pods. */
  #own: SettingsList = NO_DEVICES;
  #effective: SettingsList = this.#own;
  /** net.ipv4.conf.lo and the like: the devices that there are, by name. */
  #devices: readonly DeviceRef[] = [];

  get host(): Readonly<HostSettings> {
    return this.#host;
  }

  writeHost(setting: keyof HostSettings, value: number): void {
    this.#host = Object.assign(new HostSettings(), this.#host, { [setting]: value });
  }

  /** What holds for a device; read with every packet. */
  of(device: DeviceRef): DeviceSettings {
    return this.#effective[device.index]!;
  }

  /** A new device starts with the values of `conf.default`. `devices`: all that there are then. */
  addDevice(device: DeviceRef, devices: readonly DeviceRef[]): void {
    this.#devices = devices;
    this.#own = extended(this.#own, device.index, this.#default);
    this.#combine();
  }

  removeDevice(device: DeviceRef, devices: readonly DeviceRef[]): void {
    this.#devices = devices;
    this.#own = withElement(this.#own, device.index, undefined);
    this.#combine();
  }

  get deviceNames(): string[] {
    return this.#devices.map(({ name }) => name);
  }

  /** `scope`: all, default, or the name of a device. Undefined for another name. */
  read(scope: string, setting: DeviceSetting): number | undefined {
    return this.#set(scope)?.[setting];
  }

  /** False: there is no such device. */
  write(scope: string, setting: DeviceSetting, value: number): boolean {
    const set = this.#set(scope);
    if (set === undefined) return false;
    const written = withValue(set, setting, value);
    if (scope === 'all') this.#all = written;
    else if (scope === 'default') this.#default = written;
    else this.#own = withElement(this.#own, this.#named(scope)!.index, written);
    // inet_forward_change: whoever makes the host a router means all of its devices, and those to come.
    if (setting === 'forwarding' && scope === 'all') {
      this.#default = withValue(this.#default, setting, value);
      const own = this.#own.map((each) => each && withValue(each, setting, value));
      if (own.some((each, i) => each !== this.#own[i])) this.#own = own; // else the list that others have, too
    }
    this.#combine();
    return true;
  }

  #set(scope: string): DeviceSettings | undefined {
    if (scope === 'all') return this.#all;
    if (scope === 'default') return this.#default;
    const device = this.#named(scope);
    return device === undefined ? undefined : this.#own[device.index];
  }

  #named(name: string): DeviceRef | undefined {
    return this.#devices.find((device) => device.name === name);
  }

  #combine(): void {
    const isSame = this.#own.every((own) => own === undefined || combined(this.#all, own) === own);
    this.#effective = isSame ? this.#own : this.#own.map((own) => own && combined(this.#all, own));
  }
}

type SettingsList = readonly (DeviceSettings | undefined)[];

const NO_DEVICES: SettingsList = [];

interface Extension {
  readonly before: SettingsList;
  readonly element: DeviceSettings;
  readonly after: SettingsList;
}

/** By device index. */
const latestExtensions: (Extension | undefined)[] = [];

/** One pod after another gets the same devices with the same settings: they have one list. */
function extended(before: SettingsList, index: number, element: DeviceSettings): SettingsList {
  const latest = latestExtensions[index];
  if (latest?.before === before && latest.element === element) return latest.after;
  const after = withElement(before, index, element);
  latestExtensions[index] = { before, element, after };
  return after;
}

/** A copy that has just the room that it needs. */
function withElement(list: SettingsList, index: number, element: DeviceSettings | undefined): SettingsList {
  const copy: (DeviceSettings | undefined)[] = new Array(Math.max(list.length, index + 1)).fill(undefined);
  for (let i = 0; i < list.length; i++) copy[i] = list[i];
  copy[index] = element;
  return copy;
}

/** By their values: whoever has the same has the same object. */
const known = new Map<string, DeviceSettings>();

const DEFAULTS: Readonly<DeviceSettings> = shared(new DeviceSettings());

function shared(settings: DeviceSettings): DeviceSettings {
  const key = DEVICE_SETTINGS.map((setting) => settings[setting]).join();
  const same = known.get(key);
  if (same === undefined) known.set(key, settings);
  return same ?? settings;
}

const withValue = (settings: DeviceSettings, setting: DeviceSetting, value: number): DeviceSettings =>
  settings[setting] === value ? settings : shared(Object.assign(new DeviceSettings(), settings, { [setting]: value }));

/** By `all`, then by what is the device's own: there are as few as there are different settings. */
const knownCombinations = new Map<DeviceSettings, Map<DeviceSettings, DeviceSettings>>();

function combined(all: DeviceSettings, own: DeviceSettings): DeviceSettings {
  let ofAll = knownCombinations.get(all);
  if (ofAll === undefined) knownCombinations.set(all, (ofAll = new Map()));
  let effective = ofAll.get(own);
  if (effective === undefined) {
    effective = new DeviceSettings();
    for (const setting of DEVICE_SETTINGS) effective[setting] = COMBINED[setting](all[setting], own[setting]);
    ofAll.set(own, (effective = shared(effective)));
  }
  return effective;
}
