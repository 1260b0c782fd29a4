"""The rows that ADD OR ADC SBB AND SUB XOR CMP share: they differ in `digit` alone."""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.isa.spec import Semantics, forms


def alu_forms(digit: int) -> Callable[[Semantics], Semantics]:
    """The manual's rows of the instruction whose opcodes begin at digit * 8 and whose group is 80..83 /digit."""

    def op(low: int) -> str:
        return f"{digit * 8 + low:02X}"

    rows = (
        (f"{op(4)} ib", "al, imm8"),
        (f"{op(5)} iw", "ax, imm16"),
        (f"{op(5)} id", "eax, imm32"),
        (f"80 /{digit} ib", "r/m8, imm8"),
        (f"81 /{digit} iw", "r/m16, imm16"),
        (f"81 /{digit} id", "r/m32, imm32"),
        (f"83 /{digit} ib", "r/m16, imm8"),
        (f"83 /{digit} ib", "r/m32, imm8"),
        (f"{op(0)} /r", "r/m8, r8"),
        (f"{op(1)} /r", "r/m16, r16"),
        (f"{op(1)} /r", "r/m32, r32"),
        (f"{op(2)} /r", "r8, r/m8"),
        (f"{op(3)} /r", "r16, r/m16"),
        (f"{op(3)} /r", "r32, r/m32"),
    )

    def add(function: Semantics) -> Semantics:
        return forms(*rows)(forms((f"82 /{digit} ib", "r/m8, imm8"), attributes="alias")(function))

    return add
