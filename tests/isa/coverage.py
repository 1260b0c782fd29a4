"""Writes docs/instructions.md: every instruction of the table, what it needs, how engines execute it, how it was tried.

`python -m tests.isa.coverage` writes the page, with `--check` it only says whether the page is what would be written.
What is left out is found by way of iced-x86's list of what there is in 32-bit code.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import iced_x86

from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.llvmtext import Unlowerable
from aiopyvm.engine.native.regionplan import Request
from aiopyvm.engine.native.regions import Graph
from aiopyvm.isa.cpuid import FEATURES, WITHOUT_BIT
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.notation import Pattern
from aiopyvm.isa.processors import MISSING, PROCESSORS
from tests.hardware import campaign, campaign_vector, campaign_x87, counts
from tests.hardware.cases import NOT_RUN
from tests.isa.iced import CODES, MNEMONICS
from tests.isa.iced import FEATURES as ICED_FEATURES
from tests.isa.iced_names import HOLES, INSTEAD, NAMES
from tests.isa.left_out import LEFT_OUT, group_of
from tests.isa.random_code import patterns, shaped_bytes

PAGE: Final = Path(__file__).parents[2] / "docs" / "instructions.md"
_ADDRESS: Final = 0x1000
_RETURN: Final = b"\xc3"
_TRIES: Final = 400
_FULL_STACK: Final = (0, 0xFF)
_SHOWN: Final = 12  # names of what is left out
_BASE: Final = "Every processor"
_NOT_COMPARED: Final[Mapping[str, str]] = {
    **{name: reason for name, (_, reason) in campaign_vector.MASKED.items()},
    **campaign.EXPLAINED,
    **campaign_x87.EXPLAINED,
    **{name: f"not tried: {reason}" for name, reason in NOT_RUN.items()},
}
_HEAD: Final = """# Instructions

What `python -m tests.isa.coverage` writes: do not edit. An instruction is a mnemonic of the instruction table
(`aiopyvm/isa/insns`); a feature is called as /proc/cpuinfo calls it.

- **forms**: rows of the table, but for encodings that other rows have a better one for.
- **cold**: how the native engine's interpreter executes it: by the *host*'s own instruction somewhere in its code, by
  code that *LLVM* makes of its operations, or by the *evaluator* (Python).
- **region**: whether compiled regions have it; else a region ends there, and the interpreter goes on.
- **cases**: those that were tried against this kind of processor (Intel) without a difference, in campaigns that
  were counted (`tests/hardware/campaign*.py --count`), by form with the fewest and in all.
- What is not compared with the hardware, and why, stands below each table.
"""


@dataclass
class Entry:
    """What the page says of one instruction with one need."""

    name: str
    forms: int = 0
    cold: set[str] = field(default_factory=set)
    region: set[bool] = field(default_factory=set)
    cases: list[int] = field(default_factory=list)


def sample(pattern: Pattern) -> Insn:
    """An instruction of a row, without prefixes that it can do without."""
    rng = random.Random(str(pattern.row))
    best: Insn | None = None
    for _ in range(_TRIES):
        try:
            insn = decode(shaped_bytes(rng, pattern))
        except (DecodeFault, NeedMore):
            continue
        plain = insn.address_size == (pattern.address_size or 32) and not insn.lock
        if insn.row is pattern.row and plain and (best is None or insn.length < best.length):
            best = insn
    if best is None:
        raise ValueError(f"no string was an instruction of {pattern.row}")
    return best


def cold(insn: Insn) -> str:
    """How the interpreter executes an instruction."""
    try:
        text = Shape(insn).text()
    except Unlowerable:
        return "evaluator"
    return "host" if " asm " in text else "LLVM"


def in_region(insn: Insn) -> bool:
    """Whether a region that begins with the instruction has it."""
    graph = Graph(Request(_ADDRESS, ((_ADDRESS, insn.code + _RETURN),), stack=_FULL_STACK))
    return bool(graph.nodes) and any(at == _ADDRESS for node in graph.nodes for at, _ in node.insns)


def forms() -> Iterator[Pattern]:
    """The rows that count as forms: those for which there is no better encoding."""
    better = {(p.row.cpuid, p.row.name) for p in patterns() if "alias" not in p.row.attributes}
    for pattern in patterns():
        if "alias" not in pattern.row.attributes or (pattern.row.cpuid, pattern.row.name) not in better:
            yield pattern


def beginnings() -> Counter[str]:
    """How the lines of the page begin that stand for instructions: with name and number of forms."""
    counted = Counter((pattern.row.cpuid, pattern.row.name) for pattern in forms())
    return Counter(f"| {name} | {count} |" for (_, name), count in counted.items())


@cache
def entries() -> dict[str, dict[str, Entry]]:
    """By need, then by name."""
    tried = counts.load()
    found: dict[str, dict[str, Entry]] = {}
    for pattern in forms():
        row = pattern.row
        entry = found.setdefault(row.cpuid, {}).setdefault(row.name, Entry(row.name))
        insn = sample(pattern)
        entry.forms += 1
        entry.cold.add(cold(insn))
        entry.region.add(in_region(insn))
        entry.cases.append(tried[str(row)])
    return found


def _needs() -> Iterator[str]:
    """The needs of rows, in the order of features: what needs several stands with the last one."""
    order = [*FEATURES, *WITHOUT_BIT]

    def place(need: str) -> tuple[int, ...]:
        return tuple(sorted((order.index(name) for name in need.split()), reverse=True))

    return iter(sorted(entries(), key=place))


def _title(need: str) -> str:
    if not need:
        return _BASE
    first = next((p.name for p in PROCESSORS.values() if p.allowed is None or p.allowed.issuperset(need.split())), "")
    waits = " (not announced yet: something of it is missing)" if set(need.split()) & set(MISSING) else ""
    return f"`{need}`, from `{first}` on{waits}"


def _line(entry: Entry) -> str:
    region = "some forms" if len(entry.region) > 1 else "yes" if True in entry.region else "no"
    tried = f"{min(entry.cases):,} / {sum(entry.cases):,}" if any(entry.cases) else "-"
    return f"| {entry.name} | {entry.forms} | {', '.join(sorted(entry.cold))} | {region} | {tried} |"


def _table(need: str) -> Iterator[str]:
    listed = sorted(entries()[need].values(), key=lambda entry: entry.name)
    yield from ("", f"## {_title(need)}", "", "| instruction | forms | cold | region | cases: fewest / all |")
    yield "| --- | --- | --- | --- | --- |"
    yield from map(_line, listed)
    reasons: dict[str, list[str]] = {}
    for entry in listed:
        if entry.name in _NOT_COMPARED:
            reasons.setdefault(_NOT_COMPARED[entry.name], []).append(entry.name)
    if reasons:
        yield ""
        yield from (f"- {', '.join(names)}: {reason}." for reason, names in reasons.items())


def left_out() -> dict[str, set[str]]:
    """Mnemonics of 32-bit code that the table does not have, by iced-x86's features."""
    names = {name for pattern in patterns() for name in (pattern.row.name, *pattern.row.aliases)}
    found: dict[str, set[str]] = {}
    for number in CODES:
        code: Any = number
        about = iced_x86.OpCodeInfo(code)
        name = MNEMONICS[about.mnemonic]
        ours = {name.lower(), f"fn{name[1:].lower()}", *NAMES.get(name, ()), INSTEAD.get(name, ("",))[0]}
        if about.mode32 and about.is_instruction and name not in HOLES and not names & ours:
            instruction = iced_x86.Instruction()
            instruction.code = code
            features = sorted(ICED_FEATURES[number] for number in instruction.cpuid_features())
            found.setdefault(" ".join(features), set()).add(name)
    return found


def _left_out() -> Iterator[str]:
    yield from ("", "## Left out", "", "| what | why | instructions |", "| --- | --- | --- |")
    found: dict[str, set[str]] = {}
    for features, names in left_out().items():
        found.setdefault(group_of(features).title, set()).update(names)
    for group in LEFT_OUT:
        if shown := sorted(found.get(group.title, ())):
            more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
            yield f"| {group.title} | {group.reason} | {', '.join(shown[:_SHOWN])}{more} |"


def lines() -> Iterable[str]:
    """The page."""
    count = sum(entry.forms for group in entries().values() for entry in group.values())
    names = {name for group in entries().values() for name in group}
    yield from _HEAD.splitlines()
    yield from ("", f"{len(names)} instructions in {count} forms.")
    for need in _needs():
        yield from _table(need)
    yield from _left_out()


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    text = "\n".join(lines()) + "\n"
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text() != text)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
