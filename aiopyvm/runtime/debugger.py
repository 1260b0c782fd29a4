"""Stepping and breakpoints: what `Process.step`, `resume` and `breakpoints` do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, MutableSet
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from aiopyvm.engine.protocol import ExitReason
from aiopyvm.errors import LoadError
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.loader.elf import parse_elf
from aiopyvm.runtime import guest as guests
from aiopyvm.runtime.instruments import instruments_of
from aiopyvm.runtime.steps import Observer, Step

if TYPE_CHECKING:
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.run import Run


class Breakpoints(MutableSet[int]):
    """Addresses at which a process stops before the instruction there is executed."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._addresses: set[int] = set()

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        return set(it)

    def __contains__(self, address: object) -> bool:
        return address in self._addresses

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._addresses))

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, value: int) -> None:
        """Stop at address `value`. Raises TypeError, ValueError for what is no 32-bit address."""
        if not isinstance(value, int):
            raise TypeError(f"a breakpoint is an address, not {type(value).__name__}")
        if not 0 <= value <= 0xFFFFFFFF:
            raise ValueError(f"a breakpoint is a 32-bit address, not {value:#x}")
        self._addresses.add(value)
        self._debugger.set_breakpoints(self._addresses)

    def discard(self, value: int) -> None:
        """Stop there no more."""
        self._addresses.discard(value)
        self._debugger.set_breakpoints(self._addresses)

    def __repr__(self) -> str:
        return f"Breakpoints({{{', '.join(f'{address:#x}' for address in self)}}})"


class Debugger:
    """Holds one run, lets it go instruction by instruction or to the next breakpoint."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._event: anyio.Event | None = None
        self._stopped_at: int | None = None
        self._thread: Thread | None = None  # the one that stopped last
        self.breakpoints = Breakpoints(self)
        instruments_of(run).on_breakpoint = self._stop

    @property
    def symbols(self) -> dict[str, int]:
        """The program's symbols: name to address, where it was loaded; empty where it has none."""
        return symbols_of(self._run)

    def set_breakpoints(self, addresses: set[int]) -> None:
        """Take over a changed set."""
        instruments = instruments_of(self._run)
        instruments.breakpoints = set(addresses)
        instruments.refresh()

    def _stop(self, guest: Guest, address: int) -> None:
        self._run.going = False
        self._stopped_at = address
        self._thread = guest.thread
        self._notify()

    def _notify(self) -> None:
        if self._event is not None:
            self._event.set()

    # --- stepping -----------------------------------------------------------------------------------------------------

    async def step(self) -> Step | None:
        """Execute one instruction; None when the run has ended. Raises RuntimeError when it is not paused."""
        await anyio.lowlevel.checkpoint()
        run = self._run
        if run.result is not None:
            return None
        if run.going:
            raise RuntimeError(
                "only a paused process can be stepped: open it with paused=True, or stop it at a breakpoint"
            )
        thread = await self._ready_thread()
        if thread is None:
            return None
        observer = Observer(thread)
        done = run.by_hand(lambda: self._execute(thread))
        if done is None:
            return None
        return observer.step() if done or run.result is None else None

    async def _ready_thread(self) -> Thread | None:
        """Return the thread to step, when it can execute an instruction; None when the run has ended."""
        run = self._run
        while run.result is None:
            thread = self._choose()
            if thread.state is RunState.RUNNABLE:
                if thread.call is None and not thread.attention:
                    return thread
                run.by_hand(partial(run.kernel.resume, thread))
            else:
                await self._wait_for_change()
        return None

    def _choose(self) -> Thread:
        for thread in (self._thread, self._run.main):
            if thread is not None and thread.state is not RunState.DEAD:
                return thread
        return next(iter(self._run.kernel.threads.values()))

    async def _wait_for_change(self) -> None:
        run = self._run
        event = self._event = anyio.Event()
        run.on_runnable.append(event.set)
        run.when_done(event.set)
        try:
            run.scheduler.rest(run.lane)
            await event.wait()
        finally:
            self._event = None
            run.on_runnable.remove(event.set)
            run.not_when_done(event.set)

    def _execute(self, thread: Thread) -> int | None:
        """Execute one instruction of `thread`; how many were (0: it faulted), None when the run is about to end."""
        run = self._run
        if not run.room(1):
            return None
        cpu = thread.core.cpu
        before: int = cpu.instructions
        left_by = run.engine.run(thread.core, 1)
        done: int = cpu.instructions - before
        run.executed(done)
        if left_by.reason not in (ExitReason.BUDGET, ExitReason.BREAKPOINT):
            guests.leave(run.guest_of(thread), left_by)
        run.tick()
        return done

    # --- running on ---------------------------------------------------------------------------------------------------

    async def resume(self) -> int | None:
        """Let the run go on; return where it stops at a breakpoint, None when it has ended."""
        await anyio.lowlevel.checkpoint()
        run = self._run
        if not run.going and run.result is None:
            thread = self._thread or run.main
            instruments_of(run).passed[thread] = thread.core.cpu.eip
            run.going = True
            if run.ready:
                run.scheduler.ready(run)
        while run.result is None and run.going:
            event = self._event = anyio.Event()
            run.when_done(event.set)
            try:
                await event.wait()
            finally:
                self._event = None
                run.not_when_done(event.set)
        return None if run.result is not None else self._stopped_at


def symbols_of(run: Run) -> dict[str, int]:
    """Return the symbols of the program that `run` was started with."""
    if run.program_bytes is None:
        return {}
    try:
        image = parse_elf(run.program_bytes)
        symbols = image.symbols
    except LoadError:  # a flat binary, or a damaged table
        return {}
    bias = 0
    if image.position_independent:
        name = os.fsdecode(run.process.exe)
        bias = (
            min((m.start for m in run.process.memory.mappings() if m.name == name), default=image.start) - image.start
        )
    return {symbol: address + bias & 0xFFFFFFFF for symbol, address in symbols.items()}
