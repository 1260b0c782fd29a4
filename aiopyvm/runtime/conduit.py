"""Connections between a guest's network and what is outside: Python's byte streams, and streams of the host.

How it works. The outside end of a connection is a kernel `TcpSocket` without descriptor or thread; `GuestStream` is
anyio's view of it, and `bridge` copies between one and a stream of the host. Nothing is read ahead beyond the sockets'
own buffers: a side that does not read holds the other back.

What always holds. The guest's end is marked as woken from outside while its other end is in Python's or the host's
hands, so that no deadlock is seen. What the guest sent before it ended stays readable; it is charged to the run while
that lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import anyio.abc
import anyio.lowlevel

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.inet import FIRST_PORT, IPPROTO_TCP, LOOPBACK4, LOOPBACK6, TcpState
from aiopyvm.abi.socket import AF_INET6, SHUT_WR, SO_OOBINLINE
from aiopyvm.kernel.inet import OUTSIDE, Inet
from aiopyvm.kernel.tcp import TcpSocket
from aiopyvm.mem.budget import Unlimited

if TYPE_CHECKING:
    from aiopyvm.kernel.wait import WaitQueue
    from aiopyvm.runtime.run import Run

PIECE: Final = 65536
LINGER_S: Final = 5  # how long what a guest has sent may take to be delivered after its end
_PORTS: Final = 28000


class GuestStream(anyio.abc.ByteStream):
    """A TCP connection with a guest, from outside: what `Process.connect` returns."""

    def __init__(self, socket: TcpSocket, who: str = "python") -> None:
        self._socket = socket
        self._closed = False
        self._receiving = self._sending = False
        if socket.peer is not None:
            socket.peer.mark(who)

    async def receive(self, max_bytes: int = PIECE) -> bytes:
        """Return 1 to `max_bytes` bytes.

        Raises ValueError, and anyio's EndOfStream, BrokenResourceError, ClosedResourceError, BusyResourceError.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        await anyio.lowlevel.checkpoint()
        self._receiving = True
        try:
            if data := await self.arrived(max_bytes):
                return data
            raise anyio.EndOfStream
        finally:
            self._receiving = False

    async def arrived(self, max_bytes: int = PIECE) -> bytes:
        """As `receive`, without a checkpoint where something is there; b"" at the end."""
        socket = self._socket
        while True:
            self._need_open()
            if socket.inbox_size:
                return socket.take(max_bytes)
            if socket.ended:
                return b""
            if socket.peer is None:
                raise anyio.BrokenResourceError
            await _wait(socket.read_queue)

    async def send(self, item: bytes) -> None:
        """Send all of `item`; waits while the guest does not read.

        Raises TypeError, and anyio's BrokenResourceError, ClosedResourceError, BusyResourceError.
        """
        if not isinstance(item, (bytes, bytearray, memoryview)):
            raise TypeError(f"a connection takes bytes, not {type(item).__name__}")
        if self._sending:
            raise anyio.BusyResourceError("sending to")
        await anyio.lowlevel.checkpoint()
        self._sending = True
        try:
            await self.deliver(bytes(item))
        finally:
            self._sending = False

    async def deliver(self, data: bytes) -> None:
        """As `send`, without a checkpoint where there is room."""
        at = 0
        while at < len(data):
            self._need_open()
            at += self._put(data[at : at + PIECE] if at or len(data) > PIECE else data)
            if at < len(data) and self._socket.peer is not None and self._socket.room <= 0:
                await _wait(self._socket.write_queue)

    def _put(self, data: bytes) -> int:
        if self._socket.peer is None or self._socket.peer.gone:
            raise anyio.BrokenResourceError
        try:
            return self._socket.put(data)
        except Errno as error:
            self.abort()
            raise anyio.BrokenResourceError(f"the guest has no memory left for it: {error}") from None

    async def send_eof(self) -> None:
        """Send no more: the guest sees the end. Raises anyio's BrokenResourceError, ClosedResourceError."""
        await anyio.lowlevel.checkpoint()
        self._need_open()
        try:
            self._socket.shutdown(SHUT_WR)
        except Errno:
            raise anyio.BrokenResourceError from None

    async def aclose(self) -> None:
        """Close; the guest sees the end, or a reset where it had sent what nobody read."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As `aclose`, at once."""
        if not self._closed:
            self._closed = True
            if self._socket.peer is not None:
                self._socket.peer.mark("")
            self._socket.close()

    def abort(self) -> None:
        """Close with a reset."""
        self._socket.options.linger = 0
        self.close()

    async def wait_gone(self) -> None:
        """Wait until the guest has closed its end."""
        socket = self._socket
        while socket.peer is not None and not socket.peer.gone and not self._closed:
            await _wait(socket.write_queue)

    def _need_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()


async def _wait(queue: WaitQueue) -> None:
    event = anyio.Event()
    queue.listeners[event.set] = None
    try:
        await event.wait()
    finally:
        del queue.listeners[event.set]


class Outside:
    """Where a run's connections with the outside end: a host of its own, which is not on any network."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._inet = Inet()
        self._ends: dict[TcpSocket, None] = {}
        self._port = 0
        run.on_close.insert(0, self._settle)

    def new_end(self) -> TcpSocket:
        """Return a new outside end, which the run pays for while it lives."""
        budget = self._run.kernel.budget if self._run.result is None else Unlimited()
        end = TcpSocket(self._inet, AF_INET6, budget, 0)
        self._port = self._port % _PORTS + 1
        end.ip, end.port = OUTSIDE, FIRST_PORT + self._port
        end.options.values[SO_OOBINLINE] = 1  # a stream has no urgent data
        self._ends = {each: None for each in self._ends if not each.gone}
        self._ends[end] = None
        return end

    def _settle(self) -> None:
        """The run's accounts are about to be closed: what is still to be read is not charged to them any more."""
        for end in self._ends:
            end.move_to(Unlimited())

    def knock(self, port: int) -> TcpSocket | None:
        """Begin to connect to a guest's port; None: nobody listens there."""
        inet = self._run.kernel.net.inet
        addresses = [ip for ip in (inet.ip, LOOPBACK4, LOOPBACK6) if ip is not None]
        for ip in addresses:
            found = inet.find(IPPROTO_TCP, ip, port)
            if isinstance(found, TcpSocket):
                end = self.new_end()
                end.peer_ip, end.peer_port = ip, port
                end.state = TcpState.SYN_SENT
                found.knocked(end)
                return end
        return None

    async def connect(self, port: int, *, wait: bool, who: str = "python") -> GuestStream:
        """Connect to a guest's port, as soon as somebody listens there where `wait`; `who` has the other end.

        Raises ConnectionRefusedError where nobody does, or the run ends first.
        """
        run = self._run
        await anyio.lowlevel.checkpoint()
        while run.result is None:
            end = self.knock(port)
            if end is not None:
                try:
                    while end.state == TcpState.SYN_SENT:
                        await _wait(end.write_queue)
                except BaseException:
                    end.close()
                    raise
                if end.peer is not None:
                    return GuestStream(end, who)
                break
            if not wait:
                break
            await self._wait_for_listener()
        raise ConnectionRefusedError(f"nobody listens on port {port} of {run.name}")

    async def _wait_for_listener(self) -> None:
        event = anyio.Event()
        opened = self._run.kernel.net.inet.opened
        opened.listeners[event.set] = None
        self._run.when_done(event.set)
        try:
            await event.wait()
        finally:
            del opened.listeners[event.set]
            self._run.not_when_done(event.set)


async def bridge(run: Run, guest: GuestStream, stream: anyio.abc.ByteStream) -> None:
    """Copy both ways until both have ended; after the run's end what the guest sent is delivered, for LINGER_S."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_inwards, stream, guest)
            with anyio.CancelScope() as scope:

                def ended() -> None:
                    scope.deadline = anyio.current_time() + LINGER_S

                run.when_done(ended)
                try:
                    if await _outwards(guest, stream):
                        await guest.wait_gone()
                finally:
                    run.not_when_done(ended)
            group.cancel_scope.cancel()
    finally:
        guest.close()
        await anyio.aclose_forcefully(stream)


async def _inwards(stream: anyio.abc.ByteStream, guest: GuestStream) -> None:
    """Copy what comes from the host; where that breaks, reset the guest's connection."""
    try:
        async for data in stream:  # with a checkpoint each, as the other way `stream.send` is one
            await guest.deliver(data)
        await guest.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        guest.abort()


async def _outwards(guest: GuestStream, stream: anyio.abc.ByteStream) -> bool:
    """Copy what the guest sends; False where that broke."""
    try:
        while data := await guest.arrived():
            await stream.send(data)
        await stream.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        return False
    return True
