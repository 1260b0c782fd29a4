"""How generated functions begin, call one another and leave: the text of `layout`'s convention."""

from __future__ import annotations

from collections.abc import Mapping

from aiopyvm.engine.native.layout import (
    ARGUMENT_TYPES,
    ARGUMENTS,
    CONTEXT_OFFSETS,
    CONVENTION,
    FLAG_ARGUMENTS,
    RECORD_OFFSETS,
    SIGNATURE,
)
from aiopyvm.engine.native.llvmtext import INVARIANT, UNLIKELY, Text

Words = Mapping[str, str]  # the flags' words, by argument

WORDS = tuple(FLAG_ARGUMENTS.values())
UNCHANGED: Words = {word: f"%{word}" for word in WORDS}  # the flags as they were where the function was entered


def define(name: str, text: Text) -> str:
    """The definition of a function of the convention."""
    return f"define dso_local {CONVENTION} void @{name}({SIGNATURE}) #0 {{\nentry:\n{text.body()}\n}}\n"


def call(text: Text, function: str, rec: str, budget: str, words: Words) -> None:
    """End the block: call a function of the convention in place of this one."""
    values = {"rec": rec, "cpu": "%cpu", "mem": "%mem", "ctx": "%ctx", "budget": budget, **words}
    arguments = ", ".join(f"{kind} {values[name]}" for kind, name in zip(ARGUMENT_TYPES, ARGUMENTS, strict=True))
    text.line(f"musttail call {CONVENTION} void {function}({arguments})")
    text.line("ret void")


def dispatch(text: Text, rec: str, budget: str, words: Words) -> None:
    """End the block: go on with the record `rec`."""
    offset = text.fresh(f"zext i32 {text.fresh(f'load i32, ptr {rec}')} to i64")
    call(text, text.fresh(f"getelementptr i8, ptr @code_base, i64 {offset}"), rec, budget, words)


def record_field(text: Text, name: str, bits: int, at: int = 0) -> str:
    """A field of the record `%rec`; `at`: bytes from the field's beginning."""
    place = text.value(f"getelementptr i8, ptr %rec, i64 {RECORD_OFFSETS[name] + at}")
    return text.value(f"load i{bits}, ptr {place}, align {1 if bits == 8 else 4}{INVARIANT}")


def linked_record(text: Text) -> str:
    """The record that the link of `%rec` leads to."""
    distance = text.value(f"sext i32 {record_field(text, 'link', 32)} to i64")
    return text.value(f"getelementptr i8, ptr %rec, i64 {distance}")


def context_field(text: Text, name: str) -> str:
    """The address of a field of the context."""
    return text.value(f"getelementptr i8, ptr %ctx, i64 {CONTEXT_OFFSETS[name]}")


def count_hot(text: Text, budget: str, step: str) -> None:
    """Count what a region executes: its budget is added (`step` "add") at the way in, subtracted ("sub") at the way
    out."""
    place = context_field(text, "hot")
    before = text.fresh(f"load i64, ptr {place}")
    text.line(f"store i64 {text.fresh(f'{step} i64 {before}, {budget}')}, ptr {place}")


def check_budget(text: Text, rec: str = "%rec", words: Words = UNCHANGED) -> None:
    """Leave unless the budget has an instruction left."""
    spent, fine = text.new_label(), text.new_label()
    text.branch(text.fresh("icmp eq i64 %budget, 0"), spent, fine, UNLIKELY)
    text.label(spent)
    call(text, "@leave_budget", rec, "%budget", words)
    text.label(fine)


def jump_entry(text: Text, eip: str, *, second: bool = False) -> str:
    """The jump cache's entry (i64) at the first or the second place of address `eip` (i32)."""
    mask = text.fresh(f"load i32, ptr {context_field(text, 'jump_mask')}")
    cache = text.fresh(f"load ptr, ptr {context_field(text, 'jump_cache')}")
    high = text.fresh(f"lshr i32 {eip}, 12")
    index = text.fresh(f"and i32 {text.fresh(f'xor i32 {eip}, {high}')}, {mask}")
    if second:
        index = text.fresh(f"xor i32 {index}, 1")
    slot = text.fresh(f"shl i64 {text.fresh(f'zext i32 {index} to i64')}, 3")
    return text.fresh(f"load i64, ptr {text.fresh(f'getelementptr i8, ptr {cache}, i64 {slot}')}")


def go_on_at_entry(text: Text, entry: str, eip: str, miss: str, budget: str, words: Words) -> None:
    """End the block: go on at the record of `entry` where that is for `eip`, at label `miss` where it is not."""
    record = text.fresh(f"lshr i64 {entry}, 32")
    same = text.fresh(f"icmp eq i32 {text.fresh(f'trunc i64 {entry} to i32')}, {eip}")
    known = text.fresh(f"icmp ne i64 {record}, 0")
    hit = text.new_label()
    text.branch(text.fresh(f"and i1 {same}, {known}"), hit, miss, ", !prof !0")
    text.label(hit)
    arena = text.fresh(f"load ptr, ptr {context_field(text, 'arena')}")
    dispatch(text, text.fresh(f"getelementptr i8, ptr {arena}, i64 {record}"), budget, words)


def jump_through_cache(text: Text, eip: str, budget: str, words: Words, store_eip: str) -> None:
    """End the block: go on at address `eip` (i32), by the jump cache; `store_eip`: the address of `CpuState.eip`."""
    miss = text.new_label()
    go_on_at_entry(text, jump_entry(text, eip), eip, miss, budget, words)
    text.label(miss)
    text.line(f"store i32 {eip}, ptr {store_eip}")
    call(text, "@leave_jump", "%rec", budget, words)
