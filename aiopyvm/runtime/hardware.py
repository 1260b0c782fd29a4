"""The processor of this host as an engine: each instruction is executed by it, in a stepped process (host/ptrace.py).

How it works. Every address space has a process of its own, whose registers and memory are made those of the core; it is
stepped, and what it did is taken back. System calls end the run and are not executed. What is not the processor's to
answer (CPUID, RDTSC and their like), and what cannot be stepped by a trap flag of ours (MOV SS, a guest that sets TF),
is done by its definition.

It is slow, and for comparisons. Beside the contract of `engine/protocol.py`: the host does not tell a fault's error
code, nor whether an access to a page that is not there was a read or a write; and whoever changes a core's memory
between two runs that follow one another, and not its registers, calls `refresh`.
"""

from __future__ import annotations

import struct
import weakref
from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP
from typing import Final

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python.fetch import fetch_insn
from aiopyvm.engine.python.rare import RareModes, page_fault
from aiopyvm.errors import EngineUnavailableError, InternalError
from aiopyvm.host.ptrace import FP_BYTES, INDEX, SYSCALL_STOP, Tracee, unavailable
from aiopyvm.isa.decode import MAX_LENGTH, DecodeFault
from aiopyvm.isa.insn import Insn, Register
from aiopyvm.isa.segments import descriptor
from aiopyvm.isa.state import (
    FIRST_TLS_ENTRY,
    GPR32,
    MODE_CODE16,
    MODE_SINGLE_STEP,
    SEGMENTS,
    TF,
    TLS_ENTRIES,
    CpuState,
    Descriptor,
)
from aiopyvm.isa.trace import holds_trap_back
from aiopyvm.isa.vectors import AC, BP, BR, DB, DE, GP, MF, OF, SS, UD, XM
from aiopyvm.isa.xarea import RESERVED
from aiopyvm.kernel import fpu
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.runtime.mirror import Mirror

BY_DEFINITION: Final = frozenset(
    {
        "cpuid",
        "rdtsc",
        "rdtscp",
        "rdpid",
        "rdrand",
        "rdseed",
        "rdpmc",
        "sgdt",
        "sidt",
        "sldt",
        "str",
        "smsw",
        "sysenter",
        "syscall",
        "iret",
        "iretd",
    }
)
_GENERAL: Final = tuple(INDEX["r" + name[1:]] for name in GPR32)
_RIP, _EFLAGS, _ORIG_RAX = INDEX["rip"], INDEX["eflags"], INDEX["orig_rax"]
_SELECTORS: Final = tuple(INDEX[name] for name in SEGMENTS)
_NO_CALL: Final = (1 << 64) - 1
_KERNEL_SENT, _MAPPING_ERROR, _ACCESS_ERROR = 0x80, 1, 2  # si_code: SI_KERNEL, SEGV_MAPERR, SEGV_ACCERR
_BREAK: Final = 1  # TRAP_BRKPT: INT1
_DIVIDE, _ALIGNMENT = 1, 1  # FPE_INTDIV, BUS_ADRALN
_USER_DESC: Final = struct.Struct("<IIII")
_READ_ONLY, _NOT_PRESENT = 1 << 3, 1 << 5  # of its bit-fields
_LIMIT_BITS: Final = 0xF0000  # of `descriptor`'s access word


class HardwareEngine:
    """Executes cores on this host's processor. Raises EngineUnavailableError where that cannot be.

    `close` ends its processes; those of closed address spaces end by themselves.
    """

    name = "hardware"

    def __init__(self) -> None:
        reason = unavailable()
        if reason is not None:
            raise EngineUnavailableError(reason)
        Tracee().close()  # whether this host allows it
        self._rare = RareModes()
        self._bodies: weakref.WeakSet[Body] = weakref.WeakSet()
        self._last: weakref.ref[Body] | None = None  # who ran last
        self._instructions = 0
        self._by_definition = 0

    def close(self) -> None:
        """End all processes."""
        for body in list(self._bodies):
            body.close()

    def statistics(self) -> dict[str, int]:
        """Counters since the engine was made."""
        return {
            "instructions": self._instructions,
            "instructions_evaluated": self._by_definition,
            "processes": len(self._bodies),
        }

    def run(self, core: Core, budget: int) -> Exit:
        """Execute at most `budget` (>= 1) instructions of `core`."""
        body = core.memory.translations.get(self)
        if body is None:
            body = core.memory.translations[self] = Body(core)
            self._bodies.add(body)
        assert isinstance(body, Body)
        if self._last is None or body is not self._last() or not body.is_as_left(core.cpu):
            body.changed = True
        self._last = weakref.ref(body)
        for done in range(budget):
            exit_ = self._step(core, body, first=done == 0)
            if exit_ is not None:
                body.changed = True  # what comes now is the kernel's
                return exit_
        return Exit(ExitReason.BUDGET)

    def refresh(self) -> None:
        """Memory was changed."""
        self._last = None

    def _step(self, core: Core, body: Body, *, first: bool) -> Exit | None:
        cpu = core.cpu
        if cpu.eip == core.end_of_code:
            return Exit(ExitReason.END_OF_CODE)
        if not first and cpu.eip in core.breakpoints:
            return Exit(ExitReason.BREAKPOINT)
        try:
            insn: Insn | None = fetch_insn(core.memory, cpu.eip)
        except MemoryFault as fault:
            return page_fault(fault)
        except DecodeFault:
            insn = None
        before: int = cpu.instructions
        if cpu.mode & (MODE_CODE16 | MODE_SINGLE_STEP) or (insn is not None and is_by_definition(insn)):
            exit_ = self._rare.step(core, first=True)
            body.changed = True
            self._by_definition += cpu.instructions - before
        else:
            exit_ = body.step(core, insn)
        self._instructions += cpu.instructions - before
        return exit_


def is_by_definition(insn: Insn) -> bool:
    """Tell whether the instruction is not for the host's processor to execute."""
    return insn.row.name in BY_DEFINITION or holds_trap_back(insn)


class Body:
    """The process behind one address space."""

    def __init__(self, core: Core) -> None:
        self.tracee = Tracee()
        self.mirror = Mirror(core.memory, self.tracee)
        self.changed = True  # registers or memory, by somebody else
        self._left = b""  # the core's registers as this process left them
        self._values = self.tracee.registers()
        self._fp = bytes(FP_BYTES)
        self._tls = [bytes(Descriptor())] * TLS_ENTRIES
        self.close = weakref.finalize(self, self.tracee.close)

    def is_as_left(self, cpu: CpuState) -> bool:
        """Tell whether the registers are as after the last instruction."""
        return bytes(cpu) == self._left

    def step(self, core: Core, insn: Insn | None) -> Exit | None:
        """Execute one instruction; `insn` None: there is none at EIP, as far as is known."""
        cpu = core.cpu
        if self.changed:
            self.mirror.push()
            self.changed = False
        if bytes(cpu) != self._left:
            self._load(cpu)
        eip: int = cpu.eip
        name = insn.row.name if insn is not None else ""
        trap_flag = name.startswith("popf") and self._popped_trap_flag(cpu)
        while True:
            stop = self.tracee.step()
            if stop == SIGSEGV:
                code, address = self.tracee.signal_info()
                if code in (_MAPPING_ERROR, _ACCESS_ERROR):
                    exit_ = self.mirror.admit(address, eip, insn.length if insn is not None else MAX_LENGTH)
                    if exit_ is None:
                        continue
                    self._take(core)
                    return exit_
            if name.startswith("pushf") and stop == SIGTRAP:
                self._hide_trap_flag()
            self._take(core, loaded=insn is not None and stop == SIGTRAP and loads_segment(insn))
            if trap_flag and stop == SIGTRAP:
                cpu.system_flags |= TF
                self._left = bytes(cpu)
            return self._exit(core, insn, stop, eip)

    def _hide_trap_flag(self) -> None:
        """PUSHF has stored the TF of the stepping: the guest's is clear."""
        at = self.tracee.registers()[_GENERAL[4]] + 1 & 0xFFFFFFFF
        self.tracee.write(at, bytes([self.tracee.read(at, 1)[0] & ~1]))

    def _popped_trap_flag(self, cpu: CpuState) -> bool:
        """Whether POPF is about to set TF: afterwards it does not show whose that is."""
        try:
            return bool(self.mirror.space.load(cpu.esp + 1 & 0xFFFFFFFF, 1) & TF >> 8)
        except MemoryFault:
            return False

    def _exit(self, core: Core, insn: Insn | None, stop: int, eip: int) -> Exit | None:
        """What the signal `stop` tells; counts the instruction where it was executed."""
        cpu = core.cpu
        vector = None if stop in (SIGTRAP, SYSCALL_STOP) else self._vector(insn, stop, cpu.eip != eip)
        if stop == SIGTRAP and insn is not None and insn.row.name.startswith("int"):
            code, _ = self.tracee.signal_info()
            vector = BP if code == _KERNEL_SENT else DB if code == _BREAK else None
        if vector is None or cpu.eip != eip:
            cpu.instructions += 1
            self._left = bytes(cpu)
        if stop == SYSCALL_STOP:
            self._left = b""  # RAX has been changed, and not only shown as the number of the call
            return Exit(ExitReason.SYSCALL)
        return None if vector is None else Exit(ExitReason.FAULT, vector)

    def _vector(self, insn: Insn | None, stop: int, trapped: bool) -> int:
        """The exception behind a signal (arch/x86/kernel/traps.c)."""
        name = insn.row.name if insn is not None else ""
        code, _ = self.tracee.signal_info()
        if stop == SIGSEGV:
            return OF if trapped else BR if name == "bound" else GP
        if stop == SIGFPE:
            return _arithmetic_vector(insn, code)
        if stop == SIGBUS:
            return AC if code == _ALIGNMENT else SS
        if stop == SIGILL:
            return UD
        raise InternalError(f"signal {stop} while {name or 'no instruction'} was stepped")

    # --- registers ----------------------------------------------------------------------------------------------------

    def _load(self, cpu: CpuState) -> None:
        """Give the process the core's registers."""
        for n in range(TLS_ENTRIES):
            entry = bytes(cpu.tls[n])
            if entry != self._tls[n]:
                self.tracee.set_thread_area(FIRST_TLS_ENTRY + n, user_descriptor(FIRST_TLS_ENTRY + n, cpu.tls[n]))
                self._tls[n] = entry
        values = self._values
        for name, index in zip(GPR32, _GENERAL, strict=True):
            values[index] = getattr(cpu, name)
        for name, index in zip(SEGMENTS, _SELECTORS, strict=True):
            values[index] = getattr(cpu, name)
        values[INDEX["fs_base"]], values[INDEX["gs_base"]] = cpu.fs_base, cpu.gs_base
        values[_RIP], values[_EFLAGS], values[_ORIG_RAX] = cpu.eip, cpu.eflags, _NO_CALL
        self.tracee.set_registers(values)
        self._fp = fp_image(cpu, self.tracee.fp_registers())
        self.tracee.set_fp_registers(self._fp)

    def _take(self, core: Core, *, loaded: bool = False) -> None:
        """Give the core what the process has come to; `loaded`: a segment register was."""
        cpu = core.cpu
        values = self._values = self.tracee.registers()
        for name, index in zip(GPR32, _GENERAL, strict=True):
            setattr(cpu, name, values[index] & 0xFFFFFFFF)
        if values[_ORIG_RAX] != _NO_CALL:  # stopped at a system call, whose number is there
            cpu.eax = values[_ORIG_RAX] & 0xFFFFFFFF
        cpu.eip = values[_RIP] & 0xFFFFFFFF
        cpu.eflags = values[_EFLAGS] & ~TF
        for name, index in zip(SEGMENTS, _SELECTORS, strict=True):
            if loaded or getattr(cpu, name) != values[index]:
                self._take_segment(cpu, name, values[index])
        image = self.tracee.fp_registers()
        if image != self._fp:
            self._fp = image
            take_fp(cpu, image)
        self.mirror.pull()
        self._left = bytes(cpu)

    def _take_segment(self, cpu: CpuState, name: str, selector: int) -> None:
        """The processor has loaded a selector; the hidden parts, which the host does not show, are its descriptor's."""
        base, limit, access = descriptor(cpu, selector)
        if base & ~0xFFFFFFFF or not access & 0x8000:
            base = limit = access = 0
        for part, value in (("", selector), ("_base", base), ("_limit", limit), ("_access", access & ~_LIMIT_BITS)):
            setattr(cpu, name + part, value)


def _arithmetic_vector(insn: Insn | None, code: int) -> int:
    """The vector of an instruction's SIGFPE."""
    name = insn.row.name if insn is not None else ""
    if code == _DIVIDE and name in ("div", "idiv", "aam"):
        return DE
    simd = insn is not None and any(isinstance(o, Register) and o.kind in ("xmm", "ymm") for o in insn.operands)
    return XM if simd else MF


def loads_segment(insn: Insn) -> bool:
    """Tell whether the instruction loads a data segment register."""
    first = insn.operands[0] if insn.operands else None
    return insn.row.name in ("lds", "les", "lfs", "lgs", "lss") or (
        isinstance(first, Register) and first.kind == "sreg"
    )


def user_descriptor(entry: int, segment: Descriptor) -> bytes:
    """`struct user_desc` of a descriptor (set_thread_area(2)); one without access rights is an empty one."""
    access = segment.access
    if not access:
        return _USER_DESC.pack(entry, 0, 0, _READ_ONLY | _NOT_PRESENT)
    pages = access >> 23 & 1
    flags = (
        (access >> 22 & 1)  # seg_32bit
        | (access >> 10 & 3) << 1  # contents
        | (0 if access & 0x200 else _READ_ONLY)
        | pages << 4  # limit_in_pages
        | (0 if access & 0x8000 else _NOT_PRESENT)
        | (access >> 20 & 1) << 6  # useable
    )
    return _USER_DESC.pack(entry, segment.base, segment.limit >> 12 if pages else segment.limit, flags)


def fp_image(cpu: CpuState, image: bytes) -> bytes:
    """The FXSAVE image `image` with the registers of `cpu` in it: x87, MXCSR and XMM."""
    return fpu.fxsave_image(cpu)[:RESERVED] + image[RESERVED:]


def take_fp(cpu: CpuState, image: bytes) -> None:
    """Set the x87 registers, MXCSR and XMM of `cpu` from an FXSAVE image."""
    fpu.restore_fxsave_image(cpu, image)
