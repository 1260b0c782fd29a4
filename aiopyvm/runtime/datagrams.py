"""Datagrams between guests' UDP sockets and granted hosts outside.

How it works. What a guest's socket and one granted host send each other goes over a socket of the host, connected, so
that nobody else's datagrams come in: a `Flow`. It is made when the guest's socket first sends there, and ends with that
socket, or the run. What is sent while the host's name is being found waits, charged to the guest; later it goes out at
once, or is lost where the host has no room, as datagrams are.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from aiopyvm.abi.errno import ECONNREFUSED, EHOSTUNREACH
from aiopyvm.abi.socket import SO_SNDBUF
from aiopyvm.kernel.packetinfo import Datagram
from aiopyvm.kernel.socket import MESSAGE_BYTES

if TYPE_CHECKING:
    from aiopyvm.kernel.udp import UdpSocket
    from aiopyvm.runtime.run import Run

AT_ONCE: Final = 64  # datagrams that are taken in between two turns of others
LINGER_S: Final = 5  # how long what a guest has sent may wait for its host's name after the run's end
LONGEST: Final = 65536


class Flow:
    """One guest's socket and one granted host, which the guest knows as `ip` and `port`."""

    def __init__(self, run: Run, guest: UdpSocket, host: str, ip: bytes, port: int) -> None:
        self._run = run
        self._guest = guest
        self._host = host
        self._ip = ip
        self._port = port
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes of them, charged
        self._socket: socket.socket | None = None
        self._to = guest.ip
        self._scope = anyio.CancelScope()

    def put(self, each: Datagram) -> None:
        """Send a datagram, or lose it."""
        self._to = each.ip
        if self._socket is not None:
            self._send(each.data)
            return
        size = len(each.data) + MESSAGE_BYTES
        if self._size + size <= self._guest.options[SO_SNDBUF] and self._guest.budget.charge(size):
            self._size += size
            self._waiting.append(each.data)

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(data)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """The host says that something did not arrive: a guest's socket that is connected there is told."""
        if error.errno == errno.ECONNREFUSED:
            self._guest.refused(self._ip, self._port, ECONNREFUSED)
        elif error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            self._guest.refused(self._ip, self._port, EHOSTUNREACH)

    async def serve(self) -> None:
        """Until the guest's socket is closed, or the run has ended."""
        queue = self._guest.read_queue
        queue.listeners[self._look] = None
        self._run.when_done(self._ended)
        try:
            with self._scope:
                self._look()
                try:
                    await self._open()
                except OSError as error:
                    self._failed(OSError(errno.EHOSTUNREACH, str(error)))
                else:
                    await self._receive()
        finally:
            del queue.listeners[self._look]
            self._run.not_when_done(self._ended)
            self.settle()
            if self._socket is not None:
                self._socket.close()

    def _look(self) -> None:
        if not self._guest.refs and not self._waiting:
            self._scope.cancel()

    def _ended(self) -> None:
        self._scope.deadline = anyio.current_time() + (LINGER_S if self._waiting else 0)

    def settle(self) -> None:
        """What waits is charged no longer."""
        self._guest.budget.charge(-self._size)
        self._size = 0

    async def _open(self) -> None:
        """Find the host, and send what has waited. Raises OSError."""
        found = await anyio.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        try:
            made.connect(address)
        except OSError:
            made.close()
            raise
        self._socket = made
        waiting, self._waiting = self._waiting, deque()
        self.settle()
        for data in waiting:
            self._send(data)
        self._look()
        if self._run.result is not None:
            self._scope.cancel()

    async def _receive(self) -> None:
        assert self._socket is not None
        while True:
            await anyio.wait_readable(self._socket)
            for _ in range(AT_ONCE):
                try:
                    data = self._socket.recv(LONGEST)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._failed(error)
                    continue
                self._guest.arrive_from(Datagram(data, self._ip, self._port, self._to))


class Flows:
    """All flows of a run, by guest's socket and granted address."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._all: dict[tuple[UdpSocket, bytes, int], Flow] = {}
        run.on_close.insert(0, self._settle)

    def _settle(self) -> None:
        """The run's accounts are about to be closed."""
        for flow in self._all.values():
            flow.settle()

    def __len__(self) -> int:
        return len(self._all)

    def get(self, guest: UdpSocket, ip: bytes, port: int) -> Flow | None:
        """Return the flow that is there."""
        return self._all.get((guest, ip, port))

    def new(self, guest: UdpSocket, host: str, ip: bytes, port: int) -> Flow:
        """Return a flow that is still to be served."""
        flow = self._all[guest, ip, port] = Flow(self._run, guest, host, ip, port)
        return flow

    async def serve(self, guest: UdpSocket, ip: bytes, port: int) -> None:
        """Serve a flow to its end."""
        try:
            await self._all[guest, ip, port].serve()
        finally:
            del self._all[guest, ip, port]
