"""What MMX instructions share: they work on the x87's registers, and leave its stack as the hardware does.

An instruction that names an MM register begins with `begin` (#MF where an x87 exception is pending, before its operand
is looked at) and ends with `end`: TOP is 0 and no register is empty, be the MM register read or written. What is
written gets an exponent of all ones (`MmxPlace`). Intel SDM vol. 3A, "The MMX State and MMX Register Aliasing".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.ir.types import I64
from aiopyvm.isa.places import MemoryPlace, MmxPlace
from aiopyvm.isa.x87 import wait

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

Source = MmxPlace | MemoryPlace  # mm/m64
_ALL: Final = 0xFF


def begin(b: Tracer) -> None:
    """#MF where an x87 exception is pending."""
    wait(b)


def load(place: Source) -> Value:
    """All of an operand of 8 bytes (i64)."""
    return place.load_as(I64) if isinstance(place, MemoryPlace) else place.load()


def end(b: Tracer, valid: int = _ALL) -> None:
    """TOP := 0; the registers of `valid` (a bit for each) are not empty."""
    b.set("ftop", 0)
    b.set("fvalid", valid)


__all__ = ["Source", "begin", "end", "load"]
