"""REP MOVS and REP STOS in a region: many passes at once by the host's own instruction, as `bulk` has it for handlers.

All passes but the last that are left, within a page of the destination and one of the source, and within the budget;
then the instruction begins again. What cannot be done so (DF set, a page that is not fast, few elements up to the end
of the page) is done pass by pass. The page table is looked at in either form of memory.
"""

from __future__ import annotations

from aiopyvm.engine.native.bulk import MOST, WORTH, at_once, least, moves, room, size_of
from aiopyvm.engine.native.layout import CPU_OFFSETS
from aiopyvm.engine.native.regiondraft import Draft, label_of
from aiopyvm.engine.native.regionmemory import SpanMemory
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.layout import READ, WRITE


def many_passes(draft: Draft, memory: SpanMemory, insn: Insn, single: str, leave: str) -> str:
    """Write the block that does many passes of `insn`, at the beginning of its tree; its label. It goes to the tree's
    beginning, to the label `single` where one pass is to be done, or to `leave` where the budget is too small.
    """
    text, left, label = draft.text, draft.state.left, draft.text.new_label()
    with draft.aside():
        scope = text.scope()
        text.label(label)

        def need(condition: str, otherwise: str) -> None:
            met = text.new_label()
            text.branch(condition, met, otherwise)
            text.label(met)

        need(text.fresh(f"icmp sgt i64 {left}, {WORTH}"), leave)
        pointers = ("edi", "esi") if moves(insn) else ("edi",)
        passes, *places = (text.fresh(f"load i32, ptr %l.{name}") for name in ("ecx", *pointers))
        budget = text.fresh(f"trunc i64 {least(text, 64, left, str(MOST))} to i32")
        count = least(text, 32, text.fresh(f"sub i32 {passes}, 1"), budget)
        for place in places:
            count = least(text, 32, count, room(text, insn, place))
        need(text.fresh(f"icmp uge i32 {count}, {WORTH}"), single)
        direction = text.fresh(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['df']}")
        need(text.fresh(f"icmp eq i8 {text.fresh(f'load i8, ptr {direction}')}, 0"), single)
        for place, bit in zip(places, (WRITE, READ), strict=False):
            need(memory.is_fast(place, bit), single)
        at_once(text, insn, places[0], places[-1], count, text.fresh("load i32, ptr %l.eax"))
        size = text.fresh(f"shl i32 {count}, {size_of(insn)}")
        for name, place in zip(pointers, places, strict=True):
            text.line(f"store i32 {text.fresh(f'add i32 {place}, {size}')}, ptr %l.{name}")
        text.line(f"store i32 {text.fresh(f'sub i32 {passes}, {count}')}, ptr %l.ecx")
        rest = text.fresh(f"sub i64 {left}, {text.fresh(f'zext i32 {count} to i64')}")
        text.line(f"store i64 {rest}, ptr %l.left")
        text.line(f"br label %{label_of(draft.state.tree)}")
        text.leave_scope(scope)
    return label


__all__ = ["many_passes"]
