// IPVS of one network namespace (ip_vs): virtual servers, whose packets go on to real servers, and the connections that
// remember which. Real servers are reached by NAT (masquerading, `-m`), as kube-proxy has them.
//
// A packet for a virtual address that is the host's own comes to LOCAL_IN, behind the rules of table filter. From there it
// leaves as if it had been made here, through OUTPUT and POSTROUTING, and never comes to FORWARD; the server's answer does,
// and gets the virtual address as its source there. Real hooks: LOCAL_IN 98 and 99, LOCAL_OUT -99 and -98, FORWARD 99 and
// 100 (ip_vs_core.c); two neighbors are one step here.
//
// With `vs.conntrack` the connection is conntrack's, too: its entry is told who will answer, so that answers belong to it,
// and rules of table nat may translate its source.
//
// There is no such kernel module where this was written: what is here follows descriptions of the kernel's behaviour, not
// observations. Not modelled: direct routing and tunnels, firewall marks, one-packet scheduling, helpers (FTP), connections
// that other directors sync, thresholds, fragments that conntrack has not put together, the chunks of SCTP (an
// association is established by its first packet).

import { type Duration, type Instant, s } from '../../../engine/time.ts';
import type { CpuSet } from '../../cpu/cpu-set.ts';
import {
  type DeviceRef,
  type Frame,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_RST,
  TCP_SYN,
} from '../../packet/frame.ts';
import type { Ip, IpFamily } from '../../packet/ip-address.ts';
import { hasPorts, packPorts, packProtocol } from '../connection-tuple.ts';
import type { Conntrack } from '../conntrack.ts';
import { CT_UNTRACKED } from '../conntrack-state.ts';
import { CONFIRMED, indexOf } from '../conntrack-table.ts';
import { FORWARD, type Hook, OUTPUT } from '../hook.ts';
import { ConnectionTable, IpvsConnection } from './connection-table.ts';
import { newScheduler } from './schedulers/registry.ts';
import { CLOSE, ESTABLISHED, FIN_WAIT, isActive, nextTcpState, TCP_TIMEOUTS_S, TIME_WAIT } from './tcp-states.ts';
import {
  foldIp,
  RealServer,
  type VirtualAddress,
  VirtualServer,
  type VirtualServerSettings,
} from './virtual-server.ts';

/** The sysctls net.ipv4.vs.*, and what `ipvsadm --set` sets. */
export interface IpvsSettings {
  /** vs.conntrack */
  readonly conntrack: boolean;
  /** vs.conn_reuse_mode 1: a SYN from the address and port of a closed connection goes to a server of its own. */
  readonly connReuseMode: 0 | 1;
  /** vs.expire_nodest_conn: connections of a server that is gone, or being drained when a client begins anew, end. */
  readonly expireNodestConn: boolean;
  /** vs.expire_quiescent_template: a server of weight 0 loses its clients. */
  readonly expireQuiescentTemplate: boolean;
  /**
   * Since Linux 5.9 a connection whose port is used again goes on at once if conntrack has begun anew, too; before, the SYN
   * was dropped whenever conntrack knew it, and the client's next one, a second later, was served.
   */
  readonly reusesAtOnce: boolean;
  /** Idle time of an established connection, of one that a server has closed, and of UDP. */
  readonly tcpTimeout: Duration;
  readonly tcpFinTimeout: Duration;
  readonly udpTimeout: Duration;
}

export const IPVS_DEFAULTS: IpvsSettings = {
  conntrack: false,
  connReuseMode: 1,
  expireNodestConn: false,
  expireQuiescentTemplate: false,
  reusesAtOnce: true,
  tcpTimeout: s(900),
  tcpFinTimeout: s(120),
  udpTimeout: s(300),
};

/** What becomes of a packet at a hook. */
export const PASSES = 0;
/** It is for somebody else now, and leaves this host by {@link Ipvs.outDevice}. */
export const LEAVES = 1;
/** It is to be dropped. */
export const REFUSED = 2;
/** It has no way to its server; the stack has answered and dropped it. */
export const ENDED = 3;
/** Nobody serves it: to be dropped, with an ICMP error to the sender. */
export const UNSERVED = 4;
export type IpvsOutcome = typeof PASSES | typeof LEAVES | typeof REFUSED | typeof ENDED | typeof UNSERVED;

/** What IPVS asks of the IP stack. */
export interface IpvsRoutes {
  /**
   * How the packet would go on to `ip`: the device, or `here` for the host's own addresses. Counts its TTL down. Undefined:
   * it cannot, and the stack has told the sender and dropped it.
   */
  routeToServer?(frame: Frame, ip: Ip): DeviceRef | 'here' | undefined;
}

/** How long a template that still holds connections waits until it is looked at again (ip_vs_conn_expire). */
const TEMPLATE_RECHECK = s(60);

export class Ipvs {
  readonly #cpus: CpuSet;
  readonly #conntrack: Conntrack;
  readonly #routes: IpvsRoutes;
  #settings: IpvsSettings = IPVS_DEFAULTS;
  /** By protocol and port, then by address. */
  readonly #virtuals = new Map<number, Map<Ip, VirtualServer>>();
  /** Those that there have ever been virtual servers of. */
  readonly #families = new Set<IpFamily>();
  readonly #connections = new ConnectionTable();
  /** Real servers that were deleted while connections referred to them, by what they were. */
  readonly #trash = new Map<string, RealServer>();
  /** The packet that has been translated and is on its way out (skb->ipvs_property). */
  #translated: Frame | undefined;
  /** After {@link LEAVES}. */
  outDevice: DeviceRef | undefined;
  /** Told when there is a first virtual server, and when they are gone. */
  whenChanged: () => void = () => {};

  constructor(options: { readonly cpus: CpuSet; readonly conntrack: Conntrack; readonly routes: IpvsRoutes }) {
    this.#cpus = options.cpus;
    this.#conntrack = options.conntrack;
    this.#routes = options.routes;
  }

  // ── ipvsadm and sysctl ─────────────────────────────────────────────────────────────────────────────────────────────

  get settings(): IpvsSettings {
    return this.#settings;
  }

  configure(changes: Partial<IpvsSettings>): void {
    this.#settings = { ...this.#settings, ...changes };
  }

  /** There may be something to do at the hooks for packets of this family. */
  isActive(family: IpFamily): boolean {
    return this.#families.has(family) && (this.#virtuals.size > 0 || this.#connections.size > 0);
  }

  /** In no particular order. */
  *virtualServers(): IterableIterator<VirtualServer> {
    for (const byIp of this.#virtuals.values()) yield* byIp.values();
  }

  find(address: VirtualAddress): VirtualServer | undefined {
    return this.#virtuals.get(portKey(address))?.get(address.ip);
  }

  /** `ipvsadm -A`. */
  addVirtual(address: VirtualAddress, settings: VirtualServerSettings): VirtualServer {
    if (this.find(address) !== undefined)
      throw new RangeError(`a virtual server of port ${address.port} exists; expected a new address`);
    const virtual = new VirtualServer(address, settings, newScheduler(settings));
    this.#families.add(address.family);
    const key = portKey(address);
    const byIp = this.#virtuals.get(key);
    if (byIp === undefined) this.#virtuals.set(key, new Map([[address.ip, virtual]]));
    else byIp.set(address.ip, virtual);
    this.whenChanged();
    return virtual;
  }

  /** `ipvsadm -E`. */
  editVirtual(virtual: VirtualServer, settings: VirtualServerSettings): void {
    const isOther =
      settings.scheduler !== virtual.settings.scheduler || settings.hashesPort !== virtual.settings.hashesPort;
    virtual.settings = settings;
    if (!isOther) return;
    virtual.scheduler = newScheduler(settings);
    virtual.scheduler.changed?.(virtual.servers);
  }

  /** `ipvsadm -D`: its connections find their servers gone. */
  deleteVirtual(virtual: VirtualServer): void {
    this.#sweep();
    for (const server of [...virtual.servers]) this.deleteServer(virtual, server);
    const key = portKey(virtual);
    const byIp = this.#virtuals.get(key);
    byIp?.delete(virtual.ip);
    if (byIp?.size === 0) this.#virtuals.delete(key);
    this.whenChanged();
  }

  /** `ipvsadm -a -m`: at the head of the list. One that connections still refer to comes back with them. */
  addServer(virtual: VirtualServer, { ip, port, weight }: { ip: Ip; port: number; weight: number }): RealServer {
    this.#sweep();
    const key = serverKey(virtual, ip, port);
    const server = this.#trash.get(key) ?? new RealServer({ ip, port, weight, family: virtual.family });
    this.#trash.delete(key);
    server.weight = weight;
    server.isAvailable = true;
    virtual.servers.unshift(server);
    virtual.scheduler.changed?.(virtual.servers);
    return server;
  }

  /** `ipvsadm -e -w`. */
  setWeight(virtual: VirtualServer, server: RealServer, weight: number): void {
    server.weight = weight;
    virtual.scheduler.changed?.(virtual.servers);
  }

  /** `ipvsadm -d`. */
  deleteServer(virtual: VirtualServer, server: RealServer): void {
    this.#sweep();
    const index = virtual.servers.indexOf(server);
    if (index < 0) throw new RangeError(`no such real server of the virtual server on port ${virtual.port}`);
    virtual.servers.splice(index, 1);
    server.isAvailable = false;
    if (server.connections + server.persistentConnections > 0)
      this.#trash.set(serverKey(virtual, server.ip, server.port), server);
    virtual.scheduler.removed?.(virtual.servers, index, server);
  }

  /** As they are at this instant, in the order in which they were made. */
  connections(): IpvsConnection[] {
    this.#sweep();
    return [...this.#connections];
  }

  /** Lets go of what has been idle for too long, so that servers' counts are right. */
  tidy(): void {
    this.#sweep();
  }

  // ── packets ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `-m ipvs`: this packet has been translated by IPVS, for this connection. */
  connectionOf(frame: Frame): IpvsConnection | undefined {
    if (frame !== this.#translated) return undefined;
    const { srcIp, srcPort, dstIp, dstPort } = frame;
    return this.#connections.findByAnswer(kindOf(frame), dstIp, dstPort, srcIp, srcPort);
  }

  /** The packet passes OUTPUT on its way to its server: the hook there leaves it alone. */
  whileLeaving(frame: Frame, pass: () => boolean): boolean {
    const outer = this.#translated;
    this.#translated = frame;
    const passes = pass();
    this.#translated = outer;
    return passes;
  }

  /** ip_vs_out_hook and ip_vs_in_hook. */
  handle(hook: Hook, frame: Frame): IpvsOutcome {
    if (frame === this.#translated) return PASSES;
    if (frame.protocol === PROTOCOL_ICMP || frame.protocol === PROTOCOL_ICMPV6) return this.#handleIcmp(hook, frame);
    if (!hasPorts(frame.protocol)) return PASSES;
    const answered = this.#findByAnswer(frame);
    if (answered !== undefined) return this.#answer(frame, answered);
    return hook === FORWARD ? PASSES : this.#request(hook, frame);
  }

  #findByAnswer(frame: Frame): IpvsConnection | undefined {
    const { srcIp, srcPort, dstIp, dstPort } = frame;
    this.#cpus.charge(this.#cpus.costs.ipvsLookupNs);
    return this.#connections.findByAnswer(kindOf(frame), srcIp, srcPort, dstIp, dstPort);
  }

  /** From a real server: the client knows it by the virtual address. */
  #answer(frame: Frame, connection: IpvsConnection): IpvsOutcome {
    this.#follow(connection, frame, { fromServer: true });
    frame.srcIp = connection.virtual.ip;
    frame.srcPort = connection.virtual.port;
    this.#cpus.charge(this.#cpus.costs.natNs);
    this.#untrackUnlessShared(frame);
    return PASSES;
  }

  #request(hook: Hook, frame: Frame): IpvsOutcome {
    const { srcIp, srcPort, dstIp, dstPort } = frame;
    const kind = kindOf(frame);
    this.#cpus.charge(this.#cpus.costs.ipvsLookupNs);
    let connection = this.#connections.find(kind, srcIp, srcPort, dstIp, dstPort);
    if (connection !== undefined && this.#beginsAnew(connection, frame)) {
      const isShared = this.#usesOldEntry(connection, frame);
      this.#endNow(connection, { isShared });
      if (isShared) return REFUSED;
      connection = undefined;
    }
    if (connection !== undefined && !connection.server.isAvailable) {
      if (!this.#settings.expireNodestConn) return REFUSED;
      const isShared = this.#usesOldEntry(connection, frame);
      this.#endNow(connection, { isShared });
      if (isShared) return REFUSED;
      connection = undefined;
    }
    if (connection === undefined) {
      const virtual = this.#beginsConnection(frame) ? this.#virtuals.get(frameKey(frame))?.get(dstIp) : undefined;
      if (virtual === undefined) return PASSES;
      if (hook === OUTPUT && this.#connections.find(kind, dstIp, dstPort, srcIp, srcPort) !== undefined) return PASSES;
      connection = this.#schedule(virtual, frame);
      if (connection === undefined) return UNSERVED;
    }
    this.#follow(connection, frame, { fromServer: false });
    return this.#forward(frame, connection);
  }

  /** Segments in the midst of a connection that is not known are none of IPVS' business. */
  #beginsConnection({ protocol, tcpFlags }: Frame): boolean {
    return protocol !== PROTOCOL_TCP || (tcpFlags & (TCP_SYN | TCP_RST)) === TCP_SYN;
  }

  /** The client has begun another connection from the same port, and it is not to go where the last one went. */
  #beginsAnew(connection: IpvsConnection, { protocol, tcpFlags }: Frame): boolean {
    if (protocol !== PROTOCOL_TCP || (tcpFlags & TCP_SYN) === 0) return false;
    if (this.#settings.expireNodestConn && connection.server.weight === 0) return true;
    const isOver = connection.state === TIME_WAIT || connection.state === CLOSE;
    return this.#settings.connReuseMode === 1 && isOver && connection.template === undefined;
  }

  /** conntrack takes the packet for one of the connection as it was: its entry would send it to the server of then. */
  #usesOldEntry(connection: IpvsConnection, frame: Frame): boolean {
    if (!connection.isTracked || frame.conntrackEntry === 0) return false;
    return !this.#settings.reusesAtOnce || (this.#conntrack.status(frame) & CONFIRMED) !== 0;
  }

  /** ip_vs_schedule. */
  #schedule(virtual: VirtualServer, frame: Frame): IpvsConnection | undefined {
    this.#sweep();
    const { srcIp: clientIp, srcPort: clientPort } = frame;
    const { persistenceSeconds } = virtual.settings;
    const template =
      persistenceSeconds === undefined ? undefined : this.#templateFor(virtual, frame, persistenceSeconds);
    const server = persistenceSeconds === undefined ? this.#choose(virtual, frame) : template?.server;
    if (server === undefined) return undefined;
    this.#cpus.charge(this.#cpus.costs.ipvsNewNs);
    const connection = new IpvsConnection(
      { clientIp, clientPort, virtual, server },
      { template, timeout: NEW_TIMEOUT, now: this.#now },
    );
    connection.isTracked = this.#settings.conntrack;
    this.#connections.add(connection);
    server.inactiveConnections++;
    if (template !== undefined) {
      template.held++;
      this.#connections.prolong(template, this.#now);
    }
    return connection;
  }

  #choose({ scheduler, servers, ip, family }: VirtualServer, { srcIp, srcPort }: Frame): RealServer | undefined {
    const clientIp = foldIp(srcIp, family);
    return scheduler.choose(servers, { clientIp, clientPort: srcPort, virtualIp: foldIp(ip, family) });
  }

  /** What binds the client to a server, made if there is none whose server may be had (ip_vs_sched_persist). */
  #templateFor(virtual: VirtualServer, frame: Frame, persistenceSeconds: number): IpvsConnection | undefined {
    const { srcIp: clientIp } = frame;
    const known = this.#connections.find(kindOf(frame), clientIp, TEMPLATE_PORT, virtual.ip, virtual.port);
    if (known !== undefined) {
      const isQuiet = this.#settings.expireQuiescentTemplate && known.server.weight === 0;
      if (known.server.isAvailable && !isQuiet) return known;
      this.#end(known);
    }
    const server = this.#choose(virtual, frame);
    if (server === undefined) return undefined;
    const template = new IpvsConnection(
      { clientIp, clientPort: TEMPLATE_PORT, virtual, server },
      { isTemplate: true, timeout: s(persistenceSeconds), now: this.#now },
    );
    template.isTracked = false;
    this.#connections.add(template);
    server.persistentConnections++;
    return template;
  }

  /** ip_vs_nat_xmit. */
  #forward(frame: Frame, { server, isTracked }: IpvsConnection): IpvsOutcome {
    const way = this.#routes.routeToServer?.(frame, server.ip);
    if (way === undefined) return ENDED;
    frame.dstIp = server.ip;
    frame.dstPort = server.port;
    this.#cpus.charge(this.#cpus.costs.natNs);
    if (isTracked) this.#conntrack.expectAnswerFrom(frame, server.ip, server.port);
    this.#untrackUnlessShared(frame);
    if (way === 'here') return PASSES;
    this.outDevice = way;
    return LEAVES;
  }

  /** ip_vs_notrack. */
  #untrackUnlessShared(frame: Frame): void {
    if (this.#settings.conntrack || frame.conntrackEntry === 0) return;
    frame.conntrackEntry = 0;
    frame.conntrackReply = false;
    frame.conntrackState = CT_UNTRACKED;
  }

  // ── ICMP errors about packets of connections ───────────────────────────────────────────────────────────────────────

  #handleIcmp(hook: Hook, frame: Frame): IpvsOutcome {
    const { quoted } = frame;
    if (quoted === undefined || !hasPorts(quoted.protocol)) return PASSES;
    const { srcIp, srcPort, dstIp, dstPort } = quoted;
    const kind = packProtocol(quoted.protocol, frame.family);
    this.#cpus.charge(this.#cpus.costs.ipvsLookupNs);
    const toClient = this.#connections.findByAnswer(kind, dstIp, dstPort, srcIp, srcPort);
    if (toClient !== undefined) {
      frame.srcIp = toClient.virtual.ip;
      quoted.dstIp = toClient.virtual.ip;
      quoted.dstPort = toClient.virtual.port;
      return PASSES;
    }
    // In transit to an address that is not the host's own, it can be about no virtual server of it.
    const toServer = hook === FORWARD ? undefined : this.#connections.find(kind, dstIp, dstPort, srcIp, srcPort);
    if (toServer === undefined) return PASSES;
    const { server } = toServer;
    const way = this.#routes.routeToServer?.(frame, server.ip);
    if (way === undefined) return ENDED;
    frame.dstIp = server.ip;
    quoted.srcIp = server.ip;
    quoted.srcPort = server.port;
    if (way === 'here') return PASSES;
    this.outDevice = way;
    return LEAVES;
  }

  // ── the life of connections ────────────────────────────────────────────────────────────────────────────────────────

  get #now(): Instant {
    return this.#cpus.instant;
  }

  #follow(connection: IpvsConnection, { protocol, tcpFlags }: Frame, from: { fromServer: boolean }): void {
    if (protocol === PROTOCOL_TCP) this.#enterState(connection, nextTcpState(connection.state, tcpFlags, from));
    else if (protocol === PROTOCOL_UDP) connection.timeout = this.#settings.udpTimeout;
    else this.#enterState(connection, ESTABLISHED);
    this.#connections.prolong(connection, this.#now);
  }

  #enterState(connection: IpvsConnection, state: number): void {
    const { server } = connection;
    if (isActive(state) !== connection.isActive) {
      connection.isActive = isActive(state);
      server.activeConnections += connection.isActive ? 1 : -1;
      server.inactiveConnections += connection.isActive ? -1 : 1;
    }
    connection.state = state;
    connection.timeout = this.#timeoutOf(state);
  }

  #timeoutOf(state: number): Duration {
    switch (state) {
      case ESTABLISHED:
        return this.#settings.tcpTimeout;
      case FIN_WAIT:
        return this.#settings.tcpFinTimeout;
      default:
        return s(TCP_TIMEOUTS_S[state]!);
    }
  }

  #sweep(): void {
    this.#connections.sweep(this.#now, (connection) => this.#expire(connection));
  }

  #expire(connection: IpvsConnection): void {
    if (connection.held === 0) return this.#end(connection);
    connection.timeout = TEMPLATE_RECHECK;
    this.#connections.prolong(connection, this.#now);
  }

  /** ip_vs_conn_expire_now. An entry of conntrack that is another connection's already stays. */
  #endNow(connection: IpvsConnection, { isShared }: { isShared: boolean }): void {
    if (!isShared) connection.isTracked = false;
    this.#end(connection);
  }

  #end(connection: IpvsConnection): void {
    this.#connections.remove(connection);
    const { server, template, virtual } = connection;
    if (connection.isTemplate) server.persistentConnections--;
    else if (connection.isActive) server.activeConnections--;
    else server.inactiveConnections--;
    if (template !== undefined) template.held--;
    if (!server.isAvailable && server.connections + server.persistentConnections === 0)
      this.#trash.delete(serverKey(virtual, server.ip, server.port));
    if (connection.isTracked) this.#endTracking(connection);
  }

  /** ip_vs_conn_drop_conntrack. */
  #endTracking({ kind, clientIp, clientPort, virtual }: IpvsConnection): void {
    const handle = this.#conntrack.find({
      srcIp: clientIp,
      dstIp: virtual.ip,
      ports: packPorts(clientPort, virtual.port),
      kind,
      zone: 0,
    });
    if (handle !== 0) this.#conntrack.kill(indexOf(handle));
  }
}

/** Until its first packet has been looked at (ip_vs_conn_new). */
const NEW_TIMEOUT = s(3);
/** No client's port. */
const TEMPLATE_PORT = 0;

const kindOf = ({ protocol, family }: Frame): number => packProtocol(protocol, family);
const portKey = ({ family, protocol, port }: VirtualAddress): number => packProtocol(protocol, family) * 65_536 + port;
const frameKey = (frame: Frame): number => kindOf(frame) * 65_536 + frame.dstPort;
const serverKey = ({ family, protocol, ip, port }: VirtualAddress, serverIp: Ip, serverPort: number): string =>
  `${family} ${protocol} ${ip}:${port} ${serverIp}:${serverPort}`;
