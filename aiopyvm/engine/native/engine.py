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
from aiopyvm.engine.native.layout import ACCESS_WRITE, CONTEXT_OFFSETS, Context, Left
from aiopyvm.engine.native.recordarena import RecordArena
from aiopyvm.engine.native.records import Runs
from aiopyvm.engine.native.snapshot import Snapshots, Store
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.errors import InternalError
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.isa.vectors import PF
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE_SHIFT, READ, WRITE

if TYPE_CHECKING:
    from aiopyvm.engine.native.hot import Hot
    from aiopyvm.engine.python import PythonEngine
    from aiopyvm.engine.python.rare import RareModes

_REC: Final = CONTEXT_OFFSETS["rec"]
_BUDGET: Final = CONTEXT_OFFSETS["budget"]
_ACCESS: Final = CONTEXT_OFFSETS["access"]
_ADDRESS: Final = CONTEXT_OFFSETS["address"]
_PUT: Final = struct.Struct("<3Qq").pack_into  # rec, cpu, mem, budget
_GET: Final = struct.Struct("<Q16xq").unpack_from
_GET_REASON: Final = struct.Struct("<III").unpack_from  # reason, vector, error_code
_REASON: Final = CONTEXT_OFFSETS["reason"]
_WORD: Final = struct.Struct("<I")
_WORDS: Final = struct.Struct("<II").unpack_from  # address, access
UNBOUNDED: Final = 1 << 62
_WHILE: Final = 64  # instructions of the Python engine that take as long as a return of generated code
_CLOSE: Final = 32  # instructions between two that are left to Python: generated code is no gain
_DENSE: Final = 8  # so many in a row, and the Python engine goes on for a while
_STRETCH: Final = 1024  # instructions, that while; twice as many each time, up to
_STRETCHES: Final = 6  # doublings
assert _BUDGET - _REC == 24
assert _ACCESS - _ADDRESS == 4


class NativeEngine:
    """Executes cores under the contract of `aiopyvm.engine.protocol`, in generated code.

    `handlers` gives the loaded handlers, or None as long as there are none; it is asked at the beginning of a run.
    `make_hot` makes the hot tier for the symbols that are loaded (None: as it is by default);
    `make_store` what keeps translations for later processes (None: nothing).
    """

    name = "native"

    def __init__(
        self,
        handlers: Callable[[], HandlerTable | None],
        make_hot: Callable[[Mapping[str, int]], Hot] | None = None,
        make_store: Callable[[HandlerTable], Store] | None = None,
    ) -> None:
        self._load = handlers
        self._make_hot = make_hot
        self._make_store = make_store
        self.hot: Hot | None = None  # as soon as there are handlers
        self._table: HandlerTable | None = None
        self._runs: Runs | None = None
        self._snapshots = Snapshots()
        self._lock = threading.Lock()
        self._launched: dict[
            int, tuple[SpaceCode, int, int, int]
        ] = {}  # by id of the core: code, budget, version, token
        self._exits = dict.fromkeys(ExitReason, 0)
        self._left = dict.fromkeys(Left, 0)
        self._instructions = 0
        self._stepped = 0
        self._in_python = 0
        self._touched = 0

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made: instructions by who executed them, exits by reason."""
        exits = {f"exits_{reason.name.lower()}": count for reason, count in self._exits.items()}
        left = {f"left_{reason.name.lower()}": count for reason, count in self._left.items()}
        return {
            "instructions": self._instructions,
            "instructions_evaluated": self._stepped,
            "instructions_python": self._in_python,
            "decoded": self._runs.decoded if self._runs is not None else 0,
            "first_touches": self._touched,
            "snapshots_taken": self._snapshots.taken,
            "snapshots_adopted": self._snapshots.adopted,
            **(self.hot.statistics() if self.hot is not None else {}),
            **left,
            **exits,
        }

    def run(self, core: Core, budget: int, patience: int = UNBOUNDED) -> Exit:
        """Execute at most `budget` (>= 1) instructions of `core`; PAUSE after `patience` returns to Python."""
        if budget < 1:
            raise ValueError(f"budget must be at least 1, not {budget}")
        cpu = core.cpu
        before: int = cpu.instructions
        left = budget
        exit_: Exit | None = None
        while exit_ is None:
            if left <= 0:
                exit_ = Exit(ExitReason.BUDGET)
            elif patience <= 0:
                exit_ = Exit(ExitReason.PAUSE)
            elif cpu.mode or core.breakpoints or (code := self._code(core)) is None:
                exit_ = self._elsewhere(core, left, patience, first=left == budget)
            elif code.stay:
                exit_ = self._stay(core, code, left, patience)
                patience -= (left - budget + cpu.instructions - before) // _WHILE + 1
            else:
                exit_ = self._go(core, code, left, patience)
            left = budget - (cpu.instructions - before)
        self._instructions += budget - left
        self._exits[exit_.reason] += 1
        return exit_

    def launch(self, core: Core, budget: int) -> int:
        """Prepare to execute at most `budget` (>= 1) instructions; the address of the context for `enter`, 0 where
        generated code cannot go on."""
        if core.cpu.mode or core.breakpoints or (code := self._code(core)) is None or code.stay:
            return 0
        self._adopt(code)
        try:
            offset = code.enter(core.cpu.eip)
        except (MemoryFault, DecodeFault):
            return 0  # `run` finds out again
        context = code.context
        _PUT(context, _REC, code.arena.base + offset, ctypes.addressof(core.cpu), core.memory.base, budget)
        _WORD.pack_into(context, _ACCESS, 0)
        assert self.hot is not None
        self._launched[id(core)] = code, budget, code.generation + code.invalidations, self.hot.epochs.begin()
        return ctypes.addressof(context)

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
        rec, left = _GET(code.context, _REC)
        reason, vector, error_code = _GET_REASON(code.context, _REASON)
        core.cpu.instructions += budget - left
        self._instructions += budget - left
        self._left[reason] += 1
        if reason == Left.SYSCALL:
            exit_ = Exit(ExitReason.SYSCALL)
        elif reason in (Left.FAULT, Left.TRAP):
            exit_ = Exit(ExitReason.FAULT, vector, error_code if reason == Left.FAULT else 0)
        elif left <= 0:
            if reason == Left.HOT and version == code.generation + code.invalidations:
                code.arena.set_value(rec - code.arena.base, 1)  # it is at the next pass that this is seen to
            exit_ = Exit(ExitReason.BUDGET)
        elif reason == Left.END:
            exit_ = Exit(ExitReason.END_OF_CODE)
        elif version != code.generation + code.invalidations:
            exit_ = Exit(ExitReason.PAUSE)  # the record that it came from may be another's now
        else:
            exit_ = self._landed(core, code, rec - code.arena.base, reason)
        self._exits[exit_.reason] += 1
        return exit_

    def _landed(self, core: Core, code: SpaceCode, rec: int, reason: int) -> Exit:
        """What Python does when generated code lacks something, as in `_go`; the instruction of a STEP is for `run`."""
        try:
            if reason == Left.LINK:
                code.follow(rec)
            elif reason == Left.JUMP:
                code.jump(core.cpu.eip)
            elif reason == Left.STEP:
                self._touch(core, code.context)
            elif reason == Left.HOT:
                self._promote(code, rec)
        except MemoryFault as fault:
            return _page_fault(fault)
        except DecodeFault as fault:
            return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
        return Exit(ExitReason.PAUSE)

    def _elsewhere(self, core: Core, left: int, patience: int, *, first: bool) -> Exit | None:
        """Let the Python engine execute at most `left` instructions; None where the caller goes on."""
        before: int = core.cpu.instructions
        exit_ = self._python.advance(core, min(left, patience * _WHILE), first=first)
        done = core.cpu.instructions - before
        self._in_python += done
        return Exit(ExitReason.PAUSE) if exit_ is None and done >= patience * _WHILE else exit_

    # -- code ----------------------------------------------------------------------------------------------------------

    def _code(self, core: Core) -> SpaceCode | None:
        """The code of the core's space; None where the Python engine is to run it, at least for now."""
        key = (self, core.end_of_code)
        code = core.memory.translations.get(key)
        if code is None:
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
            code.begin(core.cpu.eip, self._snapshots)
            if self.hot is not None:
                self.hot.attend(code)
            core.memory.translations[key] = code
        assert isinstance(code, SpaceCode)
        return code

    def _ready(self) -> HandlerTable | None:
        """The handlers, once they are loaded."""
        table = self._load()
        if table is not None:
            with self._lock:
                if self._table is None:
                    self._runs = Runs(table.form)
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

        return PythonEngine()

    @cached_property
    def _rare(self) -> RareModes:
        """Executes single instructions."""
        from aiopyvm.engine.python.rare import RareModes

        return RareModes()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _go(self, core: Core, code: SpaceCode, left: int, patience: int) -> Exit | None:
        """Run at most `left` instructions in the flat mode; None where the caller goes on."""
        cpu, context, arena = core.cpu, code.context, code.arena
        table = self._table
        assert table is not None
        run, base, counts = table.run, arena.base, self._left
        state, memory = ctypes.addressof(cpu), core.memory.base
        place = ctypes.addressof(context)
        self._adopt(code)
        hot = self.hot
        assert hot is not None
        token = hot.epochs.begin()
        try:
            offset = code.enter(cpu.eip)
            while True:
                if patience < 0:
                    return Exit(ExitReason.PAUSE)
                patience -= 1
                _PUT(context, _REC, base + offset, state, memory, left)
                _WORD.pack_into(context, _ACCESS, 0)
                run(place)
                rec, after = _GET(context, _REC)
                reason, vector, error_code = _GET_REASON(context, _REASON)
                cpu.instructions += left - after
                left = after
                counts[reason] += 1
                if reason == Left.BUDGET:
                    return None
                if reason == Left.SYSCALL:
                    return Exit(ExitReason.SYSCALL)
                if reason == Left.FAULT or reason == Left.TRAP:
                    return Exit(ExitReason.FAULT, vector, error_code if reason == Left.FAULT else 0)
                if left <= 0:
                    if reason == Left.HOT:
                        code.arena.set_value(rec - base, 1)  # it is at the next pass that this is seen to
                    return None
                if reason == Left.LINK:
                    offset = code.follow(rec - base)
                elif reason == Left.JUMP:
                    offset = code.jump(cpu.eip)
                elif reason == Left.STEP:
                    if self._touch(core, context):
                        offset = rec - base if rec else code.enter(cpu.eip)
                        continue
                    if rec and (wanted := code.waiting.get(rec - base)) is not None:
                        table.use(wanted, core)
                        code.adopt_handlers()  # a run may be long, and they may be there now
                    left += cpu.instructions
                    exit_ = self._step(core, code)
                    left -= cpu.instructions
                    if exit_ is not None or left <= 0 or cpu.mode or code.stay:
                        return exit_
                    offset = code.enter(cpu.eip)
                elif reason == Left.HOT:
                    offset = self._promote(code, rec - base)
                elif reason == Left.END:
                    return Exit(ExitReason.END_OF_CODE)
                else:
                    raise InternalError(f"generated code came back for reason {reason}")
        except MemoryFault as fault:
            return _page_fault(fault)
        except DecodeFault as fault:
            return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
        finally:
            hot.epochs.end(token)

    def _adopt(self, code: SpaceCode) -> None:
        """Take over what was compiled since the last run."""
        code.adopt_handlers()
        if self.hot is not None:
            self.hot.collect(code)

    def _touch(self, core: Core, context: Context) -> bool:
        """Make the access fast for which generated code came back; False where it stays slow, or was none.

        Raises MemoryFault, which is then what the instruction does.
        """
        address, access = _WORDS(context, _ADDRESS)
        if not access:
            return False
        size, write = access & ACCESS_WRITE - 1, bool(access & ACCESS_WRITE)
        core.memory.probe(address, size, write)
        self._touched += 1
        bit = WRITE if write else READ
        pages = core.memory.pages
        return bool(pages[address >> PAGE_SHIFT] & pages[address + size - 1 >> PAGE_SHIFT] & bit)

    def _step(self, core: Core, code: SpaceCode) -> Exit | None:
        """One instruction, by its definition; where such instructions follow one another closely, none: the Python
        engine is to go on for a while."""
        before: int = core.cpu.instructions
        code.dense = code.dense + 1 if 0 <= before - code.stepped_at < _CLOSE else 0
        if code.dense < _DENSE:
            exit_ = self._rare.step(core, first=True)
            self._stepped += core.cpu.instructions - before
        else:
            code.stay = _STRETCH << min(code.dense - _DENSE, _STRETCHES)
            exit_ = None
        code.stepped_at = core.cpu.instructions
        return exit_

    def _stay(self, core: Core, code: SpaceCode, left: int, patience: int) -> Exit | None:
        """Let the Python engine execute some of `code.stay`."""
        before: int = core.cpu.instructions
        exit_ = self._elsewhere(core, min(left, code.stay), patience, first=True)
        code.stay = max(0, code.stay - (core.cpu.instructions - before))
        code.stepped_at = core.cpu.instructions
        return exit_

    def _promote(self, code: SpaceCode, counter: int) -> int:
        """The count record at `counter` has run out; the offset to go on at."""
        assert self.hot is not None
        return self.hot.promote(code, counter)


def _page_fault(fault: MemoryFault) -> Exit:
    return Exit(ExitReason.FAULT, PF, fault.error_code, fault.address, fault.access)
