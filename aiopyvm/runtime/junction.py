"""Where sockets of the host meet a guest's ports: all connections of a run's published ports, without a task for each.

How it works. One selector knows all host sockets of a `Junction`, and the event loop watches that selector alone. What
comes from the host goes into the guest's socket at once, as much as there is room for; a socket whose guest does not
read is not looked at until it does. What the guest sends is noted by its wake, and sent when the scheduler's turn ends
(`Scheduler.at_end`), all connections' one after the other: so their clients are woken together, and a round trip costs
no pass of the event loop of its own.

What always holds. Host sockets never block. A connection holds one piece of what the guest sent beyond the sockets' own
buffers. One call works on `MOST` connections, a piece of each. When the junction's task ends, all are closed.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.inet import TcpState
from aiopyvm.abi.socket import SHUT_WR
from aiopyvm.host.clock import under_trio
from aiopyvm.runtime.conduit import LINGER_S, PIECE

if TYPE_CHECKING:
    from aiopyvm.kernel.tcp import TcpSocket
    from aiopyvm.runtime.run import Run

MOST: Final = 128  # connections that are seen to between two looks at anything else
BACKLOG: Final = 64  # connections that are taken at a time
_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE


class Wire:
    """A connection: a socket of the host, and `end`, the outside end of one with a guest, which may still be begun."""

    __slots__ = (
        "_end",
        "_events",
        "_in_over",
        "_joined",
        "_junction",
        "_listens",
        "_out_over",
        "_rest",
        "host",
        "stirred",
    )

    def __init__(self, junction: Junction, host: socket.socket, end: TcpSocket) -> None:
        self._junction = junction
        self.host = host
        self._end = end
        self._rest = b""  # of what the guest sent: the host had no room for it
        self._joined = self._in_over = self._out_over = False
        self._events = 0  # of the host's socket that are waited for
        self._listens = False  # to the queue that tells of room, and of the guest's closing its end
        self.stirred = False  # in the junction's line
        end.read_queue.listeners[self.stir] = None

    def stir(self) -> None:
        """The guest has sent something, or read, or closed: `push` soon."""
        if not self.stirred:
            self.stirred = True
            self._junction.line_up(self)

    def ready(self, events: int) -> None:
        """The host's socket is ready for `events`."""
        if events & _READ and self._events & _READ:
            self._pull()
        if events & _WRITE and self._events & _WRITE:
            self.stir()

    def push(self) -> None:
        """Send a piece of what the guest has sent; see to the connection's beginning and to its ends."""
        end = self._end
        if not self._joined:
            if end.state == TcpState.SYN_SENT:
                self._listen(True)
                return
            if end.peer is None:
                self.close()
                return
            self._joined = True
            end.peer.mark("host")
        try:
            if not self._rest and end.inbox_size:
                self._rest = end.take(PIECE)
            if self._rest:
                try:
                    sent = self.host.send(self._rest)
                    self._rest = self._rest[sent:] if sent < len(self._rest) else b""
                except BlockingIOError:
                    pass
            elif not self._out_over:
                if end.ended:
                    self._out_over = True
                    self.host.shutdown(socket.SHUT_WR)
                elif end.peer is None:
                    self.close()
                    return
        except OSError:  # the host's end is gone
            self.close()
            return
        if self._out_over and (end.peer is None or end.peer.gone):
            self.close()
            return
        if self._events != _READ or self._listens or self._rest or self._out_over:
            self.wait()
        if not self._rest and not self._out_over and (end.inbox_size or end.ended or end.peer is None):
            self.stir()

    def _pull(self) -> None:
        """Hand a piece of what has come to the guest. Where that is not possible its connection is reset."""
        end = self._end
        room = end.room
        try:
            if room > 0:
                buffer = self._junction.buffer
                n = self.host.recv_into(buffer, min(room, PIECE))
                if not n:
                    self._in_over = True
                    end.shutdown(SHUT_WR)
                elif end.peer is None or end.peer.gone:
                    self.close(reset=True)
                    return
                else:
                    end.put(bytes(buffer[:n]))
                    if n < room:
                        return
            self.wait()
        except BlockingIOError:
            pass
        except (OSError, Errno):
            self.close(reset=True)

    def wait(self) -> None:
        """Say what is waited for now."""
        full = not self._in_over and self._end.room <= 0
        self._listen(full or self._out_over)
        events = (0 if self._in_over or full else _READ) | (_WRITE if self._rest else 0)
        if events != self._events:
            self._junction.watch(self.host, self._events, events, self.ready)
            self._events = events

    def _listen(self, on: bool) -> None:
        if on != self._listens:
            self._listens = on
            if on:
                self._end.write_queue.listeners[self.stir] = None
            else:
                del self._end.write_queue.listeners[self.stir]

    def close(self, *, reset: bool = False) -> None:
        """End the connection on both sides; the guest's with a reset where that is asked for, or it was not read."""
        end, self.stirred = self._end, True  # never again in the line
        del end.read_queue.listeners[self.stir]
        self._listen(False)
        self._junction.watch(self.host, self._events, 0, self.ready)
        self._events = 0
        if end.peer is not None:
            end.peer.mark("")
        if reset:
            end.options.linger = 0
        end.close()
        self.host.close()
        self._junction.gone(self)


class Junction:
    """The connections of `run` with the host's sockets, and the sockets that `listen`, by the guest's port."""

    def __init__(self, run: Run, listen: Iterable[tuple[socket.socket, int]]) -> None:
        self._run = run
        self.buffer = memoryview(bytearray(PIECE))  # for what comes
        self._selector = selectors.DefaultSelector()
        self._due: deque[tuple[selectors.SelectorKey, int]] = deque()
        self._line: deque[Wire] = deque()
        self._wires: dict[Wire, None] = {}
        self._event = anyio.Event()
        self._failure: Exception | None = None
        self._listening = tuple(listen)
        self._open = False  # new connections are taken

    async def run(self) -> None:
        """Serve until the run has ended, and then until what its guests had sent is delivered. Raises OSError where
        no more connections can be taken."""
        run = self._run
        run.when_done(self._nudge)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._look_on)
                self._listen(True)
                while run.result is None:
                    await self._go_on()
                self._listen(False)
                with anyio.move_on_after(LINGER_S):
                    while self._wires:
                        await self._go_on()
                group.cancel_scope.cancel()
        finally:
            run.not_when_done(self._nudge)
            for wire in tuple(self._wires):
                wire.close()
            self._line.clear()
            self._selector.close()

    async def _go_on(self) -> None:
        """See to what is in the line, and then to the next."""
        if not self.flush():
            await self._event.wait()
            self._event = anyio.Event()
        else:
            await anyio.lowlevel.checkpoint()
        if self._failure is not None:
            raise self._failure

    def _nudge(self) -> None:
        self._event.set()

    async def _look_on(self) -> None:
        """Have the event loop tell when a socket is ready."""
        if under_trio():
            while True:
                await anyio.wait_readable(self._selector.fileno())
                self._look()
        import asyncio

        loop, number = asyncio.get_running_loop(), self._selector.fileno()
        loop.add_reader(number, self._look)
        try:
            await anyio.sleep_forever()
        finally:
            loop.remove_reader(number)

    def _look(self) -> None:
        """See to sockets that are ready."""
        due = self._due
        try:
            if not due:
                due.extend(self._selector.select(0))
            for _ in range(min(len(due), MOST)):
                key, events = due.popleft()
                key.data(events)
        except Exception as error:
            self._failure = error
        if self._failure is not None:
            self._nudge()

    # --- what wires tell ----------------------------------------------------------------------------------------------

    def line_up(self, wire: Wire) -> None:
        """`wire` is to be pushed at the end of the turn; where there is none, by our task."""
        if not self._line:
            self._run.scheduler.at_end[self.flush] = None
            if not self._run.scheduler.flights.awake:
                self._nudge()
        self._line.append(wire)

    def flush(self) -> bool:
        """Push those in the line; True: not all, more later."""
        line = self._line
        for _ in range(MOST):
            if not line:
                return False
            wire = line.popleft()
            if wire in self._wires:
                wire.stirred = False
                wire.push()
        return bool(line)

    def watch(self, host: socket.socket, before: int, events: int, ready: Callable[[int], None]) -> None:
        """Wait for other `events` of a socket."""
        if not before and events:
            self._selector.register(host, events, ready)
        elif events:
            self._selector.modify(host, events, ready)
        elif before:
            self._selector.unregister(host)

    def gone(self, wire: Wire) -> None:
        """A connection has ended."""
        del self._wires[wire]
        if self._run.result is None:
            self._listen(True)
        elif not self._wires:
            self._nudge()

    # --- new connections ----------------------------------------------------------------------------------------------

    def _listen(self, on: bool) -> None:
        """Take new connections; or no more, for now."""
        if on is not self._open:
            self._open = on
            for listener, port in self._listening:
                if on:
                    self._selector.register(listener, _READ, self._taker(listener, port))
                else:
                    self._selector.unregister(listener)

    def _taker(self, listener: socket.socket, port: int) -> Callable[[int], None]:
        def take(events: int) -> None:
            with suppress(BlockingIOError, ConnectionError):
                for _ in range(BACKLOG):
                    if not self._open:
                        return
                    self._take(listener.accept()[0], port)

        return take

    def _take(self, host: socket.socket, port: int) -> None:
        """A connection of the host's has come: lead it to the guest, where one listens."""
        host.setblocking(False)
        host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = self._run.outside.knock(port)
        if end is None:
            host.close()
            return
        wire = Wire(self, host, end)
        self._wires[wire] = None
        if len(self._wires) >= self._run.limits.open_files:
            self._listen(False)
        wire.push()
