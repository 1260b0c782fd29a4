"""Processes: fork(2), clone(2), wait(2), exit(2), process groups and sessions."""

from __future__ import annotations

import struct
from typing import Annotated, Final, NamedTuple

from aiopyvm.abi import clone as clone_abi
from aiopyvm.abi.errno import E2BIG, EACCES, EAGAIN, ECHILD, EFAULT, EINTR, EINVAL, ENOMEM, EPERM, ESRCH, Errno
from aiopyvm.abi.fcntl import O_NONBLOCK
from aiopyvm.abi.ptrace import EVENT_VFORK_DONE
from aiopyvm.abi.resource import Rusage
from aiopyvm.abi.signal import CLD_CONTINUED, CLD_EXITED, CLD_STOPPED, NSIG, SIGCHLD, SIGCONT
from aiopyvm.errors import HostRefusedError
from aiopyvm.kernel import lifecycle, ptrace
from aiopyvm.kernel.pidfd import PidFile, process_of
from aiopyvm.kernel.process import EndReason, Life, Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call, Restart, Wait
from aiopyvm.mem.faults import AddressSpaceFull, MemoryFault
from aiopyvm.mem.layout import TASK_SIZE
from aiopyvm.syscalls.limits import rusage_of
from aiopyvm.syscalls.spec import (
    I32,
    Choice,
    Flags,
    Out,
    Pid,
    Ptr,
    Size,
    syscall,
)  # fmt: skip
from aiopyvm.syscalls.steps import again
from aiopyvm.syscalls.threads import tls_argument

WNOHANG: Final = 0x00000001
WUNTRACED: Final = 0x00000002  # WSTOPPED of waitid(2)
WEXITED: Final = 0x00000004
WCONTINUED: Final = 0x00000008
WNOWAIT: Final = 0x01000000
WNOTHREAD: Final = 0x20000000
WALL: Final = 0x40000000
WCLONE: Final = 0x80000000

P_ALL, P_PID, P_PGID, P_PIDFD = 0, 1, 2, 3

CLONE_ARGS_BYTES: Final = 64  # CLONE_ARGS_SIZE_VER0, all that is served
CLONE_ARGS_KNOWN: Final = 88  # with set_tid, set_tid_size and cgroup

CloneFlags = Annotated[int, Flags(clone_abi.NAMES | {SIGCHLD: "SIGCHLD"})]
WaitFlags = Annotated[
    int,
    Flags({
        WNOHANG: "WNOHANG", WUNTRACED: "WUNTRACED", WEXITED: "WEXITED", WCONTINUED: "WCONTINUED", WNOWAIT: "WNOWAIT",
        WNOTHREAD: "__WNOTHREAD", WALL: "__WALL", WCLONE: "__WCLONE",
    }),
]  # fmt: skip
IdType = Annotated[int, Choice({P_ALL: "P_ALL", P_PID: "P_PID", P_PGID: "P_PGID", P_PIDFD: "P_PIDFD"})]


# --- beginning --------------------------------------------------------------------------------------------------------


@syscall(2, "fork", man="fork(2)")
def fork(t: Thread) -> int | Wait:
    """A copy of the process, of this thread alone."""
    return _clone(t, SIGCHLD, 0, 0, 0, 0)


@syscall(190, "vfork", man="vfork(2)")
def vfork(t: Thread) -> int | Wait:
    """A child that borrows the memory until it executes or exits; so long the caller waits."""
    return _clone(t, clone_abi.CLONE_VFORK | clone_abi.CLONE_VM | SIGCHLD, 0, 0, 0, 0)


@syscall(120, "clone", man="clone(2)", note="no namespaces")
def clone(t: Thread, flags: CloneFlags, stack: Ptr, parent_tid: Ptr, tls: Ptr, child_tid: Ptr) -> int | Wait:
    """A process or a thread, sharing what `flags` say."""
    if flags & clone_abi.CLONE_PIDFD and flags & clone_abi.CLONE_PARENT_SETTID:
        raise Errno(EINVAL)
    return _clone(t, flags, stack, parent_tid, tls, child_tid, parent_tid)


@syscall(435, "clone3", man="clone3(2)", note="no namespaces, set_tid and cgroups")
def clone3(t: Thread, args: Ptr, size: Size) -> int | Wait:
    """clone with its arguments in memory."""
    if size > 4096:
        raise Errno(E2BIG)
    if size < CLONE_ARGS_BYTES:
        raise Errno(EINVAL)
    data = t.memory.read(args, size)
    if any(data[CLONE_ARGS_KNOWN:]):
        raise Errno(E2BIG)
    fields = struct.unpack("<8Q", data[:CLONE_ARGS_BYTES])
    flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls = fields
    if flags >> 32 or flags & (clone_abi.CSIGNAL | clone_abi.CLONE_DETACHED) or exit_signal > NSIG:
        raise Errno(EINVAL)
    if flags & (clone_abi.CLONE_THREAD | clone_abi.CLONE_PARENT) and exit_signal:
        raise Errno(EINVAL)
    if bool(stack) != bool(stack_size) or stack + stack_size > TASK_SIZE or any(data[CLONE_ARGS_BYTES:]):
        raise Errno(EINVAL)
    if max(pidfd, child_tid, parent_tid, tls) >> 32:
        raise Errno(EFAULT)
    return _clone(t, flags | exit_signal, stack + stack_size, parent_tid, tls, child_tid, pidfd)


def _clone(t: Thread, flags: int, stack: int, parent_tid: int, tls: int, child_tid: int, pidfd: int = 0) -> int | Wait:
    call = t.call
    assert call is not None
    if "child" in call.state:
        return _await_vfork(t, call.state["child"], call.state["tid"])
    if call.spare is None:
        lifecycle.check_clone(t, flags)
        call.state["tls"] = tls_argument(t, tls) if flags & clone_abi.CLONE_SETTLS else None
    if not flags & clone_abi.CLONE_VM and (wait := _copy_memory(t, call)) is not None:
        return wait
    file = None
    try:
        file = _new_pidfd(t, pidfd) if flags & clone_abi.CLONE_PIDFD else None
        child = lifecycle.clone(t, flags, stack, tls=call.state["tls"], memory=call.spare)
    except (Errno, MemoryFault):
        _give_up(call)
        if file is not None:
            file.release()
        raise
    call.spare = None
    if file is not None:
        _give_pidfd(t, file, child.process, pidfd)
    if flags & clone_abi.CLONE_PARENT_SETTID:
        _tell_tid(t, parent_tid, child.tid)
    if flags & clone_abi.CLONE_CHILD_SETTID:
        _tell_tid(child, child_tid, child.tid)
    if flags & clone_abi.CLONE_CHILD_CLEARTID:
        child.clear_child_tid = child_tid
    _start(t, child)
    if flags & clone_abi.CLONE_VFORK:
        call.state["child"], call.state["tid"] = child.process, child.tid
        return _await_vfork(t, child.process, child.tid)
    return child.tid


def _new_pidfd(t: Thread, address: int) -> PidFile:
    """Return an open file for the child to come; its descriptor goes to `address`. Raises Errno and MemoryFault."""
    t.memory.probe(address, 4, True)
    t.process.fds.need_free()
    file = PidFile(t.process, 0).hold()
    try:
        t.kernel.take_file(file)
    except Errno:
        file.release()
        raise
    return file


def _give_pidfd(t: Thread, file: PidFile, child: Process, address: int) -> None:
    """Open the child for its parent; the child does not get the descriptor."""
    file.process = child
    t.memory.store(address, 4, t.process.fds.install(file, cloexec=True))
    file.release()


def _copy_memory(t: Thread, call: Call) -> Wait | None:
    """Make `call.spare`, the child's copy of the memory, piece by piece; None: it is there. Raises Errno(ENOMEM)."""
    mm = t.process.mm
    if mm.copier not in (None, t):
        return again(t)
    at: int = call.state.get("at", 0)
    try:
        if call.spare is None:
            call.spare = mm.space.begin_fork(t.kernel.budget)
        following = mm.space.lend(call.spare, at)
    except (AddressSpaceFull, HostRefusedError):
        mm.copier = None
        _give_up(call)
        raise Errno(ENOMEM) from None
    if following is None:
        mm.copier = None
        return None
    mm.copier, call.state["at"] = t, following
    return again(t)


def _give_up(call: Call) -> None:
    if call.spare is not None:
        call.spare.close()
        call.spare = None


def _tell_tid(where: Thread, address: int, tid: int) -> None:
    """Store a new thread's id; a bad address is the guest's own business, as on Linux: the thread is there."""
    try:
        where.memory.store(address, 4, tid)
    except MemoryFault as fault:
        if fault.out_of_memory:
            lifecycle.end_run(where.kernel, EndReason.MEMORY_LIMIT, f"clone: no memory for {address:#010x}")


def _start(t: Thread, child: Thread) -> Process:
    t.kernel.on_runnable(child)
    return child.process


def _await_vfork(t: Thread, child: Process, tid: int) -> int | Wait:
    if child.vfork_done:
        if t.trace is not None and t.trace.wants(EVENT_VFORK_DONE):
            t.trace.events.append((EVENT_VFORK_DONE, tid))
        return tid
    reason = f"process {child.pid} to exec or exit"
    return Wait((child.vfork_queue,), restart=Restart.NOINTR, reason=reason, uninterruptible=True)


# --- ending -----------------------------------------------------------------------------------------------------------


@syscall(1, "exit", man="_exit(2)")
def _exit(t: Thread, status: I32) -> int | Wait:
    """End this thread; the last one ends the process."""
    if ptrace.exit_stop(t, (status & 0xFF) << 8):
        return again(t)
    lifecycle.end_thread(t, (status & 0xFF) << 8)
    return 0


@syscall(252, "exit_group", man="exit_group(2)")
def exit_group(t: Thread, status: I32) -> int | Wait:
    """End the process."""
    if ptrace.exit_stop(t, (status & 0xFF) << 8):
        return again(t)
    lifecycle.end_process(t.process, (status & 0xFF) << 8, EndReason.EXITED)
    return 0


# --- waiting ----------------------------------------------------------------------------------------------------------


@syscall(114, "wait4", man="wait4(2)")
def wait4(t: Thread, pid: Pid, status: Out[I32], options: WaitFlags, usage: Out[Rusage]) -> int | Wait:
    """Wait for a child to end, or as `options` say to stop or continue."""
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
        raise Errno(EINVAL)
    if pid == -0x80000000:
        raise Errno(ESRCH)
    group = -pid if pid < -1 else t.process.group if pid == 0 else 0
    found = _find_child(t.process, max(pid, 0), group, options | WEXITED)
    if found is None:
        return 0 if options & WNOHANG else _await_child(t)
    child_usage = found.usage
    _consume(t.process, found, options)
    if status:
        status.put(found.word)
    if usage:
        usage.put(child_usage)
    return found.pid


@syscall(7, "waitpid", man="waitpid(2)")
def waitpid(t: Thread, pid: Pid, status: Out[I32], options: WaitFlags) -> int | Wait:
    """wait4 without the usage."""
    return wait4(t, pid, status, options, Out(t, 0, status._codec))  # type: ignore[arg-type]


@syscall(284, "waitid", man="waitid(2)")
def waitid(t: Thread, idtype: IdType, id: Pid, infop: Ptr, options: WaitFlags, usage: Out[Rusage]) -> int | Wait:
    """Wait for a child to change state; `infop` tells how."""
    allowed = WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL
    if options & ~allowed or not options & (WEXITED | WUNTRACED | WCONTINUED):
        raise Errno(EINVAL)
    pid = group = 0
    if idtype == P_PID:
        pid = id
    elif idtype == P_PGID:
        group = id or t.process.group
    elif idtype == P_PIDFD:
        if id < 0:
            raise Errno(EINVAL)
        pid = process_of(t, id).pid
    elif idtype != P_ALL:
        raise Errno(EINVAL)
    if (idtype == P_PID and id <= 0) or (idtype == P_PGID and id < 0):
        raise Errno(EINVAL)
    found = _find_child(t.process, pid, group, options)
    if found is None and not options & WNOHANG:
        if idtype == P_PIDFD and t.process.fds.get(id).flags & O_NONBLOCK:
            raise Errno(EAGAIN)
        return _await_child(t)
    words = (0, 0, 0, 0, 0, 0)
    if found is not None:
        words = (SIGCHLD, 0, found.code, found.pid, found.uid, found.detail)
        child_usage = found.usage
        _consume(t.process, found, options)
        if usage:
            usage.put(child_usage)
    if infop:
        t.memory.write(infop, b"".join(word.to_bytes(4, "little") for word in words))
    return 0


class Change(NamedTuple):
    """What wait(2) finds: a child, or a thread that the caller traces, has ended, stopped or gone on."""

    pid: int
    code: int  # CLD_*
    word: int  # wait(2)'s status
    process: Process | None  # None: a thread that has ended
    thread: Thread | None = None  # stopped for its tracer

    @property
    def uid(self) -> int:
        """The user."""
        return self.process.credentials.uid if self.process is not None else 0

    @property
    def detail(self) -> int:
        """si_status."""
        if self.code == CLD_CONTINUED:
            return SIGCONT
        if self.code == ptrace.CLD_TRAPPED:
            return self.word >> 8
        return self.word >> 8 & 0xFF if self.code in (CLD_EXITED, CLD_STOPPED) else self.word & 0x7F

    @property
    def usage(self) -> Rusage:
        """The times so far."""
        child = self.process
        return rusage_of(child.user_ns, child.system_ns, child.usage.max_pages) if child else rusage_of(0, 0, 0)


def _find_child(parent: Process, pid: int, group: int, options: int) -> Change | None:
    """Return what is to be told of one that changed state. Raises Errno(ECHILD)."""
    eligible = False
    if parent.tracees or parent.tracee_ends:
        eligible, change = _find_tracee(parent, pid, group, options)
        if change is not None:
            return change
    for child in tuple(parent.children.values()):
        if (pid and child.pid != pid) or (group and child.group != group):
            continue
        if not options & WALL and (child.exit_signal != SIGCHLD) != bool(options & WCLONE):
            continue
        eligible = True
        change = _change_of(child, options)
        if change is not None:
            return change
    if not eligible:
        raise Errno(ECHILD)
    return None


def _find_tracee(tracer: Process, pid: int, group: int, options: int) -> tuple[bool, Change | None]:
    """Whether `tracer` traces such a thread, and what is to be told of one."""
    t = ptrace.stopped_for(tracer, pid, group)
    if t is not None and t.trace is not None:
        return True, Change(t.tid, ptrace.CLD_TRAPPED, t.trace.stop << 8 | 0x7F, t.process, t)
    for tid, word in tracer.tracee_ends.items():
        if options & WEXITED and (not pid or tid == pid) and not group:
            return True, Change(tid, lifecycle.end_code(word), word, None)
    return any((not pid or tid == pid) and not group for tid in tracer.tracees), None


def _change_of(child: Process, options: int) -> Change | None:
    if child.life is Life.ZOMBIE:
        word = child.exit_status or 0
        code = lifecycle.end_code(word)
        return Change(child.pid, code, word, child) if options & WEXITED else None
    if options & WUNTRACED and child.stop_signal and child.stop_unreported:
        return Change(child.pid, CLD_STOPPED, child.stop_signal << 8 | 0x7F, child)
    if options & WCONTINUED and child.continued_unreported:
        return Change(child.pid, CLD_CONTINUED, 0xFFFF, child)
    return None


def _consume(parent: Process, change: Change, options: int) -> None:
    """It was told, and is not to be told again."""
    child = change.process
    if options & WNOWAIT:
        return
    if change.thread is not None and change.thread.trace is not None:
        change.thread.trace.unreported = False
    elif child is None:
        del parent.tracee_ends[change.pid]
    elif change.code == CLD_STOPPED:
        child.stop_unreported = False
    elif change.code == CLD_CONTINUED:
        child.continued_unreported = False
    else:
        lifecycle.reap(child)


def _await_child(t: Thread) -> Wait:
    return Wait((t.process.child_queue,), reason="a child to change state")


# --- groups and sessions ----------------------------------------------------------------------------------------------


@syscall(57, "setpgid", man="setpgid(2)")
def setpgid(t: Thread, pid: Pid, pgid: Pid) -> int:
    """Put a process into a process group of its session."""
    caller = t.process
    pid = pid or caller.pid
    pgid = pgid or pid
    if pgid < 0:
        raise Errno(EINVAL)
    process = t.kernel.find_process(pid)
    if process is None:
        raise Errno(ESRCH)
    if process.parent is caller:
        if process.session != caller.session:
            raise Errno(EPERM)
        if process.has_execed:
            raise Errno(EACCES)
    elif process is not caller:
        raise Errno(ESRCH)
    if process.session == process.pid:
        raise Errno(EPERM)
    if pgid != pid and not any(p.group == pgid and p.session == caller.session for p in t.kernel.processes.values()):
        raise Errno(EPERM)
    process.group = pgid
    return 0


@syscall(132, "getpgid", man="getpgid(2)")
def getpgid(t: Thread, pid: Pid) -> int:
    """The process group of a process, 0: of this one."""
    return _process_or_self(t, pid).group


@syscall(65, "getpgrp", man="getpgrp(2)")
def getpgrp(t: Thread) -> int:
    """The process group of this process."""
    return t.process.group


@syscall(66, "setsid", man="setsid(2)")
def setsid(t: Thread) -> int:
    """A new session and process group with this process as leader."""
    process = t.process
    if any(p.group == process.pid or p.session == process.pid for p in t.kernel.processes.values()):
        raise Errno(EPERM)
    process.group = process.session = process.pid
    process.tty = None
    return process.pid


@syscall(147, "getsid", man="getsid(2)")
def getsid(t: Thread, pid: Pid) -> int:
    """The session of a process, 0: of this one."""
    return _process_or_self(t, pid).session


def _process_or_self(t: Thread, pid: int) -> Process:
    process = t.kernel.find_process(pid) if pid else t.process
    if process is None:
        raise Errno(ESRCH)
    return process


@syscall(0, "restart_syscall", man="restart_syscall(2)")
def restart_syscall(t: Thread) -> int:
    """Called by a program, there is nothing to restart: an interrupted call that goes on does so in the kernel."""
    raise Errno(EINTR)
