"""Signals: kill(2), sigaction(2), sigprocmask(2), sigsuspend(2), sigtimedwait(2), sigaltstack(2), sigreturn(2)."""

from __future__ import annotations

import struct
from typing import Annotated, Final

from aiopyvm.abi import errno
from aiopyvm.abi import signal as abi
from aiopyvm.abi.errno import EAGAIN, EINVAL, EPERM, ESRCH, Errno
from aiopyvm.abi.signal import (
    NSIG,
    SI_KERNEL,
    SI_TKILL,
    SI_USER,
    SIGCONT,
    SIGSEGV,
    UNBLOCKABLE,
    KernelSigaction,
    OldSigaction,
    OldSigset,
    SigInfo,
    SiginfoBytes,
    Sigset,
    SigStack,
    bit,
)  # fmt: skip
from aiopyvm.abi.time import NS, Timespec32, Timespec64
from aiopyvm.kernel import send, sigframe
from aiopyvm.kernel.file import UNKNOWN
from aiopyvm.kernel.fpstate import BadFrame
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Cause, Restart, Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.spec import Choice, Hex, In, Out, Pid, Ptr, Signo, Size, syscall

SIGSET_BYTES: Final = 8

MaskHow = Annotated[int, Choice({0: "SIG_BLOCK", 1: "SIG_UNBLOCK", 2: "SIG_SETMASK"})]


# --- sending ----------------------------------------------------------------------------------------------------------


@syscall(37, "kill", man="kill(2)")
def kill(t: Thread, pid: Pid, sig: Signo) -> int:
    """Send a signal to a process, a process group (0, < -1) or all (-1)."""
    info = SigInfo(sig, SI_USER, t.process.pid, t.credentials.uid)
    if pid > 0:
        target = _process(t, pid)
        check_signal(sig)
        send_checked(t, target, info)
        return 0
    if pid == -1:
        targets = [p for p in t.kernel.processes.values() if p.pid > 1 and p is not t.process]
    else:
        group = -pid if pid else t.process.group
        targets = [p for p in t.kernel.processes.values() if p.group == group]
    if not targets:
        raise Errno(ESRCH)
    check_signal(sig)
    allowed = [p for p in targets if p is t.process or _may_signal(t, p, sig)]
    if not allowed:
        raise Errno(EPERM)
    for process in allowed:
        t.kernel.send_signal(process, info)
    return 0


@syscall(238, "tkill", man="tkill(2)")
def tkill(t: Thread, tid: Pid, sig: Signo) -> int:
    """Send a signal to one thread."""
    return _tkill(t, 0, tid, sig)


@syscall(270, "tgkill", man="tgkill(2)")
def tgkill(t: Thread, tgid: Pid, tid: Pid, sig: Signo) -> int:
    """Send a signal to one thread of one process."""
    if tgid <= 0:
        raise Errno(EINVAL)
    return _tkill(t, tgid, tid, sig)


def _tkill(t: Thread, tgid: int, tid: int, sig: int) -> int:
    if tid <= 0:
        raise Errno(EINVAL)
    target = t.kernel.threads.get(tid)
    if target is None or (tgid and target.process.pid != tgid):
        raise Errno(ESRCH)
    check_signal(sig)
    send_checked(t, target, SigInfo(sig, SI_TKILL, t.process.pid, t.credentials.uid))
    return 0


@syscall(178, "rt_sigqueueinfo", man="rt_sigqueueinfo(2)")
def rt_sigqueueinfo(t: Thread, tgid: Pid, sig: Signo, info: In[SiginfoBytes]) -> int:
    """Send a signal with data to a process."""
    return _queue(t, queued_info(sig, info), tgid, 0)


@syscall(335, "rt_tgsigqueueinfo", man="rt_tgsigqueueinfo(2)")
def rt_tgsigqueueinfo(t: Thread, tgid: Pid, tid: Pid, sig: Signo, info: In[SiginfoBytes]) -> int:
    """Send a signal with data to one thread."""
    given = queued_info(sig, info)
    if tgid <= 0 or tid <= 0:
        raise Errno(EINVAL)
    return _queue(t, given, tgid, tid)


def queued_info(sig: int, info: In[SiginfoBytes]) -> SigInfo:
    given = info.get()
    pid, uid = struct.unpack_from("<II", given.fields)
    return SigInfo(sig, given.code, pid, uid, raw=given.fields)


def _queue(t: Thread, info: SigInfo, tgid: int, tid: int) -> int:
    if (info.code >= 0 or info.code == SI_TKILL) and t.process.pid != tgid:
        raise Errno(EPERM)
    target: Process | Thread = _process(t, tgid)
    if tid:
        thread = t.kernel.threads.get(tid)
        if thread is None or thread.process.pid != tgid:
            raise Errno(ESRCH)
        target = thread
    check_signal(info.signo)
    if not send_checked(t, target, info) and info.signo >= abi.SIGRTMIN:
        raise Errno(EAGAIN)
    return 0


def _process(t: Thread, pid: int) -> Process:
    thread = t.kernel.threads.get(pid)
    process = t.kernel.find_process(pid) or (thread.process if thread is not None else None)
    if process is None:
        raise Errno(ESRCH)
    return process


def send_checked(t: Thread, target: Process | Thread, info: SigInfo) -> bool:
    process = target if isinstance(target, Process) else target.process
    if process is not t.process and not _may_signal(t, target, info.signo):
        raise Errno(EPERM)
    return t.kernel.send_signal(target, info)


def _may_signal(t: Thread, target: Process | Thread, sig: int) -> bool:
    a, b = t.credentials, target.credentials
    if a.euid == 0 or {a.euid, a.uid} & {b.uid, b.suid}:
        return True
    process = target if isinstance(target, Process) else target.process
    return sig == SIGCONT and t.process.session == process.session


def check_signal(sig: int) -> None:
    if not 0 <= sig <= NSIG:
        raise Errno(EINVAL)


# --- actions ----------------------------------------------------------------------------------------------------------


@syscall(174, "rt_sigaction", man="sigaction(2)")
def rt_sigaction(
    t: Thread, sig: Signo, act: In[KernelSigaction], oldact: Out[KernelSigaction], sigsetsize: Size
) -> int:
    """Set and tell what is done on a signal."""
    if sigsetsize != SIGSET_BYTES:
        raise Errno(EINVAL)
    old = _set_action(t, sig, act.get() if act else None)
    if oldact:
        oldact.put(old)
    return 0


@syscall(67, "sigaction", man="sigaction(2)")
def sigaction(t: Thread, sig: Signo, act: In[OldSigaction], oldact: Out[OldSigaction]) -> int:
    """rt_sigaction with a mask of 32 signals."""
    new = None
    if act:
        given = act.get()
        new = KernelSigaction(given.handler, given.flags, given.restorer, given.mask)
    old = _set_action(t, sig, new)
    if oldact:
        oldact.put(OldSigaction(old.handler, old.mask & 0xFFFFFFFF, old.flags, old.restorer))
    return 0


@syscall(48, "signal", man="signal(2)", hex_result=True)
def signal(t: Thread, sig: Signo, handler: Ptr) -> int:
    """Set a handler that is reset when it runs and blocks nothing; the old handler."""
    flags = abi.SA_RESETHAND | abi.SA_NODEFER
    return _set_action(t, sig, KernelSigaction(handler, flags, 0, 0)).handler


def _set_action(t: Thread, sig: int, action: KernelSigaction | None) -> KernelSigaction:
    if not 1 <= sig <= NSIG or (action is not None and UNBLOCKABLE & bit(sig)):
        raise Errno(EINVAL)
    process = t.process
    old = process.actions[sig]
    if action is not None:
        process.actions[sig] = action._replace(flags=action.flags & abi.SA_KNOWN, mask=action.mask & ~UNBLOCKABLE)
        if process.actions.ignores(sig):
            process.pending.flush(bit(sig))
            for thread in process.threads.values():
                thread.pending.flush(bit(sig))
    return old


# --- masks ------------------------------------------------------------------------------------------------------------


def _mask_at_once(t: Thread, how: int, set: int, oldset: int) -> int:
    """rt_sigprocmask without a fault, without a record of the call; see `spec.syscall`."""
    memory, old = t.memory, t.mask
    if t.core.cpu.esi != SIGSET_BYTES or (set and how not in (abi.SIG_BLOCK, abi.SIG_UNBLOCK, abi.SIG_SETMASK)):
        return UNKNOWN
    bits = int.from_bytes(memory.glance(set, SIGSET_BYTES), "little") if set else 0
    if oldset:
        memory.probe(oldset, SIGSET_BYTES, True)
    if set:
        _change_mask(t, how, bits)
    if oldset:
        memory.write(oldset, old.to_bytes(SIGSET_BYTES, "little"))
    return 0


@syscall(175, "rt_sigprocmask", man="sigprocmask(2)", at_once=_mask_at_once)
def rt_sigprocmask(t: Thread, how: MaskHow, set: In[Sigset], oldset: Out[Sigset], sigsetsize: Size) -> int:
    """Change and tell which signals are blocked."""
    if sigsetsize != SIGSET_BYTES:
        raise Errno(EINVAL)
    old = t.mask
    if set:
        _change_mask(t, how, set.get().bits)
    if oldset:
        oldset.put(Sigset(old))
    return 0


@syscall(126, "sigprocmask", man="sigprocmask(2)")
def sigprocmask(t: Thread, how: MaskHow, set: In[OldSigset], oldset: Out[OldSigset]) -> int:
    """rt_sigprocmask of signals 1 to 32."""
    old = t.mask
    if set:
        bits = set.get().bits
        _change_mask(t, how, bits | (old & ~0xFFFFFFFF if how == abi.SIG_SETMASK else 0))
    if oldset:
        oldset.put(OldSigset(old & 0xFFFFFFFF))
    return 0


def _change_mask(t: Thread, how: int, bits: int) -> None:
    if how == abi.SIG_BLOCK:
        t.set_mask(t.mask | bits)
    elif how == abi.SIG_UNBLOCK:
        t.set_mask(t.mask & ~bits)
    elif how == abi.SIG_SETMASK:
        t.set_mask(bits)
    else:
        raise Errno(EINVAL)


@syscall(68, "sgetmask", man="sgetmask(2)", hex_result=True)
def sgetmask(t: Thread) -> int:
    """The blocked signals 1 to 32."""
    return t.mask & 0xFFFFFFFF


@syscall(69, "ssetmask", man="ssetmask(2)", hex_result=True)
def ssetmask(t: Thread, newmask: Hex) -> int:
    """Set the blocked signals, those above 32 unblocked; the old ones."""
    old = t.mask & 0xFFFFFFFF
    t.set_mask(newmask)
    return old


@syscall(176, "rt_sigpending", man="sigpending(2)")
def rt_sigpending(t: Thread, set: Ptr, sigsetsize: Size) -> int:
    """Which blocked signals are pending."""
    if sigsetsize > SIGSET_BYTES:
        raise Errno(EINVAL)
    t.memory.write(set, _pending(t).to_bytes(8, "little")[:sigsetsize])
    return 0


@syscall(73, "sigpending", man="sigpending(2)")
def sigpending(t: Thread, set: Out[OldSigset]) -> int:
    """Which blocked signals of 1 to 32 are pending."""
    set.put(OldSigset(_pending(t) & 0xFFFFFFFF))
    return 0


def _pending(t: Thread) -> int:
    return (t.pending.bits | t.process.pending.bits) & t.mask


# --- waiting ----------------------------------------------------------------------------------------------------------


@syscall(29, "pause", man="pause(2)")
def pause(t: Thread) -> Wait:
    """Wait for a signal that is handled."""
    return Wait(restart=Restart.NOHAND, reason="a signal")


@syscall(179, "rt_sigsuspend", man="sigsuspend(2)")
def rt_sigsuspend(t: Thread, mask: In[Sigset], sigsetsize: Size) -> Wait:
    """Wait for a signal that is handled, with another mask."""
    if sigsetsize != SIGSET_BYTES:
        raise Errno(EINVAL)
    t.put_mask_for_call(mask.get().bits)
    return Wait(restart=Restart.NOHAND, reason="a signal")


@syscall(72, "sigsuspend", man="sigsuspend(2)")
def sigsuspend(t: Thread, unused1: Hex, unused2: Hex, mask: Hex) -> Wait:
    """rt_sigsuspend with a mask of signals 1 to 32."""
    t.put_mask_for_call(mask)
    return Wait(restart=Restart.NOHAND, reason="a signal")


@syscall(177, "rt_sigtimedwait", man="sigtimedwait(2)")
def rt_sigtimedwait(t: Thread, set: In[Sigset], info: Ptr, timeout: In[Timespec32], sigsetsize: Size) -> int | Wait:
    """Wait for one of a set of signals, and take it."""
    return _sigtimedwait(t, set, info, timeout, sigsetsize)


@syscall(421, "rt_sigtimedwait_time64", man="sigtimedwait(2)")
def rt_sigtimedwait_time64(
    t: Thread, set: In[Sigset], info: Ptr, timeout: In[Timespec64], sigsetsize: Size
) -> int | Wait:
    """rt_sigtimedwait with 64-bit time."""
    return _sigtimedwait(t, set, info, timeout, sigsetsize)


def _sigtimedwait(
    t: Thread, set: In[Sigset], info: Ptr, timeout: In[Timespec32] | In[Timespec64], sigsetsize: int
) -> int | Wait:
    call = t.call
    assert call is not None
    if sigsetsize != SIGSET_BYTES:
        raise Errno(EINVAL)
    if "wanted" not in call.state:
        call.state["wanted"] = set.get().bits & ~UNBLOCKABLE
        if timeout:
            spec = timeout.get()
            if spec.tv_sec < 0 or not 0 <= spec.tv_nsec < NS:
                raise Errno(EINVAL)
            call.deadline = t.kernel.clock.monotonic_ns() + spec.tv_sec * NS + spec.tv_nsec
            call.state["poll"] = spec.tv_sec == spec.tv_nsec == 0
    wanted: int = call.state["wanted"]
    taken = t.pending.take(wanted) or t.process.pending.take(wanted)
    if taken is not None:
        if info:
            t.memory.write(info, taken.pack())
        return taken.signo
    if call.woken is Cause.TIMEOUT or call.state.get("poll"):
        raise Errno(EAGAIN)
    return Wait(deadline=call.deadline, restart=Restart.EINTR, reason="a signal of a set", signals=wanted)


# --- handlers ---------------------------------------------------------------------------------------------------------


@syscall(186, "sigaltstack", man="sigaltstack(2)")
def sigaltstack(t: Thread, stack: In[SigStack], old_stack: Out[SigStack]) -> int:
    """Set and tell the stack that SA_ONSTACK handlers run on."""
    esp: int = t.core.cpu.esp
    old = sigframe.alt_stack(t, esp)
    if stack and (error := sigframe.set_alt_stack(t, stack.get(), esp)):
        raise Errno(getattr(errno, error))
    if old_stack:
        old_stack.put(old)
    return 0


@syscall(119, "sigreturn", man="sigreturn(2)")
def sigreturn(t: Thread) -> int:
    """The way back from a handler."""
    try:
        return sigframe.sigreturn(t)
    except (MemoryFault, BadFrame) as error:
        return _bad_frame(t, error)


@syscall(173, "rt_sigreturn", man="sigreturn(2)")
def rt_sigreturn(t: Thread) -> int:
    """The way back from a handler with SA_SIGINFO."""
    try:
        return sigframe.rt_sigreturn(t)
    except (MemoryFault, BadFrame) as error:
        return _bad_frame(t, error)


def _bad_frame(t: Thread, error: Exception) -> int:
    if isinstance(error, MemoryFault) and error.out_of_memory:
        raise error
    send.force_signal(t, SigInfo(SIGSEGV, SI_KERNEL))
    return 0
