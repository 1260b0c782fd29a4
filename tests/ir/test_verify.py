"""The verifier: each of its rules has a trace that breaks it, and nothing that is well-formed does."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aiopyvm.ir.builder import Builder
from aiopyvm.ir.helpers import Helper
from aiopyvm.ir.types import F32, F80, I1, I8, I16, I32, I64
from aiopyvm.ir.verify import VerifyError, flag_effects, verify

Breaks = Callable[[Builder], Any]


def guarded(b: Builder) -> None:
    with b.when(b.get("cf")):
        inside = b.emit("neg", I32, (b.get("eax"),))
    b.emit("set", None, (inside,), "eax")


def after_jump(b: Builder) -> None:
    b.jump(5)
    b.set("eax", 1)


def late_fault(b: Builder) -> None:
    b.set("eax", 1)
    b.load(b.get("ebx"), I32)


def half_probed(b: Builder) -> None:
    address = b.get("ebx")
    b.probe(address, 2, True)
    b.set("eax", 1)
    b.store(address, b.get("ecx"))


def read_probed(b: Builder) -> None:
    address = b.get("ebx")
    b.probe(address, 4, False)
    b.set("eax", 1)
    b.store(address, b.get("ecx"))


def faulting_helper(b: Builder) -> None:
    b.set("eax", 1)
    b.helper(Helper("h", lambda: 0, faults=True), I32)


def unclosed(b: Builder) -> None:
    b.emit("when", None, (b.get("cf"),))


BROKEN: list[tuple[str, Breaks]] = [
    ("no such operation", lambda b: b.emit("frobnicate", I32)),
    ("takes 2 arguments", lambda b: b.emit("add", I32, (b.get("eax"),))),
    ("result type does not fit", lambda b: b.emit("add", None, (b.get("eax"), b.get("eax")))),
    ("result type does not fit", lambda b: b.emit("end", I32)),
    ("an argument has no value", lambda b: b.emit("neg", I32, (b.emit("insn", None, (), (_insn(), 0)),))),
    ("argument types differ", lambda b: b.emit("add", I32, (b.get("eax"), b.const(1, I8)))),
    ("differs from the first argument's", lambda b: b.emit("neg", I8, (b.get("eax"),))),
    ("result is not i1", lambda b: b.emit("eq", I8, (b.get("eax"), b.get("ebx")))),
    ("needs i1 and two values", lambda b: b.emit("select", I32, (b.get("eax"), b.get("eax"), b.get("eax")))),
    ("needs i1 and two values", lambda b: b.emit("select", I32, (b.get("cf"), b.get("eax"), b.const(1, I8)))),
    ("does not widen", lambda b: b.emit("zext", I32, (b.get("eax"),))),
    ("does not widen", lambda b: b.emit("sext", I8, (b.get("eax"),))),
    ("does not narrow", lambda b: b.emit("trunc", I32, (b.get("eax"),))),
    ("changes the size", lambda b: b.emit("bitcast", F80, (b.get("eax"),))),
    ("no register of that name is i8", lambda b: b.emit("get", I8, (), "eax")),
    ("no register of that name is i32", lambda b: b.emit("set", None, (b.get("eax"),), "xyz")),
    ("takes an i8 index", lambda b: b.emit("getfp", F80, (b.get("eax"),))),
    ("takes an i8 index", lambda b: b.emit("setfp", None, (b.const(0, I8), b.get("eax")))),
    ("address is not i32", lambda b: b.emit("load", I32, (b.const(0, I16),))),
    ("address is not i32", lambda b: b.emit("jump", None, (b.const(0, I64),))),
    ("condition is not i1", lambda b: b.emit("when", None, (b.get("eax"),))),
    ("takes i1 and i32", lambda b: b.emit("fault", None, (b.get("eax"), b.get("eax")), 13)),
    ("no floating-point operation", lambda b: b.emit("fexc", I8, (b.get("eax"),))),
    ("control word is not i16", lambda b: b.emit("fsqrt", F80, (b.getfp(b.const(0, I8)), b.get("eax")))),
    ("not defined here", lambda b: b.emit("neg", I32, (Builder().get("eax"),))),
    ("not defined here", guarded),
    ("no guard is open", lambda b: b.emit("end", None)),
    ("a guard is not closed", unclosed),
    ("follows a jump or an exit", after_jump),
    ("may fault after the effect", late_fault),
    ("may fault after the effect", half_probed),
    ("may fault after the effect", read_probed),
    ("may fault after the effect", faulting_helper),
]


def _insn(*, restartable: bool = False) -> SimpleNamespace:
    return SimpleNamespace(row=SimpleNamespace(restartable=restartable, name="x"), code=b"\x90")


@pytest.mark.parametrize(("rule", "broken"), BROKEN)
def test_broken(rule: str, broken: Breaks) -> None:
    b = Builder()
    broken(b)
    with pytest.raises(VerifyError, match=rule):
        verify(b.ops)


def test_a_probe_stands_for_the_access_behind_it() -> None:
    b = Builder()
    address = b.get("ebx")
    b.probe(address, 4, True)
    b.set("eax", 1)
    b.load(address, I32)
    b.store(address, b.get("ecx"))
    b.load(address, F32)
    verify(b.ops)


def test_the_next_instruction_may_fault_again() -> None:
    b = Builder()
    for address in (0, 1):
        b.emit("insn", None, (), (_insn(), address))
        b.load(b.get("ebx") + address, I32)
        b.set("eax", address)
    verify(b.ops)


def test_a_restartable_instruction_may_fault_late() -> None:
    b = Builder()
    b.emit("insn", None, (), (_insn(restartable=True), 0))
    late_fault(b)
    verify(b.ops)


def test_a_probe_of_the_last_instruction_counts_no_more() -> None:
    b = Builder()
    address = b.get("ebx")
    b.emit("insn", None, (), (_insn(), 0))
    b.probe(address, 4, True)
    b.emit("insn", None, (), (_insn(), 1))
    b.set("eax", 1)
    b.store(address, b.get("ecx"))
    with pytest.raises(VerifyError, match="may fault"):
        verify(b.ops)


def test_flag_effects() -> None:
    b = Builder()
    b.set("zf", b.get("cf"))
    b.set("cf", b.const(1, I1))
    b.forget()
    b.get("zf")
    assert flag_effects(b.ops, frozenset({"cf", "zf", "of"})) == ({"cf"}, {"zf", "cf"})
