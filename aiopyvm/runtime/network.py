"""`Network`: machines that reach each other, and what of the world outside they may reach; and the tasks behind it.

How it works. A granted name is given an address of its own (198.18.0.0/15, which nobody has on the Internet), and the
guests' resolver tells that one: so a guest connects to an address, and the grant is found by it. The host's resolver
is asked for the name only when a granted connection is made. Everything else is unreachable (ENETUNREACH), and other
ports of a granted host refuse (ECONNREFUSED).

What always holds. Without a grant nothing of the host's network is touched. A run's tasks end with it.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from aiopyvm.abi.errno import ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOBUFS, ETIMEDOUT
from aiopyvm.abi.inet import MAPPED, TcpState
from aiopyvm.kernel.inet import Network as KernelNetwork
from aiopyvm.runtime.datagrams import Flows

if TYPE_CHECKING:
    from anyio.streams.stapled import MultiListener

    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.packetinfo import Datagram
    from aiopyvm.kernel.tcp import TcpSocket
    from aiopyvm.kernel.udp import UdpSocket
    from aiopyvm.runtime.run import Run

FIRST_NAME: Final = 0xC6120001  # 198.18.0.1
MOST_NAMES: Final = 1 << 16


class Network:
    """A network for machines: `VM(net=Network(...))`.

    Machines that are given the same one reach each other, by the names that they were given (`VM(hostname=...)`, or
    `name=...`). `allow` are the (host, port) that they may connect to outside, by TCP, and `allow_udp` those that they
    may exchange datagrams with: names as programs will ask for them, or addresses. Raises TypeError, ValueError for
    what is none.
    """

    def __init__(self, *, allow: Iterable[tuple[str, int]] = (), allow_udp: Iterable[tuple[str, int]] = ()) -> None:
        self.machines = KernelNetwork()
        self.runs: list[Run] = []
        self._names: dict[bytes, bytes] = {}
        self._named: dict[bytes, bytes] = {}  # names by address
        self._grants: dict[tuple[bytes, int], str] = {}
        self._udp_grants: dict[tuple[bytes, int], str] = {}
        self._hosts: set[bytes] = set()
        for grants, asked in ((self._grants, allow), (self._udp_grants, allow_udp)):
            for grant in asked:
                self._allow(grants, *_checked(grant))

    def _allow(self, grants: dict[tuple[bytes, int], str], host: str, port: int) -> None:
        try:
            given = ipaddress.ip_address(host)
        except ValueError:
            ip = self._address_for(host.rstrip(".").lower().encode("idna"))
        else:
            ip = given.packed if given.version == 6 else MAPPED + given.packed
        self._hosts.add(ip)
        grants[ip, port] = host

    def _address_for(self, name: bytes) -> bytes:
        if name not in self._names:
            if len(self._names) >= MOST_NAMES:
                raise ValueError(f"a network knows at most {MOST_NAMES} names")
            ip = MAPPED + (FIRST_NAME + len(self._names)).to_bytes(4, "big")
            self._names[name], self._named[ip] = ip, name
        return self._names[name]

    def resolve(self, name: bytes) -> bytes | None:
        """Return the address that stands for a granted name."""
        return self._names.get(name)

    def name_of(self, ip: bytes) -> bytes | None:
        """Return the granted name that an address stands for."""
        return self._named.get(ip)

    def grant_of(self, ip: bytes, port: int, *, udp: bool = False) -> str | int:
        """Return the host that is meant, or the error of connecting there."""
        host = (self._udp_grants if udp else self._grants).get((ip, port))
        if host is not None:
            return host
        return ECONNREFUSED if ip in self._hosts else ENETUNREACH

    def join_lanes(self, run: Run) -> None:
        """A run has started: what is ordered among its peers is ordered with it."""
        for peer in self.runs:
            if peer is not run and peer in run.scheduler.runs:
                run.scheduler.join(peer, run)

    def __repr__(self) -> str:
        return f"<aiopyvm.Network of {len(self.runs)} runs, {len(self._grants) + len(self._udp_grants)} grants>"


def _checked(grant: object) -> tuple[str, int]:
    if not isinstance(grant, tuple) or len(grant) != 2 or not isinstance(grant[0], str) or not grant[0]:
        raise TypeError(f'what is allowed is ("host", port), not {grant!r}')
    host, port = grant
    return host, check_port(port)


def check_port(port: object, least: int = 1) -> int:
    """Return a port's number. Raises TypeError, ValueError."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"a port is a number, not {port!r}")
    if not least <= port <= 65535:
        raise ValueError(f"a port is {least} to 65535, not {port}")
    return port


def join(network: Network, run: Run, kernel: Kernel, names: tuple[bytes, ...]) -> HostGateway:
    """Put a run that is about to start on a network; return its way out. Raises RuntimeError for another event loop."""
    if any(peer.scheduler is not run.scheduler for peer in network.runs):
        raise RuntimeError("a Network's machines run in one event loop")
    inet = kernel.net.inet
    network.machines.join(inet, names)
    network.runs.append(run)
    run.on_close.append(lambda: _leave(network, run, inet))
    inet.gateway = gateway = HostGateway(run, network)
    return gateway


def _leave(network: Network, run: Run, inet: Inet) -> None:
    network.machines.leave(inet)
    network.runs.remove(run)


# --- connections that guests make -------------------------------------------------------------------------------------


class HostGateway:
    """The way out of one run (`kernel.ports.Gateway`), and the task that makes its connections (a `Pump`)."""

    def __init__(self, run: Run, network: Network) -> None:
        self._run = run
        self._network = network
        self._asked: deque[Callable[[], Coroutine[Any, Any, None]]] = deque()
        self._flows = Flows(run)
        self._active = 0  # connections asked for that have not ended: no more than files may be open
        self._event: anyio.Event | None = None

    def resolve(self, name: bytes) -> bytes | None:
        """Return the address that stands for a granted name."""
        return self._network.resolve(name)

    def name_of(self, ip: bytes) -> bytes | None:
        """Return the granted name that an address stands for."""
        return self._network.name_of(ip)

    def connect(self, caller: TcpSocket) -> bool:
        """Begin to connect a guest's socket, where that was granted."""
        host = self._network.grant_of(caller.peer_ip, caller.peer_port)
        if isinstance(host, int) or self._full:
            caller.reset(host if isinstance(host, int) else ECONNREFUSED)
            return True
        self._active += 1
        caller.mark("host")
        self._begin(partial(self._serve, caller, host, caller.peer_port))
        return True

    @property
    def _full(self) -> bool:
        """There are as many connections and flows of datagrams as files may be open."""
        return self._active + len(self._flows) >= self._run.limits.open_files

    def _begin(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._asked.append(task)
        if self._event is not None:
            self._event.set()

    def send(self, sender: UdpSocket, each: Datagram, port: int) -> int:
        """Send a guest's datagram, where that was granted; 0, or the error of sending there."""
        flow = self._flows.get(sender, each.to, port)
        if flow is None:
            host = self._network.grant_of(each.to, port, udp=True)
            if isinstance(host, int):
                return host
            if self._full:
                return ENOBUFS
            flow = self._flows.new(sender, host, each.to, port)
            self._begin(partial(self._flows.serve, sender, each.to, port))
            sender.reach_outside()
        flow.put(each)
        return 0

    async def run(self) -> None:
        """Make connections until the run has ended, and see those to their ends that were made."""
        async with anyio.create_task_group() as group:
            while True:
                while self._asked:
                    group.start_soon(self._asked.popleft())
                if self._run.result is not None:
                    break
                event = self._event = anyio.Event()
                self._run.when_done(event.set)
                try:
                    await event.wait()
                finally:
                    self._run.not_when_done(event.set)

    async def _serve(self, caller: TcpSocket, host: str, port: int) -> None:
        try:
            stream = await self._connected(caller, host, port)
            if stream is not None:
                await self._bridge(caller, stream)
        finally:
            self._active -= 1

    async def _connected(self, caller: TcpSocket, host: str, port: int) -> anyio.abc.SocketStream | None:
        """Connect for a guest's socket; None where that failed, which it was told, or it has given up."""
        stream = None
        with anyio.CancelScope() as scope:

            def look() -> None:
                if caller.state != TcpState.SYN_SENT:
                    scope.cancel()

            look()
            caller.read_queue.listeners[look] = None
            self._run.when_done(scope.cancel)
            try:
                stream = await anyio.connect_tcp(host, port)
            except OSError as error:
                if caller.state == TcpState.SYN_SENT:
                    caller.reset(_error_of(error))
            finally:
                del caller.read_queue.listeners[look]
                self._run.not_when_done(scope.cancel)
        if stream is not None and caller.state != TcpState.SYN_SENT:
            await anyio.aclose_forcefully(stream)
            return None
        return stream

    async def _bridge(self, caller: TcpSocket, stream: anyio.abc.SocketStream) -> None:
        from aiopyvm.runtime.conduit import GuestStream, bridge

        end = self._run.outside.new_end()
        end.peer_ip, end.peer_port = caller.ip, caller.port
        end.establish(caller)
        caller.establish(end)
        await bridge(self._run, GuestStream(end, "host"), stream)


def _error_of(error: OSError) -> int:
    """The error of connect(2) for why the host could not connect."""
    causes: list[BaseException] = [error]
    for cause in causes:
        if isinstance(cause, BaseExceptionGroup):
            causes += cause.exceptions
        if cause.__cause__ is not None:
            causes.append(cause.__cause__)
    numbers = {cause.errno for cause in causes if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror)}
    for number, told in ((errno.ECONNREFUSED, ECONNREFUSED), (errno.ETIMEDOUT, ETIMEDOUT)):
        if number in numbers:
            return told
    return EHOSTUNREACH


# --- ports that the host publishes ------------------------------------------------------------------------------------

HostPort = int | tuple[str, int]


def check_publish(publish: Mapping[HostPort, int]) -> dict[tuple[str, int], int]:
    """Return what is to be published as {(host address, port): guest port}. Raises TypeError, ValueError."""
    checked: dict[tuple[str, int], int] = {}
    for key, value in publish.items():
        address, port = key if isinstance(key, tuple) and len(key) == 2 else ("127.0.0.1", key)
        if not isinstance(address, str):
            raise TypeError(f'publish maps a port, or ("address", port), to a guest\'s port, not {key!r}')
        checked[address, check_port(port, 0)] = check_port(value)
    return checked


class Publisher:
    """Ports of the host that lead to a run's (a `Pump`): made before it, as others may have them."""

    def __init__(self) -> None:
        self._listeners: list[tuple[MultiListener[anyio.abc.SocketStream], int]] = []
        self.ports: dict[int, tuple[str, int]] = {}  # by the guest's port: where the host listens
        self._target: Run | None = None

    async def open(self, publish: Mapping[tuple[str, int], int]) -> None:
        """Listen. Raises OSError; nothing is open then."""
        try:
            for (address, port), guest_port in publish.items():
                listener = await anyio.create_tcp_listener(local_host=address, local_port=port)
                self._listeners.append((listener, guest_port))
                found = listener.extra(anyio.abc.SocketAttribute.local_address)
                self.ports[guest_port] = (str(found[0]), int(found[1]))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Listen no more."""
        listeners, self._listeners = self._listeners, []
        for listener, _ in listeners:
            with anyio.CancelScope(shield=True):
                await listener.aclose()

    def attach(self, run: Run) -> None:
        """Say where the connections go."""
        self._target = run

    async def run(self) -> None:
        """Take connections until the run has ended, and see those to their ends that were made."""
        from aiopyvm.runtime.junction import Junction

        assert self._target is not None
        listening = [
            (each.extra(anyio.abc.SocketAttribute.raw_socket), port)
            for listener, port in self._listeners
            for each in listener.listeners
        ]
        try:
            await Junction(self._target, listening).run()
        finally:
            await self.close()
