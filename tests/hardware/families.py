"""Which campaign tries a row of the instruction table: "integer" (and system), "x87" or "vector"."""

from __future__ import annotations

from typing import Final

from aiopyvm.isa.spec import Row

FAMILIES: Final = ("integer", "x87", "vector")
_WITHOUT_OPERANDS: Final = frozenset(
    "emms femms ldmxcsr stmxcsr vldmxcsr vstmxcsr vzeroall vzeroupper fxsave fxrstor xsave xsaveopt xsavec xrstor "
    "xgetbv".split()
)  # of vectors, though their rows name none


def is_vector(name: str) -> bool:
    """Whether an operand of this name can be an MMX, XMM or YMM register."""
    return name.lstrip("<").lower().startswith(("mm", "xmm", "ymm"))


def family(row: Row) -> str:
    """The row's family."""
    if row.name in _WITHOUT_OPERANDS or any(map(is_vector, row.operands)):
        return "vector"
    return "x87" if row.semantics.__module__.rsplit(".", 1)[-1].startswith("x87") else "integer"
