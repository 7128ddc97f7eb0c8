// sysctl(8) of one network namespace: the settings that are modelled, by their Linux names, each with the values that it
// takes. Writing a name that is not modelled is an error, because it would have no effect.

import { type Duration, inSeconds, s } from '../../engine/time.ts';
import { IcmpTypes } from '../ip/icmp-types.ts';
import { DEVICE_SETTINGS, type DeviceSetting, type HostSettings, type Ipv4Settings } from '../ip/ipv4-settings.ts';
import { Ipv6Settings } from '../ip/ipv6-settings.ts';
import { NEIGHBOR_SETTINGS, type NeighborSetting } from '../ip/neighbor-settings.ts';
import type { IpStack } from '../ip/stack.ts';
import { CONNTRACK_DEFAULTS, type ConntrackSettings } from '../netfilter/conntrack.ts';
import type { Netfilter } from '../netfilter/netfilter.ts';
import type { BridgeCalls } from './bridge-netfilter.ts';

/** What sysctls set, beside the IP stack's own settings. */
export interface SysctlOwner {
  readonly name: string;
  readonly stack: IpStack;
  readonly netfilter: Netfilter | undefined;
  enableNetfilter(): Netfilter;
  bridgeCalls: BridgeCalls;
}

export class Sysctls {
  readonly #owner: SysctlOwner;
  readonly #variables: ReadonlyMap<string, Variable>;
  readonly #lists: ReadonlyMap<string, ListVariable>;

  constructor(owner: SysctlOwner) {
    this.#owner = owner;
    this.#variables = variablesOf(owner);
    this.#lists = listsOf(owner);
  }

  /** `sysctl NAME`. Throws a RangeError that lists what there is when the name is unknown. */
  read(name: string): number | string {
    return this.#lists.get(name)?.read() ?? this.#find(name).read();
  }

  /** `sysctl -w NAME=VALUE`. Throws a RangeError for an unknown name, and for a value that the variable cannot have. */
  write(name: string, value: number | string): void {
    const list = this.#lists.get(name);
    if (list !== undefined) return list.write(name, String(value).trim());
    const variable = this.#find(name);
    const number = typeof value === 'number' ? value : /^-?\d+$/.test(value.trim()) ? Number(value) : Number.NaN;
    if (!(Number.isInteger(number) && number >= variable.min && number <= variable.max)) {
      throw new RangeError(`sysctl ${name}=${value}; expected an integer from ${variable.min} to ${variable.max}`);
    }
    variable.write(number);
    this.#owner.stack.cpus.forgetWays();
  }

  /** Every name, for messages; DEVICE stands for `all`, `default` and the devices. */
  get names(): string[] {
    return [
      ...this.#variables.keys(),
      ...this.#lists.keys(),
      ...DEVICE_SETTINGS.map((setting) => `net.ipv4.conf.DEVICE.${setting}`),
      ...NEIGHBOR_SETTINGS.map((setting) => `net.ipv4.neigh.DEVICE.${setting}`),
    ];
  }

  #find(name: string): Variable {
    const variable = this.#variables.get(name) ?? this.#deviceVariable(name) ?? this.#neighborVariable(name);
    if (variable !== undefined) return variable;
    throw new RangeError(`sysctl ${name} in ${this.#owner.name}; expected one of ${this.names.join(', ')}`);
  }

  /** `net.ipv4.conf.DEVICE.SETTING`; a device's name may have dots, a setting's has none. */
  #deviceVariable(name: string): Variable | undefined {
    const [, scope, setting] = /^net\.ipv4\.conf\.(.+)\.([a-z_]+)$/.exec(name) ?? [];
    if (scope === undefined || !isDeviceSetting(setting)) return undefined;
    const { settings } = this.#owner.stack;
    if (settings.read(scope, setting) === undefined) {
      const known = ['all', 'default', ...settings.deviceNames].join(', ');
      throw new RangeError(`sysctl ${name}: no device ${scope} in ${this.#owner.name}; expected one of ${known}`);
    }
    return {
      min: 0,
      max: INT_MAX,
      read: () => settings.read(scope, setting) ?? 0,
      write: (value) => settings.write(scope, setting, value),
    };
  }

  /** `net.ipv4.neigh.DEVICE.SETTING`, where DEVICE is also `default`. */
  #neighborVariable(name: string): Variable | undefined {
    const [, scope, setting] = /^net\.ipv4\.neigh\.(.+)\.([a-z_]+)$/.exec(name) ?? [];
    if (scope === undefined || !isNeighborSetting(setting)) return undefined;
    const { stack } = this.#owner;
    const { settings } = stack.neighbors;
    if (settings.read(scope, setting) === undefined) {
      const known = ['default', ...stack.settings.deviceNames].join(', ');
      throw new RangeError(`sysctl ${name}: no device ${scope} in ${this.#owner.name}; expected one of ${known}`);
    }
    return {
      min: 0,
      max: setting === 'delay_first_probe_time' ? LONGEST_TIMEOUT_S : INT_MAX,
      read: () => settings.read(scope, setting) ?? 0,
      write: (value) => settings.write(scope, setting, value),
    };
  }
}

interface Variable {
  readonly min: number;
  readonly max: number;
  readonly read: () => number;
  readonly write: (value: number) => void;
}

interface ListVariable {
  readonly read: () => string;
  readonly write: (name: string, text: string) => void;
}

const INT_MAX = 2 ** 31 - 1;
/** Timeouts are kept in jiffies, 250 to the second where this was observed, in an int. */
const LONGEST_TIMEOUT_S = Math.floor(INT_MAX / 250);

const isDeviceSetting = (name: string | undefined): name is DeviceSetting =>
  (DEVICE_SETTINGS as readonly (string | undefined)[]).includes(name);

const isNeighborSetting = (name: string | undefined): name is NeighborSetting =>
  (NEIGHBOR_SETTINGS as readonly (string | undefined)[]).includes(name);

function variablesOf(owner: SysctlOwner): Map<string, Variable> {
  const { settings } = owner.stack;
  return new Map<string, Variable>([
    ['net.bridge.bridge-nf-call-iptables', bridgeCall(owner, 'iptables')],
    ['net.bridge.bridge-nf-call-ip6tables', bridgeCall(owner, 'ip6tables')],
    [
      'net.ipv4.ip_forward',
      {
        min: 0,
        max: INT_MAX,
        read: () => settings.read('all', 'forwarding') ?? 0,
        write: (value) => settings.write('all', 'forwarding', value),
      },
    ],
    ['net.ipv4.ip_default_ttl', ofStack(settings, 'ip_default_ttl', { min: 1, max: 255 })],
    ['net.ipv4.icmp_ratelimit', ofStack(settings, 'icmp_ratelimit')],
    ['net.ipv4.icmp_ratemask', ofStack(settings, 'icmp_ratemask')],
    ['net.ipv4.icmp_msgs_per_sec', ofStack(settings, 'icmp_msgs_per_sec')],
    ['net.ipv4.icmp_msgs_burst', ofStack(settings, 'icmp_msgs_burst')],
    ['net.ipv4.icmp_echo_ignore_all', ofStack(settings, 'icmp_echo_ignore_all', { max: 1 })],
    ['net.ipv4.icmp_echo_ignore_broadcasts', ofStack(settings, 'icmp_echo_ignore_broadcasts', { max: 1 })],
    ['net.ipv4.icmp_errors_use_inbound_ifaddr', ofStack(settings, 'icmp_errors_use_inbound_ifaddr', { max: 1 })],
    ['net.ipv4.ipfrag_time', ofStack(settings, 'ipfrag_time', { max: LONGEST_TIMEOUT_S })],
    ['net.ipv4.ipfrag_high_thresh', ofStack(settings, 'ipfrag_high_thresh')],
    ['net.ipv4.ip_no_pmtu_disc', ofStack(settings, 'ip_no_pmtu_disc', { max: 1 })],
    ['net.ipv4.ip_forward_use_pmtu', ofStack(settings, 'ip_forward_use_pmtu', { max: 1 })],
    ['net.ipv4.route.mtu_expires', ofStack(settings, 'mtu_expires', { max: LONGEST_TIMEOUT_S })],
    ['net.ipv4.route.min_pmtu', ofStack(settings, 'min_pmtu', { min: 68 })],
    ['net.ipv4.route.error_cost', ofStack(settings, 'error_cost')],
    ['net.ipv4.route.error_burst', ofStack(settings, 'error_burst')],
    ['net.ipv4.route.redirect_load', ofStack(settings, 'redirect_load')],
    ['net.ipv4.route.redirect_number', ofStack(settings, 'redirect_number')],
    ['net.ipv4.route.redirect_silence', ofStack(settings, 'redirect_silence', { min: -1 })],
    ...ipv6Variables(owner),
    ...conntrackVariables(owner),
    ...ipvsVariables(owner),
  ]);
}

function bridgeCall(owner: SysctlOwner, tables: keyof BridgeCalls): Variable {
  return {
    min: 0,
    max: INT_MAX,
    read: () => Number(owner.bridgeCalls[tables]),
    write: (value) => {
      owner.bridgeCalls = { ...owner.bridgeCalls, [tables]: value !== 0 };
    },
  };
}

/** net.ipv6.*: writing one gives the namespace IPv6. */
function* ipv6Variables({ stack }: SysctlOwner): Generator<[string, Variable]> {
  const defaults = new Ipv6Settings();
  const variable = (
    setting: Exclude<keyof Ipv6Settings, 'icmp_ratemask'>,
    { min, max }: { min: number; max: number },
    write = (value: number) => {
      stack.enableIpv6().settings[setting] = value;
    },
  ): Variable => ({ min, max, read: () => (stack.ipv6?.settings ?? defaults)[setting], write });
  yield [
    'net.ipv6.conf.all.forwarding',
    variable('forwarding', { min: 0, max: INT_MAX }, (value) => stack.enableIpv6().setForwarding(value)),
  ];
  yield ['net.ipv6.conf.all.hop_limit', variable('hop_limit', { min: 1, max: 255 })];
  yield ['net.ipv6.icmp.ratelimit', variable('icmp_ratelimit', { min: 0, max: INT_MAX })];
  yield ['net.ipv6.ip6frag_time', variable('ip6frag_time', { min: 0, max: LONGEST_TIMEOUT_S })];
  yield ['net.ipv6.ip6frag_high_thresh', variable('ip6frag_high_thresh', { min: 0, max: INT_MAX })];
}

function listsOf({ stack }: SysctlOwner): Map<string, ListVariable> {
  const defaults = new Ipv6Settings();
  const ratemask: ListVariable = {
    read: () => String((stack.ipv6?.settings ?? defaults).icmp_ratemask),
    write: (name, text) => {
      try {
        stack.enableIpv6().settings.icmp_ratemask = new IcmpTypes(text);
      } catch (error) {
        throw error instanceof RangeError ? new RangeError(`sysctl ${name}=${error.message}`) : error;
      }
    },
  };
  return new Map([['net.ipv6.icmp.ratemask', ratemask]]);
}

/** A number of the IP stack's settings. */
function ofStack(
  settings: Ipv4Settings,
  setting: keyof HostSettings,
  { min = 0, max = INT_MAX }: { min?: number; max?: number } = {},
): Variable {
  return {
    min,
    max,
    read: () => settings.host[setting],
    write: (value) => settings.writeHost(setting, value),
  };
}

/** net.netfilter.nf_conntrack_*: writing one loads netfilter, as it loads the module. Times are in seconds. */
function* conntrackVariables(owner: SysctlOwner): Generator<[string, Variable]> {
  const current = (): ConntrackSettings => owner.netfilter?.conntrack.settings ?? CONNTRACK_DEFAULTS;
  const variable = (
    name: string,
    { min, max = INT_MAX }: { min: number; max?: number },
    read: (settings: ConntrackSettings) => number,
    change: (value: number, settings: ConntrackSettings) => Partial<ConntrackSettings>,
  ): [string, Variable] => [
    `net.netfilter.nf_conntrack_${name}`,
    {
      min,
      max,
      read: () => read(current()),
      write: (value) => owner.enableNetfilter().conntrack.configure(change(value, current())),
    },
  ];
  const timeout = (
    name: string,
    key: { [K in keyof ConntrackSettings]: ConntrackSettings[K] extends Duration ? K : never }[keyof ConntrackSettings],
  ): [string, Variable] =>
    variable(
      name,
      { min: 0, max: LONGEST_TIMEOUT_S },
      (settings) => inSeconds(settings[key]),
      (value) => ({ [key]: s(value) }),
    );

  yield variable(
    'max',
    { min: 1 },
    ({ maxEntries }) => maxEntries,
    (maxEntries) => ({ maxEntries }),
  );
  yield variable(
    'buckets',
    { min: 1 },
    ({ buckets }) => buckets,
    (buckets) => ({ buckets }),
  );
  yield variable(
    'tcp_loose',
    { min: 0, max: 1 },
    ({ tcpLoose }) => Number(tcpLoose),
    (value) => ({ tcpLoose: value === 1 }),
  );
  yield variable(
    'tcp_be_liberal',
    { min: 0, max: 1 },
    ({ tcpBeLiberal }) => Number(tcpBeLiberal),
    (value) => ({ tcpBeLiberal: value === 1 }),
  );
  yield variable(
    'tcp_ignore_invalid_rst',
    { min: 0, max: 1 },
    ({ tcpIgnoreInvalidReset }) => Number(tcpIgnoreInvalidReset),
    (value) => ({ tcpIgnoreInvalidReset: value === 1 }),
  );
  yield variable(
    'tcp_max_retrans',
    { min: 0, max: 255 },
    ({ tcpMaxRetransmissions }) => tcpMaxRetransmissions,
    (tcpMaxRetransmissions) => ({ tcpMaxRetransmissions }),
  );
  yield timeout('udp_timeout', 'udpTimeout');
  yield timeout('udp_timeout_stream', 'udpStreamTimeout');
  yield timeout('icmp_timeout', 'icmpTimeout');
  yield timeout('icmpv6_timeout', 'icmpv6Timeout');
  yield timeout('gre_timeout', 'greTimeout');
  yield timeout('gre_timeout_stream', 'greStreamTimeout');
  yield timeout('generic_timeout', 'genericTimeout');
  for (const [state, name] of Object.entries(TCP_TIMEOUT_NAMES) as [keyof ConntrackSettings['tcpTimeouts'], string][]) {
    yield variable(
      `tcp_timeout_${name}`,
      { min: 0, max: LONGEST_TIMEOUT_S },
      ({ tcpTimeouts }) => inSeconds(tcpTimeouts[state]),
      (value, { tcpTimeouts }) => ({ tcpTimeouts: { ...tcpTimeouts, [state]: s(value) } }),
    );
  }
}

/** net.ipv4.vs.*: they are there with the module, which asking for one loads. */
function ipvsVariables(owner: SysctlOwner): [string, Variable][] {
  const ipvs = () => owner.enableNetfilter().ipvs;
  const variable = (
    name: string,
    key: 'conntrack' | 'expireNodestConn' | 'expireQuiescentTemplate',
  ): [string, Variable] => [
    `net.ipv4.vs.${name}`,
    {
      min: 0,
      max: 1,
      read: () => Number(ipvs().settings[key]),
      write: (value) => ipvs().configure({ [key]: value === 1 }),
    },
  ];
  return [
    variable('conntrack', 'conntrack'),
    variable('expire_nodest_conn', 'expireNodestConn'),
    variable('expire_quiescent_template', 'expireQuiescentTemplate'),
    [
      'net.ipv4.vs.conn_reuse_mode',
      {
        min: 0,
        max: 1, // 2 is for connections whose answers do not come by
        read: () => ipvs().settings.connReuseMode,
        write: (value) => ipvs().configure({ connReuseMode: value === 0 ? 0 : 1 }),
      },
    ],
  ];
}

/** SYN_SENT2 has no name of its own among the sysctls. */
const TCP_TIMEOUT_NAMES: Readonly<Record<Exclude<keyof ConntrackSettings['tcpTimeouts'], 'SYN_SENT2'>, string>> = {
  SYN_SENT: 'syn_sent',
  SYN_RECV: 'syn_recv',
  ESTABLISHED: 'established',
  FIN_WAIT: 'fin_wait',
  CLOSE_WAIT: 'close_wait',
  LAST_ACK: 'last_ack',
  TIME_WAIT: 'time_wait',
  CLOSE: 'close',
  UNACKNOWLEDGED: 'unacknowledged',
  RETRANSMITTED: 'max_retrans',
};
