"""The engines that cases are run on, each as a `Machine`, and how many of them it really executed itself.

`machine_of("hot", cases)`, or "guarded": every case in a compiled region. The region is the case's instruction alone,
entered as programs enter one: by a jump through a counted target, whose counter runs out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final

from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlers import Shape, Shapes, has_general
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.records import Runs
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.layout import PAGE_SHIFT, READ, WRITE
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import BUILD_SECONDS, engine_of, hot_engine
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.machine import Machine
from tests.hardware.wire import DATA, PAGE, READ_ONLY, STACK, Case

# "plain": of the tests, no engine around it; "general": native, and general shapes where there are such.
ENGINES: Final = ("plain", "evaluator", "cold", "warm", "native", "general", "hot", "guarded")
_JUMPER: Final = 0x70000000  # r-x, one page, where the hardware has the harness: JMP [here + _POINTER]
_POINTER: Final = 16
_FAR: Final = 1 << 20  # instructions, between two cases
_FRESH: Final = 500  # cases on one engine that makes regions


def machine_of(name: str, cases: Iterable[Case] = ()) -> Machine:
    """A machine on the engine called `name`, one of `ENGINES`; the native one gets handlers for all of `cases` first.

    Skips the test where generated code cannot run.
    """
    if name == "plain":
        return Machine(EvaluatorEngine(), AddressSpace())
    if name in ("hot", "guarded"):
        return HotMachine(AddressSpace(), CHECKED if name == "hot" else MMU)
    if name == "native":
        return NativeMachine(cases)
    if name == "general":
        return NativeMachine((), general=True)
    return Machine(engine_of(name), AddressSpace())


def summary(machine: Machine) -> str:
    """How many cases the machine's engine executed as its name says; "" where it has no other way."""
    return machine.summary() if isinstance(machine, HotMachine | NativeMachine) else ""


class NativeMachine(Machine):
    """On cold generated code: handlers for every shape of `cases` that can have one are there from the start.

    `general`: instructions have their general shape's handler where there is one.
    """

    def __init__(self, cases: Iterable[Case], *, general: bool = False) -> None:
        engine_of("native")  # skips where there is none
        table = _general_table() if general else HandlerTable(ahead_of_time().wait(BUILD_SECONDS))
        want_handlers(table, cases)
        self._native = NativeEngine(lambda: table)
        self._clock = self.cases = self.left = 0
        super().__init__(self._native, AddressSpace())

    def _execute(self, core: Core, case: Case) -> Exit:
        self._far_from_the_last(core)
        if core.cpu.mode:
            return super()._execute(core, case)  # handlers are of the flat mode alone
        before = self._left()
        exit_ = super()._execute(core, case)
        self.cases += 1
        self.left += self._left() > before
        return exit_

    def _execute_block(self, core: Core, case: Case) -> Exit:
        self._far_from_the_last(core)
        start, before = core.cpu.instructions, self._left()
        exit_ = super()._execute_block(core, case)
        self.cases += core.cpu.instructions - start
        self.left += self._left() - before
        return exit_

    def _far_from_the_last(self, core: Core) -> None:
        """Else the engine takes one case for the next instruction of the other, and goes on where one that left many
        instructions to Python ended."""
        core.cpu.instructions = self._clock
        self._clock += _FAR
        code = self._native.code_of(core)
        if code is not None:
            code.stay = code.dense = 0

    def _left(self) -> int:
        counts = self._native.statistics()
        return counts["instructions_evaluated"] + counts["instructions_python"]

    def summary(self) -> str:
        """How many cases, or instructions of blocks, ran in a handler."""
        return f"{self.cases} in the flat mode, {self.left} of them left to Python"


class GeneralTable(HandlerTable):
    """Handlers of general shapes come before those of instructions' own shapes."""

    def _shape(self, insn: Insn) -> tuple[Shape, int | None]:
        if has_general(insn):
            shape = Shape(insn, general=True)
            handler = self.find(shape.name)
            if handler is not None:
                return shape, handler
        return super()._shape(insn)

    def runs(self, allowed: frozenset[str] | None = None) -> Runs:
        return Runs(self.form, self.find, None, allowed)


@cache
def _general_table() -> GeneralTable:
    """The table of all machines of general shapes: handlers that were made for one are there for the next."""
    return GeneralTable(ahead_of_time().wait(BUILD_SECONDS))


def want_handlers(table: HandlerTable, cases: Iterable[Case]) -> None:
    """Have a handler made for every shape of `cases` that can have one."""
    shapes = Shapes(1 << 16)
    demand = table._demand
    for insn in _instructions(cases):
        shape = shapes.find(insn)
        if table.find(shape.name) is None and demand.want(shape):
            for _ in range(demand.enough):
                demand.use(shape.name)
    table.collect(BUILD_SECONDS)


def _instructions(cases: Iterable[Case]) -> Iterator[Insn]:
    """The first instruction of each case; those of a block as they follow one another."""
    for case in cases:
        at = 0
        while at < len(case.code):
            try:
                insn = decode(case.code[at : at + 15])
            except (DecodeFault, NeedMore):
                break
            yield insn
            at += insn.length if case.block else len(case.code)


class HotMachine(Machine):
    """On regions: a fresh address space for each case, all of whose pages are touched before."""

    def __init__(self, memory: AddressSpace, form: str = CHECKED) -> None:
        self._form = form
        self._hot = hot_engine(memory=form)
        self.cases = self.compiled = self.executed = 0
        super().__init__(self._hot, memory)

    def summary(self) -> str:
        """How many cases could become a region, and did; of blocks: regions, and instructions executed there."""
        return f"{self.cases} cases in the flat mode, {self.compiled} of them regions, {self.executed} executed there"

    def _prepare(self, case: Case) -> dict[int, bytearray]:
        self.memory.close()
        self.memory = AddressSpace()
        self._lay_out()
        self.memory.map(_JUMPER, PAGE, 5)
        self.memory.poke(_JUMPER, b"\xff\x25" + (_JUMPER + _POINTER).to_bytes(4, "little"))
        self.memory.poke(_JUMPER + _POINTER, case.eip.to_bytes(4, "little"))
        for page, write in ((DATA, True), (READ_ONLY, False), (STACK, True)):
            self.memory.probe(page, 4, write)
            assert self.memory.pages[page >> PAGE_SHIFT] & (WRITE if write else READ)
        return super()._prepare(case)

    def _execute(self, core: Core, case: Case) -> Exit:
        if core.cpu.mode:
            return super()._execute(core, case)  # regions are of the flat mode alone
        exit_ = self._jump(core, lambda core: self.engine.run(core, 2))
        return exit_ if exit_.reason is not ExitReason.BUDGET else self._whole(core, case, exit_)

    def _execute_block(self, core: Core, case: Case) -> Exit:
        if core.cpu.mode:
            return super()._execute_block(core, case)
        if case.fill & 1:
            # Once to have regions of what was executed, and again from the beginning in them.
            self._run_block(Core(core.cpu.copy(), self.memory), case)
            for page, data in case.memory().items():
                self.memory.poke(page, bytes(data))
        return self._run_block(core, case)

    def _run_block(self, core: Core, case: Case) -> Exit:
        return self._jump(core, lambda core: super(HotMachine, self)._execute_block(core, case))

    def _jump(self, core: Core, execute: Callable[[Core], Exit]) -> Exit:
        self.cases += 1
        if self.cases % _FRESH == 0:
            # what is known is bounded, and this one looks for it
            self.engine = self._hot = hot_engine(memory=self._form)
        before = self._counts()
        core.cpu.eip = _JUMPER
        exit_ = execute(core)
        made, executed = (now - then for now, then in zip(self._counts(), before, strict=True))
        self.compiled += made
        self.executed += executed
        return exit_

    def _counts(self) -> tuple[int, int]:
        """Regions that were made, and instructions that they have executed."""
        counts = self._hot.statistics()
        return counts.get("regions_compiled", 0) + counts.get("regions_cached", 0), counts.get("instructions_hot", 0)


__all__ = ["ENGINES", "HotMachine", "NativeMachine", "machine_of", "summary", "want_handlers"]
