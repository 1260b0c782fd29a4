"""The functions that the object of handlers holds beside them: `run`, the `leave_*` functions, the handlers of records
that are no instructions (`stub`, `count`, `goto`, `miss`, `end`, `step`), and the handler of faults (`trap_ir`), on
x86-64 alone.

`leave_*` write the budget, the flags and why into context and CpuState and return to `run`'s caller. Those for an
instruction of a record set EIP too. `leave_jump` and `leave_region` expect `CpuState.eip` to be set; `leave_region`
also `Context.reason` (and vector and error code). `leave_jump` does not leave where the second place of the jump cache
has what the first has not.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.native import lower_simd
from aiopyvm.engine.native.calls import (
    UNCHANGED,
    call,
    check_budget,
    context_field,
    define,
    dispatch,
    go_on_at_entry,
    jump_entry,
    linked_record,
    record_field,
)
from aiopyvm.engine.native.layout import (
    ARGUMENT_TYPES,
    CONVENTION,
    CPU_OFFSETS,
    FLAG_ARGUMENTS,
    RECORD_OFFSETS,
    RECORD_SIZE,
    Left,
)
from aiopyvm.engine.native.llvmtext import UNLIKELY, Text
from aiopyvm.engine.native.lower_flags import flag_of_word
from aiopyvm.engine.native.lower_float import HAS_X87, enter, leave
from aiopyvm.engine.native.relay_ir import relay_text
from aiopyvm.engine.native.trap_ir import handler_text

_AT_RECORD: Final = {
    "leave_budget": Left.BUDGET,
    "leave_step": Left.STEP,
    "leave_fault": Left.FAULT,
    "leave_link": Left.LINK,
    "leave_hot": Left.HOT,
    "leave_end": Left.END,
}
_BEHIND_RECORD: Final = {"leave_syscall": Left.SYSCALL, "leave_trap": Left.TRAP}
_FROM_BYTE: Final = {  # a flag's word from its byte in the CpuState: operation and operand
    "zf": ("xor", 1), "sf": ("shl", 31), "pf": ("xor", 1), "cf": ("or", 0), "of": ("shl", 31), "af": ("shl", 4),
}  # fmt: skip
NAMES: Final = ("run", "stub", "count", "goto", "miss", "end", "step", "leave_jump", "leave_region")


def _cpu_field(text: Text, name: str) -> str:
    return text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")


def _leave(name: str, reason: Left | None, eip: str, rec: str) -> str:
    """A `leave` function; `eip`: "record", "behind" or "" (it is set)."""
    return define(name, _left(Text(), reason, eip, rec))


def _leave_jump() -> str:
    text = Text()
    eip = text.fresh(f"load i32, ptr {_cpu_field(text, 'eip')}")
    miss = text.new_label()
    go_on_at_entry(text, jump_entry(text, eip, second=True), eip, miss, "%budget", UNCHANGED)
    text.label(miss)
    return define("leave_jump", _left(text, Left.JUMP, "", "null"))


def _left(text: Text, reason: Left | None, eip: str, rec: str) -> Text:
    for flag, word in FLAG_ARGUMENTS.items():
        byte = text.value(f"zext i1 {flag_of_word(text, flag, f'%{word}')} to i8")
        text.line(f"store i8 {byte}, ptr {_cpu_field(text, flag)}")
    if eip:
        address = record_field(text, "eip", 32)
        if eip == "behind":
            length = text.value(f"zext i8 {record_field(text, 'length', 8)} to i32")
            address = text.value(f"add i32 {address}, {length}")
        text.line(f"store i32 {address}, ptr {_cpu_field(text, 'eip')}")
    if rec == "behind":
        rec = text.value(f"getelementptr i8, ptr %rec, i64 {RECORD_SIZE}")
    text.line(f"store ptr {rec}, ptr {context_field(text, 'rec')}")
    text.line(f"store i64 %budget, ptr {context_field(text, 'budget')}")
    if reason is not None:
        text.line(f"store i32 {int(reason)}, ptr {context_field(text, 'reason')}")
    text.line("ret void")
    return text


def _run() -> str:
    """`run(context)`, of the C convention."""
    text = Text()
    usual = enter(text)
    for name in ("rec", "cpu", "mem"):
        text.line(f"%{name} = load ptr, ptr {context_field(text, name)}")
    lower_simd.enter(text)
    text.line(f"%budget = load i64, ptr {context_field(text, 'budget')}")
    words = {}
    for flag, word in FLAG_ARGUMENTS.items():
        byte = text.value(f"zext i8 {text.value(f'load i8, ptr {_cpu_field(text, flag)}')} to i32")
        operation, operand = _FROM_BYTE[flag]
        words[word] = text.value(f"{operation} i32 {byte}, {operand}")
    dispatch(text, "%rec", "%budget", words)
    assert text.lines.pop() == "  ret void"
    text.lines[-1] = text.lines[-1].replace("musttail call", "call")
    lower_simd.leave(text)
    leave(text, usual)
    text.line("ret void")
    return f"define void @run(ptr %ctx) #0 {{\nentry:\n{text.body()}\n}}\n"


def _count() -> str:
    text = Text()
    place = text.value(f"getelementptr i8, ptr %rec, i64 {RECORD_OFFSETS['values']}")
    left = text.fresh(f"sub i32 {text.fresh(f'load i32, ptr {place}')}, 1")
    text.line(f"store i32 {left}, ptr {place}")
    hot, cold = text.new_label(), text.new_label()
    text.branch(text.fresh(f"icmp eq i32 {left}, 0"), hot, cold, UNLIKELY)
    text.label(hot)
    call(text, "@leave_hot", "%rec", "%budget", UNCHANGED)
    text.label(cold)
    dispatch(text, linked_record(text), "%budget", UNCHANGED)
    return define("count", text)


def _goto() -> str:
    text = Text()
    dispatch(text, linked_record(text), "%budget", UNCHANGED)
    return define("goto", text)


def _leaving(name: str, function: str) -> str:
    text = Text()
    call(text, f"@{function}", "%rec", "%budget", UNCHANGED)
    return define(name, text)


def _unless_spent(name: str, function: str) -> str:
    """A record in the place of an instruction: with no budget left it is not come to."""
    text = Text()
    check_budget(text)
    call(text, f"@{function}", "%rec", "%budget", UNCHANGED)
    return define(name, text)


def _miss() -> str:
    text = Text()
    text.line(f"store i32 {record_field(text, 'eip', 32)}, ptr {_cpu_field(text, 'eip')}")
    call(text, "@leave_jump", "%rec", "%budget", UNCHANGED)
    return define("miss", text)


def runtime_text() -> list[str]:
    """The definitions of all functions of this module."""
    leaving = [_leave(name, reason, "record", "%rec") for name, reason in _AT_RECORD.items()]
    leaving += [_leave(name, reason, "behind", "behind") for name, reason in _BEHIND_RECORD.items()]
    leaving += [_leave_jump(), _leave("leave_region", None, "", "null")]
    handlers = [_leaving("stub", "leave_link"), _miss(), _goto(), _count()]
    handlers += [_unless_spent("end", "leave_end"), _unless_spent("step", "leave_step")]
    return [_run(), *leaving, *handlers, *relay_text(), *(handler_text() if HAS_X87 else ())]


def leave_declarations() -> str:
    """Declarations of the `leave_*` functions, for an object that does not define them."""
    names = [*_AT_RECORD, *_BEHIND_RECORD, "leave_jump", "leave_region"]
    kinds = ", ".join(ARGUMENT_TYPES)
    return "\n".join(f"declare hidden {CONVENTION} void @{name}({kinds})" for name in names)


__all__ = ["NAMES", "leave_declarations", "runtime_text"]
