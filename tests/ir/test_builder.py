"""The builder: forwarding of registers, guards, sharing, refusals; the printer."""

from __future__ import annotations

import pytest

from aiopyvm.ir.builder import Builder
from aiopyvm.ir.printer import format_ops
from aiopyvm.ir.types import F32, F64, F80, I1, I8, I16, I32, integer
from aiopyvm.ir.verify import verify
from aiopyvm.isa.trace import Tracer


def names(b: Builder) -> list[str]:
    return [op.op for op in b.ops if op.op != "const"]


def test_a_register_is_read_once_and_forwarded_when_set() -> None:
    b = Builder()
    assert b.get("eax") is b.get("eax")
    total = b.get("eax") + 1
    b.set("eax", total)
    assert b.get("eax") is total
    assert names(b) == ["get", "add", "set"]


def test_what_a_guard_sets_is_not_known_behind_it() -> None:
    b = Builder()
    before = b.get("eax")
    with b.when(b.get("cf")):
        b.set("eax", 5)
        assert b.get("eax").attr == 5
    after = b.get("eax")
    assert after is not before
    assert after.op == "get"
    verify(b.ops)


def test_what_a_guard_inside_a_guard_sets_is_not_known_behind_either() -> None:
    b = Builder()
    b.set("eax", 1)
    with b.when(b.get("cf")):
        with b.when(b.get("zf")):
            b.set("eax", 2)
        assert b.get("eax").op == "get"
    assert b.get("eax").op == "get"
    verify(b.ops)


def test_a_value_made_in_a_guard_is_made_again_outside() -> None:
    b = Builder()
    x = b.get("eax")
    with b.when(b.get("cf")):
        inside = x + b.get("ebx")
    outside = x + b.get("ebx")
    assert outside is not inside
    verify(b.ops)


def test_partial_registers() -> None:
    b = Tracer()
    b.reg("al").store(0x12)
    b.reg("ah").store(0x34)
    assert b.reg("al").load().attr == 0x12
    b.reg("ax").store(0xBEEF)
    assert b.reg("al").load().attr == 0xEF
    b.set("ecx", b.const(0x11223344))
    b.reg("ch").store(0xAA)
    assert b.get("ecx").attr == 0x1122AA44
    assert b.reg("cx").load().attr == 0xAA44


def test_setting_what_is_there_is_nothing() -> None:
    b = Builder()
    b.set("eax", b.get("eax"))
    b.set("ebx", 1)
    b.set("ebx", 1)
    assert names(b) == ["get", "set"]


def test_x87_registers_are_forwarded_by_their_distance_from_the_top() -> None:
    b = Builder()
    top = b.get("ftop")
    first, second = (top - 1) & 7, (top + 1) & 7
    one, two = b.const(1, F80), b.const(2, F80)
    b.setfp(first, one)
    b.setfp(second, two)
    assert b.getfp((first + 0) & 7) is one
    assert b.getfp((((first + 1) & 7) + 1) & 7) is two
    assert b.getfp(top).op == "getfp"
    assert b.getfp(top) is b.getfp(top & 7)
    b.setfp(b.get("ecx").trunc(8) & 7, two)  # may be any
    assert b.getfp(first).op == "getfp"
    verify(b.ops)


def test_an_x87_register_set_in_a_guard_is_not_known_behind_it() -> None:
    b = Builder()
    top = b.get("ftop")
    b.setfp(top, b.const(1, F80))
    with b.when(b.get("cf")):
        with b.when(b.get("zf")):
            b.setfp(top, b.const(2, F80))
        assert b.getfp(top).op == "getfp"
    assert b.getfp(top).op == "getfp"
    b.setfp(top, b.const(3, F80))
    with b.when(b.get("of")):
        assert b.getfp(top).attr == 3
    b.forget()
    assert b.getfp(top).op == "getfp"
    verify(b.ops)


def test_forget_reads_again() -> None:
    b = Builder()
    b.set("eax", 1)
    b.set("ebx", 2)
    b.forget("eax")
    assert b.get("eax").op == "get"
    assert b.get("ebx").attr == 2
    b.forget()
    assert b.get("ebx").op == "get"


def test_a_select_of_a_constant_needs_no_operation() -> None:
    b = Builder()
    x = b.get("eax")
    assert b.select(b.const(1, I1), x, 5) is x
    assert b.select(b.get("cf"), x, x) is x
    with pytest.raises(TypeError, match="needs a Value"):
        b.select(b.get("cf"), 1, 2)


def test_a_fault_that_cannot_be_is_not_there() -> None:
    b = Builder()
    b.fault(13, b.const(0, I1))
    assert names(b) == []
    b.fault(13)
    assert names(b) == ["fault"]


def test_widths_must_agree() -> None:
    b = Builder()
    with pytest.raises(TypeError, match="expected"):
        b.get("eax") + b.const(1, I8)
    with pytest.raises(TypeError, match="expected"):
        b.set("eax", b.const(1, I16))


def test_a_traced_value_has_no_truth_and_no_number() -> None:
    b = Builder()
    with pytest.raises(TypeError, match="no truth"):
        bool(b.get("eax").eq(1))
    with pytest.raises(TypeError, match="static"):
        range(b.get("eax"))
    with pytest.raises(TypeError, match="no result"):
        _ = b.emit("end", None).bits
    assert list(range(b.const(3))) == [0, 1, 2]


def test_types_are_single_and_bounded() -> None:
    assert integer(8) is I8
    assert repr(integer(8, 4)) == "<4 x i8>"
    with pytest.raises(ValueError, match="no integer type"):
        integer(257)
    with pytest.raises(ValueError, match="no integer type"):
        integer(0)
    assert F64.mask.bit_length() == 64


def test_printed() -> None:
    b = Builder()
    total = b.get("eax") + 5
    with b.when(b.get("cf")):
        b.store(total, b.load(total, I32))
    b.probe(total, 4, True)
    b.fault(14, total.ult(3), 6)
    single = b.floating("fconvert", F32, b.load(total, F64), b.get("fcw"))
    b.set("ebx", b.fexc(single).zext(32))
    b.jump(0x1000)
    assert format_ops(b.ops).split("\n") == [
        "  %0 = get i32 eax",
        "  %1 = add i32 %0, 0x5",
        "  %2 = get i1 cf",
        "  when %2",
        "    %3 = load i32 %1",
        "    store %1, %3",
        "  end",
        "  probe 4 True %1",
        "  %4 = ult i1 %1, 0x3",
        "  fault 14 %4, 0x6",
        "  %5 = load f64 %1",
        "  %6 = get i16 fcw",
        "  %7 = fconvert f32 %5, %6",
        "  %8 = fexc i8 %7",
        "  %9 = zext i32 %8",
        "  set ebx %9",
        "  jump 0x1000",
    ]
    assert repr(total) == "add i32 (get), 0x5"
