"""Rows of vector instructions, made from what they mean: `meaning(b, first, second) -> result`.

A meaning knows nothing of operands and encodings: it gets whole registers as lanes of 64 bits (`packed`), or one scalar
(`scalar`), and gives as much back. Here it is said how an instruction of SSE or AVX gets and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64, Type
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, low, with_low
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import BOTH, LIG, avx

Binary = Callable[[Tracer, Value, Value], Value]
Unary = Callable[[Tracer, Value], Value]
Choosing = Callable[[Tracer, Value, Value, int], Value]  # the last is an immediate
Converting = Callable[[Tracer, Value, int], Value]

PACKED = (("ps", "NP", 32), ("pd", "66", 64))  # suffix, mandatory prefix, bits of a number
SCALARS = (("ss", "F3", F32), ("sd", "F2", F64))  # suffix, mandatory prefix, number


def type_of(value: Value) -> Type:
    """The type of a value."""
    assert value.type is not None
    return value.type


def source_of(name: str) -> str:
    """Where the manual has an instruction."""
    return f"Intel SDM vol. 2, {name.upper()}"


def feature_of(name: str) -> str:
    """The feature that an instruction of SSE or SSE2 needs, which its suffix (ss, ps, sd, pd) tells."""
    return "sse2" if name.endswith("d") else "sse"


def packed(name: str, encoding: str, meaning: Binary, *, feature: str = "") -> None:
    """dst := meaning(dst, src), of whole registers."""

    @avx(three=True)
    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := dst op src."""
        dst.store(meaning(b, dst.load(), load(b, src)))


def packed_unary(name: str, encoding: str, meaning: Unary, *, feature: str = "") -> None:
    """dst := meaning(src), of whole registers."""

    @avx()
    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := op src."""
        dst.store(meaning(b, load(b, src)))


def scalar(name: str, encoding: str, type_: Type, meaning: Binary) -> None:
    """The low part of dst := meaning(low part of dst, src); the rest stays."""

    @avx(three=True, lengths=(LIG,))
    @insn(name, source=source_of(name), cpuid=feature_of(name))
    @form(f"{encoding} /r", f"xmm1, xmm2/m{type_.size}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := that of dst op src; the others stay."""
        dst.store(with_low(dst.load(), meaning(b, low(b, dst, type_), low(b, src, type_))))


def scalar_unary(name: str, encoding: str, type_: Type, meaning: Unary) -> None:
    """The low part of dst := meaning(src); the rest stays."""

    @avx(three=True, lengths=(LIG,))
    @insn(name, source=source_of(name), cpuid=feature_of(name))
    @form(f"{encoding} /r", f"xmm1, xmm2/m{type_.size}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := op src; the others stay."""
        dst.store(with_low(dst.load(), meaning(b, low(b, src, type_))))


def packed_immediate(
    name: str, encoding: str, meaning: Choosing, *, feature: str = "", lengths: tuple[int, ...] = BOTH
) -> None:
    """dst := meaning(dst, src, imm8), of whole registers."""

    @avx(three=True, lengths=lengths)
    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
        """dst := dst op src, as the immediate says."""
        dst.store(meaning(b, dst.load(), load(b, src), int(control)))


def packed_unary_immediate(name: str, encoding: str, meaning: Converting, *, feature: str) -> None:
    """dst := meaning(src, imm8), of whole registers."""

    @avx()
    @insn(name, source=source_of(name), cpuid=feature)
    @form(f"{encoding} /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
        """dst := op src, as the immediate says."""
        dst.store(meaning(b, load(b, src), int(control)))


def scalar_immediate(name: str, encoding: str, type_: Type, meaning: Choosing, *, feature: str = "") -> None:
    """The low part of dst := meaning(low part of dst, src, imm8); the rest stays."""

    @avx(three=True, lengths=(LIG,))
    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r ib", f"xmm1, xmm2/m{type_.size}, imm8", static=(2,))
    def operation(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
        """The low lane of dst := that of dst op src, as the immediate says; the others stay."""
        dst.store(with_low(dst.load(), meaning(b, low(b, dst, type_), low(b, src, type_), int(control))))


__all__ = [
    "PACKED", "SCALARS", "Binary", "Unary", "feature_of", "packed", "packed_immediate", "packed_unary",
    "packed_unary_immediate", "scalar", "scalar_immediate", "scalar_unary", "source_of", "type_of",
]  # fmt: skip
