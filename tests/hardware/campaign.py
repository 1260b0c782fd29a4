"""Random integer cases on the real CPU and on an engine of ours, compared.

`python -m tests.hardware.campaign --integer N --seed S --engine hot`.

Prints how many cases ran, which rows differ and how. The exit status is 1 where a difference is not explained.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from aiopyvm.isa.spec import Row
from aiopyvm.isa.state import TF
from aiopyvm.mem.space import AddressSpace
from tests.hardware import counts
from tests.hardware.cases import cases, rows
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.harness import run_cases
from tests.hardware.machine import Machine, differences
from tests.hardware.subjects import ENGINES, machine_of, summary
from tests.hardware.vectors import record
from tests.hardware.wire import Case, State

_BATCH = 2000
_BREAKPOINT = 3
_PAGE_FAULT = 14
# Linux carries these out for the program where the processor forbids them (UMIP): no single-step trap follows.
_CARRIED_OUT = frozenset({"sgdt", "sidt", "sldt", "str", "smsw"})
# The program's own far transfers can enter the 64-bit code segment on a 64-bit Linux; here they are refused.
_CODE64 = 0x33
_FAR = frozenset({"jmp", "call", "retf", "iret", "iretd"})
# A fault in the middle leaves registers (POPA) or memory (the others) changed on the processor.
_HALF_DONE = frozenset({"popa", "popad"})
_HALF_STORED = frozenset({"pusha", "pushad", "enter", "call", "sgdt", "sidt"})

EXPLAINED: Final = {
    **dict.fromkeys(_CARRIED_OUT, "Linux carries it out (UMIP), checks neither alignment nor rights, and goes on"),
    **dict.fromkeys(_FAR, "the processor's program can enter the 64-bit code segment; here that is #GP"),
    **dict.fromkeys(_HALF_DONE, "a fault in the middle leaves registers changed on the processor; here nothing is"),
    **dict.fromkeys(_HALF_STORED, "a fault in the middle leaves memory changed on the processor; here nothing is"),
    "lsl": "the limit of segment 0x7b is the processor's number; here it is always 0",
}  # what is not compared, and why; flags that the manual calls undefined are told apart


def _shadows_trap(row: Row) -> bool:
    """Tell whether no single-step trap comes behind the instruction.

    Loading SS holds it back (Intel SDM vol. 3A, "Masking Exceptions and Interrupts When Switching Stacks").
    """
    loads_ss = (row.name == "mov" and row.operands[0] == "Sreg") or (row.name == "pop" and row.operands == ("ss",))
    return loads_ss or row.name in _CARRIED_OUT


def _before_next(hardware: State, ours: State) -> State:
    """The state before the next instruction, which the processor went on to: an INT3, or the end of the page."""
    if hardware.vector == _BREAKPOINT:
        return replace(hardware, vector=ours.vector, signal=ours.signal, eip=(hardware.eip - 1) & 0xFFFFFFFF)
    if hardware.vector == _PAGE_FAULT and hardware.cr2 == hardware.eip == ours.eip:
        return replace(hardware, vector=ours.vector, signal=ours.signal, error_code=0, cr2=0)
    return hardware


def _without_cpu_number(hardware: int, ours: int) -> int:
    """LSL's answer for 0x7b is the number of the CPU that runs the program; here always 0."""
    return ours if ours == 0 and hardware < 1 << 12 else hardware


def explain(row: Row, hardware: State, ours: State) -> tuple[State, State]:
    """Both states, without what differs for a known reason."""
    if ours.completed and _shadows_trap(row):
        hardware = _before_next(hardware, ours)
    ours = replace(ours, eflags=ours.eflags & ~TF)
    if row.name == "lsl":
        regs = tuple(map(_without_cpu_number, hardware.regs, ours.regs))
        hardware = replace(hardware, regs=regs)  # type: ignore[arg-type]
    if row.name in _FAR and (ours.vector, ours.error_code) == (13, _CODE64 & ~3):
        return hardware, hardware
    if row.name in _CARRIED_OUT and not (hardware.completed and ours.completed):
        return hardware, hardware  # Linux checks neither alignment nor rights, and goes on into the next instruction
    if hardware.completed or ours.completed:
        return hardware, ours
    if row.name in _HALF_DONE:
        hardware = replace(hardware, regs=ours.regs)
    if row.name in _HALF_STORED:
        hardware = replace(hardware, changes=ours.changes)
    return hardware, ours


def compare(pairs: Iterable[tuple[Row, Case, State]], machine: Machine) -> Iterator[tuple[Row, Case, list[str], bool]]:
    """Yield the cases that differ, with how, and whether it is in undefined flags alone."""
    for row, case, hardware in pairs:
        expected, ours = explain(row, hardware, machine.run(case))
        if lines := differences(expected, ours):
            defined = differences(expected, ours, undefined_flags=row.undefined)
            yield row, case, lines, not defined


def _run(batch: list[tuple[Row, Case]], lost: Counter[str]) -> Iterator[tuple[Row, Case, State]]:
    """Each case of a batch with the processor's answer; where there is none, it is counted in `lost`."""
    for (row, case), state in zip(batch, run_cases([case for _, case in batch]), strict=True):
        if state is None:
            lost[str(row)] += 1
        else:
            yield row, case, state


def plain(stream: Iterator[tuple[Row, Case]]) -> list[Case]:
    """The cases in which nothing needs to be explained."""
    machine = Machine(EvaluatorEngine(), AddressSpace())
    found = []
    for row, case, hardware in _run(list(stream), Counter()):
        ours = machine.run(case)
        if explain(row, hardware, ours) == (hardware, ours):
            found.append(case)
    return found


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--integer", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, default="plain")
    parser.add_argument("--show", type=int, default=3, help="differences printed for each row")
    parser.add_argument("--record", metavar="NAME", help="write the cases to tests/vectors/NAME.xz instead")
    parser.add_argument("--count", action="store_true", help="add the cases to tests/hardware/counts.json")
    options = parser.parse_args()
    stream = cases(random.Random(options.seed), options.integer)
    if options.record:
        print(record(options.record, plain(stream), f"integer, seed {options.seed}"), "cases written")
        return 0
    wrong: Counter[str] = Counter()
    undefined: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    start = time.monotonic()
    while batch := list(islice(stream, _BATCH)):
        machine = machine_of(options.engine, [case for _, case in batch])
        tried.update(str(row) for row, _ in batch)
        for row, case, lines, only_undefined in compare(_run(batch, lost), machine):
            count = undefined if only_undefined else wrong
            count[str(row)] += 1
            if count[str(row)] <= options.show:
                print(f"{row}: {case.code.hex()} eflags {case.eflags:x}", *lines, sep="\n    ", flush=True)
        print(summary(machine), end="\n" if summary(machine) else "", flush=True)
        machine.memory.close()
    if options.count:
        counts.add(tried - lost, wrong)
    elapsed = time.monotonic() - start
    print(f"{options.integer} cases over {len(rows())} rows in {elapsed:.0f} s: {wrong.total()} differences,", end=" ")
    print(f"{undefined.total()} in undefined flags alone, {lost.total()} lost")
    for title, counter in (("different", wrong), ("undefined flags", undefined), ("lost", lost)):
        for name, number in counter.most_common():
            print(f"{number:8} {title}: {name}")
    return 1 if wrong or lost else 0


if __name__ == "__main__":
    sys.exit(main())
