"""Integer operations on the lanes of vector registers, apart from how they are encoded.

A `Packed` says what an instruction computes from whole registers; `define` makes its rows for MM, XMM and YMM
registers. The function gets and gives values of lanes of `bits` (one scalar where that is all of the register), of 64,
128 or 256 bits: what crosses lanes does so within each 128 bits (`shuffled`, `groups`), as the wider forms of the
manual do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.ir.types import integer
from aiopyvm.isa import mmx, sse
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import AF, CF, OF, PF, SF, ZF
from aiopyvm.isa.vexrows import BOTH, avx

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.places import MmxPlace, VectorPlace
    from aiopyvm.isa.trace import Tracer

GROUP: Final = 128  # bits within which wider instructions move lanes


@dataclass(frozen=True, slots=True)
class Packed:
    """dst := operation(dst, src), or operation(src) where `sources` is 1; with an immediate behind where `immediate`.

    `encoding` is the row's behind the mandatory prefix; `xmm` and `mm` are the features that the forms of such
    registers need ("": there is none). `memory`: the width of the MM form's operand in memory, in bits.
    """

    name: str
    encoding: str
    bits: int
    operation: Callable[..., Value]
    xmm: str
    mm: str
    sources: int
    immediate: bool
    memory: int

    def compute(self, dst: Callable[[], Value], src: Value, *immediate: Any) -> Value:
        """The result, of whole registers' values; `dst` is asked for only where it is an operand."""
        values = [src.lanes(self.bits)] if self.sources == 1 else [dst().lanes(self.bits), src.lanes(self.bits)]
        return self.operation(*values, *map(int, immediate))


def define(
    name: str,
    encoding: str,
    bits: int,
    operation: Callable[..., Value],
    *,
    xmm: str = "sse2",
    mm: str = "",
    prefix: str = "66",
    sources: int = 2,
    immediate: bool = False,
    memory: int = 64,
    lengths: tuple[int, ...] = BOTH,
) -> None:
    """Make the rows of one instruction. `prefix` is the mandatory one of the XMM form, `lengths` are those of vectors
    with VEX; see `Packed`.
    """
    packed = Packed(name, encoding, bits, operation, xmm, mm, sources, immediate, memory)
    behind, static = (", imm8", (2,)) if immediate else ("", ())
    source = f"Intel SDM vol. 2B, {name.upper()}"
    if mm:

        @insn(name, source=source, cpuid=mm)
        @form(f"NP {encoding}", f"mm1, mm2/m{memory}{behind}", static=static)
        def with_mmx(b: Tracer, dst: MmxPlace, src: mmx.Source, *immediate: Any) -> None:
            """dst := dst op src."""
            mmx.begin(b)
            operand = mmx.load(src) if memory == 64 else _narrow(src, memory)
            result = packed.compute(dst.load, operand, *immediate)
            mmx.end(b)
            dst.store(result)

    if xmm:

        @avx(three=sources == 2, lengths=lengths, features=("avx", "avx2"))
        @insn(name, source=source, cpuid=xmm)
        @form(f"{prefix} {encoding}", f"xmm1, xmm2/m128{behind}", static=static)
        def with_sse(b: Tracer, dst: VectorPlace, src: sse.Source, *immediate: Any) -> None:
            """dst := dst op src."""
            dst.store(packed.compute(dst.load, sse.load(b, src), *immediate))


def _narrow(src: mmx.Source, bits: int) -> Value:
    """The low `bits` of an operand, widened with zeros (i64)."""
    return src.load().trunc(bits).zext(64)


def groups(x: Value) -> Iterable[range]:
    """The lane numbers of each 128 bits of a vector, or of all of a narrower one."""
    assert x.type is not None
    size = min(x.type.lanes, GROUP // x.type.bits)
    return [range(first, first + size) for first in range(0, x.type.lanes, size)]


def shuffled(x: Value, y: Value, pick: Callable[[range, range], Iterable[int]]) -> Value:
    """A vector that has, for each 128 bits, the lanes that `pick` chooses from the numbers of those of x and of y."""
    assert x.type is not None
    total = x.type.lanes
    return x.shuffle((n for own in groups(x) for n in pick(own, range(own.start + total, own.stop + total))), y)


def interleaved(x: Value, y: Value, *, high: bool) -> Value:
    """Lanes of x and y in turn, from the low or the high half of each 128 bits."""

    def pick(own: range, other: range) -> list[int]:
        half = slice(len(own) // 2, None) if high else slice(len(own) // 2)
        return [n for pair in zip(own[half], other[half], strict=True) for n in pair]

    return shuffled(x, y, pick)


def signs(x: Value) -> Value:
    """The highest bits of the lanes, as one integer of as many bits."""
    assert x.type is not None
    return x.slt(0).cast(integer(x.type.lanes))


def set_by_test(b: Tracer, x: Value, y: Value, signs_of: int = 0) -> None:
    """ZF: x & y is 0; CF: ~x & y is 0; the other flags are cleared. `signs_of`: only the highest bits of lanes of so
    many bits count.
    """
    for flag, value in ((ZF, x & y), (CF, ~x & y)):
        found = signs(value.lanes(signs_of)) if signs_of else _union(value)
        b.set_flag(flag, found.eq(0))
    for flag in (OF, SF, AF, PF):
        b.set_flag(flag, 0)


def _union(x: Value) -> Value:
    """The lanes of x, or-ed."""
    assert x.type is not None
    return reduce(or_, (x.extract(n) for n in range(x.type.lanes)))


def each(x: Value, truth: Value) -> Value:
    """All ones in the lanes of x's type where a comparison holds, zeros in the others."""
    assert x.type is not None
    return truth.sext(x.type.bits)


__all__ = ["GROUP", "Packed", "define", "each", "groups", "interleaved", "set_by_test", "shuffled", "signs"]
