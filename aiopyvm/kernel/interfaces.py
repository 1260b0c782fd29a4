"""Network interfaces as programs see them: ioctl(2) of netdevice(7), and what /proc/net/dev shows.

A host has the loopback interface `lo` and, where it is on a network of several, `eth0`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import ENODEV, ENOTTY, EPERM, Errno
from aiopyvm.abi.inet import LOOPBACK4, MTU

if TYPE_CHECKING:
    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.thread import Thread

IFNAMSIZ: Final = 16
IFREQ_SIZE: Final = 32
IFF_UP: Final = 0x1
IFF_BROADCAST: Final = 0x2
IFF_LOOPBACK: Final = 0x8
IFF_RUNNING: Final = 0x40
IFF_LOWER_UP: Final = 0x10000
ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
_CHANGES: Final = frozenset({0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8922, 0x8923, 0x8924, 0x8943})


class Interface(NamedTuple):
    """A network interface; `ip` is its IPv4 address."""

    number: int
    name: bytes
    ip: bytes
    mask: bytes
    flags: int
    hardware: int
    mtu: int
    queue: int


def interfaces(host: Inet) -> tuple[Interface, ...]:
    """Return a host's interfaces."""
    lo = Interface(
        1,
        b"lo",
        LOOPBACK4[12:],
        b"\xff\0\0\0",
        IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP,
        ARPHRD_LOOPBACK,
        MTU,
        1000,
    )
    if host.ip is None:
        return (lo,)
    flags = IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_LOWER_UP
    return lo, Interface(2, b"eth0", host.ip[12:], b"\xff\xff\0\0", flags, ARPHRD_ETHER, 1500, 1000)


def control(host: Inet, t: Thread, request: int, arg: int) -> int:
    """Answer a request about interfaces. Raises Errno: ENODEV, EPERM for changes, ENOTTY for what is none."""
    if request == abi.SIOCGIFCONF:
        return _list(host, t, arg)
    if request in _CHANGES:
        raise Errno(EPERM)
    if request not in _ANSWERS and request != abi.SIOCGIFNAME:
        raise Errno(ENOTTY)
    data = t.memory.read(arg, IFREQ_SIZE)
    found = interfaces(host)
    if request == abi.SIOCGIFNAME:
        index = int.from_bytes(data[16:20], "little")
        names = [each.name for each in found if each.number == index]
        if not names:
            raise Errno(ENODEV)
        t.memory.write(arg, names[0].ljust(IFNAMSIZ, b"\0"))
        return 0
    name = data[:IFNAMSIZ].partition(b"\0")[0]
    for each in found:
        if each.name == name:
            t.memory.write(arg + IFNAMSIZ, _ANSWERS[request](each))
            return 0
    raise Errno(ENODEV)


def _address(ip: bytes) -> bytes:
    return struct.pack("<HH", abi.AF_INET, 0) + ip + bytes(8)


def _broadcast(each: Interface) -> bytes:
    if each.flags & IFF_LOOPBACK:
        return _address(bytes(4))
    return _address(bytes(a | ~m & 0xFF for a, m in zip(each.ip, each.mask, strict=True)))


def hardware_address(each: Interface) -> bytes:
    """Return an interface's link-layer address."""
    return bytes(6) if each.flags & IFF_LOOPBACK else b"\x02\0" + each.ip


def _hardware(each: Interface) -> bytes:
    return struct.pack("<H", each.hardware) + hardware_address(each) + bytes(8)


_ANSWERS: Final[dict[int, Callable[[Interface], bytes]]] = {
    abi.SIOCGIFFLAGS: lambda each: struct.pack("<H", each.flags & 0xFFFF),
    abi.SIOCGIFADDR: lambda each: _address(each.ip),
    abi.SIOCGIFDSTADDR: lambda each: _address(each.ip),
    abi.SIOCGIFBRDADDR: _broadcast,
    abi.SIOCGIFNETMASK: lambda each: _address(each.mask),
    abi.SIOCGIFMETRIC: lambda each: bytes(4),
    abi.SIOCGIFMTU: lambda each: struct.pack("<i", each.mtu),
    abi.SIOCGIFHWADDR: _hardware,
    abi.SIOCGIFINDEX: lambda each: struct.pack("<i", each.number),
    abi.SIOCGIFTXQLEN: lambda each: struct.pack("<i", each.queue),
}


def _list(host: Inet, t: Thread, arg: int) -> int:
    """SIOCGIFCONF: as many interfaces as there is room for; only their size where the buffer is NULL."""
    room, buffer = struct.unpack("<iI", t.memory.read(arg, 8))
    rows = [each.name.ljust(IFNAMSIZ, b"\0") + _address(each.ip) for each in interfaces(host)]
    if buffer:
        rows = rows[: max(0, room) // IFREQ_SIZE]
        t.memory.write(buffer, b"".join(rows))
    t.memory.write(arg, struct.pack("<i", len(rows) * IFREQ_SIZE))
    return 0
