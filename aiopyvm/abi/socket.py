"""Sockets on Linux i386: families, types, flags, options and structures (socket(7), unix(7), cmsg(3)).

An address is kept as the bytes of a `struct sockaddr`, its two bytes of family first. Control messages are aligned to 4
bytes, as everything of an i386 program.
"""

# Annotations are evaluated: see layout.py.

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
AF_PACKET: Final = 17
AF_MAX: Final = 46
FAMILIES: Final = {
    AF_UNSPEC: "AF_UNSPEC",
    AF_UNIX: "AF_UNIX",
    AF_INET: "AF_INET",
    AF_INET6: "AF_INET6",
    AF_NETLINK: "AF_NETLINK",
    AF_PACKET: "AF_PACKET",
}

SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_SEQPACKET: Final = 5
SOCK_MAX: Final = 11
SOCK_TYPE_MASK: Final = 0xF
SOCK_NONBLOCK: Final = 0o4000
SOCK_CLOEXEC: Final = 0o2000000
TYPES: Final = {
    SOCK_STREAM: "SOCK_STREAM",
    SOCK_DGRAM: "SOCK_DGRAM",
    SOCK_RAW: "SOCK_RAW",
    SOCK_SEQPACKET: "SOCK_SEQPACKET",
}

SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2

MSG_OOB: Final = 0x1
MSG_PEEK: Final = 0x2
MSG_DONTROUTE: Final = 0x4
MSG_CTRUNC: Final = 0x8
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_EOR: Final = 0x80
MSG_WAITALL: Final = 0x100
MSG_CONFIRM: Final = 0x800
MSG_ERRQUEUE: Final = 0x2000
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_WAITFORONE: Final = 0x10000
MSG_CMSG_CLOEXEC: Final = 0x40000000
MESSAGE_FLAGS: Final = {
    value: name for name, value in list(globals().items()) if name.startswith("MSG_") and isinstance(value, int)
}

SOL_SOCKET: Final = 1
SOL_IP: Final = 0
SOL_TCP: Final = 6
SOL_UDP: Final = 17
SOL_IPV6: Final = 41
SOL_UDPLITE: Final = 136
SOL_NETLINK: Final = 270
LEVELS: Final = {
    SOL_SOCKET: "SOL_SOCKET",
    SOL_IP: "SOL_IP",
    SOL_TCP: "SOL_TCP",
    SOL_UDP: "SOL_UDP",
    SOL_UDPLITE: "SOL_UDPLITE",
    SOL_IPV6: "SOL_IPV6",
    SOL_NETLINK: "SOL_NETLINK",
}

SO_DEBUG: Final = 1
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_DONTROUTE: Final = 5
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_NO_CHECK: Final = 11
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_REUSEPORT: Final = 15
SO_PASSCRED: Final = 16
SO_PEERCRED: Final = 17
SO_RCVLOWAT: Final = 18
SO_SNDLOWAT: Final = 19
SO_RCVTIMEO: Final = 20
SO_SNDTIMEO: Final = 21
SO_BINDTODEVICE: Final = 25
SO_PEERNAME: Final = 28
SO_ACCEPTCONN: Final = 30
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_MARK: Final = 36
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
SO_PEERGROUPS: Final = 59
SO_RCVTIMEO_NEW: Final = 66
SO_SNDTIMEO_NEW: Final = 67

SCM_RIGHTS: Final = 1
SCM_CREDENTIALS: Final = 2
SCM_MAX_FD: Final = 253

SOMAXCONN: Final = 4096  # /proc/sys/net/core/somaxconn
BUFFER_SIZE: Final = 212992  # /proc/sys/net/core/{r,w}mem_default and _max
MIN_SEND_BUFFER: Final = 4608
MIN_RECEIVE_BUFFER: Final = 2304
MAX_DATAGRAMS: Final = 10  # /proc/sys/net/unix/max_dgram_qlen
UNIX_PATH_MAX: Final = 108
ADDRESS_MAX: Final = 128  # struct sockaddr_storage
UIO_MAXIOV: Final = 1024

SIOCOUTQ: Final = 0x5411
FIOSETOWN: Final = 0x8901
SIOCSPGRP: Final = 0x8902
FIOGETOWN: Final = 0x8903
SIOCGPGRP: Final = 0x8904
SIOCATMARK: Final = 0x8905
SIOCGIFNAME: Final = 0x8910
SIOCGIFCONF: Final = 0x8912
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFADDR: Final = 0x8915
SIOCGIFDSTADDR: Final = 0x8917
SIOCGIFBRDADDR: Final = 0x8919
SIOCGIFNETMASK: Final = 0x891B
SIOCGIFMETRIC: Final = 0x891D
SIOCGIFMTU: Final = 0x8921
SIOCGIFHWADDR: Final = 0x8927
SIOCGIFINDEX: Final = 0x8933
SIOCGIFTXQLEN: Final = 0x8942
REQUESTS: Final = {
    value: name for name, value in list(globals().items()) if name.startswith("SIOC") and isinstance(value, int)
}


@layout("<iii")
class Ucred(NamedTuple):
    """struct ucred: who is at the other end; ids are -1 where that is not known, and shown as 32-bit words."""

    pid: int
    uid: int
    gid: int


NOBODY: Final = Ucred(0, -1, -1)  # what SO_PEERCRED gives where nobody is connected
OVERFLOW: Final = Ucred(0, 65534, 65534)  # what SCM_CREDENTIALS tells of a message that came without


@layout("<ii")
class Linger(NamedTuple):
    """struct linger."""

    onoff: int
    seconds: int


@layout("<IiIIIIi")
class Msghdr(NamedTuple):
    """struct msghdr of i386."""

    name: int
    namelen: int
    iov: int
    iovlen: int
    control: int
    controllen: int
    flags: int


@layout("<Iii")
class Cmsghdr(NamedTuple):
    """struct cmsghdr of i386; `len` counts itself."""

    len: int
    level: int
    type: int


CMSG_HEADER: Final = 12
CMSG_ALIGN: Final = 4
MSGHDR_SIZE: Final = 28
MMSGHDR_SIZE: Final = 32
