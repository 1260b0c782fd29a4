"""What results do to the status flags, and the conditions that read them (Intel SDM vol. 1, appendices A and B)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.isa.state import AF, CF, OF, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

# By condition number (the low four bits of Jcc, SETcc, CMOVcc): names, the first one printed, and the flags read.
CONDITIONS: Final[tuple[tuple[tuple[str, ...], int], ...]] = (
    (("o",), OF),
    (("no",), OF),
    (("b", "c", "nae"), CF),
    (("ae", "nb", "nc"), CF),
    (("e", "z"), ZF),
    (("ne", "nz"), ZF),
    (("be", "na"), CF | ZF),
    (("a", "nbe"), CF | ZF),
    (("s",), SF),
    (("ns",), SF),
    (("p", "pe"), PF),
    (("np", "po"), PF),
    (("l", "nge"), SF | OF),
    (("ge", "nl"), SF | OF),
    (("le", "ng"), ZF | SF | OF),
    (("g", "nle"), ZF | SF | OF),
)


def condition(b: Tracer, number: int) -> Value:
    """1 where condition `number` holds (i1)."""
    match number >> 1:
        case 0:
            value = b.flag(OF)
        case 1:
            value = b.flag(CF)
        case 2:
            value = b.flag(ZF)
        case 3:
            value = b.flag(CF) | b.flag(ZF)
        case 4:
            value = b.flag(SF)
        case 5:
            value = b.flag(PF)
        case 6:
            value = b.flag(SF) ^ b.flag(OF)
        case _:
            value = b.flag(ZF) | (b.flag(SF) ^ b.flag(OF))
    return ~value if number & 1 else value


def set_result_flags(b: Tracer, result: Value) -> None:
    """SF, ZF and PF of `result`."""
    b.set_flag(SF, result.msb)
    b.set_flag(ZF, result.eq(0))
    b.set_flag(PF, result.parity())


def set_logic_flags(b: Tracer, result: Value) -> None:
    """Flags of AND, OR, XOR, TEST: CF, OF and AF (which the manual leaves undefined) are cleared."""
    b.set_flag(CF, 0)
    b.set_flag(OF, 0)
    b.set_flag(AF, 0)
    set_result_flags(b, result)


def set_add_flags(b: Tracer, x: Value, y: Value, result: Value, carry: Value | None = None) -> None:
    """Flags of x + y = result; `carry` is the carry out where a carry went in. None leaves it to x and result."""
    b.set_flag(CF, result.ult(x) if carry is None else carry)
    set_inc_flags(b, x, y, result, ((x ^ result) & (y ^ result)).msb if carry is not None else None)


def set_inc_flags(b: Tracer, x: Value, y: Value, result: Value, overflow: Value | None = None) -> None:
    """Flags of x + y = result but CF. SF xor OF is x < -y: said so of a number, as `set_dec_flags` says it."""
    if overflow is None and y.op == "const" and y.attr != 1 << y.bits - 1:  # the least number has no opposite
        overflow = x.slt(-int(y.attr)) ^ result.msb
    b.set_flag(OF, overflow if overflow is not None else ((x ^ result) & (y ^ result)).msb)
    b.set_flag(AF, (x ^ y ^ result).bit(4))
    set_result_flags(b, result)


def set_sub_flags(b: Tracer, x: Value, y: Value, result: Value, borrow: Value | None = None) -> None:
    """Flags of x - y = result; `borrow` is the borrow out where a borrow went in. None leaves it to x and y."""
    b.set_flag(CF, x.ult(y) if borrow is None else borrow)
    set_dec_flags(b, x, y, result, ((x ^ y) & (x ^ result)).msb if borrow is not None else None)


def set_dec_flags(b: Tracer, x: Value, y: Value, result: Value, overflow: Value | None = None) -> None:
    """Flags of x - y = result but CF. SF xor OF is x < y: said so, it makes the condition "less" one comparison."""
    b.set_flag(OF, overflow if overflow is not None else x.slt(y) ^ result.msb)
    b.set_flag(AF, (x ^ y ^ result).bit(4))
    set_result_flags(b, result)
