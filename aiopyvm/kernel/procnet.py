"""/proc/net: the sockets and interfaces of the machine that looks (proc(5)), as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import ENOENT, Errno
from aiopyvm.abi.inet import IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, TcpState
from aiopyvm.abi.socket import AF_INET, AF_INET6
from aiopyvm.kernel.fs import Inode
from aiopyvm.kernel.interfaces import interfaces
from aiopyvm.kernel.procfs import ProcDirectory, ProcText
from aiopyvm.kernel.procinfo import TICK_NS, Text

if TYPE_CHECKING:
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.inetsocket import InetSocket
    from aiopyvm.kernel.net import NetHost
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.timewait import Remains

_INET_HEAD: Final = (
    "  sl  local_address{pad} rem_address{pad}   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
)
_DEV_HEAD: Final = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|"
    "bytes    packets errs drop fifo colls carrier compressed\n"
)


def _host(ctx: FsContext) -> NetHost:
    assert ctx.process is not None
    return ctx.process.kernel.net


def _dev(ctx: FsContext, _: Process | None) -> bytes:
    rows = [_DEV_HEAD]
    zeros = f"{0:8} {0:7} {0:4} {0:4} {0:4} {0:5} {0:10} {0:9} {0:8} {0:7} {0:4} {0:4} {0:4} {0:5} {0:7} {0:10}\n"
    rows += [f"{each.name.decode():>6}: {zeros}" for each in interfaces(_host(ctx).inet)]
    return "".join(rows).encode()


def _if_inet6(ctx: FsContext, _: Process | None) -> bytes:
    return b"00000000000000000000000000000001 01 80 10 80       lo\n"


def _unix(ctx: FsContext, _: Process | None) -> bytes:
    rows = ["Num       RefCount Protocol Flags    Type St Inode Path\n"]
    for each in _host(ctx).unix.sockets:
        if each.dead:
            continue
        path = each.path.rstrip(b"\0") if each.path[:1] != b"\0" else b"@" + each.path[1:]
        name = f" {path.replace(bytes(1), b'@').decode(errors='replace')}" if path else ""
        connected = 3 if each.peer is not None else 1
        state = f"{0x10000 if each.listening else 0:08X} {each.kind:04X} {connected:02X}"
        rows.append(f"{0:016X}: {max(2, each.refs):08X} {0:08X} {state} {each.number:5}{name}\n")
    return "".join(rows).encode()


def _inet(protocol: int, domain: int) -> Callable[[FsContext, Process | None], bytes]:
    def text(ctx: FsContext, _: Process | None) -> bytes:
        found = [
            socket
            for (kind, _), bound in sorted(_host(ctx).inet.ports.items())
            if kind == protocol
            for socket in bound
            if socket.domain == domain and not socket.is_idle()
        ]
        width = 149 if domain == AF_INET else 0
        head = _INET_HEAD.format(pad="" if domain == AF_INET else " " * 24)
        rows = [head, *(_inet_row(n, socket) for n, socket in enumerate(found))]
        resting = _host(ctx).inet.resting.rows(domain) if protocol == IPPROTO_TCP else []
        rows += [_resting_row(n, *each) for n, each in enumerate(resting, len(found))]
        return "".join(f"{row:<{width}}\n" for row in rows).encode()

    return text


def _inet_row(n: int, socket: InetSocket) -> str:
    peer_port = socket.peer_port if socket.is_connected() else 0
    state = getattr(socket, "state", TcpState.ESTABLISHED if peer_port else TcpState.CLOSE)
    waiting = len(getattr(socket, "arrivals", ())) if socket.listening else getattr(socket, "inbox_size", 0)
    return (
        f"{n:4}: {_ends(socket, peer_port)} {state:02X} {0:08X}:{waiting:08X} 00:00000000 00000000 "
        f"{socket.owner[0]:5}        0 {socket.number} {max(1, socket.refs)} 0000000000000000 100 0 0 10 0"
    )


def _resting_row(n: int, remains: Remains, left_ns: int) -> str:
    ends, left = _ends(remains, remains.peer_port), left_ns // TICK_NS
    return f"{n:4}: {ends} {remains.state:02X} {0:08X}:{0:08X} 03:{left:08X} {0:08X} {0:5} {0:8} 0 3 {0:016x}"


def _ends(socket: InetSocket | Remains, peer_port: int) -> str:
    here, there = _hex(socket.domain, socket.ip), _hex(socket.domain, socket.peer_ip)
    return f"{here}:{socket.port:04X} {there}:{peer_port:04X}"


def _hex(domain: int, ip: bytes) -> str:
    """An address as Linux shows it: words of the host's order."""
    data = ip[12:] if domain == AF_INET else ip
    return "".join(f"{int.from_bytes(data[at : at + 4], 'little'):08X}" for at in range(0, len(data), 4))


FILES: Final[dict[bytes, Callable[[FsContext, Process | None], bytes]]] = {
    b"dev": _dev,
    b"if_inet6": _if_inet6,
    b"tcp": _inet(IPPROTO_TCP, AF_INET),
    b"tcp6": _inet(IPPROTO_TCP, AF_INET6),
    b"udp": _inet(IPPROTO_UDP, AF_INET),
    b"udp6": _inet(IPPROTO_UDP, AF_INET6),
    b"udplite": _inet(IPPROTO_UDPLITE, AF_INET),
    b"udplite6": _inet(IPPROTO_UDPLITE, AF_INET6),
    b"unix": _unix,
}


class NetDirectory(ProcDirectory):
    """/proc/pid/net."""

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return one of its files. Raises Errno(ENOENT)."""
        if name not in FILES:
            raise Errno(ENOENT)
        return ProcText(self.fs, self.number + 1 + list(FILES).index(name), None, Text(FILES[name]))

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """The files."""
        for n, name in enumerate(FILES):
            yield self.number + 1 + n, 8, name
