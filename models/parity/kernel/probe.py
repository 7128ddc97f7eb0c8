"""What this machine lacks for asking its kernel, in words."""

import os
import platform
import shutil

from namespace import Namespace, ToolFailed

#: By the feature that needs them.
TOOLS = {
    "building networks": ("ip", "bridge"),
    "rules of backend legacy, and silent pods": (
        "iptables-legacy-restore",
        "iptables-legacy-save",
        "ip6tables-legacy-restore",
        "ip6tables-legacy-save",
    ),
    "rules of backend nft": (
        "iptables-nft-restore",
        "iptables-nft-save",
        "ip6tables-nft-restore",
        "ip6tables-nft-save",
    ),
    "rules of backend nftnative": ("nft",),
    "ipset": ("ipset",),
}


def probe():
    return {"version": platform.release(), "missing": list(missing())}


def missing():
    if os.geteuid() != 0:
        yield f"root: this is user {os.geteuid()}, and network namespaces need CAP_SYS_ADMIN and CAP_NET_ADMIN"
        return
    for feature, tools in TOOLS.items():
        for tool in tools:
            if shutil.which(tool) is None:
                yield f"{tool}, for {feature}: not found in PATH"
    if shutil.which("ip") is not None:
        yield from missing_in_kernel()


def missing_in_kernel():
    try:
        namespace = Namespace("probe")
    except OSError as error:
        yield f"network namespaces: {error}"
        return
    attempts = {
        "veth": "link add veth0 type veth peer name veth1",
        "bridge": "link add cbr0 type bridge",
        "vxlan": "link add vx0 type vxlan id 1 dstport 8472",
        "vxlan over IPv6": "link add vx6 type vxlan id 1 local fd00::1 dstport 8472",
    }
    try:
        for module, line in attempts.items():
            try:
                namespace.ip([line])
            except ToolFailed as failure:
                yield f"{module} in this kernel: {failure.message}"
        with namespace:
            if not os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
                yield "br_netfilter in this kernel: a new namespace has no net.bridge.* (modprobe br_netfilter)"
            if not os.path.exists("/proc/net/nf_conntrack"):
                yield "/proc/net/nf_conntrack: not in this kernel (CONFIG_NF_CONNTRACK_PROCFS, modprobe nf_conntrack)"
    finally:
        namespace.close()
