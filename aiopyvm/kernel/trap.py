"""Faults: an exception of the CPU becomes the signal that Linux makes of it (arch/x86/kernel/traps.c).

| exception | signal, si_code | si_addr |
| --- | --- | --- |
| #DE | SIGFPE, FPE_INTDIV | EIP |
| #DB | SIGTRAP, TRAP_TRACE (single step), TRAP_HWBKPT (debug registers), TRAP_BRKPT (INT1) | EIP |
| #BP | SIGTRAP, SI_KERNEL | |
| #OF, #BR, #GP, #TS | SIGSEGV, SI_KERNEL | |
| #UD | SIGILL, ILL_ILLOPN | EIP |
| #NP, #SS | SIGBUS, SI_KERNEL | |
| #PF | SIGSEGV, SEGV_MAPERR or SEGV_ACCERR; SIGBUS, BUS_ADRERR past the end of a file | CR2 |
| #MF | SIGFPE, by the status word | FPU's instruction pointer: EIP |
| #XM | SIGFPE, by MXCSR | EIP |
| #AC | SIGBUS, BUS_ADRALN | |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi import signal as abi
from aiopyvm.abi.signal import SI_KERNEL, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, SigInfo
from aiopyvm.isa.state import MODE_CODE16
from aiopyvm.isa.vectors import AC, BP, DB, DE, MF, NP, PF, SS, UD, XM
from aiopyvm.kernel import lifecycle, send
from aiopyvm.kernel.process import EndReason, Fault
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Exit

SYSCALL: Final = 1  # engine.protocol.ExitReason.SYSCALL and FAULT: this floor does not import the engine's
FAULT: Final = 2

LONGEST: Final = 15  # bytes of an instruction
PAGE_SIZE: Final = 4096
FAULT_COST: Final = 200  # virtual instructions

_PLAIN: Final = {BP: SIGTRAP, NP: SIGBUS, SS: SIGBUS}  # SIGSEGV for the others


def trap(t: Thread, exit: Exit) -> int:
    """Handle a FAULT exit of `t`; return its cost. Exits that are no system call either are nothing to the kernel."""
    if exit.reason == FAULT:
        _fault(t, exit)
        return FAULT_COST
    return 0


def _fault(t: Thread, exit: Exit) -> None:
    cpu = t.core.cpu
    vector, error_code = exit.vector, exit.error_code
    if vector == PF:
        info = _page_fault(t, exit)
        if info is None:
            return
        t.fault_address = exit.address & 0xFFFFFFFF
        error_code = _page_error(t, exit)
    elif vector == DE:
        info = SigInfo(SIGFPE, abi.FPE_INTDIV, address=cpu.eip)
    elif vector == UD:
        info = SigInfo(SIGILL, abi.ILL_ILLOPN, address=cpu.eip)
    elif vector == DB:
        info = SigInfo(SIGTRAP, _debug_code(t, exit), address=cpu.eip)
    elif vector == MF:
        info = SigInfo(SIGFPE, _floating_code(cpu.fsw & ~cpu.fcw), address=cpu.eip)
    elif vector == XM:
        info = SigInfo(SIGFPE, _floating_code(cpu.mxcsr & ~(cpu.mxcsr >> 7)), address=cpu.eip)
    elif vector == AC:
        info = SigInfo(SIGBUS, abi.BUS_ADRALN)
    else:
        info = SigInfo(_PLAIN.get(vector, SIGSEGV), SI_KERNEL)
    t.trap_number = vector
    t.error_code = error_code
    code = _code(t) if vector == UD else b""
    t.process.fault = Fault(vector, error_code, cpu.eip, exit.address, exit.access, code)
    send.force_signal(t, info)


def _debug_code(t: Thread, exit: Exit) -> int:
    """si_code of a #DB, which the tracer finds in DR6, too (arch/x86/kernel/traps.c, exc_debug_user)."""
    met = t.trace.debug.take(stepped=exit.stepped) if t.trace is not None else 0
    return abi.TRAP_TRACE if exit.stepped else abi.TRAP_HWBKPT if met else abi.TRAP_BRKPT


def _code(t: Thread) -> bytes:
    """The bytes of the instruction that is at EIP, and behind it, up to the end of the page; none of 16-bit code."""
    cpu = t.core.cpu
    address = cpu.cs_base + cpu.eip & 0xFFFFFFFF
    if t.memory.find_mapping(address) is None or cpu.mode & MODE_CODE16:
        return b""
    return t.memory.peek(address, min(LONGEST, PAGE_SIZE - address % PAGE_SIZE))


def _page_fault(t: Thread, exit: Exit) -> SigInfo | None:
    """Look at the page again: what Linux makes of the fault; None when there is no signal to send."""
    try:
        if exit.access == "x":
            t.memory.fetch(exit.address, 1)
        else:
            t.memory.probe(exit.address, 1, exit.access == "w")
    except MemoryFault as fault:
        if fault.out_of_memory:
            lifecycle.end_run(t.kernel, EndReason.MEMORY_LIMIT, "the guest touched more memory than its limit")
            return None
        if fault.bus:
            return SigInfo(SIGBUS, abi.BUS_ADRERR, address=exit.address)
        return SigInfo(SIGSEGV, abi.SEGV_ACCERR if fault.present else abi.SEGV_MAPERR, address=exit.address)
    return None


def _page_error(t: Thread, exit: Exit) -> int:
    """Return #PF's error code as hardware has it: P where the page is there, not merely mapped.

    A page that was never touched is not there, nor is one of PROT_NONE; for a fetch Linux brings it in first.
    """
    address = exit.address & 0xFFFFFFFF
    mapping = t.memory.find_mapping(address)
    touched = exit.access == "x" or t.memory.pages[address >> 12] != 0
    there = mapping is not None and mapping.prot != 0 and touched
    return exit.error_code & ~1 | there


def _floating_code(status: int) -> int:
    """si_code of the unmasked x87 or SIMD exceptions in `status` (arch/x86/kernel/fpu/core.c, fpu__exception_code)."""
    for mask, code in (
        (0x01, abi.FPE_FLTINV),
        (0x04, abi.FPE_FLTDIV),
        (0x08, abi.FPE_FLTOVF),
        (0x12, abi.FPE_FLTUND),
        (0x20, abi.FPE_FLTRES),
    ):
        if status & mask:
            return code
    return 0
