"""Pumps: the tasks that move bytes between a guest's standard streams and streams of the host.

An input pump reads only when the guest has asked, and for what it asked. Both end by themselves when the guest has
closed its side; an output pump delivers what is buffered first. An exception of the stream, other than its being
broken, goes to `run.fail`.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Protocol

import anyio

from aiopyvm.host.streams import Broken, Sink, Source
from aiopyvm.host.terminal import TerminalDevice, may_watch_size

if TYPE_CHECKING:
    from aiopyvm.kernel.hoststream import HostInput, HostOutput
    from aiopyvm.kernel.tty import Tty
    from aiopyvm.runtime.run import Run


class Pump(Protocol):
    """What runs in a task of a run's block until the run has ended."""

    async def run(self) -> None:
        """Do it. What this raises ends the run, and goes to whoever runs it."""
        ...


class InputPump:
    """Answers what `file` wants from `source`."""

    def __init__(self, source: Source, file: HostInput) -> None:
        self._source = source
        self._file = file
        self._event: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        file.on_want = self._nudge

    def _nudge(self) -> None:
        if self._event is not None:
            self._event.set()
        if self._file.closed and self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Until the guest closes its side or the source ends. Raises what the source raises."""
        try:
            with anyio.CancelScope() as self._scope:
                await self._pump()
        finally:
            self._scope = None
            await self._source.finish()

    async def _pump(self) -> None:
        file = self._file
        while not file.closed:
            if not file.wanted:
                event = self._event = anyio.Event()
                await event.wait()
                self._event = None
                continue
            data = await self._source.receive(file.wanted)
            if not data:
                file.feed_eof()
                return
            file.feed(data)


class OutputPump:
    """Delivers what `file` holds to `sink`."""

    def __init__(self, sink: Sink, file: HostOutput) -> None:
        self._sink = sink
        self._file = file
        self._event: anyio.Event | None = None
        file.on_data = self._nudge

    def _nudge(self) -> None:
        if self._event is not None:
            self._event.set()

    async def run(self) -> None:
        """Until the guest has closed its side and all is delivered. Raises what the sink raises, but Broken."""
        file = self._file
        while not file.closed or file.pending:
            data = file.take()
            if not data:
                event = self._event = anyio.Event()
                await event.wait()
                self._event = None
                continue
            try:
                await self._sink.send(data)
            except Broken:
                file.break_off()
                return
            file.delivered(len(data))


class SizePump:
    """Tells a guest's terminal when the host's window changes its size, where that can be known (SIGWINCH)."""

    def __init__(self, run: Run, line: Tty, device: TerminalDevice) -> None:
        self._run = run
        self._line = line
        self._device = device

    async def run(self) -> None:
        """Until the run has ended."""
        if not may_watch_size():
            return
        with anyio.CancelScope() as scope:
            self._run.when_done(scope.cancel)
            try:
                with anyio.open_signal_receiver(signal.SIGWINCH) as signals:
                    self._look()
                    async for _ in signals:
                        self._look()
            finally:
                self._run.not_when_done(scope.cancel)

    def _look(self) -> None:
        run = self._run
        if run.result is None:
            run.by_hand(lambda: self._line.resize(self._device.size()))
