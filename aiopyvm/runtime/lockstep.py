"""Two engines side by side over one program; the first instruction that they do not do alike is found.

How it works. Both sides are machines of one setup (side.py). They execute a stretch of instructions each, between two
things that the kernel does; then registers, instruction counts, exits and all memory are compared. Where they differ,
both sides get back the registers and the memory from before the stretch, and the smallest number of instructions that
still shows the difference is searched by halving: its last one is what is reported. An engine's stretch is one run, so
that long ones are executed by its warm tiers, in the search too. The hardware steps through its stretches, as flags
that an instruction leaves undefined are whatever they are: the other side takes them over.

What always holds: the kernels act only on states that were found to be alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from aiopyvm.engine.protocol import Core, Engine, Exit, ExitReason
from aiopyvm.errors import InternalError
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault, NeedMore, decode
from aiopyvm.isa.insn import Insn, Memory
from aiopyvm.isa.state import FLAG_BITS, MODE_CODE16, CpuState
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE
from aiopyvm.runtime.difference import Change, Difference, register_differences
from aiopyvm.runtime.pages import Content, by_page, changes, content_of, different_pages, put_back
from aiopyvm.runtime.side import Setup, Side
from aiopyvm.runtime.steps import effective_address, instruction_at

STRETCH: Final = 10_000  # instructions that an engine executes at once
STEPS: Final = 256  # single steps of the hardware until memory is compared


@dataclass(frozen=True)
class Outcome:
    """What a comparison found. `difference` is None where the engines did the same to the end, or to the limit."""

    instructions: int
    calls: int
    ending: str
    difference: Difference | None


@dataclass
class _Stretch:
    """What one stretch came to: exits, instructions executed, and whether registers differed at its end."""

    exits: tuple[Exit, Exit]
    counts: tuple[int, int]
    differ: bool


def is_hardware(engine: Engine) -> bool:
    """Tell whether `engine` is the processor of this host, which has no say about what the manual leaves undefined."""
    return engine.name == "hardware"


class Lockstep:
    """Compares two engines on one program; see the module's docstring. Use it as a context manager.

    `stretch` is how many instructions are executed until everything is compared. Raises what `Side` raises.
    """

    def __init__(self, setup: Setup, engines: tuple[Engine, Engine], *, stretch: int | None = None) -> None:
        first, second = engines
        if is_hardware(first):
            raise ValueError("the hardware is the second of two engines")
        self.stepped = is_hardware(second)
        self.stretch = stretch or (STEPS if self.stepped else STRETCH)
        names = (
            (first.name, second.name) if first.name != second.name else (f"first {first.name}", f"second {second.name}")
        )
        one = Side(names[0], first, setup, shown=True)
        try:
            self.sides = (one, Side(names[1], second, setup, shown=False))
        except BaseException:
            one.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for side in self.sides:
            side.close()

    # --- the whole ----------------------------------------------------------------------------------------------------

    def run(self, limit: int | None = None, progress: Callable[[int], object] = lambda instructions: None) -> Outcome:
        """Go on to the end, the first difference, or `limit` instructions; `progress` is called now and then.

        Raises InternalError where the kernels, which have seen the same, did not do the same.
        """
        one, other = self.sides
        difference = None
        while difference is None and (limit is None or one.instructions < limit):
            one.settle()
            other.settle()
            self._check_kernels()
            if one.thread is None:
                return self._outcome(one.ending, None)
            room = one.left if limit is None else min(one.left, limit - one.instructions)
            difference = self._go_on(min(room, self.stretch))
            progress(one.instructions)
        return self._outcome("" if difference else f"the limit of {limit:,} instructions", difference)

    def _outcome(self, ending: str, difference: Difference | None) -> Outcome:
        one = self.sides[0]
        return Outcome(one.instructions, one.kernel.calls.total(), ending, difference)

    def _check_kernels(self) -> None:
        one, other = self.sides
        mine, its = one.thread, other.thread
        if mine is None or its is None:
            same = mine is its and one.ending == other.ending
        else:
            same = mine.tid == its.tid and bytes(mine.core.cpu) == bytes(its.core.cpu)
        if not same:
            raise InternalError(f"after {one.instructions} instructions the kernels of two equal machines differ")

    # --- a stretch ----------------------------------------------------------------------------------------------------

    def _go_on(self, n: int) -> Difference | None:
        """Execute `n` instructions at most, compare, and let the kernels see what they ended with."""
        one, other = self.sides
        cores = self._cores
        before, cpu = content_of(cores[0].memory), cores[0].cpu.copy()
        if any(different_pages(cores[0].memory, cores[1].memory, before, content_of(cores[1].memory))):
            raise InternalError(
                f"after {one.instructions} instructions the kernels of two equal machines differ in memory"
            )
        stretch = self._execute(n)
        if stretch.differ or self._memory_differs():
            return self._search(n, before, cpu, stretch)
        exits, counts = stretch.exits, stretch.counts
        one.handle(exits[0], counts[0])
        other.handle(exits[0] if self.stepped else exits[1], counts[1])  # the hardware does not tell all
        return None

    @property
    def _cores(self) -> tuple[Core, Core]:
        one, other = self.sides
        assert one.thread is not None
        assert other.thread is not None
        return one.thread.core, other.thread.core

    def _execute(self, n: int) -> _Stretch:
        """Let both sides execute `n` instructions, at once or step by step."""
        cores = self._cores
        begun = tuple(core.cpu.instructions for core in cores)
        done = 0
        while True:
            step = 1 if self.stepped else n
            undefined = self._undefined() if self.stepped else 0
            exits = self.sides[0].run(step), self.sides[1].run(step)
            if undefined:
                take_flags(cores[0].cpu, cores[1].cpu, undefined)
            done += step
            counts = cores[0].cpu.instructions - begun[0], cores[1].cpu.instructions - begun[1]
            differ = (
                counts[0] != counts[1]
                or not self._same_exits(*exits)
                or bool(register_differences(cores[0].cpu, cores[1].cpu, hardware=self.stepped))
            )
            if differ or done >= n or exits[0].reason is not ExitReason.BUDGET:
                return _Stretch(exits, counts, differ)

    def _undefined(self) -> int:
        """The flags that the next instruction leaves undefined."""
        core = self._cores[0]
        eip, code16 = core.cpu.eip, bool(core.cpu.mode & MODE_CODE16)
        try:
            found = undefined_flags(core.memory.fetch(eip, min(MAX_LENGTH, PAGE - eip % PAGE)), code16)
            return undefined_flags(core.memory.fetch(eip, MAX_LENGTH), code16) or 0 if found is None else found
        except MemoryFault:
            return 0

    def _same_exits(self, mine: Exit, its: Exit) -> bool:
        if not self.stepped:
            return mine == its
        return (mine.reason, mine.vector, mine.address) == (its.reason, its.vector, its.address)

    def _memory_differs(self) -> bool:
        one, other = (core.memory for core in self._cores)
        return any(True for _ in different_pages(one, other, content_of(one), content_of(other)))

    # --- the search ---------------------------------------------------------------------------------------------------

    def _search(self, n: int, before: Content, cpu: CpuState, found: _Stretch) -> Difference:
        """Find the smallest number of instructions, out of `n`, that shows a difference; report its last one."""
        executed = self.sides[0].instructions
        seen = self._describe(before, cpu, found, executed, n, exact=False)
        same, differs = 0, n
        if not self._again(n, before, cpu)[1]:
            return seen
        while differs - same > 1:
            middle = (same + differs) // 2
            if self._again(middle, before, cpu)[1]:
                differs = middle
            else:
                same = middle
        if same:
            self._again(same, before, cpu)
        else:
            self._restore(before, cpu)
        core = self._cores[0]
        just_before, state = content_of(core.memory), core.cpu.copy()
        stretch, _ = self._again(differs, before, cpu)
        return self._describe(just_before, state, stretch, executed + same, differs, exact=True)

    def _again(self, n: int, before: Content, cpu: CpuState) -> tuple[_Stretch, bool]:
        """Execute `n` instructions of the stretch again; also whether that shows a difference."""
        self._restore(before, cpu)
        stretch = self._execute(n)
        return stretch, stretch.differ or self._memory_differs()

    def _restore(self, before: Content, cpu: CpuState) -> None:
        for core in self._cores:
            put_back(core.memory, before)
            set_registers(core.cpu, cpu)

    def _describe(
        self, before: Content, cpu: CpuState, stretch: _Stretch, executed: int, n: int, *, exact: bool
    ) -> Difference:
        """The difference that the sides show now, after an instruction that began with `cpu` and `before`."""
        cores = self._cores
        memories = cores[0].memory, cores[1].memory
        contents = content_of(memories[0]), content_of(memories[1])
        saved = by_page(before)
        code, text, insn = self._instruction(cpu, saved)
        places = []
        for page in different_pages(*memories, *contents):
            after = memories[0].peek(page, PAGE), memories[1].peek(page, PAGE)
            old = saved.get(page, bytes(PAGE))
            places += [Change(page + a, old[a:b], (after[0][a:b], after[1][a:b])) for a, b in changes(*after)]
        thread = self.sides[0].thread
        assert thread is not None
        return Difference(
            names=(self.sides[0].name, self.sides[1].name),
            process=thread.process.pid,
            executed=executed,
            stretch=n,
            exact=exact,
            before=cpu,
            address=cpu.eip,
            code=code,
            text=text,
            insn=insn,
            exits=stretch.exits,
            counts=stretch.counts,
            registers=register_differences(cores[0].cpu, cores[1].cpu, hardware=self.stepped),
            memory=places,
            operands=tuple(operands_before(insn, cpu, saved)) if insn is not None else (),
        )

    def _instruction(self, cpu: CpuState, saved: Content) -> tuple[bytes, str, Insn | None]:
        """The instruction at EIP, as memory was before it (it may have overwritten itself)."""
        core = self._cores[0]
        code, text, insn = instruction_at(core.memory, cpu.eip, cpu)
        old = saved.get(cpu.eip & -PAGE)
        at = cpu.eip % PAGE
        if old is not None and at + len(code) <= PAGE and old[at : at + len(code)] != code:
            from aiopyvm.isa.disasm import iter_disassemble

            line = next(iter_disassemble(old[at : at + 15], cpu.eip))
            return line.code, line.text, line.insn
        return code, text, insn


def operands_before(insn: Insn, cpu: CpuState, saved: Content) -> Iterator[tuple[int, bytes]]:
    """Address and content of the memory operands of `insn`, as far as the content is known."""
    for operand in insn.operands:
        if isinstance(operand, Memory) and operand.width:
            address = effective_address(cpu, operand)
            at, end = address % PAGE, address % PAGE + operand.width // 8
            if (page := saved.get(address - at)) is not None and end <= PAGE:
                yield address, page[at:end]


def set_registers(cpu: CpuState, values: CpuState) -> None:
    """Make `cpu` a copy of `values`."""
    memoryview(cpu).cast("B")[:] = memoryview(values).cast("B")


def take_flags(cpu: CpuState, other: CpuState, mask: int) -> None:
    """Set the flags of `mask` as `other` has them."""
    for name, bit in FLAG_BITS.items():
        if bit & mask:
            setattr(cpu, name, getattr(other, name))


@lru_cache(maxsize=4096)
def undefined_flags(code: bytes, code16: bool) -> int | None:
    """The EFLAGS bits that the instruction at the beginning of `code` leaves undefined; None: it is longer."""
    try:
        return decode(code, code16).row.undefined
    except DecodeFault:
        return 0
    except NeedMore:
        return None
