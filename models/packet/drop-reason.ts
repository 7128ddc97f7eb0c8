// Why a frame ended before it arrived: a closed list. Names are the kernel's `skb_drop_reason` where one fits
// (include/net/dropreason-core.h of Linux 6.x), without its SKB_DROP_REASON_ prefix.

export const DROP_REASONS = [
  'OTHERHOST', //            unicast frame for another MAC (flooded here by a bridge or switch)
  'DEV_READY', //            the device or its peer is down
  'CPU_BACKLOG', //          net.core.netdev_max_backlog exceeded
  'QDISC_DROP', //           the queue of a wire is full
  'WIRE_LOSS', //            lost on a lossy wire (ours: a kernel never learns of it)
  'BRIDGE_NO_EGRESS', //     a bridge found no port to send it to (also: its port is the one it came from)
  'NO_TX_TARGET', //         a VXLAN device knows no tunnel endpoint for the destination
  'TX_RECURSION', //         a tunnel's packets go into tunnels again (ours: the kernel counts, and names no reason)
  'VXLAN_VNI_NOT_FOUND', //  no VXLAN device of that network on that port
  'VXLAN_ENTRY_EXISTS', //   the source belongs to another tunnel endpoint by a static entry
  'IP_TUNNEL_ECN', //        congestion was seen outside a tunnel's packet, whose sender knows no ECN (the kernel gives none)
  'LOCAL_MAC', //            its own frame came back to a VXLAN device
  'IPV6DISABLED', //         the namespace has no IPv6
  'NOT_A_MEMBER', //         for a multicast group that nobody here listens to (the kernel gives no reason)
  'UNHANDLED_PROTO', //      no handler for this EtherType or IP protocol
  'IP_INHDR', //             no packet where there should be one
  'IP_INVALID_SOURCE', //    the source is a group, the limited broadcast, or 0.0.0.0
  'IP_INVALID_DEST', //      the destination is 0.0.0.0
  'IP_LOCALNET', //          127.0.0.0/8 without route_localnet, or ::1, from or to another device than lo
  'IP_LOCAL_SOURCE', //      a packet from outside claims to come from this host, or from no host
  'IP_INADDRERRORS', //      IPv6: a source without meaning beyond its link
  'IP_RPFILTER', //          reverse path filter
  'IP_INNOROUTES', //        no route while forwarding
  'IP_OUTNOROUTES', //       no route for a local sender
  'UNICAST_IN_L2_MULTICAST', // a broadcast frame with a packet for somebody else
  'IP_NOFORWARD', //         net.ipv4.ip_forward or net.ipv6.conf.all.forwarding is 0
  'IP_TTL', //               time to live exceeded in transit
  'PKT_TOO_BIG', //          larger than the MTU with DF set, or than the next device takes
  'DUP_FRAG', //             a fragment that is there already
  'FRAG_INCONSISTENT', //    fragments that overlap or contradict each other (ours: the kernel names no reason)
  'FRAG_REASM_TIMEOUT', //   the other fragments did not come in time
  'NOMEM', //                too many fragments wait for others
  'NEIGH_QUEUEFULL', //      too many frames wait for an address resolution
  'NEIGH_FAILED', //         nobody answered for the next hop
  'NETFILTER_DROP', //       a rule, a policy, REJECT, or NAT without a free port
  'TC_INGRESS', //           a program at the device
  'CONNTRACK_FULL', //       nf_conntrack_max reached
  'CONNTRACK_CLASH', //      lost the race at confirm (insert_failed)
  'NO_BACKEND', //           a load balancer has no healthy node for it (ours: no kernel does this)
  'UDP_CSUM', //             a datagram with a wrong checksum
  'NO_SOCKET', //            nobody listens on the port
  'SOCKET_RCVBUFF', //       the receive buffer of a socket is full
  'LISTEN_OVERFLOW', //      the accept or SYN queue of a listener is full
  'TCP_OLD_DATA', //         nothing new in this segment
  'TCP_INVALID_SEQUENCE', // outside the receive window
  'TCP_RESET', //            arrived at a connection that is closed or being reset
] as const;

export type DropReason = (typeof DROP_REASONS)[number];
