"""From how a run ended to its `Result`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.kernel.process import EndReason
from aiopyvm.runtime.limits import SECOND_NS
from aiopyvm.runtime.proxies import Registers
from aiopyvm.runtime.result import Fault, Reason, Result

if TYPE_CHECKING:
    from aiopyvm.isa.cpuid import Processor
    from aiopyvm.kernel.process import Process as GuestProcess
    from aiopyvm.runtime.run import Run


def result_of(run: Run, verdict: tuple[Reason, str] | None, limits_hit: frozenset[str]) -> Result:
    """Return the result of a run whose kernel has ended: by `verdict`, or (None) as its first process did."""
    process = run.process
    kernel = run.kernel
    reason, detail = verdict or _reason_of(process)
    code = process.returncode if verdict is None else 0 if reason is Reason.END_OF_CODE else -9
    fault = _fault_of(process) if reason is Reason.SIGNALED else None
    refused = limits_hit.union(name for name, n in kernel.limits_hit.items() if n)
    return Result(
        run.args,
        -9 if code is None else code,
        run.stdout.value() if run.stdout is not None else None,
        run.stderr.value() if run.stderr is not None else None,
        reason=reason,
        detail=detail or _told(process, fault, kernel.processor),
        instructions=run.executed_instructions,
        wall_time=(run.scheduler.now_ns() - run.started_ns) / SECOND_NS,
        guest_time=run.guest_time.used / SECOND_NS,
        peak_memory=getattr(kernel.budget, "peak", 0),
        fault=fault,
        registers=Registers(run.main.core.cpu.copy()),
        unknown_syscalls=dict(kernel.unknown_syscalls),
        limits_hit=refused | {"memory"} if reason is Reason.MEMORY_LIMIT else refused,
    )


def _reason_of(process: GuestProcess) -> tuple[Reason, str]:
    """Why a run ended whose first process ended by itself."""
    end = process.end_reason
    if end is EndReason.MEMORY_LIMIT:
        return Reason.MEMORY_LIMIT, process.detail
    if end is EndReason.EXITED:
        return Reason.EXITED, ""
    if end is EndReason.SIGNALED:
        return Reason.SIGNALED, process.detail
    return Reason.KILLED, process.detail


def _told(process: GuestProcess, fault: Fault | None, processor: Processor) -> str:
    """What there is to say of a fault: for #UD also what the processor lacks, if that is why."""
    if fault is None:
        return ""
    lacks = _lacked(process.fault.code, processor) if process.fault is not None else ""
    return f"{fault}{lacks}"


def _lacked(code: bytes, processor: Processor) -> str:
    """The instruction at the start of `code` and the features that it needs; "" where the processor has them."""
    if not code or processor.allowed is None:
        return ""
    from aiopyvm.isa.decode import DecodeFault, NeedMore, decode  # only now: a run that ends well needs no decoder

    try:
        row = decode(code).row
    except (DecodeFault, NeedMore):
        return ""
    features = sorted(set(row.cpuid.split()) - processor.allowed)
    return f": {row.name} needs {' and '.join(features)}, which {processor.name} lacks" if features else ""


def _fault_of(process: GuestProcess) -> Fault | None:
    """The CPU exception that a process did not survive."""
    fault = process.fault
    if fault is None:
        return None
    return Fault(fault.vector, fault.error_code, fault.address, fault.access, fault.eip)
