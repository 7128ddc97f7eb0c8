// A proxy in user space (ipMode Proxy of a load balancer): it takes connections and datagrams at its own address, and
// passes on what it reads over connections and sockets of its own. The other side sees the proxy's address.
//
// Not modelled: a limit of what waits for the slower side, the CPU time of the proxy itself, half-closed connections (the
// end of one side is the end of both).

import { type Duration, s } from '../../engine/time.ts';
import { Timer } from '../../engine/timer.ts';
import type { Process } from '../host/process.ts';
import type { IpAddress } from '../packet/ip-address.ts';
import type { TcpConnection } from '../transport/tcp-connection.ts';
import type { SocketAddress } from '../transport/transport-stack.ts';
import type { UdpSocket } from '../transport/udp.ts';

export interface RelaySettings {
  readonly at: IpAddress & { readonly port: number };
  readonly protocol: 'TCP' | 'UDP';
  /** Where what a client sends is to go; undefined: it is refused. */
  readonly targetFor: (client: Required<SocketAddress>) => SocketAddress | undefined;
}

/** Listens; the answer ends that. */
export function relay(process: Process, settings: RelaySettings): { close(): void } {
  return settings.protocol === 'TCP' ? relayTcp(process, settings) : new UdpRelay(process, settings);
}

function relayTcp({ namespace, cpu }: Process, { at, targetFor }: RelaySettings): { close(): void } {
  return namespace.tcp.listen({ ...at, cpu }, (client) => {
    const { family, remoteIp: ip, remotePort: port } = client;
    const to = targetFor({ family, ip, port });
    if (to === undefined) {
      client.abort();
      return {};
    }
    const server = namespace.tcp.connect(
      { to, cpu },
      endsOf(() => client),
    );
    return endsOf(() => server);
  });
}

/** Handlers of one side, which pass everything on to the other. */
const endsOf = (other: () => TcpConnection) => ({
  onMessage: (_own: TcpConnection, message: Parameters<TcpConnection['send']>[0]) => {
    other().send(message);
  },
  onPeerClosed: (own: TcpConnection) => {
    own.close();
    other().close();
  },
  onClosed: (_own: TcpConnection, reason: string) => {
    if (reason !== 'closed') other().abort();
  },
});

/** A socket per client, as long as there is something to pass on. */
class UdpRelay {
  readonly #socket: UdpSocket;
  readonly #toServers = new Map<string, { readonly socket: UdpSocket; readonly idle: Timer }>();

  constructor(process: Process, { at, targetFor }: RelaySettings) {
    const { namespace, cpu } = process;
    this.#socket = namespace.udp.bind(
      { ...at, cpu },
      {
        onDatagram: (message, { family = 4, ip, port }) => {
          const client = { family, ip, port };
          const to = targetFor(client);
          if (to !== undefined) this.#socketFor(process, client).send(to, message);
        },
      },
    );
  }

  close(): void {
    this.#socket.close();
    for (const { socket, idle } of this.#toServers.values()) {
      idle.stop();
      socket.close();
    }
  }

  #socketFor({ namespace, place, cpu }: Process, client: Required<SocketAddress>): UdpSocket {
    const key = `${client.family} ${client.ip} ${client.port}`;
    const known = this.#toServers.get(key);
    if (known !== undefined) {
      known.idle.start(UDP_IDLE);
      return known.socket;
    }
    const answer = { onDatagram: (message: Parameters<UdpSocket['send']>[1]) => this.#socket.send(client, message) };
    const socket = namespace.udp.bind({ family: client.family, port: 0, cpu }, answer);
    const idle = new Timer(place, () => {
      this.#toServers.delete(key);
      socket.close();
    });
    idle.start(UDP_IDLE);
    this.#toServers.set(key, { socket, idle });
    return socket;
  }
}

/** As conntrack forgets an answered flow of UDP that is no stream. */
const UDP_IDLE: Duration = s(30);
