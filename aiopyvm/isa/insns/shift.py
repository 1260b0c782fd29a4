"""Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD.

A count is cut to 5 bits; a count of 0 changes no flag, but a destination in memory is written all the same. What the
manual leaves undefined is as P6 successors leave it: AF is 0 after a shift; OF is as for a count of 1, but stays
where ROL or ROR turns a register by another immediate count; SHLD and SHRD by more than 16 bits' width shift
dst:src:dst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aiopyvm.ir.types import integer
from aiopyvm.isa.flags import set_result_flags
from aiopyvm.isa.places import Destination, ImmediatePlace, RegisterPlace, Source
from aiopyvm.isa.spec import Semantics, forms, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer


def _forms(digit: int, always: int, attributes: str = "") -> Callable[[Semantics], Semantics]:
    """The manual's rows of group D0..D3, C0, C1 /digit; flags in `always` are undefined for a count of 1 too."""
    once = ((f"D0 /{digit}", "r/m8, 1"), (f"D1 /{digit}", "r/m16, 1"), (f"D1 /{digit}", "r/m32, 1"))
    by_cl = ((f"D2 /{digit}", "r/m8, cl"), (f"D3 /{digit}", "r/m16, cl"), (f"D3 /{digit}", "r/m32, cl"))
    c0, c1 = f"C0 /{digit} ib", f"C1 /{digit} ib"
    by_imm8 = ((c0, "r/m8, imm8"), (c1, "r/m16, imm8"), (c1, "r/m32, imm8"))

    def add(function: Semantics) -> Semantics:
        many = always | OF
        function = forms(*by_imm8, static=(1,), zero_extend=True, undefined=many, attributes=attributes)(function)
        function = forms(*by_cl, undefined=many, attributes=attributes)(function)
        return forms(*once, static=(1,), undefined=always, attributes=attributes)(function)

    return add


def _count(src: Source, width: int) -> Value:
    """The count, 0..31, as an integer of `width` bits."""
    count = src.load()
    return count.trunc(8).zext(width) & 31 if count.bits != width else count & 31


def _unless_zero(b: Tracer, count: Value, set_flags: Callable[[], None]) -> None:
    """Set flags where `count` is not 0: known while tracing, or guarded."""
    if count.op == "const":
        if count.attr:
            set_flags()
    else:
        with b.when(count.ne(0)):
            set_flags()


def _set_shift_flags(b: Tracer, result: Value, carry: Value, overflow: Value | int) -> None:
    b.set_flag(CF, carry)
    b.set_flag(OF, overflow)
    b.set_flag(AF, 0)
    set_result_flags(b, result)


def _set_rotate_flags(b: Tracer, carry: Value, overflow: Value | None) -> None:
    b.set_flag(CF, carry)
    if overflow is not None:
        b.set_flag(OF, overflow)


def _rotate_overflow(b: Tracer, dst: Destination, src: Source, overflow: Value) -> Value | None:
    """OF after ROL or ROR; None: as it was. On a register an immediate count other than 1 leaves it alone."""
    if not (isinstance(dst, RegisterPlace) and isinstance(src, ImmediatePlace)):
        return overflow
    once = (src.load() & 31).eq(1)
    if once.op == "const":
        return overflow if once.attr else None
    return b.select(once, overflow, b.flag(OF))


def _top_bits_differ(x: Value) -> Value:
    """OF of a left shift or rotate by 1: the sign changes."""
    return (x ^ (x << 1)).msb


def shl(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst << count; CF: the last bit shifted out."""
    x = dst.modify()
    count = _count(src, x.bits)
    result = x << count
    dst.store(result)
    carry = (x >> (b.lift(x.bits, x.type) - count)).trunc(1)
    _unless_zero(b, count, lambda: _set_shift_flags(b, result, carry, _top_bits_differ(x)))


insn("shl", source="Intel SDM vol. 2B, SAL/SAR/SHL/SHR", writes=OSZAPC, aliases=("sal",))(_forms(4, AF)(shl))
insn("sal", source="Intel SDM vol. 2B, SAL/SAR/SHL/SHR", writes=OSZAPC)(_forms(6, AF, "alias")(shl))


@insn("shr", source="Intel SDM vol. 2B, SAL/SAR/SHL/SHR", writes=OSZAPC)
@_forms(5, AF)
def shr(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst >> count, zeros in; CF: the last bit shifted out."""
    x = dst.modify()
    count = _count(src, x.bits)
    result = x >> count
    dst.store(result)
    carry = (x >> (count - 1)).trunc(1)
    _unless_zero(b, count, lambda: _set_shift_flags(b, result, carry, x.msb))


@insn("sar", source="Intel SDM vol. 2B, SAL/SAR/SHL/SHR", writes=OSZAPC)
@_forms(7, AF)
def sar(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst >> count, copies of the sign in; CF: the last bit shifted out."""
    x = dst.modify()
    count = _count(src, x.bits)
    result = x.sar(count)
    dst.store(result)
    carry = x.sar(count - 1).trunc(1)
    _unless_zero(b, count, lambda: _set_shift_flags(b, result, carry, 0))


@insn("rol", source="Intel SDM vol. 2B, RCL/RCR/ROL/ROR", writes=CF | OF)
@_forms(0, 0)
def rol(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst rotated left; CF: its lowest bit."""
    x = dst.modify()
    count = _count(src, x.bits)
    turn = count & (x.bits - 1)
    result = (x << turn) | (x >> (b.lift(x.bits, x.type) - turn))
    dst.store(result)
    overflow = _rotate_overflow(b, dst, src, _top_bits_differ(x))
    _unless_zero(b, count, lambda: _set_rotate_flags(b, result.trunc(1), overflow))


@insn("ror", source="Intel SDM vol. 2B, RCL/RCR/ROL/ROR", writes=CF | OF)
@_forms(1, 0)
def ror(b: Tracer, dst: Destination, src: Source) -> None:
    """dst := dst rotated right; CF: its highest bit."""
    x = dst.modify()
    count = _count(src, x.bits)
    turn = count & (x.bits - 1)
    result = (x >> turn) | (x << (b.lift(x.bits, x.type) - turn))
    dst.store(result)
    overflow = _rotate_overflow(b, dst, src, x.msb ^ x.trunc(1))
    _unless_zero(b, count, lambda: _set_rotate_flags(b, result.msb, overflow))


def _with_carry(b: Tracer, x: Value, src: Source) -> tuple[Value, Value, Value]:
    """CF:dst, one bit wider than dst; the count modulo that width, 0..width; the count that turns the other way."""
    wide = integer(x.bits + 1)
    joined = b.flag(CF).zext(wide.size) << x.bits | x.zext(wide.size)
    count = _count(src, x.bits)
    turn = (count.urem(x.bits + 1) if x.bits < 32 else count).zext(wide.size)
    return joined, turn, b.lift(wide.size, wide) - turn


@insn("rcl", source="Intel SDM vol. 2B, RCL/RCR/ROL/ROR", reads=CF, writes=CF | OF)
@_forms(2, 0)
def rcl(b: Tracer, dst: Destination, src: Source) -> None:
    """CF:dst := CF:dst rotated left."""
    x = dst.modify()
    joined, left, right = _with_carry(b, x, src)
    result = (joined << left) | (joined >> right)
    dst.store(result.trunc(x.bits))
    _unless_zero(b, left, lambda: _set_rotate_flags(b, result.msb, _top_bits_differ(x)))


@insn("rcr", source="Intel SDM vol. 2B, RCL/RCR/ROL/ROR", reads=CF, writes=CF | OF)
@_forms(3, 0)
def rcr(b: Tracer, dst: Destination, src: Source) -> None:
    """CF:dst := CF:dst rotated right."""
    x = dst.modify()
    joined, right, left = _with_carry(b, x, src)
    result = (joined >> right) | (joined << left)
    dst.store(result.trunc(x.bits))
    _unless_zero(b, right, lambda: _set_rotate_flags(b, result.msb, (joined ^ (joined << 1)).msb))


def _double_forms(imm8: str, by_cl: str) -> Callable[[Semantics], Semantics]:
    rows_imm8 = ((imm8, "r/m16, r16, imm8"), (imm8, "r/m32, r32, imm8"))
    rows_cl = ((by_cl, "r/m16, r16, cl"), (by_cl, "r/m32, r32, cl"))

    def add(function: Semantics) -> Semantics:
        return forms(*rows_imm8, static=(2,), zero_extend=True)(forms(*rows_cl)(function))

    return add


@insn("shld", source="Intel SDM vol. 2B, SHLD", writes=OSZAPC, undefined=AF | OF)
@_double_forms("0F A4 /r ib", "0F A5 /r")
def shld(b: Tracer, dst: Destination, src: RegisterPlace, count: Source) -> None:
    """dst := the high part of dst:src << count; CF: the last bit shifted out."""
    x, y = dst.modify(), src.load()
    size = 64 if x.bits == 32 else 48
    n = _count(count, size)
    joined = x.zext(size) << (size - x.bits) | y.zext(size) << (size - 2 * x.bits)
    if size == 48:
        joined = joined | x.zext(size)
    result = ((joined << n) >> (size - x.bits)).trunc(x.bits)
    dst.store(result)
    carry = (joined >> (b.lift(size, joined.type) - n)).trunc(1)
    _unless_zero(b, n, lambda: _set_shift_flags(b, result, carry, _top_bits_differ(x)))


@insn("shrd", source="Intel SDM vol. 2B, SHRD", writes=OSZAPC, undefined=AF | OF)
@_double_forms("0F AC /r ib", "0F AD /r")
def shrd(b: Tracer, dst: Destination, src: RegisterPlace, count: Source) -> None:
    """dst := the low part of src:dst >> count; CF: the last bit shifted out."""
    x, y = dst.modify(), src.load()
    size = 64 if x.bits == 32 else 48
    n = _count(count, size)
    joined = y.zext(size) << x.bits | x.zext(size)
    if size == 48:
        joined = joined | x.zext(size) << 32
    result = (joined >> n).trunc(x.bits)
    dst.store(result)
    carry = (joined >> (n - 1)).trunc(1)
    _unless_zero(b, n, lambda: _set_shift_flags(b, result, carry, x.msb ^ y.trunc(1)))
