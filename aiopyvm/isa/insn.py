"""A decoded instruction: the row of the table that it matched, its operands and its prefixes. Plain, immutable data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopyvm.isa.spec import Row


@dataclass(frozen=True, slots=True)
class Register:
    """A register operand.

    `kind` is "gpr" (with `width` 8, 16 or 32), "sreg", "st", "mm", "xmm", "ymm", "cr", "dr"; `number` as encoded.
    """

    kind: str
    number: int
    width: int


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory operand: segment:[base + index * scale + displacement].

    `base` and `index` are general-register numbers or -1; `segment` is a number in `SEGMENTS`' order, overrides and
    defaults resolved; `displacement` is 0..2**32-1 (0..2**16-1 with 16-bit addressing); `address_size` is 16 or 32;
    `width` is the access's width in bits, 0 where there is none (LEA) or the instruction alone knows (m14/28byte).
    `vsib` is "xmm" or "ymm" where `index` is the number of such a register, one address for each of its elements.
    """

    segment: int
    base: int
    index: int
    scale: int
    displacement: int
    address_size: int
    width: int
    vsib: str = ""


@dataclass(frozen=True, slots=True)
class Immediate:
    """An immediate, already sign- or zero-extended to `width` bits as its row says: 0 <= value < 2**width."""

    value: int
    width: int


@dataclass(frozen=True, slots=True)
class Relative:
    """A branch displacement, sign-extended; the target is the address after the instruction plus this, cut to the
    operand size.
    """

    displacement: int
    width: int


@dataclass(frozen=True, slots=True)
class FarPointer:
    """ptr16:16 or ptr16:32."""

    selector: int
    offset: int
    width: int


Operand = Register | Memory | Immediate | Relative | FarPointer


@dataclass(frozen=True, slots=True)
class Insn:
    """One decoded instruction, at no particular address.

    `row.name` is its mnemonic. `operand_size` and `address_size` are 16 or 32. `segment` is the number of a
    segment-override prefix or -1; `rep` is 0, 0xF2 or 0xF3 (the last such prefix, also where it means nothing);
    `lock` tells an F0 prefix.
    """

    row: Row
    operands: tuple[Operand, ...]
    code: bytes
    operand_size: int = 32
    address_size: int = 32
    segment: int = -1
    rep: int = 0
    lock: bool = False

    @property
    def length(self) -> int:
        """Bytes, 1..15."""
        return len(self.code)

    @property
    def repeats(self) -> bool:
        """Whether a REP prefix makes it a loop; F2 and F3 of SSE instructions (MOVSD's) are none."""
        return bool(self.rep and self.row.rep)
