"""Signal frames: what a handler finds on its stack, and the way back from it (sigreturn(2)).

The frame holds the whole user-visible state. A frame that a hostile program made up restores whatever registers it
says, with flags and selectors filtered as Linux filters them; one that cannot be read, whose CS or SS cannot be loaded,
or whose floating-point state cannot (`fpstate`), is a SIGSEGV.
"""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi import sigframe as layouts
from aiopyvm.abi import signal as abi
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.sigframe import Sigcontext
from aiopyvm.abi.signal import KernelSigaction, SigInfo, SigStack
from aiopyvm.isa.state import AC, AF, CF, DF, OF, PF, SF, TF, USER_CS, USER_DS, ZF
from aiopyvm.kernel import fpstate, segments
from aiopyvm.kernel.fpstate import BadFrame, Format
from aiopyvm.kernel.thread import Thread
from aiopyvm.loader.vdso import RT_SIGRETURN, SIGRETURN, map_vdso
from aiopyvm.mem.faults import AddressSpaceFull, MemoryFault

RESTORED_FLAGS: Final = AC | OF | DF | TF | SF | ZF | AF | PF | CF  # FIX_EFLAGS; RF means nothing between instructions
_CONTEXT: Final = codec_of(Sigcontext)


def push(t: Thread, info: SigInfo, action: KernelSigaction, old_mask: int) -> None:
    """Push a frame for `action`'s handler and let `t` continue in it. Raises MemoryFault, with the registers unchanged.

    `old_mask` is the signal mask that the way back restores.
    """
    rt = bool(action.flags & abi.SA_SIGINFO)
    top = _frame_top(t, action)
    format_ = _format(t)
    state, fp = fpstate.save(t.core.cpu, format_), fpstate.place(format_, top)
    address = ((fp - (layouts.RT_FRAME_SIZE if rt else layouts.FRAME_SIZE) + 4) & 0xFFFFFFF0) - 4
    if not 0 <= address <= top or (_on_alt_stack(t, top, inclusive=True) and not _fits_alt_stack(t, address)):
        raise MemoryFault(address & 0xFFFFFFFF, "w")
    context = _context(t, fp, old_mask)
    if rt:
        frame = _rt_frame(t, address, info, action, context, old_mask)
    else:
        frame = _frame(t, address, info, action, context, old_mask)
    t.memory.probe(address, fp + len(state) - address, True)
    t.memory.write(fp, state)
    t.memory.write(address, frame)
    if rt and t.alt_flags & abi.SS_AUTODISARM:
        t.alt_sp, t.alt_size, t.alt_flags = 0, 0, abi.SS_DISABLE
    _enter_handler(t, address, info.signo, action.handler, rt)


def sigreturn(t: Thread) -> int:
    """Return from a handler by the old frame; the value for EAX. Raises MemoryFault and BadFrame."""
    address = t.core.cpu.esp - 8 & 0xFFFFFFFF
    context = _CONTEXT.unpack(t.memory.read(address + layouts.FRAME_CONTEXT, layouts.SIGCONTEXT_SIZE))
    high = t.memory.load(address + layouts.FRAME_EXTRAMASK, 4)
    return _restore(t, context, context.oldmask | high << 32)


def rt_sigreturn(t: Thread) -> int:
    """Return from a handler by the rt frame; the value for EAX. Raises MemoryFault and BadFrame."""
    uc = (t.core.cpu.esp - 4 & 0xFFFFFFFF) + layouts.RT_UCONTEXT
    data = t.memory.read(uc, layouts.UC_SIGMASK + 8)
    stack = codec_of(SigStack).unpack(data, layouts.UC_STACK)
    context = _CONTEXT.unpack(data, layouts.UC_MCONTEXT)
    (mask,) = struct.unpack_from("<Q", data, layouts.UC_SIGMASK)
    eax = _restore(t, context, mask)
    set_alt_stack(t, stack, t.core.cpu.esp, checked=False)
    return eax


def alt_stack(t: Thread, esp: int) -> SigStack:
    """Return the alternate stack as sigaltstack(2) shows it, seen from stack pointer `esp`."""
    if t.alt_size == 0:
        return SigStack(t.alt_sp, abi.SS_DISABLE, t.alt_size)
    flags = t.alt_flags & abi.SS_AUTODISARM
    if _on_alt_stack(t, esp):
        flags |= abi.SS_ONSTACK
    return SigStack(t.alt_sp, flags, t.alt_size)


def set_alt_stack(t: Thread, stack: SigStack, esp: int, *, checked: bool = True) -> str:
    """Set the alternate stack; return "" or the name of sigaltstack(2)'s error.

    With `checked` false (the way back from a handler) errors leave it as it is, as in Linux.
    """
    mode = stack.flags & ~abi.SS_AUTODISARM
    if _on_alt_stack(t, esp):
        return "EPERM"
    if mode not in (0, abi.SS_ONSTACK, abi.SS_DISABLE):
        return "EINVAL"
    if mode == abi.SS_DISABLE:
        t.alt_sp, t.alt_size, t.alt_flags = 0, 0, stack.flags
        return ""
    if stack.size < abi.MINSIGSTKSZ:
        return "ENOMEM"
    t.alt_sp, t.alt_size, t.alt_flags = stack.sp, stack.size, stack.flags
    return ""


def _frame_top(t: Thread, action: KernelSigaction) -> int:
    """Where the frame goes below: the alternate stack, the stack, or where a legacy restorer's program put it."""
    cpu = t.core.cpu
    esp: int = cpu.esp
    if action.flags & abi.SA_ONSTACK:
        if t.alt_size and not _on_alt_stack(t, esp):
            return t.alt_sp + t.alt_size & 0xFFFFFFFF
    elif cpu.ss | 3 != USER_DS and not action.flags & abi.SA_RESTORER and action.restorer:
        return action.restorer
    return esp


def _on_alt_stack(t: Thread, esp: int, *, inclusive: bool = False) -> bool:
    if not t.alt_size or (t.alt_flags & abi.SS_AUTODISARM and not inclusive):
        return False
    return 0 < esp - t.alt_sp <= t.alt_size


def _fits_alt_stack(t: Thread, address: int) -> bool:
    return address > t.alt_sp


def _format(t: Thread) -> Format:
    """What the processor stores; all there is where it executes all there is, announced or not."""
    processor = t.process.kernel.processor
    return Format.XSAVE if processor.whole else fpstate.format_of(processor.features)


def has_fxsave(t: Thread) -> bool:
    """The processor stores vector registers."""
    return _format(t) is not Format.FSAVE


def has_xsave(t: Thread) -> bool:
    """The processor has XSAVE."""
    return _format(t) is Format.XSAVE


def _context(t: Thread, fp: int, old_mask: int) -> Sigcontext:
    c = t.core.cpu
    return Sigcontext(
        c.gs, c.fs, c.es, c.ds, c.edi, c.esi, c.ebp, c.esp, c.ebx, c.edx, c.ecx, c.eax,
        t.trap_number, t.error_code, c.eip, c.cs, c.eflags, c.esp, c.ss,
        fp, old_mask & 0xFFFFFFFF, t.fault_address,
    )  # fmt: skip


def _return_address(t: Thread, action: KernelSigaction, offset: int, on_stack: int) -> int:
    """Where the handler returns to: the program's restorer, else what the vdso has at `offset`.

    A program that began without a vdso (a flat one) gets it now; where there is no room, the code on the stack must do.
    """
    if action.flags & abi.SA_RESTORER:
        return action.restorer
    mm = t.process.mm
    if not mm.vdso:
        try:
            mm.vdso = map_vdso(t.memory, t.kernel.clock_page)
        except AddressSpaceFull:
            return on_stack
    return mm.vdso + offset


def _frame(
    t: Thread, address: int, info: SigInfo, action: KernelSigaction, context: Sigcontext, old_mask: int
) -> bytes:
    pretcode = _return_address(t, action, SIGRETURN, address + layouts.FRAME_RETCODE)
    return b"".join((
        struct.pack("<II", pretcode, info.signo),
        _CONTEXT.pack(context),
        bytes(layouts.FPSTATE_SIZE),
        struct.pack("<I", old_mask >> 32),
        layouts.RETCODE,
    ))  # fmt: skip


def _rt_frame(
    t: Thread, address: int, info: SigInfo, action: KernelSigaction, context: Sigcontext, old_mask: int
) -> bytes:
    pretcode = _return_address(t, action, RT_SIGRETURN, address + layouts.RT_RETCODE)
    stack = SigStack(t.alt_sp, t.alt_flags, t.alt_size)
    return b"".join((
        struct.pack("<IIII", pretcode, info.signo, address + layouts.RT_INFO, address + layouts.RT_UCONTEXT),
        info.pack(),
        struct.pack("<II", 0, 0),
        codec_of(SigStack).pack(stack),
        _CONTEXT.pack(context),
        struct.pack("<Q", old_mask),
        layouts.RT_RETCODE_BYTES,
    ))  # fmt: skip


def _enter_handler(t: Thread, address: int, signo: int, handler: int, rt: bool) -> None:
    cpu = t.core.cpu
    cpu.esp = address
    cpu.eip = handler
    cpu.eax = signo
    cpu.edx = address + layouts.RT_INFO if rt else 0
    cpu.ecx = address + layouts.RT_UCONTEXT if rt else 0
    cpu.eflags = cpu.eflags & ~(DF | TF)
    for name in ("ds", "es"):
        segments.load_data_segment(cpu, name, USER_DS)
    segments.load_code_or_stack(cpu, "cs", USER_CS)
    segments.load_code_or_stack(cpu, "ss", USER_DS)


def _restore(t: Thread, context: Sigcontext, mask: int) -> int:
    cpu = t.core.cpu
    try:
        state = fpstate.load(t.memory, context.fpstate, _format(t)) if context.fpstate else fpstate.INITIAL
    except BadFrame:
        state = None  # found out behind the registers
    t.set_mask(mask)
    t.attention = True
    for name in ("gs", "fs", "es", "ds"):
        selector = getattr(context, name) & 0xFFFF
        segments.load_data_segment(cpu, name, selector | 3 if selector > 3 else selector)
    if not segments.load_code_or_stack(cpu, "cs", context.cs & 0xFFFF):
        raise BadFrame
    if not segments.load_code_or_stack(cpu, "ss", context.ss & 0xFFFF):
        raise BadFrame
    for name in ("edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eip"):
        setattr(cpu, name, getattr(context, name))
    cpu.eflags = cpu.eflags & ~RESTORED_FLAGS | context.eflags & RESTORED_FLAGS
    (state or fpstate.INITIAL).apply(cpu)
    if state is None:
        raise BadFrame
    return context.eax
