"""What passes the devices of a namespace: a packet socket with a ring that the kernel fills (TPACKET_V2).

The ring holds copies. Frames read from the socket itself share their bytes with the live ones, which the kernel may
write to afterwards: ip_do_fragment() puts new headers on fragments that were captured when they came in.
"""

import mmap
import socket
import struct

from frames import decode_frame

ETH_P_ALL = 3
SOL_PACKET, PACKET_RX_RING, PACKET_VERSION, TPACKET_V2 = 263, 5, 10, 1
PACKET_OUTGOING = 4
STATUS_KERNEL, STATUS_USER = 0, 1

#: Headers alone, with room for those that an ICMP error or a tunnel holds.
SLOT_BYTES = 512
BLOCK_BYTES, BLOCKS = 1 << 16, 16
SLOTS = BLOCK_BYTES * BLOCKS // SLOT_BYTES

#: struct tpacket2_hdr up to tp_nsec; struct sockaddr_ll follows after 32 bytes, with its ifindex and packet type.
HEADER = struct.Struct("=IIIHHII")
ADDRESS_AT = 32
ADDRESS = struct.Struct("=HHiHB")


class Capture:
    """Sees every frame of a namespace, at the devices of interest; and sends frames, which it does not see."""

    def __init__(self, namespace, devices):
        self.namespace = namespace
        self._devices = {socket.if_nametoindex(device): device for device in devices}
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, struct.pack("i", TPACKET_V2))
        request = struct.pack("IIII", BLOCK_BYTES, BLOCKS, SLOT_BYTES, SLOTS)
        self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        self._ring = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * BLOCKS)
        self._slot = 0

    def send(self, device, frame):
        self._socket.sendto(frame, (device, frame[12] << 8 | frame[13]))

    def drain(self, frames):
        """Appends what came since the last time, and gives its slots back to the kernel."""
        ring = self._ring
        while True:
            at = self._slot * SLOT_BYTES
            status, _, size, offset, _, seconds, nanoseconds = HEADER.unpack_from(ring, at)
            if not status & STATUS_USER:
                return
            _, _, index, _, direction = ADDRESS.unpack_from(ring, at + ADDRESS_AT)
            frame = ring[at + offset : at + offset + size]
            struct.pack_into("=I", ring, at, STATUS_KERNEL)
            self._slot = (self._slot + 1) % SLOTS
            device = self._devices.get(index)
            decoded = decode_frame(frame) if device is not None else None
            if decoded is None:
                continue
            frames.append(
                {
                    "ns": self.namespace,
                    "dev": device,
                    "dir": "out" if direction == PACKET_OUTGOING else "in",
                    **decoded,
                    "t": seconds * 1_000_000_000 + nanoseconds,
                }
            )

    def close(self):
        self._ring.close()
        self._socket.close()
