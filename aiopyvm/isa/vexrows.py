"""How instructions of SSE become those of AVX and AVX2: the same meanings under VEX, said by `@avx` above `@insn`.

    @avx(three=True)
    @insn("addps", ...)
    @form("NP 0F 58 /r", "xmm1, xmm2/m128")
    def add(b, dst, src): ...

makes `VEX.128.0F.WIG 58 /r  vaddps xmm1, xmm2, xmm3/m128` and its form with YMM. What always holds: such a row's
meaning is the function of the row that it comes from; with three operands its `dst` gives the value of the first source
(`VectorPlace.reading`). A result in XMM clears the rest of YMM, and memory need not be aligned (`isa.sse.load`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.isa.spec import ROWS, Row, Semantics, form, insn

if TYPE_CHECKING:
    from aiopyvm.isa.places import VectorPlace
    from aiopyvm.isa.trace import Tracer

XMM: Final = 128
YMM: Final = 256
LIG: Final = 0  # the instruction is scalar: VEX.L means nothing
BOTH: Final = (XMM, YMM)
_OF_SIZE: Final = ("o*", "o16", "o32")  # tokens that VEX leaves no meaning
_SECOND: Final = re.compile(r"\b([xy]mm)2\b")
_NARROW: Final = re.compile(r"\bxmm(\d?)\b|\bm128\b")


def vex(encoding: str, length: int, w: str = "WIG") -> str:
    """The encoding with VEX of that of an SSE row; `length`: bits of its vectors."""
    words = [word for word in encoding.split() if word not in _OF_SIZE]
    prefix = words.pop(0)
    escape = 2 if words[1] in ("38", "3A") else 1
    page = "".join(words[:escape])
    implied = "" if prefix == "NP" else f"{prefix}."
    return " ".join([f"VEX.{length or 'LIG'}.{implied}{page}.{w}", *words[escape:]])


def with_three(function: Semantics) -> Semantics:
    """The meaning of `dst := src1 op src2` from that of `dst := dst op src`."""

    @wraps(function)
    def meaning(b: Tracer, dst: VectorPlace, first: VectorPlace, *rest: Any) -> None:
        function(b, dst.reading(first), *rest)

    return meaning


def operands(names: Sequence[str], length: int, *, three: bool) -> str:
    """The operands of a row with VEX from those of an SSE row: with YMM, and with a first source behind dst."""
    listed = ", ".join(names)
    if three:
        first, _, rest = _SECOND.sub(r"\g<1>3", listed).partition(", ")
        listed = f"{first}, xmm2, {rest}"
    return listed if length != YMM else _NARROW.sub(lambda m: "m256" if m[0] == "m128" else f"ymm{m[1]}", listed)


def avx(
    *,
    three: bool = False,
    lengths: tuple[int, ...] = BOTH,
    features: tuple[str, str] = ("avx", "avx"),
    wide: tuple[str, ...] = (),
) -> Callable[[Semantics], Semantics]:
    """Add the rows with VEX of a function's rows, those that `@insn` has just made.

    `three`: the first source is an operand of its own. `lengths`: bits of the vectors. `features`: what the rows need
    without and with YMM. `wide`: the operands with YMM of each row, where they are not those with all registers wider.
    """

    def add(function: Semantics) -> Semantics:
        meaning = with_three(function) if three else function
        found = list(takewhile(lambda row: row.semantics is function, reversed(ROWS)))[::-1]
        for number, row in enumerate(found):
            for length in lengths:
                special = wide[number] if wide and length == YMM else ""
                names = special or operands(row.operands, length, three=three)
                ROWS.append(_with_vex(row, meaning, length, names, features[length == YMM], shift=int(three)))
        return function

    return add


def _with_vex(row: Row, meaning: Semantics, length: int, names: str, feature: str, *, shift: int) -> Row:
    return replace(
        row,
        name=f"v{row.name}",
        encoding=vex(row.encoding, length),
        operands=tuple(name.strip() for name in names.split(",")),
        semantics=meaning,
        static=tuple(number + shift for number in row.static),
        cpuid=feature,
    )


def only_avx(
    name: str, encoding: str, names: str, meaning: Semantics, *, feature: str = "avx", static: tuple[int, ...] = (),
    attributes: str = "", restartable: bool = False,
) -> None:  # fmt: skip
    """One row of an instruction that there is with VEX alone, or that differs there: `encoding` is the manual's."""
    source = f"Intel SDM vol. 2, {name.upper()}"
    row = form(encoding, names, static=static, attributes=attributes)
    insn(name, source=source, cpuid=feature, restartable=restartable)(row(meaning))


__all__ = ["BOTH", "LIG", "XMM", "YMM", "avx", "only_avx", "operands", "vex", "with_three"]
