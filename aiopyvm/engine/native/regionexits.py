"""How a region is left: registers to the `CpuState`, `%l.eip` and what is left of the budget, the flags by recipe.

Ways out meet in one place, where the flags' words are computed and the jump cache tells where to go on; an exit at the
root itself goes on with the cold code behind the record that led here, as the cache would lead back.
"""

from __future__ import annotations

from aiopyvm.engine.native.calls import WORDS, count_hot, dispatch, jump_through_cache, linked_record
from aiopyvm.engine.native.llvmtext import UNLIKELY
from aiopyvm.engine.native.regiondraft import Draft, signed
from aiopyvm.engine.native.regionflags import PARTS
from aiopyvm.engine.native.regionwords import FlagWords


class Exits:
    """Writes the ways out of a draft."""

    def __init__(self, draft: Draft, flags: FlagWords) -> None:
        self._draft = draft
        self._flags = flags
        self._eip = 0  # of the instruction
        self._exit = ""  # the label of its way out

    def begin(self, eip: int) -> None:
        """The instruction at `eip` begins."""
        self._eip, self._exit = eip, ""

    def before(self) -> str:
        """The label of a block that leaves before the current instruction."""
        if self._exit:
            return self._exit
        draft, text, state = self._draft, self._draft.text, self._draft.state
        for part in PARTS:
            self._flags.find(part)
        label = self._exit = text.new_label()
        scope, names, possible, entry = text.scope(), state.names, state.possible, state.entry
        state.names, state.possible, state.entry = names.copy(), possible.copy(), entry.copy()
        with draft.aside():
            text.label(label)
            draft.store_registers()
            for part in PARTS:
                self._flags.tell(part)
            self._end(str(signed(self._eip)), self._left(), "out_recipes")
        state.names, state.possible, state.entry = names, possible, entry
        text.leave_scope(scope)
        return label

    def behind(self, label: str, eip: str) -> None:
        """The block `label`: leave for an address (i32) after the last instruction."""
        draft, text = self._draft, self._draft.text
        with draft.aside():
            text.leave_scope(draft.state.scope)
            text.label(label)
            draft.store_registers()
            left = self._left()
            self._end(eip, left, "out" if self._flags.store() else "out_recipes")

    def spent(self, label: str, eip: int, left: str) -> None:
        """The block `label`: leave for `eip`, where another tree begins, with too little left of the budget."""
        with self._draft.aside():
            self._draft.text.label(label)
            self._draft.store_registers()
            self._end(str(signed(eip)), left, "out_recipes")

    def _left(self) -> str:
        state = self._draft.state
        return self._draft.text.fresh(f"sub i64 {state.left}, {state.done}")

    def _end(self, eip: str, left: str, label: str) -> None:
        text = self._draft.text
        text.line(f"store i64 {left}, ptr %l.out")
        text.line(f"store i32 {eip}, ptr %l.eip")
        text.line(f"br label %{label}")

    def meet(self) -> None:
        """Where all ways out meet: `out_recipes` computes the flags' words, `out` goes on at %l.eip."""
        draft, text = self._draft, self._draft.text
        with draft.aside():
            text.leave_scope({})
            text.label("out_recipes")
            for part, label in (("c", "out_rest"), ("r", "out")):
                self._flags.compute(part, label)
                text.leave_scope({})
                text.label(label)
            words = {word: text.fresh(f"load i32, ptr %l.{word}") for word in WORDS}
            budget = text.fresh(f"add i64 {text.fresh('load i64, ptr %l.out')}, {draft.most}")
            count_hot(text, budget, "sub")
            if draft.floats is not None:
                draft.floats.leave()
            eip = text.fresh("load i32, ptr %l.eip")
            root = signed(draft.graph.nodes[0].eip)
            text.branch(text.fresh(f"icmp eq i32 {eip}, {root}"), "out_cold", "out_far", UNLIKELY)
            text.label("out_cold")  # not through the cache, which leads back to here
            dispatch(text, linked_record(text), budget, words)
            text.label("out_far")
            jump_through_cache(text, eip, budget, words, "%p.eip")


__all__ = ["Exits"]
