"""`Process`: a running guest in Python's hands; and `Opening`, the block in which it lives.

What always holds. Leaving the block normally closes the streams and waits, as anyio's `Process.aclose`; with an
exception or a cancellation it kills at once. When the block has been left the guest has ended, its tasks have ended,
and `result` is there.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

from aiopyvm.abi.signal import SI_USER, SigInfo
from aiopyvm.abi.termios import WINSIZE
from aiopyvm.runtime.block import Block
from aiopyvm.runtime.driver import BlockTask
from aiopyvm.runtime.result import Reason, Result

if TYPE_CHECKING:
    from aiopyvm.runtime.census import GuestProcess
    from aiopyvm.runtime.conduit import GuestStream
    from aiopyvm.runtime.debugger import Breakpoints, Debugger
    from aiopyvm.runtime.ends import ReceiveEnd, SendEnd
    from aiopyvm.runtime.network import Publisher
    from aiopyvm.runtime.proxies import Memory, Registers
    from aiopyvm.runtime.pumps import Pump
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.stdio import Stdio
    from aiopyvm.runtime.steps import Step


class Process(anyio.abc.Process):
    """A guest that runs, or has run. Code written for anyio's processes works with it unchanged."""

    def __init__(self, run: Run, stdio: Stdio, publisher: Publisher | None = None) -> None:
        self._run = run
        self._stdio = stdio
        self._debugger_made: Debugger | None = None
        self._publisher = publisher
        self.name = run.name

    def __repr__(self) -> str:
        state = "running" if self._run.result is None else f"ended, {self._run.result.reason.name}"
        return f"<aiopyvm.Process {self.name!r} {state}>"

    # --- anyio's process ----------------------------------------------------------------------------------------------

    @property
    def stdin(self) -> SendEnd | None:
        """Python's end of its standard input, where that is PIPE."""
        return self._stdio.stdin

    @property
    def stdout(self) -> ReceiveEnd | None:
        """Python's end of its standard output, where that is PIPE and not collected."""
        return self._stdio.stdout

    @property
    def stderr(self) -> ReceiveEnd | None:
        """Python's end of its standard error, where that is PIPE and not collected."""
        return self._stdio.stderr

    @property
    def pid(self) -> int:
        """The guest's own process id, in its machine."""
        return self._run.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, -n for signal n, -9 where the runtime ended it; None while it runs."""
        result = self._run.result
        return None if result is None else result.returncode

    async def wait(self) -> int:
        """Wait until it has ended; return its return code."""
        await anyio.lowlevel.checkpoint()
        if self._run.result is None:
            event = anyio.Event()
            self._run.when_done(event.set)
            try:
                await event.wait()
            finally:
                self._run.not_when_done(event.set)
        return self.result.returncode

    def send_signal(self, signal: int) -> None:
        """Send it a signal, as kill(2) from outside; nothing happens when it has ended.

        Raises TypeError, ValueError for what is no signal.
        """
        if not isinstance(signal, int):
            raise TypeError(f"a signal is a number, not {signal!r}")
        if not 1 <= signal <= 64:
            raise ValueError(f"a signal is 1 to 64, not {signal!r}")
        run = self._run
        if run.result is None:
            run.kernel.send_signal(run.process, SigInfo(int(signal), SI_USER))
            run.check_end()
            if run.result is None:
                run.scheduler.deadline_changed(run)

    def process_table(self) -> list[GuestProcess]:
        """What runs in its machine now, by pid: processes with their threads, what these wait for, and open files.

        Nothing once it has ended.
        """
        from aiopyvm.runtime.census import census

        return census(self._run.kernel) if self._run.result is None else []

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """End it and all its processes at once; the reason is KILLED."""
        self._run.end(Reason.KILLED, "Process.kill()")

    async def aclose(self) -> None:
        """Close the streams and wait until it has ended; kill it if that is cancelled."""
        self._stdio.close_ends()
        for run in self.runs:
            run.python_may_signal = False
            if not run.networked:
                run.kernel.set_reachable(False)
            if run.result is None and not run.going and not run.held:
                run.end(Reason.KILLED, "closed while a debugger held it")  # it would never end
        for run in self.runs:
            run.scheduler.look_at(run)
        try:
            await self.wait()
        except BaseException as error:
            self.abandon(f"{type(error).__name__} while it was closed")
            raise

    @property
    def runs(self) -> list[Run]:
        """The runs behind it: one, or one for each stage of a pipeline."""
        return [self._run]

    @property
    def tasks(self) -> list[Pump]:
        """What has to run in tasks of its block."""
        return self._stdio.pumps

    def close_streams(self) -> None:
        """Close Python's ends."""
        self._stdio.close_ends()

    def abandon(self, detail: str) -> None:
        """End it at once because its block was cancelled or failed; close the streams."""
        for run in self.runs:
            run.end(Reason.CANCELLED, detail)
        self._stdio.close_ends()

    # --- its network ------------------------------------------------------------------------------------------------

    async def connect(self, port: int, *, wait: bool = True) -> GuestStream:
        """Connect by TCP to a port on which the guest listens; return a byte stream.

        With `wait`, as soon as it listens there. Raises ConnectionRefusedError where it does not, or ends before it
        does; TypeError, ValueError for what is no port.
        """
        from aiopyvm.runtime.network import check_port

        return await self._run.outside.connect(check_port(port), wait=wait)

    @property
    def published(self) -> dict[int, tuple[str, int]]:
        """Where the host listens for the guest's ports: {guest port: (address, port)} (`VM(publish=...)`)."""
        return dict(self._publisher.ports) if self._publisher is not None else {}

    # --- the result ---------------------------------------------------------------------------------------------------

    @property
    def result(self) -> Result:
        """How it ended. Raises RuntimeError while it runs."""
        result = self._run.result
        if result is None:
            raise RuntimeError(f"{self!r} has not ended")
        return result

    async def ask(self, data: bytes = b"") -> bytes:
        """Send `data`; return all that it writes to standard output until it waits for input again, or ends.

        Raises ValueError unless stdin and stdout are PIPE, anyio.BrokenResourceError when it does not read any more.
        """
        from aiopyvm.runtime.ask import ask

        return await ask(self.runs, self.stdin, self.stdout, data)

    async def expect(self, pattern: bytes | re.Pattern[bytes], max_bytes: int = 65536) -> bytes:
        """Return what it writes to standard output up to `pattern`'s first match, which is read too.

        Raises ValueError unless stdout is PIPE; else as `ReceiveEnd.receive_to`.
        """
        if self.stdout is None:
            raise ValueError("expect() needs stdout=PIPE")
        return await self.stdout.receive_to(pattern, max_bytes)

    async def send(self, data: bytes) -> None:
        """Write `data` to standard input: in a terminal, type it. Raises ValueError unless stdin is PIPE; else as
        `SendEnd.send`."""
        if self.stdin is None:
            raise ValueError("send() needs stdin=PIPE")
        await self.stdin.send(data)

    def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size; the foreground group gets SIGWINCH where that is another one.

        Raises ValueError without tty=True, and for a size that is not 0 to 65535.
        """
        line = self._stdio.terminal
        if line is None:
            raise ValueError("resize() needs tty=True")
        if not (0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF):
            raise ValueError(f"a terminal has 0 to 65535 rows and columns, not {rows} and {columns}")
        if self._run.result is None:
            self._run.by_hand(lambda: line.resize(WINSIZE.pack(rows, columns, 0, 0)))
            self._run.scheduler.look_at(self._run)

    # --- the machine --------------------------------------------------------------------------------------------------

    @property
    def registers(self) -> Registers:
        """The first thread's registers, by name or number."""
        from aiopyvm.runtime.proxies import Registers

        return Registers(self._run.main.core.cpu, self._run.wait_for_landing)

    @property
    def memory(self) -> Memory:
        """The first process's memory."""
        from aiopyvm.runtime.proxies import Memory

        return Memory(self._run.main, self._run.wait_for_landing)

    @property
    def symbols(self) -> dict[str, int]:
        """The program's symbols: name to address; empty where it has none."""
        return self._debugger.symbols

    @property
    def breakpoints(self) -> Breakpoints:
        """Addresses at which it stops; a set that may be changed at any time."""
        return self._debugger.breakpoints

    def push(self, value: int) -> None:
        """Push a 32-bit value on the first thread's stack. Raises GuestMemoryError."""
        self.memory.push(value)

    def pop(self) -> int:
        """Pop a 32-bit value off the first thread's stack. Raises GuestMemoryError."""
        return self.memory.pop()

    async def step(self) -> Step | None:
        """Execute one instruction of a paused process; None when it has ended. Raises RuntimeError when it is not
        paused."""
        return await self._debugger.step()

    async def resume(self) -> int | None:
        """Let a paused process run; return the address of the breakpoint where it stops, None when it has ended."""
        return await self._debugger.resume()

    @property
    def _debugger(self) -> Debugger:
        if self._debugger_made is None:
            from aiopyvm.runtime.debugger import Debugger

            self._debugger_made = Debugger(self._run)
        return self._debugger_made


P = TypeVar("P", bound=Process)


def pump_task(run: Run, pump: Pump) -> Callable[[], Awaitable[None]]:
    """Return what a block runs for `pump`: an exception of its stream ends the run and goes on to the block."""

    async def task() -> None:
        try:
            await pump.run()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            run.fail(error)
            raise

    return task


class Opening(AbstractAsyncContextManager[P]):
    """What `open_*` returns: the block of one process, or pipeline. `start` makes it when the block is entered."""

    def __init__(self, start: Callable[[Block], Awaitable[P]], name: str) -> None:
        self._start = start
        self._name = name
        self._block = Block()
        self._process: P | None = None
        self._host: BlockTask | None = None

    def __await__(self) -> Any:
        raise TypeError(
            f"{self._name}() is an async context manager: write `async with vm.{self._name}(...) as process:`"
        )

    def __enter__(self) -> NoReturn:
        raise TypeError(f"{self._name}() is a block of the event loop: write `async with`, not `with`")

    def __exit__(self, *_: object) -> None:
        raise AssertionError("__enter__ raises")

    async def __aenter__(self) -> P:
        if self._block.entered:
            raise RuntimeError("this block was entered already")
        await self._block.__aenter__()
        try:
            process = await self._start(self._block)
        except BaseException as error:
            await self._block.__aexit__(type(error), error, error.__traceback__)
            raise
        self._process = process
        for run in process.runs:
            run.when_done(self._watcher(run))
        self._host = BlockTask(process.runs[0].scheduler.driver, self._block)
        self._host.join()
        return process

    def _watcher(self, run: Run) -> Callable[[], None]:
        def ended() -> None:
            if run.failure is not None and self._block.open:
                self._block.fail(run.failure)

        return ended

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._process is not None
        assert self._host is not None
        failure = error
        if failure is None:
            try:
                await self._process.aclose()
            except BaseException as closing:
                failure = closing
        if failure is not None:
            self._process.abandon(f"{type(failure).__name__} left the block")
        self._host.leave()
        swallowed = await self._block.__aexit__(None if failure is None else type(failure), failure, None)
        if failure is not None and error is None and not swallowed:
            raise failure
        return swallowed
