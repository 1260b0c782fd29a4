"""Random blocks of 5 to 200 instructions on the real CPU and on an engine of ours, their final states compared.

`python -m tests.hardware.campaign_blocks --blocks N --seed S --engine hot`.

A block that differs is printed with its number (`--from NUMBER --blocks 1` runs it alone), and with the first
instruction that differs when the evaluator goes step by step through it, if there is one: else the engine is wrong
where instructions come together. Blocks that came to an instruction that is not in the table are counted apart. The
exit status is 1 where any block differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from aiopyvm.engine.protocol import ExitReason
from aiopyvm.errors import GuestMemoryError
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import TF
from aiopyvm.mem.space import AddressSpace
from tests.hardware import makers
from tests.hardware.campaign import explain
from tests.hardware.campaign_vector import explained
from tests.hardware.campaign_x87 import is_known
from tests.hardware.cases_blocks import blocks
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.harness import run_cases
from tests.hardware.machine import Machine, differences
from tests.hardware.makers import SAME_MAKER
from tests.hardware.subjects import ENGINES, machine_of, summary
from tests.hardware.vectors import record
from tests.hardware.wire import AREA, AREA_DATA, PAGE, SIGVTALRM, Case, State
from tests.hardware.x87_values import parts

_BATCH = 500
_NOT_IN_STEPS = ("pushf", "pushfd", "cmpsb", "cmpsw", "cmpsd", "scasb", "scasw", "scasd")  # on another maker's
_INVALID_OPCODE, _PAGE_FAULT = 6, 14
_PRESENT = 1  # bit P of a page fault's error code
_NOT_TRIED = ("sysenter", "sysexit")  # docs/instructions.md says why
_NEVER_THE_SAME = frozenset({"rdtsc", "rdtscp", "rdrand", "rdseed", "rdpid", "cpuid"})
_HARDWARE_ENDS = "only the hardware ends"
_LONG = 3_000_000  # instructions of a block that has not ended
_DEFINES = b"\x39"  # CMP
UNDEFINED = "with undefined flags that nothing defines"
OVERWRITTEN = "with a REP that overwrites itself, of which a processor may do more"
FAULTS_FIRST = "with a store of the x87 that faults and raises an exception, of which either may be first"
OF_MAKERS = "that jumped to what makers do differently"
EXPLAINED = (UNDEFINED, OVERWRITTEN, FAULTS_FIRST, OF_MAKERS)
_HARNESS = range(0x70000000, 0x70100000)  # where the hardware has it, and the engine nothing
_STEPS = 20_000  # of a block that differs


def numbered(seed: int, start: int, count: int) -> Iterator[tuple[int, Case]]:
    """Blocks `start` to `start + count - 1`, each made from its own number and the seed."""
    for number in range(start, start + count):
        (case,) = blocks(random.Random(f"{seed} {number}"), 1, neutral=not SAME_MAKER)
        yield number, case


def compare(case: Case, hardware: State, ours: State) -> list[str]:
    """How the states differ; a block that does not end has none."""
    if SIGVTALRM in (hardware.signal, ours.signal):
        ended = _HARDWARE_ENDS if ours.signal == SIGVTALRM else "only the engine ends"
        return [] if hardware.signal == ours.signal else [ended]
    insn = _instruction(after(case, ours)) if AREA <= ours.eip < AREA_DATA else None
    if insn is None:
        hardware = makers.in_the_end(None, hardware, ours)
    else:
        hardware, ours = explain(insn.row, explained(insn.row, hardware, ours), ours)
        hardware = makers.in_the_end(insn.row, hardware, ours)
        if is_known(insn.row, hardware, replace(ours, eflags=ours.eflags & ~TF)):
            return []
    ours = replace(ours, eflags=ours.eflags & ~TF)
    if ours.vector == hardware.vector == _PAGE_FAULT and ours.error_code == hardware.error_code | _PRESENT:
        hardware = replace(hardware, error_code=ours.error_code)  # the host had taken the page back
    lines = [line for line in differences(hardware, ours, x87_pointers=SAME_MAKER) if not line.startswith("x87")]
    want, got = parts(hardware.x87), parts(ours.x87)
    return lines + [
        f"{name}: hardware {want[name]:x}, engine {got[name]:x}"
        for name in want
        if want[name] != got[name] and (SAME_MAKER or name not in ("fip", "fop", "fdp"))
    ]


def is_unknown(case: Case, ours: State) -> bool:
    """Whether the block ended at an instruction that is not in the table, or that CPUID tells a guest not to use."""
    if ours.vector != _INVALID_OPCODE or not AREA <= ours.eip < AREA_DATA:
        return False
    insn = _instruction(after(case, ours))
    return insn is None or insn.row.name in _NOT_TRIED


def in_the_end(engine: str, case: Case) -> State:
    """The state after a block that takes long."""
    machine = machine_of(engine, [case])
    machine.block_limit = _LONG
    state = machine.run(case)
    machine.memory.close()
    return state


def first_wrong(case: Case) -> list[str]:
    """The first instruction of a block that the evaluator does otherwise than the hardware, and how; else nothing."""
    machine = Machine(EvaluatorEngine(), AddressSpace())
    known = ""
    for _ in range(_STEPS):
        case = replace(case, single_step=True)
        (hardware,) = run_cases([case])
        ours = machine.run(case)
        if hardware is None:
            return ["the hardware did not come back from a step"]
        insn, following = _instruction(case), after(case, ours)
        if not SAME_MAKER and insn is not None:
            left = (hardware.eflags ^ ours.eflags) & insn.row.undefined
            hardware = replace(hardware, eflags=hardware.eflags ^ left)
            if left and following.code[:1] != _DEFINES:
                known = UNDEFINED
        if not SAME_MAKER and insn is not None and insn.row.name in _NOT_IN_STEPS:
            hardware = ours
        if insn is not None and makers.faults_first(insn.row, hardware, ours):
            return [FAULTS_FIRST]
        lines = compare(case, hardware, ours)
        if lines and insn is not None and not SAME_MAKER and makers.differs(insn.row):
            return [OF_MAKERS]
        if lines:
            return [f"at {case.eip:#x}: {_text(case)}", *lines]
        if ours.vector != 1 or not AREA <= ours.eip < AREA_DATA:
            break
        if following.eip == case.eip and insn is not None and following.code[:15] != case.code[:15]:
            known = known or OVERWRITTEN
        case = following
    machine.memory.close()
    return [known] if known else []


def is_of_chance(case: Case) -> bool:
    """Whether the block executes an instruction that never does the same."""
    machine = Machine(EvaluatorEngine(), AddressSpace())
    core = machine.begin(case)
    try:
        for _ in range(_STEPS):
            try:
                name = decode(machine.memory.peek(core.cpu.eip, 15)).row.name
            except (DecodeFault, NeedMore, GuestMemoryError):
                return False
            if name in _NEVER_THE_SAME:
                return True
            if machine.engine.run(core, 1).reason is not ExitReason.BUDGET:
                return False
        return False
    finally:
        machine.memory.close()


def after(case: Case, state: State) -> Case:
    """The block as it is after `state`, from where it is now."""
    pages = case.memory()
    for address, data in state.changes:
        offset = address & (PAGE - 1)
        pages[address & ~(PAGE - 1)][offset : offset + len(data)] = data
    code = bytes(pages[AREA] + pages[AREA + PAGE])
    ymm = case.ymm
    if ymm is not None:
        changed = dict(state.ymm)
        ymm = tuple(changed.get(n, value) for n, value in enumerate(ymm))
    return replace(
        case, code=code[state.eip - AREA :], regs=state.regs, eflags=state.eflags, eip=state.eip, x87=state.x87,
        segments=state.segments[:4], patches=tuple((page, bytes(data)) for page, data in pages.items()), ymm=ymm,
        mxcsr=case.mxcsr if state.mxcsr is None else state.mxcsr,
    )  # fmt: skip


def _text(case: Case) -> str:
    insn = _instruction(case)
    return case.code[:15].hex() if insn is None else f"{insn.code.hex()}  {insn.row}"


def _instruction(case: Case) -> Insn | None:
    """The instruction that the block is at; None where it is not in the table."""
    try:
        return decode(case.code[:15])
    except (DecodeFault, NeedMore):
        return None


def main() -> int:
    """Run the campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=1000, metavar="N")
    parser.add_argument("--from", type=int, default=0, metavar="NUMBER", dest="start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=ENGINES, default="plain")
    parser.add_argument("--show", type=int, default=5, help="blocks that differ, printed")
    parser.add_argument("--record", metavar="NAME", help="write the blocks to tests/vectors/NAME.xz instead")
    options = parser.parse_args()
    stream = numbered(options.seed, options.start, options.blocks)
    if options.record:
        print(record(options.record, [case for _, case in stream], f"blocks, seed {options.seed}"), "blocks written")
        return 0
    ends: Counter[str] = Counter()
    wrong = 0
    start = time.process_time()
    while batch := list(islice(stream, _BATCH)):
        machine = machine_of(options.engine, [case for _, case in batch])
        for (number, case), hardware in zip(batch, run_cases([case for _, case in batch]), strict=True):
            if hardware is None:
                ends["lost"] += 1
                continue
            ends[f"signal {hardware.signal}, vector {hardware.vector}"] += 1
            ours = machine.run(case)
            lines = compare(case, hardware, ours)
            if lines == [_HARDWARE_ENDS]:
                lines = compare(case, hardware, in_the_end(options.engine, case))
            if not lines:
                continue
            if ours.vector == _PAGE_FAULT and ours.cr2 in _HARNESS:
                ends["in the harness itself"] += 1
                continue
            if is_unknown(case, ours):
                ends["not in the table"] += 1
                continue
            step = first_wrong(case)
            if (step and not _NEVER_THE_SAME.isdisjoint(step[0].split())) or (not step and is_of_chance(case)):
                ends["of time, chance or the processor"] += 1
                continue
            if step and step[0] in EXPLAINED:
                ends[step[0]] += 1
                continue
            wrong += 1
            if wrong <= options.show:
                print(f"block {number} of seed {options.seed}, at {case.eip:#x}:", *lines, sep="\n    ", flush=True)
                print(*step or ["no step differs on the evaluator"], sep="\n        ", flush=True)
        print(summary(machine), end="\n" if summary(machine) else "", flush=True)
        machine.memory.close()
    print(f"{options.blocks} blocks in {time.process_time() - start:.0f} s of processor time: {wrong} differ")
    print(*(f"{count:8} {name}" for name, count in ends.most_common()), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
