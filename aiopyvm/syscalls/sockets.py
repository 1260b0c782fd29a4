"""Making, naming and connecting sockets, and their options: socket(2), bind(2), connect(2), getsockopt(2)...

How it works. Handlers find the socket, decode addresses and put what a socket made into the table; what happens is the
socket's (kernel/socket.py). A connect(2) or accept(2) that cannot go on returns a `Wait` on the socket's queue with the
deadline that SO_RCVTIMEO or SO_SNDTIMEO set; then a signal ends it with EINTR for good, as socket(7) has it.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import (
    EAFNOSUPPORT,
    EAGAIN,
    EALREADY,
    EINPROGRESS,
    EINVAL,
    ENOTSOCK,
    EOPNOTSUPP,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    Errno,
)
from aiopyvm.abi.fcntl import O_NONBLOCK
from aiopyvm.abi.inet import IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE
from aiopyvm.abi.layout import layout
from aiopyvm.abi.socket import (
    AF_INET,
    AF_INET6,
    AF_MAX,
    AF_NETLINK,
    AF_UNIX,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_STREAM,
    SOCK_TYPE_MASK,
)
from aiopyvm.kernel import sockopts
from aiopyvm.kernel.socket import Socket, credentials_of
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.unixsocket import CONNECTED, UnixSocket
from aiopyvm.kernel.wait import Cause, Restart, Wait, WaitQueue
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.spec import I32, Choice, Fd, Flags, Out, Ptr, SocketType, Unsigned, syscall
from aiopyvm.syscalls.steps import call_of
from aiopyvm.syscalls.transfer import open_file

Domain = Annotated[int, Choice(abi.FAMILIES)]
Type = Annotated[int, SocketType()]
Level = Annotated[int, Choice(abi.LEVELS)]
AcceptFlags = Annotated[int, Flags({SOCK_NONBLOCK: "SOCK_NONBLOCK", SOCK_CLOEXEC: "SOCK_CLOEXEC"})]
Option = Annotated[int, Unsigned()]
_PROTOCOLS = {SOCK_STREAM: (IPPROTO_TCP,), SOCK_DGRAM: (IPPROTO_UDP, IPPROTO_UDPLITE)}
_OPTIONS_NOTE = "no multicast groups of IPv6 and source filters, no packet filters, time stamps and zero copy"
OPTION_BYTES = 256  # most that setsockopt(2) looks at


@layout("<ii")
class SocketPair(NamedTuple):
    """The int sv[2] of socketpair(2)."""

    one: int
    two: int


def socket_of(t: Thread, fd: int) -> Socket:
    """Return the socket of `fd`, in a continued call the one it began with. Raises Errno: EBADF, ENOTSOCK."""
    file = open_file(t, fd)
    if not isinstance(file, Socket):
        raise Errno(ENOTSOCK)
    return file


# --- addresses --------------------------------------------------------------------------------------------------------


def read_address(t: Thread, address: int, length: int) -> bytes:
    """Read a socket address. Raises Errno(EINVAL) for a length that is none, and MemoryFault."""
    if not 0 <= length <= abi.ADDRESS_MAX:
        raise Errno(EINVAL)
    return t.memory.read(address, length) if length else b""


def write_address(t: Thread, data: bytes, address: int, length_at: int) -> None:
    """Store a socket address, cut off at *length_at, and its whole length there. Raises Errno(EINVAL), MemoryFault."""
    room = int.from_bytes(t.memory.read(length_at, 4), "little", signed=True)
    if room < 0:
        raise Errno(EINVAL)
    if room and data:
        t.memory.write(address, data[:room])
    t.memory.write(length_at, len(data).to_bytes(4, "little"))


# --- waiting ----------------------------------------------------------------------------------------------------------


def wait_for(t: Thread, queues: tuple[WaitQueue, ...], timeout: int | None, reason: str, error: int = EAGAIN) -> Wait:
    """Return what to wait for, `timeout` ns at most from the first time on. Raises Errno(`error`) when that is over."""
    call = call_of(t)
    if timeout is None:
        return Wait(queues, reason=reason)
    now = t.kernel.clock.monotonic_ns()
    if call.deadline is None:
        call.deadline = now + timeout
    if call.woken is Cause.TIMEOUT or call.deadline <= now:
        raise Errno(error)
    return Wait(queues, call.deadline, Restart.EINTR, reason)


# --- making -----------------------------------------------------------------------------------------------------------


def make_socket(t: Thread, domain: int, kind: int, protocol: int, flags: int) -> Socket:
    """Return a new socket that nobody holds. Raises Errno as socket(2)."""
    if not 0 <= domain < AF_MAX:
        raise Errno(EAFNOSUPPORT)
    if not 0 <= kind < abi.SOCK_MAX:
        raise Errno(EINVAL)
    net = t.kernel.net
    if domain == AF_UNIX:
        kind = SOCK_DGRAM if kind == SOCK_RAW else kind
        if protocol not in (0, AF_UNIX):
            raise Errno(EPROTONOSUPPORT)
        if kind not in (*CONNECTED, SOCK_DGRAM):
            raise Errno(ESOCKTNOSUPPORT)
        made: Socket = UnixSocket(net.unix, kind, t.kernel.budget, net.next_number(), flags)
    elif domain in (AF_INET, AF_INET6):
        made = _make_inet(t, domain, kind, protocol, flags)
    elif domain == AF_NETLINK:
        made = _make_netlink(t, kind, protocol, flags)
    else:
        raise Errno(EAFNOSUPPORT)
    who = t.credentials
    made.owner = (who.fsuid, who.fsgid)
    return made


def _make_netlink(t: Thread, kind: int, protocol: int, flags: int) -> Socket:
    """A socket of NETLINK_ROUTE, which alone is there."""
    if kind not in (SOCK_RAW, SOCK_DGRAM):
        raise Errno(ESOCKTNOSUPPORT)
    if protocol:
        raise Errno(EPROTONOSUPPORT)
    from aiopyvm.kernel.netlink import NetlinkSocket

    net = t.kernel.net
    return NetlinkSocket(net.inet, kind, t.kernel.budget, net.next_number(), flags)


def _make_inet(t: Thread, domain: int, kind: int, protocol: int, flags: int) -> Socket:
    """A TCP or UDP socket; raw ones are the superuser's on Linux, and nobody's here."""
    if kind == SOCK_RAW:
        raise Errno(EPERM)
    if kind not in _PROTOCOLS:
        raise Errno(ESOCKTNOSUPPORT)
    if protocol and protocol not in _PROTOCOLS[kind]:
        raise Errno(EPROTONOSUPPORT)
    net = t.kernel.net
    if kind == SOCK_STREAM:
        from aiopyvm.kernel.tcp import TcpSocket

        return TcpSocket(net.inet, domain, t.kernel.budget, net.next_number(), flags)
    from aiopyvm.kernel.udp import UdpSocket

    made = UdpSocket(net.inet, domain, t.kernel.budget, net.next_number(), flags)
    made.protocol = protocol or IPPROTO_UDP
    return made


def install(t: Thread, file: Socket, flags: int) -> int:
    """Give a new socket a descriptor; where that fails it is closed. Raises Errno: EMFILE, ENFILE."""
    file.hold()
    try:
        t.kernel.take_file(file)
        return t.process.fds.install(file, cloexec=bool(flags & SOCK_CLOEXEC))
    finally:
        file.release()


def _split_type(word: int) -> tuple[int, int]:
    """Return the type and its flags. Raises Errno(EINVAL)."""
    if word & 0xFFFFFFFF & ~(SOCK_TYPE_MASK | SOCK_NONBLOCK | SOCK_CLOEXEC):
        raise Errno(EINVAL)
    return word & SOCK_TYPE_MASK, word & ~SOCK_TYPE_MASK


@syscall(359, "socket", man="socket(2)", note="AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK (NETLINK_ROUTE); no raw ones")
def socket(t: Thread, domain: Domain, type: Type, protocol: I32) -> int:
    """Make a socket."""
    kind, flags = _split_type(type)
    return install(t, make_socket(t, domain, kind, protocol, flags & O_NONBLOCK), flags)


@syscall(360, "socketpair", man="socketpair(2)")
def socketpair(t: Thread, domain: Domain, type: Type, protocol: I32, sv: Out[SocketPair]) -> int:
    """Make two connected sockets."""
    kind, flags = _split_type(type)
    pair = [make_socket(t, domain, kind, protocol, flags & O_NONBLOCK) for _ in range(2)]
    one, two = pair
    if not isinstance(one, UnixSocket) or not isinstance(two, UnixSocket):
        for made in pair:
            made.close()
        raise Errno(EOPNOTSUPP)
    one.pair(two, credentials_of(t))
    two.hold()
    given: list[int] = []
    try:
        given.append(install(t, one, flags))
        given.append(install(t, two, flags))
        sv.put(SocketPair(*given))
    except (Errno, MemoryFault):
        for fd in given:
            t.process.fds.close(fd)
        raise
    finally:
        two.release()
    return 0


# --- names and connections --------------------------------------------------------------------------------------------


@syscall(361, "bind", man="bind(2)")
def bind(t: Thread, fd: Fd, addr: Ptr, addrlen: I32) -> int:
    """Give a socket its address."""
    file = socket_of(t, fd)
    file.bind(t, read_address(t, addr, addrlen))
    return 0


@syscall(362, "connect", man="connect(2)")
def connect(t: Thread, fd: Fd, addr: Ptr, addrlen: I32) -> int | Wait:
    """Connect a socket, or set where its datagrams go."""
    file = socket_of(t, fd)
    timeout = file.options.send_timeout
    if "begun" in call_of(t).state:
        return _go_on_connecting(t, file, timeout)
    address = read_address(t, addr, addrlen)
    try:
        file.connect(t, address)
    except Errno as error:
        if error.number == EAGAIN and not file.flags & O_NONBLOCK and isinstance(file, UnixSocket):
            queues = tuple(other.write_queue for other in file.waits_on(t, address))
            return wait_for(t, queues, timeout, "to connect")
        if error.number not in (EINPROGRESS, EALREADY) or file.flags & O_NONBLOCK:
            raise
        return _go_on_connecting(t, file, timeout)
    return 0


def _go_on_connecting(t: Thread, file: Socket, timeout: int | None) -> int | Wait:
    """A connection that has begun."""
    if file.connected():
        return 0
    call_of(t).state["begun"] = True
    return wait_for(t, (file.write_queue,), timeout, "to connect", EINPROGRESS)


@syscall(363, "listen", man="listen(2)")
def listen(t: Thread, fd: Fd, backlog: I32) -> int:
    """Take connections; `backlog` may wait to be accepted."""
    file = socket_of(t, fd)
    file.listen(t, min(backlog & 0xFFFFFFFF, abi.SOMAXCONN))
    return 0


@syscall(364, "accept4", man="accept(2)")
def accept4(t: Thread, fd: Fd, addr: Ptr, addrlen: Ptr, flags: AcceptFlags) -> int | Wait:
    """Take the next connection."""
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise Errno(EINVAL)
    file = socket_of(t, fd)
    t.process.fds.need_free()
    try:
        made = file.accept(t)
    except Errno as error:
        if error.number != EAGAIN or file.flags & O_NONBLOCK:
            raise
        return wait_for(t, (file.read_queue,), file.options.receive_timeout, "to accept a connection")
    made.flags |= flags & O_NONBLOCK
    made.owner = file.owner
    given = install(t, made, flags)
    if addr:
        try:
            write_address(t, made.peer_address(), addr, addrlen)
        except (Errno, MemoryFault):
            t.process.fds.close(given)
            raise
    return given


@syscall(367, "getsockname", man="getsockname(2)")
def getsockname(t: Thread, fd: Fd, addr: Ptr, addrlen: Ptr) -> int:
    """Tell a socket's address."""
    write_address(t, socket_of(t, fd).local_address(), addr, addrlen)
    return 0


@syscall(368, "getpeername", man="getpeername(2)")
def getpeername(t: Thread, fd: Fd, addr: Ptr, addrlen: Ptr) -> int:
    """Tell the address at the other end."""
    write_address(t, socket_of(t, fd).peer_address(), addr, addrlen)
    return 0


@syscall(373, "shutdown", man="shutdown(2)")
def shutdown(t: Thread, fd: Fd, how: I32) -> int:
    """Close one direction of a connection, or both."""
    file = socket_of(t, fd)
    if not abi.SHUT_RD <= how <= abi.SHUT_RDWR:
        raise Errno(EINVAL)
    file.shutdown(how)
    return 0


# --- options ----------------------------------------------------------------------------------------------------------


@syscall(365, "getsockopt", man="getsockopt(2)", note=_OPTIONS_NOTE)
def getsockopt(t: Thread, fd: Fd, level: Level, optname: Option, optval: Ptr, optlen: Ptr) -> int:
    """Tell an option's value."""
    file = socket_of(t, fd)
    room = int.from_bytes(t.memory.read(optlen, 4), "little", signed=True)
    if room < 0:
        raise Errno(EINVAL)
    value = sockopts.get_option(t, file, level, optname, room)[:room]
    if value:
        t.memory.write(optval, value)
    t.memory.write(optlen, len(value).to_bytes(4, "little"))
    return 0


@syscall(366, "setsockopt", man="getsockopt(2)", note=_OPTIONS_NOTE)
def setsockopt(t: Thread, fd: Fd, level: Level, optname: Option, optval: Ptr, optlen: I32) -> int:
    """Set an option."""
    file = socket_of(t, fd)
    if optlen < 0:
        raise Errno(EINVAL)
    size = min(optlen, OPTION_BYTES)
    sockopts.set_option(t, file, level, optname, t.memory.read(optval, size) if size else b"")
    return 0
