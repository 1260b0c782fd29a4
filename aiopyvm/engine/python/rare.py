"""The rarest modes and special instructions: one at a time, on the IR's evaluator.

Single-stepping (EFLAGS.TF) and 16-bit code are the modes that only the evaluator runs; INT n, segment loads, CPUID and
their like leave the engine or act on the machine itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python.fetch import fetch_insn
from aiopyvm.engine.shapes import AddressTracer
from aiopyvm.ir.builder import Value
from aiopyvm.ir.evaluate import Leave, evaluate
from aiopyvm.ir.helpers import Fault
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import MODE_CODE16, MODE_SINGLE_STEP, TF
from aiopyvm.isa.trace import holds_trap_back, trace
from aiopyvm.isa.vectors import DB, PF
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import PAGE

if TYPE_CHECKING:
    from aiopyvm.isa.debug import DebugRegisters

STEPPED: Final = MODE_CODE16 | MODE_SINGLE_STEP
_MOST_OPERATIONS: Final = 1 << 15  # of the traces that are kept
_MOST_DECODED: Final = 1 << 10
_NO_ADDRESS: Final = -1


def page_fault(fault: MemoryFault) -> Exit:
    """The exit of a #PF."""
    return Exit(ExitReason.FAULT, PF, fault.error_code, fault.address, fault.access)


class RareModes:
    """Executes single instructions exactly as the evaluator defines them, on a processor with the features `allowed`
    (None: all that there are).

    Traces are kept by bytes and mode, and by address where they depend on it.

    """

    def __init__(self, allowed: frozenset[str] | None = None) -> None:
        self._allowed = allowed
        self._traces: dict[tuple[int, bytes, int], list[Value]] = {}
        self._operations = 0
        self._decoded: dict[tuple[int, bytes], Insn] = {}  # by the bytes from its first one on

    def step(self, core: Core, *, first: bool) -> Exit | None:
        """Execute one instruction; an exit where there is something to tell.

        `first`: a breakpoint here was resumed from.

        """
        cpu = core.cpu
        address = cpu.eip
        if address == core.end_of_code:
            return Exit(ExitReason.END_OF_CODE)
        if not first and address in core.breakpoints:
            return Exit(ExitReason.BREAKPOINT)
        stepping, debug = cpu.system_flags & TF, core.debug
        if debug is not None and debug.stops_at(address):
            return Exit(ExitReason.FAULT, DB)
        try:
            insn = self._fetch(core, address, cpu.mode & MODE_CODE16)
            outcome = evaluate(self._trace(insn, address, cpu.mode), core if debug is None else debug.seen(core))
        except MemoryFault as fault:
            _forget(debug)
            return page_fault(fault)
        except (Fault, DecodeFault) as fault:
            _forget(debug)
            return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
        cpu.instructions += 1
        behind = address + insn.length
        cpu.eip = outcome if isinstance(outcome, int) else behind & (0xFFFF if cpu.mode & MODE_CODE16 else 0xFFFFFFFF)
        if isinstance(outcome, Leave):
            return leave(outcome)
        if stepping and not holds_trap_back(insn):
            return Exit(ExitReason.FAULT, DB, stepped=True)
        return Exit(ExitReason.FAULT, DB) if debug is not None and debug.met else None

    def _fetch(self, core: Core, address: int, code16: int) -> Insn:
        """As `fetch_insn`; what lies in one page is decoded once."""
        code = core.memory.fetch(address, min(MAX_LENGTH, PAGE - (address & PAGE - 1)))
        insn = self._decoded.get((code16, code))
        if insn is None:
            insn = fetch_insn(core.memory, address, bool(code16), self._allowed)
            if len(self._decoded) >= _MOST_DECODED:
                self._decoded.clear()
            if insn.length <= len(code):
                self._decoded[code16, code] = insn
        return insn

    def _trace(self, insn: Insn, address: int, mode: int) -> list[Value]:
        traces, code = self._traces, insn.code
        ops = traces.get((_NO_ADDRESS, code, mode)) or traces.get((address, code, mode))
        if ops is None:
            if self._operations >= _MOST_OPERATIONS:
                traces.clear()
                self._operations = 0
            tracer = AddressTracer(mode)
            trace(tracer, insn, address)
            ops = traces[address if tracer.address_used else _NO_ADDRESS, code, mode] = tracer.ops
            self._operations += len(ops)
        return ops


def _forget(debug: DebugRegisters | None) -> None:
    """The instruction has done nothing."""
    if debug is not None:
        debug.forget()


def leave(outcome: Leave) -> Exit:
    """The exit of an `exit` operation."""
    if outcome.kind == "syscall":
        return Exit(ExitReason.SYSCALL)
    return Exit(ExitReason.FAULT, outcome.vector)
