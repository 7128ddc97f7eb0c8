// Network namespaces of the real kernel, made for measurements and removed afterwards. Their names begin with `pwcal`
// and the process id, so that several measurements and other users of the machine do not meet.

import { runCommand } from './machine-commands.ts';

export class Lab {
  readonly #signal: AbortSignal | undefined;
  readonly #namespaces: string[] = [];

  constructor(signal?: AbortSignal) {
    this.#signal = signal;
  }

  /** A namespace that forwards, and says nothing by itself in IPv6. */
  async namespace(): Promise<string> {
    this.#signal?.throwIfAborted();
    const name = `pwcal${process.pid}x${this.#namespaces.length}`;
    this.#namespaces.push(name);
    await runCommand('ip', ['netns', 'add', name]);
    await this.sysctl(name, {
      'net.ipv6.conf.all.disable_ipv6': 1,
      'net.ipv6.conf.default.disable_ipv6': 1,
      'net.ipv4.ip_forward': 1,
      'net.ipv4.conf.all.rp_filter': 0,
      'net.ipv4.conf.default.rp_filter': 0,
    });
    await this.ip(name, ['link set lo up']);
    return name;
  }

  /** Commands of ip(8), one per line. */
  async ip(namespace: string, lines: readonly string[]): Promise<void> {
    this.#signal?.throwIfAborted();
    await runCommand('ip', ['-n', namespace, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async run(namespace: string, command: string, args: readonly string[] = [], input = ''): Promise<string> {
    this.#signal?.throwIfAborted();
    return runCommand('ip', ['netns', 'exec', namespace, command, ...args], { input });
  }

  async sysctl(namespace: string, settings: Readonly<Record<string, number>>): Promise<void> {
    const lines = Object.entries(settings).map(
      ([name, value]) => `echo ${value} > /proc/sys/${name.replaceAll('.', '/')}`,
    );
    await this.run(namespace, 'sh', ['-e'], `${lines.join('\n')}\n`);
  }

  /** Two ends of a veth pair, up, with the addresses asked for. */
  async veth(a: VethEnd, b: VethEnd): Promise<void> {
    const mac = ({ mac }: VethEnd): string => (mac === undefined ? '' : ` address ${mac}`);
    await this.ip(a.namespace, [
      `link add ${a.device}${mac(a)} type veth peer name ${b.device}${mac(b)} netns ${b.namespace}`,
    ]);
    for (const { namespace, device, ip } of [a, b]) {
      await this.ip(namespace, [
        `link set ${device} up`,
        ...(ip === undefined ? [] : [`addr add ${ip} dev ${device}`]),
      ]);
    }
  }

  /** Bridge ports carry nothing before they are in state forwarding. */
  async waitForPorts(namespace: string): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const links = await this.run(namespace, 'bridge', ['link', 'show']);
      if (
        links
          .trim()
          .split('\n')
          .every((line) => line.includes('state forwarding'))
      )
        return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`bridge ports in ${namespace} did not begin to forward within 5 seconds`);
  }

  /** In any case, also after Ctrl-C. */
  async destroy(): Promise<void> {
    for (const name of this.#namespaces.splice(0)) {
      await runCommand('ip', ['netns', 'del', name], { shielded: true }).catch(() => undefined); // not made yet
    }
  }
}

export interface VethEnd {
  readonly namespace: string;
  readonly device: string;
  readonly mac?: string;
  /** With its prefix length. */
  readonly ip?: string;
}
