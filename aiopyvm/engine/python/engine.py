"""The run loop of the Python engine: regions where there are any, blocks of handlers otherwise, the evaluator for what
is done one instruction at a time.

`R`, the state that generated code works on, is loaded from `core.cpu` when a run begins and written back when it ends,
whatever ends it.
"""

from __future__ import annotations

import struct
from operator import length_hint
from types import TracebackType
from typing import Any, Final, Literal

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python.blocks import Block
from aiopyvm.engine.python.bulk import is_bulk, iterations
from aiopyvm.engine.python.code import BoundRegion, Code, SharedCode
from aiopyvm.engine.python.flagstate import force, packed
from aiopyvm.engine.python.rare import STEPPED, RareModes, leave, page_fault
from aiopyvm.engine.python.regions import Region
from aiopyvm.engine.python.shapes import CodeChanged
from aiopyvm.errors import InternalError
from aiopyvm.ir.evaluate import Leave
from aiopyvm.ir.helpers import Fault
from aiopyvm.isa.decode import DecodeFault
from aiopyvm.isa.state import FLAG_BITS, GPR32
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace

Tier = Literal["auto", "evaluator", "cold", "warm"]
NEVER: Final = 1 << 62
WARM_AFTER: Final = 256  # entries of a block before a region is made around it
MERGE_AFTER: Final = 5000  # times that a region is left for another before they become one
_UNPACK: Final = struct.Struct("<9I6B").unpack_from
_PACK: Final = struct.Struct("<9I6B").pack_into
_ECX: Final = 1
_FLAGS: Final = tuple(FLAG_BITS[name] for name in ("cf", "pf", "af", "zf", "sf", "of"))


def load_state(cpu: Any) -> tuple[list[Any], int]:
    """`R` and EIP of a CPU."""
    *registers, eip, cf, pf, af, zf, sf, of = _UNPACK(cpu)
    flags = cf | pf << 2 | af << 4 | zf << 6 | sf << 7 | of << 11
    return [*registers, (packed, flags, None, None), None], eip


def store_state(cpu: Any, state: list[Any], eip: int) -> None:
    """Write `R` and EIP back."""
    fk, fa, fb, fc = state[8]
    flags = force(fk, fa, fb, fc, state[9])
    _PACK(cpu, 0, *state[:8], eip, *[1 if flags & bit else 0 for bit in _FLAGS])


class PythonEngine:
    """Executes cores under the contract of `aiopyvm.engine.protocol`; holds code that any number of them share.

    `tier` says how: "evaluator" runs the IR's definition alone, "cold" never makes regions, "warm" makes them at once,
    "auto" makes them for blocks that were entered `warm_after` times. `allowed` are the features of the processor
    (None: all that there are): what needs others is #UD."""

    name = "python"

    def __init__(
        self, tier: Tier = "auto", warm_after: int = WARM_AFTER, allowed: frozenset[str] | None = None
    ) -> None:
        self.tier = tier
        self.warm_after = {"cold": NEVER, "evaluator": NEVER, "warm": 0}.get(tier, warm_after)
        self._shared = SharedCode(allowed)
        self._rare = RareModes(allowed)
        self._exits = dict.fromkeys(ExitReason, 0)
        self._instructions = 0

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made."""
        exits = {f"exits_{reason.name.lower()}": count for reason, count in self._exits.items()}
        shared = self._shared
        return {"instructions": self._instructions, "shapes": len(shared.shapes), **shared.counters, **exits}

    def run(self, core: Core, budget: int) -> Exit:
        """Execute at most `budget` (>= 1) instructions of `core`."""
        if budget < 1:
            raise ValueError(f"budget must be at least 1, not {budget}")
        before = core.cpu.instructions
        left = budget
        exit_: Exit | None = None
        while exit_ is None:
            if left <= 0:
                exit_ = Exit(ExitReason.BUDGET)
            else:
                exit_ = self.advance(core, left, first=left == budget)
            left = budget - (core.cpu.instructions - before)
        self._instructions += core.cpu.instructions - before
        self._exits[exit_.reason] += 1
        return exit_

    def advance(self, core: Core, left: int, *, first: bool) -> Exit | None:
        """Execute at most `left` (>= 1) instructions; None where nothing is to be told yet: they are executed, or the
        mode has changed, or one was executed and there are breakpoints.

        `first`: a breakpoint here was resumed from.

        """
        if (mode := core.cpu.mode) & STEPPED or core.debug is not None or self.tier == "evaluator":
            return self._rare.step(core, first=first)
        if core.breakpoints:
            return self._step_to_breakpoint(core, mode, first=first)
        return _Run(core, self._code(core), mode, self.warm_after).go(left, self._rare)

    def forget(self, space: AddressSpace) -> None:
        """Drop what is translated for `space`: another engine runs it from now on."""
        for key in [key for key in space.translations if isinstance(key, tuple) and key[0] is self]:
            code = space.translations.pop(key)
            assert isinstance(code, Code)
            code.close()

    def _code(self, core: Core) -> Code:
        key = (self, core.end_of_code)
        code = core.memory.translations.get(key)
        if code is None:
            code = core.memory.translations[key] = Code(core.memory, self._shared, core.end_of_code, self.warm_after)
        assert isinstance(code, Code)
        return code

    def _step_to_breakpoint(self, core: Core, mode: int, *, first: bool) -> Exit | None:
        """One instruction, unless EIP is at a breakpoint that was not just resumed from."""
        if not first and core.cpu.eip in core.breakpoints and core.cpu.eip != core.end_of_code:
            return Exit(ExitReason.BREAKPOINT)
        return _Run(core, self._code(core), mode, NEVER).go(1, self._rare)


class _Run:
    """One run in one mode: until the budget is spent, something is to be told, or the mode has changed."""

    def __init__(self, core: Core, code: Code, mode: int, warm_after: int) -> None:
        self.core = core
        self.cpu = core.cpu
        self.code = code
        self.mode = mode
        self.warm_after = NEVER if mode else warm_after  # regions are made for the flat mode alone
        self.state, self.eip = load_state(core.cpu)
        self.left = 0
        self.counted = 0  # `left` when cpu.instructions was last brought up to date

    def go(self, budget: int, rare: RareModes) -> Exit | None:
        """Run at most `budget` instructions; None where the caller goes on (budget spent, or another mode)."""
        self.left = self.counted = budget
        try:
            return self._loop(rare)
        finally:
            self._store()

    def _store(self) -> None:
        store_state(self.cpu, self.state, self.eip)
        self.cpu.instructions += self.counted - self.left
        self.counted = self.left

    def _loop(self, rare: RareModes) -> Exit | None:
        code, warm_after = self.code, self.warm_after
        entries, blocks, stop = code.entries, code.blocks_of(self.mode), code.stop
        use_regions = warm_after < NEVER
        while self.left > 0:
            eip = self.eip
            if use_regions and eip in entries:
                before = self.left
                exit_ = self._region(*entries[eip])
                if exit_ is not None:
                    return exit_
                if self.left != before:
                    continue
            if eip == stop:
                return Exit(ExitReason.END_OF_CODE)
            try:
                block = blocks.get(eip) or code.translate(eip, self.mode)
            except MemoryFault as fault:
                return page_fault(fault)
            except DecodeFault as fault:
                return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
            if block.special:
                exit_ = self._special(block, rare)
                if exit_ is not None or self.cpu.mode != self.mode:
                    return exit_
                continue
            if self.left != self.counted:  # not where the last run was cut
                block.count += 1
            if use_regions and block.count >= block.warm_at and eip not in entries:
                code.promote(block, warm_after // 8)
                continue
            exit_ = self._block(block)
            if exit_ is not None:
                return exit_
        return None

    def _block(self, block: Block) -> Exit | None:
        """Run one block's handlers, or as many as the budget has room for."""
        state, cpu = self.state, self.cpu
        handlers = block.handlers if len(block.handlers) <= self.left else block.handlers[: self.left]
        iterator = iter(handlers)
        target: int | Leave | None = None
        exit_: Exit | None = None
        try:
            for handler in iterator:
                target = handler(state, cpu)
            done = len(handlers)
        except CodeChanged as change:
            done, target = len(handlers) - length_hint(iterator), change.target
        except MemoryFault as fault:
            done, exit_ = len(handlers) - length_hint(iterator) - 1, page_fault(fault)
        except Fault as fault:
            done, exit_ = (
                len(handlers) - length_hint(iterator) - 1,
                Exit(ExitReason.FAULT, fault.vector, fault.error_code),
            )
        self.left -= done
        if isinstance(target, Leave):
            exit_, target = leave(target), None
        if target is None:
            target = block.insns[done][0] if done < len(block.insns) else block.end & 0xFFFFFFFF
        self.eip = target
        return exit_

    def _special(self, block: Block, rare: RareModes) -> Exit | None:
        """One instruction that leaves the engine, acts on the machine itself, or may change the mode."""
        done = 0
        if not self.mode and is_bulk(insn := block.insns[0][1]):
            done = iterations(insn, self.state, self.cpu, self.core.memory, self.left)
        if done:
            self.left -= done
            if not self.state[_ECX]:
                self.eip = block.end
            return None
        if block.handlers[0] is not None:
            return self._block(block)
        self._store()
        before = self.cpu.instructions
        exit_ = rare.step(self.core, first=True)
        self.left = self.counted = self.left - (self.cpu.instructions - before)
        self.state, self.eip = load_state(self.cpu)
        return exit_

    def _region(self, bound: BoundRegion, pc: int) -> Exit | None:
        """Run a region until it is left."""
        try:
            self.eip, self.left = bound.function(self.state, self.cpu, self.left, pc)
        except MemoryFault as fault:
            self._recover(bound.region, fault.__traceback__)
            return page_fault(fault)
        except Fault as fault:
            self._recover(bound.region, fault.__traceback__)
            return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
        if self.eip in self.code.entries:
            count = bound.links[self.eip] = bound.links.get(self.eip, 0) + 1
            if count == MERGE_AFTER:
                self.code.merge(bound, self.warm_after // 8)
        return None

    def _recover(self, region: Region, traceback: TracebackType | None) -> None:
        """Restore the exact state at the line of a region that raised, from its locals."""
        while traceback is not None and traceback.tb_frame.f_code is not region.function_code:
            traceback = traceback.tb_next
        if traceback is None:
            raise InternalError("an exception did not come from the region that ran")
        site = region.sites[traceback.tb_lineno]
        values = traceback.tb_frame.f_locals
        flags = force(*(values[name] for name in ("fk", "fa", "fb", "fc", "cf")))
        if site.flags is not None:
            flags = flags & ~site.flags.mask | region.recompute(site.flags, values)
        self.state = [*(values[name] for name in GPR32), (packed, flags, None, None), None]
        self.left = values["n"] - site.completed
        self.eip = site.address
