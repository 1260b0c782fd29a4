"""SSE and SSE2 arithmetic: ADD, SUB, MUL, DIV, MIN, MAX and SQRT of packed and scalar numbers."""

from __future__ import annotations

from aiopyvm.ir.types import floating
from aiopyvm.isa.places import VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, compute, load, low, packed, replace_low
from aiopyvm.isa.trace import Tracer

_SINGLE, _DOUBLE = 32, 64


def _binary(name: str, op: str, opcode: int) -> None:
    """The four rows of an operation of two operands."""
    for suffix, prefix, bits in (("ps", "NP", _SINGLE), ("pd", "66", _DOUBLE)):
        _packed(name, op, suffix, f"{prefix} 0F {opcode:02X} /r", bits)
    for suffix, prefix, bits in (("ss", "F3", _SINGLE), ("sd", "F2", _DOUBLE)):
        _scalar(name, op, suffix, f"{prefix} 0F {opcode:02X} /r", bits)


def _packed(name: str, op: str, suffix: str, encoding: str, bits: int) -> None:
    mnemonic, type_ = name + suffix, packed(bits)

    @insn(mnemonic, source=f"Intel SDM vol. 2, {mnemonic.upper()}")
    @form(encoding, "xmm1, xmm2/m128")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := dst op src, lane by lane."""
        dst.store(compute(b, op, type_, dst.load().cast(type_), load(b, src).cast(type_)))


def _scalar(name: str, op: str, suffix: str, encoding: str, bits: int) -> None:
    mnemonic, type_ = name + suffix, floating(bits)

    @insn(mnemonic, source=f"Intel SDM vol. 2, {mnemonic.upper()}")
    @form(encoding, f"xmm1, xmm2/m{bits}")
    def operation(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """The low lane of dst := that of dst op src; the others stay."""
        dst.store(replace_low(dst, compute(b, op, type_, low(b, dst, type_), low(b, src, type_))))


for _name, _op, _opcode in (
    ("add", "vadd", 0x58), ("mul", "vmul", 0x59), ("sub", "vsub", 0x5C), ("div", "vdiv", 0x5E),
):  # fmt: skip
    _binary(_name, _op, _opcode)
