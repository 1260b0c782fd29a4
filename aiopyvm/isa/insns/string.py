"""String instructions: MOVS STOS LODS CMPS SCAS, with REP, REPE and REPNE.

Under a repeat prefix an instruction is one iteration and a branch to itself; a count of 0 does nothing. The flags of
CMPS and SCAS change with the last iteration alone, so that a fault in the middle leaves them as they were before the
first. The source is DS:[ESI], whose segment may be overridden, the destination ES:[EDI]; 16-bit addresses use SI, DI
and CX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiopyvm.isa.flags import set_sub_flags
from aiopyvm.isa.places import MemoryPlace, RegisterPlace
from aiopyvm.isa.spec import Semantics, form, insn
from aiopyvm.isa.state import DF, OSZAPC, SEGMENTS

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

ACCUMULATORS = {8: "al", 16: "ax", 32: "eax"}


def _register(b: Tracer, name: str) -> RegisterPlace:
    """ESI, EDI or ECX, or its low half with 16-bit addresses."""
    return b.reg(name if b.insn.address_size == 32 else name[1:])


def _source(b: Tracer, width: int) -> MemoryPlace:
    segment = SEGMENTS[b.insn.segment] if b.insn.segment >= 0 else "ds"
    return b.memory(segment, _register(b, "esi").load().zext(32), width)


def _destination(b: Tracer, width: int) -> MemoryPlace:
    return b.memory("es", _register(b, "edi").load().zext(32), width)


def _advance(b: Tracer, width: int, *names: str) -> None:
    """Move the index registers by one element, down where DF is set."""
    size = width // 8
    for name in names:
        index = _register(b, name)
        x = index.load()
        index.store(b.select(b.flag(DF), x - size, x + size))


def _repeat(b: Tracer, iteration: Callable[[], None]) -> None:
    """Run `iteration` once, or ECX times."""
    if not b.insn.rep:
        iteration()
        return
    counter = _register(b, "ecx")
    count = counter.load()
    with b.when(count.ne(0)):
        iteration()
        left = count - 1
        counter.store(left)
        with b.when(left.ne(0)):
            b.jump(b.eip)


def _repeat_compare(b: Tracer, iteration: Callable[[], tuple[Value, Value]]) -> None:
    """Run `iteration`, which returns what it compares, once, or ECX times: while equal (REPE), while not (REPNE)."""
    if not b.insn.rep:
        x, y = iteration()
        set_sub_flags(b, x, y, x - y)
        return
    counter = _register(b, "ecx")
    count = counter.load()
    with b.when(count.ne(0)):
        x, y = iteration()
        left = count - 1
        counter.store(left)
        again = left.ne(0) & (x.eq(y) if b.insn.rep == 0xF3 else x.ne(y))
        with b.when(~again):
            set_sub_flags(b, x, y, x - y)
        with b.when(again):
            b.jump(b.eip)


def movs(b: Tracer, width: int) -> None:
    """ES:[EDI] := DS:[ESI]."""

    def iteration() -> None:
        _destination(b, width).store(_source(b, width).load())
        _advance(b, width, "esi", "edi")

    _repeat(b, iteration)


def stos(b: Tracer, width: int) -> None:
    """ES:[EDI] := accumulator."""

    def iteration() -> None:
        _destination(b, width).store(b.reg(ACCUMULATORS[width]).load())
        _advance(b, width, "edi")

    _repeat(b, iteration)


def lods(b: Tracer, width: int) -> None:
    """accumulator := DS:[ESI]."""

    def iteration() -> None:
        b.reg(ACCUMULATORS[width]).store(_source(b, width).load())
        _advance(b, width, "esi")

    _repeat(b, iteration)


def cmps(b: Tracer, width: int) -> None:
    """Flags of DS:[ESI] - ES:[EDI]."""

    def iteration() -> tuple[Value, Value]:
        y = _destination(b, width).load()
        x = _source(b, width).load()
        _advance(b, width, "esi", "edi")
        return x, y

    _repeat_compare(b, iteration)


def scas(b: Tracer, width: int) -> None:
    """Flags of accumulator - ES:[EDI]."""

    def iteration() -> tuple[Value, Value]:
        y = _destination(b, width).load()
        _advance(b, width, "edi")
        return b.reg(ACCUMULATORS[width]).load(), y

    _repeat_compare(b, iteration)


def _define(function: Callable[[Tracer, int], None], opcode: int, rep: str, reads: int, writes: int) -> None:
    """The three widths of one instruction: opcode, opcode + 1 with either operand size."""

    def define(letter: str, encoding: str, width: int) -> None:
        def semantics(b: Tracer) -> None:
            function(b, width)

        semantics.__doc__ = function.__doc__
        name = function.__name__
        rows: Semantics = form(encoding)(semantics)
        source = f"Intel SDM vol. 2, {name.upper()}/{name.upper()}B/{name.upper()}W/{name.upper()}D"
        insn(name + letter, source=source, reads=reads, writes=writes, rep=rep)(rows)

    define("b", f"{opcode:02X}", 8)
    define("w", f"o16 {opcode + 1:02X}", 16)
    define("d", f"o32 {opcode + 1:02X}", 32)


_define(movs, 0xA4, "rep", DF, 0)
_define(cmps, 0xA6, "repe", DF, OSZAPC)
_define(stos, 0xAA, "rep", DF, 0)
_define(lods, 0xAC, "rep", DF, 0)
_define(scas, 0xAE, "repe", DF, OSZAPC)
