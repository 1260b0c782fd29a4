"""A core whose generated code is entered again and again, for guests that make one system call after the other.

What `NativeEngine.run` sees to at each run is seen to once for several entries: `begin`, any number of `enter`, `end`.
Only the guest's kernel runs in between, which has nothing to do with how the host's faults are handled. What needs an
instruction by its definition is left as it is: `run` finds out again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.layout import CONTEXT_OFFSETS
from aiopyvm.engine.native.transit import BEGIN, END, HOT, JUMP, LINK, SYSCALL, TRAP, exit_of, put_off
from aiopyvm.engine.protocol import Core, Exit
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.engine.native.engine import NativeEngine
    from aiopyvm.engine.native.layout import Context
    from aiopyvm.engine.native.space import SpaceCode

SUPPLIED: Final = (LINK, JUMP, HOT)
_FIELDS: Final = slice(0, CONTEXT_OFFSETS["jump_mask"] // 8 * 8)  # of a context, what changes at each entry
_REC, _BUDGET, _REASON = CONTEXT_OFFSETS["rec"] // 8, CONTEXT_OFFSETS["budget"] // 8, CONTEXT_OFFSETS["reason"] // 4
_COUNT: Final = slice(CpuState.instructions.offset, CpuState.instructions.offset + 8)
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
        "_token",
        "done",
        "enter",
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
        self.enter: Callable[[int], int]
        self._token = -1
        self._calls = 0
        self.done = 0
        self.taken = False
        self.exit: Exit | None = None

    def begin(self, *, again: bool) -> bool:
        """Prepare for entries, `again` where nothing but Python code has run since that was last done; False: `run` has
        to do this."""
        engine, core = self._engine, self._core
        rare = core.breakpoints or self._cpu.rare or core.debug is not None
        if rare or (code := engine.code_of(core)) is None or code.stay:
            return False
        hot = engine.hot
        assert hot is not None
        hot.collect(code)
        if core.memory.protection is not None:
            engine.guard(core.memory, python=again)
        self._code, self._context, self._place = code, code.context, ctypes.addressof(code.context)
        self._context.cpu = self._address
        self._context.access = 0
        self.enter = self._entry(engine.enter)
        self._token = hot.epochs.begin()
        self._calls = self.done = 0
        self.taken = True
        return True

    def _entry(self, run: Callable[[int], object]) -> Callable[[int], int]:
        """`enter`, which sees the context and the count of instructions as numbers: as structures they take twice the
        time."""
        cpu, place, base, record = self._cpu, self._place, self._code.arena.base, self._code.record
        memory, go_on, count = self._core.memory, self._go_on, memoryview(self._cpu).cast("B")[_COUNT].cast("Q")
        fields = memoryview(self._context).cast("B")[_FIELDS]
        numbers, words = fields.cast("q"), fields.cast("I")

        def enter(budget: int) -> int:
            if (protection := memory.protection) is not None:
                protection.ready()
            offset = record(cpu.eip)
            if not offset:
                self.exit = None
                return -1
            numbers[_REC], numbers[_BUDGET] = base + offset, budget
            run(place)
            left: int = numbers[_BUDGET]
            done = budget - left
            count[0] += done
            self.done += done
            if words[_REASON] != SYSCALL:
                return go_on(run)
            self._calls += 1
            return left

        return enter

    def again(self) -> bool:
        """Go on after other seats of the engine have been entered, as after `begin`; False: `end` comes first."""
        code, core = self._code, self._core
        if code.made or code.stay or core.breakpoints or core.debug is not None:
            return False
        if core.memory.protection is not None:
            self._engine.guard(core.memory, python=True)
        self._context.cpu = self._address  # other threads of the space have seats, too
        self._context.access = 0
        return True

    def end(self) -> None:
        """No entries follow."""
        engine = self._engine
        self.taken = False
        engine.sat(self.done, self._calls)
        assert engine.hot is not None
        engine.hot.epochs.end(self._token)

    def places(self) -> tuple[int, int, int]:
        """The addresses of the context, the registers and the record to go on at (0: not known), where generated code
        is about to be entered by another than `enter`."""
        if (protection := self._core.memory.protection) is not None:
            protection.ready()
        offset = self._code.record(self._cpu.eip)
        return self._place, self._address, self._code.arena.base + offset if offset else 0

    def went(self, done: int, calls: int) -> None:
        """Another than `enter` has executed `done` instructions and `calls` system calls."""
        self.done += done
        self._calls += calls

    def go_on(self) -> int:
        """As `enter`, where another has, and generated code came back for another reason than a system call."""
        return self._go_on(self._engine.enter)

    def _go_on(self, run: Callable[[int], object]) -> int:
        """As `enter`, of generated code that came back for another reason than a system call."""
        code, cpu, context = self._code, self._cpu, self._context
        rec, left, reason, vector, error_code = END(context)
        for _ in PATIENCE:
            self._engine.came_back(reason)
            if left <= 0 or reason not in SUPPLIED or not (place := self._supply(code, rec, reason)):
                break
            budget = left
            BEGIN(context, 0, place, budget, 0)
            run(self._place)
            rec, left, reason, vector, error_code = END(context)
            cpu.instructions += (done := budget - left)
            self.done += done
            if reason == SYSCALL:
                self._calls += 1
                return int(left)
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
