"""A core whose generated code is entered again and again, for guests that make one system call after the other.

What `NativeEngine.run` sees to at each run is seen to once for several entries: `begin`, any number of `enter`, `end`.
Only the guest's kernel runs in between, which has nothing to do with how the host's faults are handled. What needs an
instruction by its definition is left as it is: `run` finds out again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.transit import BEGIN, END, HOT, JUMP, LINK, SYSCALL, TRAP, exit_of, put_off
from aiopyvm.engine.protocol import Core, Exit
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.engine.native.engine import NativeEngine
    from aiopyvm.engine.native.layout import Context
    from aiopyvm.engine.native.space import SpaceCode

SUPPLIED: Final = (LINK, JUMP, HOT)
PATIENCE: Final = range(16)  # returns of generated code for these in one entry, each of which takes a bounded time


class Seat:
    """See `engine.protocol.Seat`."""

    __slots__ = (
        "_address",
        "_calls",
        "_code",
        "_context",
        "_core",
        "_cpu",
        "_engine",
        "_place",
        "_run",
        "_token",
        "done",
        "exit",
        "taken",
    )

    def __init__(self, engine: NativeEngine, core: Core) -> None:
        self._engine = engine
        self._core = core
        self._cpu = core.cpu
        self._address = ctypes.addressof(core.cpu)
        self._code: SpaceCode
        self._context: Context
        self._place = 0
        self._run: Callable[[int], object]
        self._token = -1
        self._calls = 0
        self.done = 0
        self.taken = False
        self.exit: Exit | None = None

    def begin(self, *, again: bool) -> bool:
        """Prepare for entries, `again` where nothing but Python code has run since that was last done; False: `run` has
        to do this."""
        engine, core = self._engine, self._core
        if core.breakpoints or self._cpu.mode or (code := engine.code_of(core)) is None or code.stay:
            return False
        hot = engine.hot
        assert hot is not None
        hot.collect(code)
        if core.memory.protection is not None:
            engine.guard(core.memory, python=again)
        self._code, self._run, self._context = code, engine.enter, code.context
        self._place = ctypes.addressof(code.context)
        code.context.cpu = self._address
        self._token = hot.epochs.begin()
        self._calls = self.done = 0
        self.taken = True
        return True

    def again(self) -> bool:
        """Go on after other seats of the engine have been entered, as after `begin`; False: `end` comes first."""
        code, core = self._code, self._core
        if code.made or code.stay or core.breakpoints:
            return False
        if core.memory.protection is not None:
            self._engine.guard(core.memory, python=True)
        self._context.cpu = self._address  # other threads of the space have seats, too
        return True

    def end(self) -> None:
        """No entries follow."""
        engine = self._engine
        self.taken = False
        engine.sat(self.done, self._calls)
        assert engine.hot is not None
        engine.hot.epochs.end(self._token)

    def enter(self, budget: int) -> int:
        """Execute at most `budget` instructions (>= 1); how many are left behind a system call. Where there was none it
        is negative, and `exit` is what is to be handled, or None."""
        code, cpu, context = self._code, self._cpu, self._context
        if (protection := self._core.memory.protection) is not None:
            protection.ready()
        record = code.record(cpu.eip)
        if not record:
            self.exit = None
            return -1
        BEGIN(context, 0, code.arena.base + record, budget, 0)
        self._run(self._place)
        rec, left, reason, vector, error_code = END(context)
        cpu.instructions += (done := budget - left)
        self.done += done
        if reason == SYSCALL:
            self._calls += 1
            return int(left)
        return self._go_on(rec, left, reason, vector, error_code)

    def _go_on(self, rec: int, left: int, reason: int, vector: int, error_code: int) -> int:
        """As `enter`, of generated code that came back for another reason than a system call."""
        code, cpu, context = self._code, self._cpu, self._context
        for _ in PATIENCE:
            self._engine.came_back(reason)
            if left <= 0 or reason not in SUPPLIED or not (place := self._supply(code, rec, reason)):
                break
            budget = left
            BEGIN(context, 0, place, budget, 0)
            self._run(self._place)
            rec, left, reason, vector, error_code = END(context)
            cpu.instructions += (done := budget - left)
            self.done += done
            if reason == SYSCALL:
                self._calls += 1
                return left
        self.exit = exit_of(reason, vector, error_code) if reason == TRAP else None
        if left <= 0 and reason == HOT:
            put_off(code, rec)
        return -1

    def _supply(self, code: SpaceCode, rec: int, reason: int) -> int:
        """Give generated code what it lacks; the address of the record to go on at, 0 where `run` has to."""
        try:
            offset = self._engine.supply(self._core, code, rec, reason)
        except (MemoryFault, DecodeFault):
            return 0  # `run` finds out again
        if (protection := self._core.memory.protection) is not None:
            protection.ready()
        return code.arena.base + offset if offset else 0


__all__ = ["Seat"]
