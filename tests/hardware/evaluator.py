"""The plainest engine: decode, trace, verify, evaluate, one instruction at a time. For cases against the real CPU."""

from __future__ import annotations

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.ir.builder import Value
from aiopyvm.ir.evaluate import Leave, evaluate
from aiopyvm.ir.helpers import Fault
from aiopyvm.ir.verify import verify
from aiopyvm.isa.decode import DecodeFault, NeedMore, decode
from aiopyvm.isa.trace import Tracer, trace
from aiopyvm.mem.faults import MemoryFault

_KEPT = 4096


class EvaluatorEngine:
    """Runs instructions on the IR's evaluator; each trace is verified once."""

    name = "evaluator of the tests"

    def __init__(self) -> None:
        self._traces: dict[tuple[bytes, int, int], tuple[list[Value], int]] = {}

    def run(self, core: Core, budget: int) -> Exit:
        """Execute at most `budget` instructions."""
        for _ in range(budget):
            try:
                leaving = self._step(core)
            except (Fault, DecodeFault) as fault:
                return Exit(ExitReason.FAULT, fault.vector, fault.error_code)
            except MemoryFault as fault:
                return Exit(ExitReason.FAULT, 14, fault.error_code, fault.address, fault.access)
            core.cpu.instructions += 1
            if leaving is not None:
                return Exit(ExitReason.SYSCALL) if leaving.kind == "syscall" else Exit(ExitReason.FAULT, leaving.vector)
        return Exit(ExitReason.BUDGET)

    def statistics(self) -> dict[str, int]:
        """Traces kept."""
        return {"traces": len(self._traces)}

    def _step(self, core: Core) -> Leave | None:
        eip = core.cpu.eip
        code = core.memory.fetch(eip, 15)
        key = code, eip, core.cpu.mode
        found = self._traces.get(key)
        if found is None:
            if len(self._traces) >= _KEPT:
                self._traces.clear()
            found = self._traces[key] = _translate(core, code, eip)
        ops, following = found
        outcome = evaluate(ops, core)
        core.cpu.eip = outcome if isinstance(outcome, int) else following
        return outcome if isinstance(outcome, Leave) else None


def _translate(core: Core, code: bytes, eip: int) -> tuple[list[Value], int]:
    try:
        insn = decode(code)
    except NeedMore:
        core.memory.fetch(eip + len(code), 1)  # raises the page fault
        raise
    b = Tracer(core.cpu.mode)
    trace(b, insn, eip)
    verify(b.ops)
    return b.ops, b.next_eip
