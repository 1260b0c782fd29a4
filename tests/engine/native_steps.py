"""Runs one instruction after another through the native engine's cold handlers, with none of the engine around them.

What has no handler, or leaves for Python, is executed by the evaluator; `native` and `stepped` count both.
"""

from __future__ import annotations

import ctypes
from collections import Counter

from aiopyvm.engine.native.compile_worker import Builder
from aiopyvm.engine.native.generate import handlers_text
from aiopyvm.engine.native.handlers import Shape, Shapes
from aiopyvm.engine.native.layout import Context, JumpEntry, Left, Record
from aiopyvm.engine.native.llvmtext import module
from aiopyvm.engine.native.objectfile import load
from aiopyvm.engine.native.runtime_ir import runtime_text
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python.fetch import fetch_insn
from aiopyvm.engine.python.rare import RareModes
from aiopyvm.engine.shapes import parameters
from aiopyvm.isa.decode import DecodeFault
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.faults import MemoryFault

_OPTIONS = {"codegen": 2, "level": None, "passes": ()}
_MASK = 15


class NativeSteps:
    """An engine of handlers for the shapes that it was made with, and the evaluator for all else."""

    name = "handlers of the tests"

    def __init__(self, shapes: list[Shape]) -> None:
        builder = Builder()
        self.runtime = load(builder.build(module(runtime_text()), _OPTIONS), {})
        text, without = handlers_text(shapes)
        self.handlers = load(builder.build(text, _OPTIONS), self.runtime.symbols)
        self.without = frozenset(without)
        self.native: Counter[str] = Counter()
        self.stepped: Counter[str] = Counter()
        self.largest = 0  # instructions of one run of generated code
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.runtime.address("run"))
        self._shapes = Shapes()
        self._rare = RareModes()
        self._records = (Record * 4)()
        self._cache = (JumpEntry * (_MASK + 1))()

    def run(self, core: Core, budget: int) -> Exit:
        """Execute at most `budget` instructions."""
        end = core.cpu.instructions + budget
        while core.cpu.instructions < end:
            exit_ = self._one(core, end - core.cpu.instructions)
            if exit_ is not None:
                return exit_
        return Exit(ExitReason.BUDGET)

    def statistics(self) -> dict[str, int]:
        """Instructions by how they were executed."""
        return {"native": self.native.total(), "stepped": self.stepped.total()}

    def _one(self, core: Core, budget: int) -> Exit | None:
        try:
            insn = fetch_insn(core.memory, core.cpu.eip)
        except (MemoryFault, DecodeFault):
            return self._rare.step(core, first=True)
        name = self._shapes.find(insn).name
        if core.cpu.mode or name not in self.handlers.symbols:
            return self._rare.step(core, first=True)
        budget = budget if insn.rep else 1  # a handler goes on by itself where it jumps to its own record
        context = self._execute(core, insn, self.handlers.symbols[name], budget)
        left = Left(context.reason)
        done = budget - context.budget
        self.largest = max(self.largest, done)
        core.cpu.instructions += done
        (self.stepped if left == Left.STEP else self.native)[name] += 1
        if left == Left.STEP:
            return self._rare.step(core, first=True)
        if left == Left.FAULT:
            return Exit(ExitReason.FAULT, context.vector, context.error_code)
        assert done
        if left == Left.SYSCALL:
            return Exit(ExitReason.SYSCALL)
        if left == Left.TRAP:
            return Exit(ExitReason.FAULT, context.vector)
        assert left in (Left.BUDGET, Left.JUMP, Left.END), left
        return None

    def _execute(self, core: Core, insn: Insn, handler: int, budget: int) -> Context:
        """One pass through `run`; the record in front of the others is the instruction's."""
        eip, records = core.cpu.eip, self._records
        behind = eip + insn.length & 0xFFFFFFFF
        values, relative = parameters(insn, False)
        fill(records[0], self._shapes.find(insn), values)
        records[0].handler, records[0].eip, records[0].length = handler, eip, insn.length
        records[1].handler, records[1].eip = self.runtime.symbols["end"], behind
        records[2].handler = self.runtime.symbols["step"]
        if relative is not None:
            records[0].link = 2 * ctypes.sizeof(Record)
            records[2].eip = eip + relative & (0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF)
        context = Context(
            rec=ctypes.addressof(records), cpu=ctypes.addressof(core.cpu), mem=core.memory.base, budget=budget,
            jump_cache=ctypes.addressof(self._cache), arena=ctypes.addressof(records), jump_mask=_MASK,
        )  # fmt: skip
        self._run(ctypes.addressof(context))
        return context


def fill(record: Record, shape: Shape, values: tuple[int, ...]) -> None:
    """Put an instruction's parameters where its shape expects them."""
    fields = shape.fields
    registers, more = fields.pack(values)
    record.registers[:] = registers
    if more:
        record.link = ctypes.c_int32(more).value
    for at, index in enumerate(fields.values):
        if at < 2:
            record.values[at] = values[index]
        else:
            record.link = ctypes.c_int32(values[index]).value
