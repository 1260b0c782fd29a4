"""Rows of vector instructions, made from what they mean: `meaning(b, first, second) -> result`.

A meaning knows nothing of operands and encodings: it gets whole registers as lanes of 64 bits (`packed`), or one scalar
(`scalar`), and gives as much back. Here it is said how an SSE instruction gets and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import F32, F64, Type
from aiopyvm.isa.places import VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load, low, with_low
from aiopyvm.isa.trace import Tracer

Binary = Callable[[Tracer, Value, Value], Value]
Unary = Callable[[Tracer, Value], Value]


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

    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := dst op src."""
        dst.store(meaning(b, dst.load(), load(b, src)))


def packed_unary(name: str, encoding: str, meaning: Unary, *, feature: str = "") -> None:
    """dst := meaning(src), of whole registers."""

    @insn(name, source=source_of(name), cpuid=feature or feature_of(name))
    @form(f"{encoding} /r", "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := op src."""
        dst.store(meaning(b, load(b, src)))


def scalar(name: str, encoding: str, type_: Type, meaning: Binary) -> None:
    """The low part of dst := meaning(low part of dst, src); the rest stays."""

    @insn(name, source=source_of(name), cpuid=feature_of(name))
    @form(f"{encoding} /r", f"xmm1, xmm2/m{type_.size}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := that of dst op src; the others stay."""
        dst.store(with_low(dst.load(), meaning(b, low(b, dst, type_), low(b, src, type_))))


def scalar_unary(name: str, encoding: str, type_: Type, meaning: Unary) -> None:
    """The low part of dst := meaning(src); the rest stays."""

    @insn(name, source=source_of(name), cpuid=feature_of(name))
    @form(f"{encoding} /r", f"xmm1, xmm2/m{type_.size}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := op src; the others stay."""
        dst.store(with_low(dst.load(), meaning(b, low(b, src, type_))))


__all__ = [
    "PACKED",
    "SCALARS",
    "Binary",
    "Unary",
    "feature_of",
    "packed",
    "packed_unary",
    "scalar",
    "scalar_unary",
    "source_of",
    "type_of",
]
