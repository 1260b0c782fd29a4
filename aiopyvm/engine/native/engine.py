"""The run loop of the native engine: generated code until it comes back, and what Python does then.

Generated code comes back for what it does not have (a link, an indirect jump's target, a page that is not fast, an
instruction without native form) and for what the contract asks to be told. Python does the first kind exactly as the
evaluator defines it, and goes on. Rare modes and breakpoints are the Python engine's, and so is everything until the
handlers are loaded.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.hostclock import clock_function
from aiopyvm.engine.native.layout import ACCESS_WRITE, CONTEXT_OFFSETS, Left
from aiopyvm.engine.native.recordarena import RecordArena
from aiopyvm.engine.native.records import Runs
from aiopyvm.engine.native.seat import Seat
from aiopyvm.engine.native.snapshot import Snapshots, Store
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.native.transit import (
    BEGIN,
    BUDGET,
    END,
    HOT,
    JUMP,
    LINK,
    PAUSED,
    SPENT,
    STEP,
    SYSCALL,
    exit_of,
    put_off,
)
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.errors import InternalError
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.isa.vectors import PF
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE_SHIFT, READ, WRITE

if TYPE_CHECKING:
    from aiopyvm.engine.native.hot import Hot
    from aiopyvm.engine.native.relay import Relay
    from aiopyvm.engine.python import PythonEngine
    from aiopyvm.engine.python.rare import RareModes
    from aiopyvm.engine.relaying import RelayCalls
    from aiopyvm.mem.space import AddressSpace

_ACCESS: Final = struct.Struct("<II").unpack_from  # address, access
_ADDRESS: Final = CONTEXT_OFFSETS["address"]
UNBOUNDED: Final = 1 << 62
_WHILE: Final = 64  # instructions of the Python engine that take as long as a return of generated code
_CLOSE: Final = 32  # instructions between two that are left to Python: generated code is no gain
_DENSE: Final = 64  # so many in a row, and the Python engine goes on for a while: it is long to import and to warm up
_STRETCH: Final = 1024  # instructions, that while; twice as many each time, up to
_STRETCHES: Final = 6  # doublings


class NativeEngine:
    """Executes cores under the contract of `aiopyvm.engine.protocol`, in generated code.

    `handlers` gives the loaded handlers, or None as long as there are none; it is asked at the beginning of a run.
    `make_hot` makes the hot tier for the symbols that are loaded (None: as it is by default);
    `make_store` what keeps translations for later processes (None: nothing). `allowed` are the features of the
    processor, for which these are made too (None: all that there are): what needs others is #UD.
    """

    name = "native"

    def __init__(
        self,
        handlers: Callable[[], HandlerTable | None],
        make_hot: Callable[[Mapping[str, int]], Hot] | None = None,
        make_store: Callable[[HandlerTable], Store] | None = None,
        allowed: frozenset[str] | None = None,
    ) -> None:
        self._load = handlers
        self._make_hot = make_hot
        self._make_store = make_store
        self._allowed = allowed
        self.hot: Hot | None = None  # as soon as there are handlers
        self._table: HandlerTable | None = None
        self._runs: Runs | None = None
        self._snapshots = Snapshots()
        self._lock = threading.Lock()
        # By id of the core: code, budget, version, token.
        self._launched: dict[int, tuple[SpaceCode, int, int, int]] = {}
        self._exits = [0] * len(ExitReason)
        self._left = [0] * len(Left)
        self._instructions = 0
        self._stepped = 0
        self._in_python = 0
        self._touched = 0

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made: instructions by who executed them, exits by reason. What is in flight is
        counted when it has landed, but for `instructions_hot`, which is exact only where nothing is."""
        hot = self.hot.statistics() if self.hot is not None else {}
        cold = self._instructions - hot.get("instructions_hot", 0) - self._stepped - self._in_python
        exits = {f"exits_{reason.name.lower()}": self._exits[reason] for reason in ExitReason}
        left = {f"left_{reason.name.lower()}": self._left[reason] for reason in Left}
        return {
            "instructions": self._instructions,
            "instructions_cold": max(0, cold),
            "instructions_evaluated": self._stepped,
            "instructions_python": self._in_python,
            "blocks": self._runs.blocks if self._runs is not None else 0,
            "decoded": self._runs.decoded if self._runs is not None else 0,
            "decoded_by_table": self._runs.decoded_by_table if self._runs is not None else 0,
            "first_touches": self._touched,
            "snapshots_taken": self._snapshots.taken,
            "snapshots_adopted": self._snapshots.adopted,
            **hot,
            **left,
            **exits,
        }

    def run(self, core: Core, budget: int, patience: int = UNBOUNDED, on_call: Callable[[], int] | None = None) -> Exit:
        """Execute at most `budget` (>= 1) instructions of `core`; see `Launcher.run`."""
        if budget < 1:
            raise ValueError(f"budget must be at least 1, not {budget}")
        cpu = core.cpu
        before: int = cpu.instructions
        outcome: Exit | int = budget
        while isinstance(outcome, int):
            if outcome <= 0:
                outcome = SPENT
            elif patience <= 0:
                outcome = PAUSED
            elif core.breakpoints or cpu.rare or core.debug is not None or (code := self.code_of(core)) is None:
                outcome = self._elsewhere(core, outcome, patience, first=cpu.instructions == before)
            elif code.stay:
                mark: int = cpu.instructions
                outcome = self._stay(core, code, outcome, patience)
                patience -= (cpu.instructions - mark) // _WHILE + 1
            else:
                outcome = self._go(core, code, outcome, patience, on_call)
        self._instructions += cpu.instructions - before
        self._exits[outcome.reason] += 1
        return outcome

    def seat(self, core: Core) -> Seat:
        """For guests that make one system call after the other; see `engine.protocol.Seat`."""
        return Seat(self, core)

    def relay(self, calls: RelayCalls) -> Relay | None:
        """See `engine.protocol.Seater`."""
        from aiopyvm.engine.native.relay import Relay  # few guests talk to each other

        return Relay(self._table, calls) if self._table is not None else None

    def came_back(self, reason: int) -> None:
        """Count why generated code came back to a seat, but for system calls."""
        self._left[reason] += 1

    def sat(self, done: int, calls: int) -> None:
        """Count the instructions that a seat has executed, and its system calls."""
        self._instructions += done
        self._left[SYSCALL] += calls

    def launch(self, core: Core, budget: int) -> int:
        """Prepare to execute at most `budget` (>= 1) instructions; the address of the context for `enter`, 0 where
        generated code cannot go on."""
        rare = core.breakpoints or core.cpu.rare or core.debug is not None
        if rare or (code := self.code_of(core)) is None or code.stay:
            return 0
        hot = self.hot
        assert hot is not None
        hot.collect(code)
        try:
            offset = code.enter(core.cpu.eip)
        except (MemoryFault, DecodeFault):
            return 0  # `run` finds out again
        if (protection := core.memory.protection) is not None:
            self.guard(core.memory)
            protection.ready()
        code.context.cpu = ctypes.addressof(core.cpu)
        BEGIN(code.context, 0, code.arena.base + offset, budget, 0)
        self._launched[id(core)] = code, budget, code.generation + code.invalidations, hot.epochs.begin()
        return ctypes.addressof(code.context)

    @property
    def enter(self) -> Callable[[int], object]:
        """Runs generated code for a context, on any thread, without the GIL."""
        assert self._table is not None
        return self._table.run

    @property
    def in_flight(self) -> int:
        """How many cores were launched and have not landed."""
        return len(self._launched)

    def land(self, core: Core) -> Exit:
        """After `enter` has returned for what `launch` prepared: why it came back; see `Launcher.land`."""
        code, budget, version, token = self._launched.pop(id(core))
        assert self.hot is not None
        self.hot.epochs.end(token)
        rec, left, reason, vector, error_code = END(code.context)
        core.cpu.instructions += budget - left
        self._instructions += budget - left
        self._left[reason] += 1
        exit_ = exit_of(reason, vector, error_code)
        if exit_ is None:
            same = version == code.generation + code.invalidations  # else its record may be another's now
            if left <= 0:
                exit_ = SPENT
                if reason == HOT and same:
                    put_off(code, rec)
            else:
                exit_ = self._landed(core, code, rec, reason) if same else PAUSED
        self._exits[exit_.reason] += 1
        return exit_

    def _landed(self, core: Core, code: SpaceCode, rec: int, reason: int) -> Exit:
        """Do what generated code lacks; an instruction that is for Python to execute is left to `run`."""
        try:
            self.supply(core, code, rec, reason)
        except (MemoryFault, DecodeFault) as fault:
            return _fault_exit(fault)
        return PAUSED

    def _elsewhere(self, core: Core, left: int, patience: int, *, first: bool) -> Exit | int:
        """Let the Python engine execute at most `left` instructions; how many are left where the caller goes on."""
        before: int = core.cpu.instructions
        exit_ = self._python.advance(core, min(left, patience * _WHILE), first=first)
        done = core.cpu.instructions - before
        self._in_python += done
        if exit_ is not None:
            return exit_
        return PAUSED if done >= patience * _WHILE else left - done

    # -- code ----------------------------------------------------------------------------------------------------------

    def code_of(self, core: Core) -> SpaceCode | None:
        """The code of the core's space; None where the Python engine is to run it, at least for now."""
        key = (self, core.end_of_code)
        code = core.memory.translations.get(key)
        if not isinstance(code, SpaceCode):
            table = self._table or self._ready()
            if table is None or self._runs is None:
                return None
            try:
                arena = RecordArena()
            except OSError:
                return None  # the host has no room for its records
            if "_python" in self.__dict__:  # it may have been at work
                self._python.forget(core.memory)
            code = SpaceCode(core.memory, core.end_of_code, arena, table, self._runs)
            code.context.mem = core.memory.base
            code.context.leaves = ctypes.addressof(core.processor.table)  # processors are for ever
            if core.counter_zero is not None:
                code.context.clock, code.context.counter_zero = clock_function(), core.counter_zero
            code.begin(core.cpu.eip, self._snapshots)
            if self.hot is not None:
                self.hot.attend(code)
            core.memory.translations[key] = code
        return code

    def _ready(self) -> HandlerTable | None:
        """The handlers, once they are loaded."""
        table = self._load()
        if table is not None:
            with self._lock:
                if self._table is None:
                    self._runs = table.runs(self._allowed)
                    self.hot = self._hot_tier(table)
                    self._snapshots.store = self._make_store(table) if self._make_store is not None else None
                    self._table = table
        return self._table

    def _hot_tier(self, table: HandlerTable) -> Hot:
        if self._make_hot is not None:
            return self._make_hot(table.symbols)
        from aiopyvm.engine.native.hot import Hot

        return Hot(table.symbols)

    @cached_property
    def _python(self) -> PythonEngine:
        """The engine for what this one leaves to Python; imported when there is such a thing, as is the next one."""
        from aiopyvm.engine.python import PythonEngine

        return PythonEngine(allowed=self._allowed)

    @cached_property
    def _rare(self) -> RareModes:
        """Executes single instructions."""
        from aiopyvm.engine.python.rare import RareModes

        return RareModes(self._allowed)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _go(
        self, core: Core, code: SpaceCode, left: int, patience: int, on_call: Callable[[], int] | None
    ) -> Exit | int:
        """Run at most `left` instructions in the flat mode; how many are left where the caller goes on."""
        cpu = core.cpu
        table, hot = self._table, self.hot
        assert table is not None
        assert hot is not None
        run, base, counts = table.run, code.arena.base, self._left
        context = code.context
        context.cpu = ctypes.addressof(cpu)
        place = ctypes.addressof(context)
        hot.collect(code)
        space = core.memory
        self.guard(space)
        still_ours = _always if hot.guards is None else hot.guards.still_ours
        token = hot.epochs.begin()
        done: int = cpu.instructions
        try:
            offset = code.enter(cpu.eip)
            while patience >= 0:
                patience -= 1
                if (protection := space.protection) is not None:
                    protection.ready()
                BEGIN(context, 0, base + offset, left, 0)
                run(place)
                rec, after, reason, vector, error_code = END(context)
                done += left - after
                cpu.instructions = done
                left = after
                counts[reason] += 1
                if reason == SYSCALL and on_call is not None:
                    left = on_call()
                    if left <= 0:
                        return PAUSED
                    if core.breakpoints:
                        return left
                    if protection is not None and protection.armed and not still_ours():
                        protection.give_up()
                    offset = code.enter(cpu.eip)
                    continue
                if reason == BUDGET:
                    return 0
                exit_ = exit_of(reason, vector, error_code)
                if exit_ is not None:
                    return exit_
                if left <= 0:
                    if reason == HOT:
                        put_off(code, rec)
                    return 0
                offset = self.supply(core, code, rec, reason) or self._want_handler(core, code, rec)
                if not offset:
                    exit_ = self._step(core, code, waits=rec - base in code.waiting)
                    left -= cpu.instructions - done
                    if exit_ is not None:
                        return exit_
                    if left <= 0 or cpu.rare or code.stay:
                        return left
                    done = cpu.instructions
                    offset = code.enter(cpu.eip)
            return PAUSED
        except (MemoryFault, DecodeFault) as fault:
            return _fault_exit(fault)
        finally:
            hot.epochs.end(token)

    def supply(self, core: Core, code: SpaceCode, rec: int, reason: int) -> int:
        """Do what generated code lacks at the record at address `rec`; the offset to go on at, 0 where the instruction
        is for Python to execute. Raises MemoryFault and DecodeFault of the instruction."""
        offset = rec - code.arena.base
        if reason == LINK:
            return code.follow(offset)
        if reason == JUMP:
            return code.jump(core.cpu.eip)
        if reason == HOT:
            assert self.hot is not None
            return self.hot.promote(code, offset)
        if reason != STEP:
            raise InternalError(f"generated code came back for reason {reason}")
        if not self._touch(core, code):
            return 0
        return offset if rec else code.enter(core.cpu.eip)

    def _want_handler(self, core: Core, code: SpaceCode, rec: int) -> int:
        """The record at address `rec` (0: none) is left to Python: perhaps for want of a handler that can be made.

        Its offset where it has one now, 0 where it has not.
        """
        if rec and (wanted := code.waiting.get(rec - code.arena.base)) is not None:
            assert self._table is not None
            self._table.use(wanted, core, self._allowed, hurry=code.dense >= _DENSE)
            if code.adopt_handler(rec - code.arena.base):
                return rec - code.arena.base
        return 0

    def guard(self, space: AddressSpace, *, python: bool = False) -> None:
        """Others have run (`python`: Python code alone): see that the faults of an armed space still come to us."""
        if space.protection is not None and self.hot is not None and self.hot.guards is not None:
            self.hot.guards.ready(space, python=python)

    def _touch(self, core: Core, code: SpaceCode) -> bool:
        """Make the access fast for which generated code came back; False where it stays slow, or was none.

        Raises MemoryFault, which is then what the instruction does.
        """
        address, access = _ACCESS(code.context, _ADDRESS)
        if not access:
            return False
        size, write = access & ACCESS_WRITE - 1, bool(access & ACCESS_WRITE)
        fast = False
        try:
            core.memory.probe(address, size, write)
            self._touched += 1
            bit = WRITE if write else READ
            pages = core.memory.pages
            fast = bool(pages[address >> PAGE_SHIFT] & pages[address + size - 1 >> PAGE_SHIFT] & bit)
        finally:
            if not fast and core.memory.protection is not None:
                self._in_vain(core, code)
        return fast

    def _in_vain(self, core: Core, code: SpaceCode) -> None:
        """Generated code came back for an access that stays slow."""
        code.vain += 1
        if self.hot is not None and self.hot.guards is not None:
            self.hot.guards.vain(core.memory, code.vain, core.cpu.instructions)

    def _step(self, core: Core, code: SpaceCode, *, waits: bool) -> Exit | None:
        """One instruction, by its definition; where such instructions follow one another closely, none: the Python
        engine is to go on for a while, a short one where the instruction waits for a handler (`waits`)."""
        before: int = core.cpu.instructions
        code.dense = code.dense + 1 if 0 <= before - code.stepped_at < _CLOSE else 0
        if code.dense < _DENSE:
            exit_ = self._rare.step(core, first=True)
            self._stepped += core.cpu.instructions - before
        else:
            code.stay = _STRETCH if waits else _STRETCH << min(code.dense - _DENSE, _STRETCHES)
            exit_ = None
        code.stepped_at = core.cpu.instructions
        return exit_

    def _stay(self, core: Core, code: SpaceCode, left: int, patience: int) -> Exit | int:
        """Let the Python engine execute some of `code.stay`."""
        before: int = core.cpu.instructions
        stay = min(left, code.stay)
        outcome = self._elsewhere(core, stay, patience, first=True)
        code.stay = max(0, code.stay - (core.cpu.instructions - before))
        code.stepped_at = core.cpu.instructions
        return left - stay + outcome if isinstance(outcome, int) else outcome


def _always() -> bool:
    return True


def _fault_exit(fault: MemoryFault | DecodeFault) -> Exit:
    if isinstance(fault, DecodeFault):
        return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
    return Exit(ExitReason.FAULT, PF, fault.error_code, fault.address, fault.access)
