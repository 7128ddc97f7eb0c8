"""Ethernet frames, from the words of a case to bytes and from bytes to the words of an outcome (models/parity/case.ts).

Left out: IPv4 options, VLAN tags, SCTP chunks but the first two of an association, and anything else that no case can send;
unknown protocols keep their number.
"""

import socket
import struct

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
#: IEEE 802 local experimental: every stack ignores it, every bridge learns from it.
ETHERTYPE_EXPERIMENTAL = 0x88B5
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
IPV6_HOP_BY_HOP, IPV6_ROUTING, IPV6_FRAGMENT, IPV6_DESTINATION = 0, 43, 44, 60

#: In the order in which they are written.
TCP_FLAGS = (("S", 2), ("A", 16), ("F", 1), ("R", 4), ("P", 8), ("U", 32))
ICMP_ERRORS = (3, 5, 11)
ICMPV6_ERRORS = (1, 2, 3, 4)
#: Neighbor solicitation and advertisement, redirect: a target follows the header.
ICMPV6_WITH_TARGET = (135, 136, 137)
#: A stack reports its multicast groups when a link comes up, whatever the case.
MULTICAST_LISTENERS = (130, 131, 132, 143)
VXLAN_PORTS = (4789, 8472)

SCTP_INIT, SCTP_INIT_ACK = 1, 2
#: Of both sides: an answer carries the tag that the other side began with.
SCTP_TAG = 1

MORE_FRAGMENTS, DONT_FRAGMENT, FRAGMENT_OFFSET = 0x2000, 0x4000, 0x1FFF


# ── from words to bytes ──────────────────────────────────────────────────────────────────────────────────────────────


def craft(packet, source_mac, destination_mac):
    """The frames of a packet step: one, or as many as `fragmentMtu` asks for."""
    ipv6 = ":" in packet["src"]
    ethernet = destination_mac + source_mac + struct.pack("!H", ETHERTYPE_IPV6 if ipv6 else ETHERTYPE_IPV4)
    payload = transport_payload(packet, ipv6)
    mtu = packet.get("fragmentMtu")
    header_bytes = 48 if ipv6 else 20
    if mtu is None or header_bytes + len(payload) <= mtu:
        if ipv6:
            return [ethernet + ipv6_packet(packet, payload, packet.get("frag"))]
        return [ethernet + ipv4_packet(packet, payload, ipv4_flags(packet))]
    step = (mtu - header_bytes) & ~7
    frames = []
    for start in range(0, len(payload), step):
        more = MORE_FRAGMENTS if start + step < len(payload) else 0
        part, bits = payload[start : start + step], more | start >> 3
        frames.append(ethernet + (ipv6_packet(packet, part, bits) if ipv6 else ipv4_packet(packet, part, bits)))
    return frames


def ipv4_flags(packet):
    return packet.get("frag", DONT_FRAGMENT if packet.get("df") else 0)


def ipv4_packet(packet, payload, flags):
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        packet.get("tos", 0),
        20 + len(payload),
        packet.get("ipid", 1),
        flags,
        packet.get("ttl", 64),
        protocol_number(packet),
        0,
        socket.inet_pton(socket.AF_INET, packet["src"]),
        socket.inet_pton(socket.AF_INET, packet["dst"]),
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6_packet(packet, payload, fragment):
    next_header = protocol_number(packet)
    if fragment is not None:
        offset_and_more = (fragment & FRAGMENT_OFFSET) << 3 | bool(fragment & MORE_FRAGMENTS)
        payload = struct.pack("!BBHI", next_header, 0, offset_and_more, packet.get("ipid", 1)) + payload
        next_header = IPV6_FRAGMENT
    return (
        struct.pack("!IHBB", 6 << 28 | packet.get("tos", 0) << 20, len(payload), next_header, packet.get("ttl", 64))
        + socket.inet_pton(socket.AF_INET6, packet["src"])
        + socket.inet_pton(socket.AF_INET6, packet["dst"])
        + payload
    )


def protocol_number(packet):
    return {"icmp": ICMP, "tcp": TCP, "udp": UDP, "icmpv6": ICMPV6, "sctp": SCTP}[packet["proto"]]


def transport_payload(packet, ipv6):
    """The transport header with its checksum, and the payload."""
    data = (packet.get("payload") or "").encode() + b"x" * packet.get("pad", 0)
    protocol = packet["proto"]
    if protocol == "sctp":
        return sctp_packet(packet) + data
    if protocol == "udp":
        checksum_at = 6
        segment = struct.pack("!HHHH", packet["sport"], packet["dport"], 8 + len(data), 0) + data
    elif protocol == "tcp":
        checksum_at = 16
        letters = packet.get("flags", "S")
        flags = sum(bit for letter, bit in TCP_FLAGS if letter in letters)
        ports = packet["sport"], packet["dport"]
        numbers = packet.get("seq", 1000), packet.get("ack", 0)
        segment = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, packet.get("win", 64240), 0, 0) + data
    else:
        checksum_at = 2
        echo_request = 128 if protocol == "icmpv6" else 8
        kind, code = packet.get("type", echo_request), packet.get("code", 0)
        segment = struct.pack("!BBHHH", kind, code, 0, packet.get("id", 7), packet.get("seqn", 1)) + data
    covered = segment if protocol == "icmp" else pseudo_header(packet, len(segment), ipv6) + segment
    value = checksum(covered)
    if protocol == "udp" and value == 0:
        value = 0xFFFF  # 0 says that there is none (RFC 768)
    return segment[:checksum_at] + struct.pack("!H", value) + segment[checksum_at + 2 :]


def sctp_packet(packet):
    """An INIT chunk, or the INIT-ACK that answers one: tag, window, one stream each way, first sequence number."""
    kind = packet.get("chunk", SCTP_INIT)
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20, SCTP_TAG, 65536, 1, 1, 1)
    ports = struct.pack("!HH", packet["sport"], packet["dport"])
    tag = struct.pack("!I", 0 if kind == SCTP_INIT else SCTP_TAG)
    # Little-endian, unlike everything around it (RFC 9260, appendix A).
    return ports + tag + struct.pack("<I", crc32c(ports + tag + bytes(4) + chunk)) + chunk


def crc32c(data):
    """Bit by bit: packets of SCTP are few and short."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def pseudo_header(packet, length, ipv6):
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    addresses = socket.inet_pton(family, packet["src"]) + socket.inet_pton(family, packet["dst"])
    protocol = protocol_number(packet)
    return addresses + (struct.pack("!II", length, protocol) if ipv6 else struct.pack("!HH", protocol, length))


def checksum(data):
    """The Internet checksum (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def learning_frame(source_mac):
    """A broadcast that teaches bridges where `source_mac` is, and that no stack answers."""
    return b"\xff" * 6 + source_mac + struct.pack("!H", ETHERTYPE_EXPERIMENTAL) + b"\0" * 46


# ── from bytes to words ──────────────────────────────────────────────────────────────────────────────────────────────


def decode_frame(frame):
    """What a capture says of a frame, or None for one that no case is about."""
    ethertype = frame[12] << 8 | frame[13]
    decoded = {"smac": frame[6:12].hex(":"), "dmac": frame[:6].hex(":")}
    if ethertype == ETHERTYPE_ARP:
        sender, target = socket.inet_ntoa(frame[28:32]), socket.inet_ntoa(frame[38:42])
        decoded.update(arp=frame[21], sender=sender, target=target)
        return decoded
    if ethertype == ETHERTYPE_IPV4:
        decoded.update(decode_ipv4(frame[14:]))
    elif ethertype == ETHERTYPE_IPV6:
        decoded.update(decode_ipv6(frame[14:]))
        if decoded["proto"] == "icmpv6" and decoded.get("type") in MULTICAST_LISTENERS:
            return None
    else:
        return None
    return decoded


def decode_ipv4(data):
    header_bytes = (data[0] & 15) * 4
    flags = data[6] << 8 | data[7]
    decoded = {
        "src": socket.inet_ntoa(data[12:16]),
        "dst": socket.inet_ntoa(data[16:20]),
        "ttl": data[8],
        "len": data[2] << 8 | data[3],
    }
    if flags & (MORE_FRAGMENTS | FRAGMENT_OFFSET):
        decoded["frag"] = flags
    decode_transport(decoded, data[9], data[header_bytes:], flags & FRAGMENT_OFFSET)
    return decoded


def decode_ipv6(data):
    decoded = {
        "src": socket.inet_ntop(socket.AF_INET6, data[8:24]),
        "dst": socket.inet_ntop(socket.AF_INET6, data[24:40]),
        "ttl": data[7],
        "len": 40 + (data[4] << 8 | data[5]),
    }
    next_header, rest, offset = data[6], data[40:], 0
    while next_header in (IPV6_HOP_BY_HOP, IPV6_ROUTING, IPV6_FRAGMENT, IPV6_DESTINATION) and len(rest) >= 8:
        if next_header == IPV6_FRAGMENT:
            offset = (rest[2] << 8 | rest[3]) >> 3
            decoded["frag"] = offset | (MORE_FRAGMENTS if rest[3] & 1 else 0)
            header_bytes = 8
        else:
            header_bytes = 8 + rest[1] * 8
        next_header, rest = rest[0], rest[header_bytes:]
    decode_transport(decoded, next_header, rest, offset)
    return decoded


def decode_transport(decoded, protocol, data, fragment_offset):
    """Adds what the transport header says; of a fragment without one, and of a quoted stump, what is there."""
    if fragment_offset or len(data) < 8:
        decoded["proto"] = protocol
    elif protocol == UDP:
        decoded.update(proto="udp", sport=data[0] << 8 | data[1], dport=data[2] << 8 | data[3])
        if decoded["dport"] in VXLAN_PORTS and len(data) > 30:
            inner = decode_frame(data[16:])
            if inner is not None:
                decoded.update(vni=int.from_bytes(data[12:15], "big"), inner=inner)
    elif protocol == SCTP:
        decoded.update(proto="sctp", sport=data[0] << 8 | data[1], dport=data[2] << 8 | data[3])
    elif protocol == TCP:
        decoded.update(proto="tcp", sport=data[0] << 8 | data[1], dport=data[2] << 8 | data[3])
        if len(data) >= 14:
            decoded["flags"] = "".join(letter for letter, bit in TCP_FLAGS if data[13] & bit)
            decoded["seq"] = int.from_bytes(data[4:8], "big")
            decoded["ack"] = int.from_bytes(data[8:12], "big")
    elif protocol == ICMP:
        decoded.update(proto="icmp", type=data[0], code=data[1])
        if data[0] in ICMP_ERRORS:
            decoded["mtu"] = data[6] << 8 | data[7]
            if len(data) >= 28:
                decoded["quoted"] = decode_ipv4(data[8:])
        else:
            decoded["id"] = data[4] << 8 | data[5]
    elif protocol == ICMPV6:
        decoded.update(proto="icmpv6", type=data[0], code=data[1])
        if data[0] in ICMPV6_ERRORS:
            decoded["mtu"] = data[6] << 8 | data[7]
            if len(data) >= 48:
                decoded["quoted"] = decode_ipv6(data[8:])
        elif data[0] in ICMPV6_WITH_TARGET and len(data) >= 24:
            decoded["target"] = socket.inet_ntop(socket.AF_INET6, data[8:24])
        elif data[0] in (128, 129):
            decoded["id"] = data[4] << 8 | data[5]
    else:
        decoded["proto"] = protocol
