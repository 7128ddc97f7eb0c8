// The kernel parameters of TCP that a run may change; defaults are those of Linux 6.x (ip-sysctl.rst, net/tcp.h).

import { type Duration, ms, s } from '../../engine/time.ts';
import { FIRST_LOCAL_PORT, LAST_LOCAL_PORT } from './ephemeral-ports.ts';

export interface TcpSettings {
  /** tcp_syn_retries: doubling timeouts of a SYN, after the linear ones. */
  readonly synRetries: number;
  /** tcp_syn_linear_timeouts: retransmissions of a SYN before its timeout doubles. */
  readonly synLinearTimeouts: number;
  readonly synAckRetries: number;
  /** tcp_retries2: a peer may be silent for as long as this many timeouts take, see retryPeriod(). */
  readonly retries: number;
  /** tcp_orphan_retries: the same for a connection that its application has closed. */
  readonly orphanRetries: number;
  /** TCP_TIMEOUT_INIT. */
  readonly initialTimeout: Duration;
  /** tcp_rto_min_us. Added to the smoothed round trip, so timeouts in a cluster are a little above it. */
  readonly minTimeout: Duration;
  /** TCP_RTO_MAX. */
  readonly maxTimeout: Duration;
  /** TCP_INIT_CWND, in segments. */
  readonly initialWindowSegments: number;
  /** tcp_slow_start_after_idle. */
  readonly slowStartAfterIdle: boolean;
  /** tcp_timestamps. */
  readonly timestamps: boolean;
  /** TCP_NODELAY. The kernel's default is off, but Go and most HTTP servers set it. */
  readonly noDelay: boolean;
  /** TCP_DELACK_MIN: the delay of an acknowledgment on any path with a round trip up to this. */
  readonly delayedAck: Duration;
  /** tcp_rmem[1]. Half of a buffer is window (tcp_adv_win_scale = 1), the rest is the kernel's overhead. */
  readonly receiveBufferBytes: number;
  /** tcp_rmem[2]: as far as the receive buffer grows by itself. */
  readonly receiveBufferMaxBytes: number;
  /** TCP_TIMEWAIT_LEN. */
  readonly timeWait: Duration;
  /** tcp_fin_timeout: how long a closed socket waits for the peer's FIN. */
  readonly finTimeout: Duration;
  /** tcp_tw_reuse: may connect() take the port of a connection in TIME_WAIT? */
  readonly timeWaitReuse: 'off' | 'on' | 'loopback';
  /** net.ipv4.ip_local_port_range, of connect(). */
  readonly firstLocalPort: number;
  readonly lastLocalPort: number;
  /** net.core.somaxconn: upper limit and default of a listener's backlog. */
  readonly maxBacklog: number;
}

export const LINUX_TCP: TcpSettings = {
  synRetries: 6,
  synLinearTimeouts: 4,
  synAckRetries: 5,
  retries: 15,
  orphanRetries: 8,
  initialTimeout: s(1),
  minTimeout: ms(200),
  maxTimeout: s(120),
  initialWindowSegments: 10,
  slowStartAfterIdle: true,
  timestamps: true,
  noDelay: true,
  delayedAck: ms(40),
  receiveBufferBytes: 131_072,
  receiveBufferMaxBytes: 6_291_456,
  timeWait: s(60),
  finTimeout: s(60),
  timeWaitReuse: 'loopback',
  firstLocalPort: FIRST_LOCAL_PORT,
  lastLocalPort: LAST_LOCAL_PORT,
  maxBacklog: 4_096,
};

/** What /proc/net/snmp and /proc/net/netstat count. */
export interface TcpCounters {
  /** ActiveOpens: calls of connect. */
  activeOpens: number;
  /** PassiveOpens: SYNs that a listener took. */
  passiveOpens: number;
  /** AttemptFails: handshakes that did not succeed. */
  attemptFails: number;
  /** EstabResets: connections that the peer reset. */
  resetsReceived: number;
  /** OutRsts. */
  resetsSent: number;
  /** RetransSegs, SYNs included. */
  retransmittedSegments: number;
  /** TCPTimeouts: expired retransmission timers. */
  timeouts: number;
  /** ListenDrops: SYNs and last segments of a handshake that found a queue of the listener full. */
  listenDrops: number;
}
