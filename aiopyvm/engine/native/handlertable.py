"""The handlers that are loaded, and what an instruction's record is with them.

Handlers come from the object that is built ahead of time, and later, in batches, from objects made for shapes that
guests use and it does not have. Until its handler is there, and for ever where it can have none, an instruction is
left to Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native.blockdecoder import BlockDecoder
from aiopyvm.engine.native.decodejob import NEEDS
from aiopyvm.engine.native.demand import Demand
from aiopyvm.engine.native.objectfile import LoadedObject
from aiopyvm.engine.native.pairs import pairs
from aiopyvm.engine.native.records import CALL, MAX_RUN, NEVER_FALL, Form, Runs

if TYPE_CHECKING:
    from aiopyvm.engine.native.handlers import Shape, Shapes
    from aiopyvm.engine.protocol import Core
    from aiopyvm.isa.insn import Insn

_MOST_USED: Final = 1 << 13  # names of missing handlers that are remembered
_THIRD: Final = 2  # values that stand elsewhere than in the link


class Steps:
    """Distances from code_base of the handlers of records that are no instructions."""

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self.stub = symbols["stub"]
        self.count = symbols["count"]
        self.goto = symbols["goto"]
        self.miss = symbols["miss"]
        self.end = symbols["end"]
        self.step = symbols["step"]


class HandlerTable:
    """What is loaded. `run(context)` runs records, without the GIL; `symbols` are distances from code_base by name."""

    def __init__(self, loaded: LoadedObject) -> None:
        self.loaded = loaded
        self.symbols: Mapping[str, int] = loaded.symbols
        self.steps = Steps(loaded.symbols)
        self.run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(loaded.address("run"))
        self.version = 0  # how often handlers were added
        self._handlers: dict[str, int] = dict(loaded.symbols)
        self._used: set[str] = set()
        self._shapes: Shapes | None = None
        self.pairs = pairs(loaded.symbols)
        self._demand = Demand(loaded.symbols)

    def runs(self, allowed: frozenset[str] | None = None) -> Runs:
        """Decodes into records that have these handlers, for a processor with the features `allowed` (None: all)."""
        decoder = None
        if "decode" in self.symbols:
            decoder = BlockDecoder(self.loaded.address("decode"), MAX_RUN, self._lacking(allowed))
        return Runs(self.form, self.find, decoder, allowed)

    def _lacking(self, allowed: frozenset[str] | None) -> int:
        """A bit for each need of leaves that features do not meet."""
        if allowed is None:
            return 0
        needs = ctypes.string_at(self.loaded.address(NEEDS)).decode().split("\n")
        return sum(1 << number for number, need in enumerate(needs) if not allowed.issuperset(need.split()))

    def use(self, name: str, core: Core, allowed: frozenset[str] | None = None, *, hurry: bool = False) -> None:
        """Python is to execute the instruction that `core` is at, for want of the handler `name`, on a processor with
        the features `allowed` (None: all). `hurry`: it is to be made now, however seldom it was wanted.

        Its shape is not known yet where its record was made by an earlier process. Raises MemoryFault and DecodeFault
        of the instruction.
        """
        if hurry and name not in self._used:
            self._demand.hurry(name)
        if name not in self._used and self._demand.is_due(name):  # what it takes to make handlers is long to import
            from aiopyvm.engine.python.fetch import fetch_insn

            self.form(fetch_insn(core.memory, core.cpu.eip, allowed=allowed))
            if len(self._used) >= _MOST_USED:
                self._used.clear()
            self._used.add(name)
        self._demand.use(name)
        if self._demand.made:
            self.collect()

    def collect(self, timeout: float | None = 0) -> None:
        """Take over the handlers that were made, waiting at most `timeout` seconds for those in the making."""
        for symbols in self._demand.collect(timeout):
            self._handlers.update(symbols)
            self.version += 1

    def find(self, name: str) -> int | None:
        """The handler of that name, as a distance from code_base."""
        return self._handlers.get(name)

    def name_at(self, handler: int) -> str:
        """The name of the handler at a distance from code_base."""
        return next(name for name, at in self._handlers.items() if at == handler)

    def _shape(self, insn: Insn) -> tuple[Shape, int | None]:
        """The shape by which an instruction has a handler, its own before the general one, and that handler.

        Its own shape and None where there is no handler.
        """
        if self._shapes is None:
            from aiopyvm.engine.native.handlers import Shapes  # programs that were run before do without

            self._shapes = Shapes()
        own = self._shapes.find(insn)
        handler = self._handlers.get(own.name)
        if handler is None and self._shapes.has_general(insn):
            general = self._shapes.find(insn, True)
            handler = self._handlers.get(general.name)
            return (own if handler is None else general), handler
        return own, handler

    def form(self, insn: Insn) -> Form:
        """How `insn` becomes a record."""
        from aiopyvm.engine.shapes import parameters  # programs that were run before do without
        from aiopyvm.isa.insn import Relative

        shape, handler = self._shape(insn)
        missing = ""
        if handler is None:
            handler = self.steps.step
            if self._demand.want(shape):
                missing = shape.name
        name = insn.row.name
        values, relative = parameters(insn, False, shape.general)
        registers, more = shape.fields.pack(values)
        words = [values[i] for i in shape.fields.values]
        third = words[_THIRD] if len(words) > _THIRD and relative is None else more
        branches = relative is not None and bool(insn.operands) and isinstance(insn.operands[-1], Relative)
        return Form(
            handler,
            registers,
            ((words + [0, 0])[0], (words + [0, 0])[1]),
            third - (1 << 32) if third >> 31 else third,
            relative - insn.length if branches and relative is not None else None,
            0xFFFF if insn.operand_size == 16 else 0xFFFFFFFF,
            ends=branches or name in NEVER_FALL or name == CALL,
            falls=name not in NEVER_FALL and name != CALL,
            call=name == CALL,
            missing=missing,
            general=shape.general,
        )
