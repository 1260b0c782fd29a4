"""The flags of a region's trees: between trees they are told by recipes (`regionflags`) in local variables.

`state.flags` has those that were set since; `%l.c` and `%l.r` hold the numbers of the recipes of the two parts,
`%l.c.0` and so on their slots, and the flags' words are in `%l.zr` and so on where the number is 0. A flag that is read
out of the local variables is answered at the end, when it is known which recipes can come there.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiopyvm.engine.native.calls import WORDS
from aiopyvm.engine.native.layout import FLAG_ARGUMENTS
from aiopyvm.engine.native.lower_flags import word_of_flag
from aiopyvm.engine.native.regiondraft import Draft, Names, cases, signed
from aiopyvm.engine.native.regionflags import PART_OF, PARTS, SLOTS, Recipe, Recipes
from aiopyvm.engine.native.regionnodes import Node
from aiopyvm.ir.builder import Value


@dataclass(slots=True)
class _Read:
    """A flag that is read from the local variables, where `label` begins: into %read.`number`, then to `behind`."""

    number: int
    flag: str
    tree: Node | None  # whose ways in tell more recipes
    possible: frozenset[int]
    label: str
    behind: str


class FlagWords:
    """Tells and reads the flags of a draft."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._text = draft.text
        self._recipes = Recipes()
        self._arrivals: dict[tuple[Node, str], tuple[set[int], set[Node]]] = {}
        self._reads: list[_Read] = []

    def variables(self) -> list[str]:
        """The names of the local variables, each an i32."""
        slots = [f"{part}.{index}" for part, count in SLOTS.items() for index in range(count)]
        return [*WORDS, *PARTS, *slots, *(f"read.{read.number}" for read in self._reads)]

    def enter(self, root: Node) -> None:
        """The function begins: its arguments are the flags' words."""
        for word in WORDS:
            self._text.line(f"store i32 %{word}, ptr %l.{word}")
        for part in PARTS:
            self._text.line(f"store i32 0, ptr %l.{part}")
            self._arrival(root, part)[0].add(0)

    def arrive(self, node: Node) -> None:
        """Another tree is entered from here: bring the local variables up to date."""
        state = self._draft.state
        for part in PARTS:
            self.tell(part)
            numbers, trees = self._arrival(node, part)
            numbers.update(state.possible[part])
            if state.entry[part]:
                trees.add(state.tree)

    def _arrival(self, node: Node, part: str) -> tuple[set[int], set[Node]]:
        """The recipes with which a tree is entered, and the trees that pass theirs on to it."""
        return self._arrivals.setdefault((node, part), (set(), set()))

    # -- telling -------------------------------------------------------------------------------------------------------

    def find(self, part: str) -> Recipe | None:
        """The recipe for the flags of a part that `state.flags` has; None: none of them, or they have no recipe. What
        it needs is computed here, where it may be used again.
        """
        state = self._draft.state
        if part in state.recipes:
            return state.recipes[part]
        flags = {flag: state.flags[flag] for flag in PARTS[part] if flag in state.flags}
        recipe = None
        if len(flags) == len(PARTS[part]):
            recipe = self._recipes.find(part, flags, state.names.__contains__, self._holder)
            if recipe is None:
                self.spell(part)
            else:
                for leaf in recipe.leaves:
                    self._draft.name(leaf.held)
        state.recipes[part] = recipe
        return recipe

    def _holder(self, value: Value) -> tuple[Value, int]:
        """A register that holds `value` plus a constant, so that `value` itself need not be kept."""
        held = self._draft.state.registers.values()
        if value in held:
            return value, 0
        for other in held:
            if other.op == "add" and other.args[0] is value and other.args[1].op == "const" and value.bits == 32:
                return other, -signed(int(other.args[1].attr))
        return value, 0

    def tell(self, part: str) -> None:
        """Bring a part's recipe and slots up to date with `state.flags`."""
        recipe = self.find(part)
        if recipe is None:
            return
        text, state = self._text, self._draft.state
        text.line(f"store i32 {recipe.number}, ptr %l.{part}")
        for index, leaf in enumerate(recipe.leaves):
            name = self._draft.name(leaf.held)
            if leaf.held.bits < 32:
                name = text.value(f"zext i{leaf.held.bits} {name} to i32")
            text.line(f"store i32 {name}, ptr %l.{part}.{index}")
        state.possible[part] = frozenset((recipe.number,))
        state.entry[part] = False

    def forget(self, part: str) -> None:
        """The local variables tell the flags of a part from here on."""
        state = self._draft.state
        for flag in PARTS[part]:
            state.flags.pop(flag, None)
        state.recipes.pop(part, None)

    def spell(self, part: str) -> None:
        """Compute the words of a part's flags: from here on they hold them."""
        text, state = self._text, self._draft.state
        words = {}
        for flag in PARTS[part]:
            value = state.flags.get(flag)
            words[flag] = word_of_flag(text, flag, value, self._draft.name) if value is not None else self.read(flag)
        for flag, word in words.items():
            text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")
        text.line(f"store i32 0, ptr %l.{part}")
        state.possible[part], state.entry[part] = frozenset((0,)), False
        self.forget(part)

    def settle(self) -> None:
        """Between instructions: a part of which some flags were set, and others not, is spelt."""
        for part, flags in PARTS.items():
            known = sum(flag in self._draft.state.flags for flag in flags)
            if 0 < known < len(flags):
                self.spell(part)

    def store(self) -> bool:
        """At a way out: write all words, where all flags are in `state.flags`; else tell the recipes. Whether the
        words are written.
        """
        flags = self._draft.state.flags
        if not all(flag in flags for flag in PART_OF):
            for part in PARTS:
                self.tell(part)
            return False
        for flag, value in flags.items():
            self.store_word(flag, value)
        return True

    def store_word(self, flag: str, value: Value) -> None:
        """Write the word of a flag."""
        word = word_of_flag(self._text, flag, value, self._draft.name)
        self._text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, flag: str) -> str:
        """The word (i32) of a flag that the local variables tell."""
        text, state = self._text, self._draft.state
        part = PART_OF[flag]
        tree = state.tree if state.entry[part] else None
        read = _Read(len(self._reads), flag, tree, state.possible[part], text.new_label(), text.new_label())
        self._reads.append(read)
        text.line(f"br label %{read.label}")
        text.label(read.behind)
        return text.fresh(f"load i32, ptr %l.read.{read.number}")

    def answer_reads(self) -> None:
        """Write the blocks that compute flags from recipes, now that it is known which ones come to them."""
        with self._draft.aside():
            arriving = self._arriving()
            for read in self._reads:
                part = PART_OF[read.flag]
                numbers = set(read.possible) | (arriving[read.tree, part] if read.tree is not None else set())
                self._answer(read, [recipe for recipe in self._recipes.by_part[part] if recipe.number in numbers])

    def _answer(self, read: _Read, recipes: list[Recipe]) -> None:
        text, part = self._text, PART_OF[read.flag]
        labels = {recipe.number: text.new_label() for recipe in recipes}
        text.leave_scope({})
        text.label(read.label)
        word = text.fresh(f"load i32, ptr %l.{FLAG_ARGUMENTS[read.flag]}")
        text.line(f"store i32 {word}, ptr %l.read.{read.number}")
        number = text.fresh(f"load i32, ptr %l.{part}")
        text.line(f"switch i32 {number}, label %{read.behind} [ {cases(labels.items())} ]")
        for recipe in recipes:
            text.leave_scope({})
            text.label(labels[recipe.number])
            names = self._slots(part, recipe)
            word = word_of_flag(text, read.flag, recipe.flags[read.flag], self._draft.naming(names))
            text.line(f"store i32 {word}, ptr %l.read.{read.number}")
            text.line(f"br label %{read.behind}")

    def _arriving(self) -> dict[tuple[Node, str], set[int]]:
        """All recipes with which each tree may be entered."""
        found = {place: set(numbers) for place, (numbers, _) in self._arrivals.items()}
        changed = True
        while changed:
            changed = False
            for (node, part), (_, trees) in self._arrivals.items():
                for tree in trees:
                    more = found.get((tree, part), set()) - found[node, part]
                    changed = changed or bool(more)
                    found[node, part] |= more
        return found

    def compute(self, part: str, behind: str) -> None:
        """Compute a part's words by its recipe, then go to the label `behind`."""
        text = self._text
        recipes = self._recipes.by_part[part]
        labels = [text.new_label() for _ in recipes]
        number = text.fresh(f"load i32, ptr %l.{part}")
        ways = list(zip(recipes, labels, strict=True))
        numbers = cases((recipe.number, label) for recipe, label in ways)
        text.line(f"switch i32 {number}, label %{behind} [ {numbers} ]")
        for recipe, label in ways:
            text.leave_scope({})
            text.label(label)
            names = self._slots(part, recipe)
            for flag in PARTS[part]:
                word = word_of_flag(text, flag, recipe.flags[flag], self._draft.naming(names))
                text.line(f"store i32 {word}, ptr %l.{FLAG_ARGUMENTS[flag]}")
            text.line(f"br label %{behind}")

    def _slots(self, part: str, recipe: Recipe) -> Names:
        """The leaves of a recipe, out of its slots."""
        text, names = self._text, Names()
        for index, leaf in enumerate(recipe.leaves):
            name = text.fresh(f"load i32, ptr %l.{part}.{index}")
            if leaf.value.bits < 32:
                name = text.value(f"trunc i32 {name} to i{leaf.value.bits}")
            if leaf.offset:
                name = text.value(f"add i{leaf.value.bits} {name}, {leaf.offset}")
            names[leaf.value] = name
        return names


__all__ = ["FlagWords"]
