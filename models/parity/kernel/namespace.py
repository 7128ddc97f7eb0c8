"""Network namespaces, and what is done inside one.

They have no names: a namespace lives as long as this process holds its descriptor, so that nothing is left behind
however the process ends. To look into one: nsenter --net=/proc/PID/fd/N.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
#: struct ifreq
DEVICE_FLAGS = struct.Struct("16sH22x")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


class ToolFailed(Exception):
    """A tool refused what it was given, in its own words."""

    def __init__(self, command, message):
        super().__init__(f"{command[0]}: {message}")
        self.command = command
        self.message = message


class Namespace:
    """`with namespace:` does what follows inside it. The process is back in its own namespace afterwards."""

    _home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def __init__(self, name):
        self.name = name
        _checked(_libc.unshare(CLONE_NEWNET), "a new network namespace")
        self._descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _checked(_libc.setns(Namespace._home, CLONE_NEWNET), "setns")

    @property
    def path(self):
        """How `ip link add … netns` names it."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def __enter__(self):
        _checked(_libc.setns(self._descriptor, CLONE_NEWNET), "setns")
        return self

    def __exit__(self, *_):
        _checked(_libc.setns(Namespace._home, CLONE_NEWNET), "setns")

    def run(self, command, text=""):
        """What `command` prints, run inside with `text` as its input."""
        with self:
            done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
        if done.returncode != 0:
            raise ToolFailed(command, done.stderr.strip() or f"exit status {done.returncode}")
        return done.stdout

    def ip(self, lines):
        if lines:
            self.run(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def set_sysctls(self, settings):
        with self:
            for name, value in settings.items():
                write_sysctl(name, value)

    def close(self):
        os.close(self._descriptor)


def set_up(device):
    """`ip link set DEVICE up`, which every namespace needs for its `lo`, without a process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, DEVICE_FLAGS.pack(device.encode(), 0))
        name, flags = DEVICE_FLAGS.unpack(asked)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, DEVICE_FLAGS.pack(name, flags | IFF_UP))


def sysctl_path(name):
    """`net.ipv4.conf.eth0.rp_filter`, or with slashes where a device name has dots, or a path."""
    return os.path.join("/proc/sys", name if "/" in name else name.replace(".", "/"))


def read_sysctl(name):
    with open(sysctl_path(name), encoding="ascii") as file:
        return file.read().strip()


def write_sysctl(name, value):
    with open(sysctl_path(name), "w", encoding="ascii") as file:
        file.write(str(value))
