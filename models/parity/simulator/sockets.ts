// Real sockets of a parity case: programs in a namespace that listen, connect or send one datagram, and what their
// system calls came back with. A TCP listener accepts and stays silent, a UDP listener sends every datagram back.

import { after, ms } from '../../../engine/time.ts';
import { parseAddress } from '../../packet/ip-address.ts';
import type { TcpCloseReason, TcpConnection } from '../../transport/tcp-connection.ts';
import type { SocketError } from '../../transport/udp.ts';
import type { SocketStep, StepOutcome } from '../case.ts';
import type { SimulatedNetwork } from './network.ts';

type SocketCall = SocketStep['socket'];
type Listen = Extract<SocketCall, { do: 'listen' }>;
type Connect = Extract<SocketCall, { do: 'connect' }>;

const DEFAULT_TIMEOUT_MS = 300;
const DATAGRAM = { id: 0, sizeBytes: 4 };
/** Programs of cases share one CPU: the order of what they do is the order of the steps. */
const CPU = 0;

const TCP_ERRNOS: Readonly<Record<TcpCloseReason, string>> = {
  closed: 'closed',
  refused: 'ECONNREFUSED',
  reset: 'ECONNRESET',
  'timed out': 'ETIMEDOUT',
  'network unreachable': 'ENETUNREACH',
  'host unreachable': 'EHOSTUNREACH',
  prohibited: 'EACCES',
  'not permitted': 'EPERM',
  'invalid argument': 'EINVAL',
  'no free port': 'EADDRNOTAVAIL',
};

const UDP_ERRNOS: Readonly<Record<SocketError, string>> = {
  refused: 'ECONNREFUSED',
  'network unreachable': 'ENETUNREACH',
  'host unreachable': 'EHOSTUNREACH',
  prohibited: 'EACCES',
  'not permitted': 'EPERM',
  'invalid argument': 'EINVAL',
  'message too long': 'EMSGSIZE',
};

export class SocketSteps {
  readonly #network: SimulatedNetwork;
  /** By namespace: closes what it has open. */
  readonly #open = new Map<string, (() => void)[]>();

  constructor(network: SimulatedNetwork) {
    this.#network = network;
  }

  take(call: SocketCall): StepOutcome {
    const socket = this.#do(call);
    return { captures: this.#network.drain(), socket };
  }

  #do(call: SocketCall): string {
    switch (call.do) {
      case 'listen':
        return this.#listen(call);
      case 'connect':
        return call.proto === 'tcp' ? this.#connect(call) : this.#sendDatagram(call);
      case 'close':
        for (const close of this.#open.get(call.in) ?? []) close();
        this.#open.delete(call.in);
        this.#run(0, () => false);
        return 'closed';
    }
  }

  #listen({ in: name, proto, ip, port }: Listen): string {
    const { tcp, udp } = this.#network.namespace(name);
    const options = { port, cpu: CPU, ...(ip === undefined ? {} : parseAddress(ip)) };
    if (proto === 'tcp') {
      const listener = tcp.listen(options, () => ({}));
      this.#remember(name, () => listener.close());
    } else {
      const socket = udp.bind(options, { onDatagram: (message, from) => socket.send(from, message) });
      this.#remember(name, () => socket.close());
    }
    return 'listening';
  }

  /** A connect() that waits, until it succeeds, fails or has waited long enough. */
  #connect({ in: name, ip, port, sport, timeoutMs = DEFAULT_TIMEOUT_MS }: Connect): string {
    const { tcp } = this.#network.namespace(name);
    let result: string | undefined;
    let connection: TcpConnection | undefined;
    connection = tcp.connect(
      { to: { ...parseAddress(ip), port }, cpu: CPU, ...(sport === undefined ? {} : { fromPort: sport }) },
      {
        onConnected: () => (result ??= 'connected'),
        onClosed: (_, reason) => (result ??= TCP_ERRNOS[reason]),
      },
    );
    this.#remember(name, () => connection.close());
    this.#run(timeoutMs, () => result !== undefined);
    if (result === undefined) connection.close();
    return result ?? 'ETIMEDOUT';
  }

  /** A datagram from a connected socket: `answered`, an error that came back, or `sent`. */
  #sendDatagram({ in: name, ip, port, sport, timeoutMs = DEFAULT_TIMEOUT_MS }: Connect): string {
    const { udp } = this.#network.namespace(name);
    let result: string | undefined;
    const to = { ...parseAddress(ip), port };
    const socket = udp.bind(
      { cpu: CPU, port: sport ?? 0, family: to.family, isConnected: true },
      { onDatagram: () => (result ??= 'answered'), onError: (reason) => (result ??= UDP_ERRNOS[reason]) },
    );
    this.#remember(name, () => socket.close());
    socket.send(to, DATAGRAM);
    this.#run(timeoutMs, () => result !== undefined);
    return result ?? 'sent';
  }

  /** Lets what takes no time happen, then time pass, in steps short against any timer of TCP. */
  #run(timeoutMs: number, isDone: () => boolean): void {
    const { sim } = this.#network;
    sim.run({ until: sim.now });
    for (let waitedMs = 0; waitedMs < timeoutMs && !isDone(); waitedMs++) sim.run({ until: after(sim.now, ms(1)) });
  }

  #remember(name: string, close: () => void): void {
    const open = this.#open.get(name) ?? [];
    open.push(close);
    this.#open.set(name, open);
  }
}
