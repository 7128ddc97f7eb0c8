"""The few netlink requests that are asked too often to run `ip`, `bridge` or `conntrack` for each."""

import socket
import struct

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_DELNEIGH, RTM_GETNEIGH = 18, 29, 30
#: NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE: without a tuple it deletes every entry.
CONNTRACK_DELETE = 1 << 8 | 2

IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_STATE = 16, 18, 5, 1
OPERSTATE_UNKNOWN, OPERSTATE_UP, BRIDGE_PORT_FORWARDING = 0, 6, 3
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80


class Netlink:
    """A netlink socket; it belongs to the network namespace in which it was made."""

    def __init__(self, protocol):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self):
        self._socket.close()

    def ask(self, kind, flags, body):
        """The bodies of all answers."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        answers = []
        while True:
            data = self._socket.recv(1 << 17)
            while len(data) >= 16:
                length, answer_kind, answer_flags, _, _ = struct.unpack_from("=IHHII", data)
                if answer_kind == NLMSG_DONE:
                    return answers
                if answer_kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    if code:
                        raise OSError(code, f"netlink request {kind}")
                    return answers
                answers.append(data[16:length])
                if not answer_flags & 2:  # not one of several
                    return answers
                data = data[length + 3 & ~3 :]


def flush_conntrack(netfilter):
    netfilter.ask(CONNTRACK_DELETE, NLM_F_ACK, struct.pack("=BBH", socket.AF_UNSPEC, 0, 0))


def link_is_ready(route, index):
    """Up and, as a bridge port, forwarding. Asking for one link also makes the kernel act on its carrier at once."""
    answer = route.ask(RTM_GETLINK, 0, struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, 0, 0))[0]
    attributes = parse_attributes(answer[16:])
    if attributes[IFLA_OPERSTATE][0] not in (OPERSTATE_UP, OPERSTATE_UNKNOWN):
        return False
    slave = parse_attributes(attributes.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_SLAVE_DATA)
    return slave is None or parse_attributes(slave)[IFLA_BRPORT_STATE][0] == BRIDGE_PORT_FORWARDING


def forget_learned_neighbors(route):
    """Deletes every neighbor that was not configured; packets that wait for one end here."""
    for answer in route.ask(RTM_GETNEIGH, NLM_F_DUMP, struct.pack("=BBHiHBB", socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)):
        family, _, _, index, state, flags, _ = struct.unpack_from("=BBHiHBB", answer)
        if state & (NUD_PERMANENT | NUD_NOARP) or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        destination = parse_attributes(answer[12:])[1]
        body = struct.pack("=BBHiHBB", family, 0, 0, index, 0, flags, 0)
        body += struct.pack("=HH", 4 + len(destination), 1) + destination
        try:
            route.ask(RTM_DELNEIGH, NLM_F_ACK, body)
        except FileNotFoundError:
            pass  # its timer was faster


def parse_attributes(data):
    attributes = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        attributes[kind & 0x3FFF] = data[4:length]
        data = data[length + 3 & ~3 :]
    return attributes
