"""The lives of processes and threads: clone, exit, zombies, orphans, the end of the run (clone(2), exit(2), wait(2)).

The first process is the machine's init: orphans become its children, and when it ends the run ends, with all that
still lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi import clone as abi
from aiopyvm.abi.errno import EAGAIN, EINVAL, ENOMEM, EPERM, Errno
from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_NPROC
from aiopyvm.abi.signal import (
    ALL,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CORE_DUMPED,
    NSIG,
    SA_NOCLDWAIT,
    SI_KERNEL,
    SI_USER,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SigInfo,
)
from aiopyvm.kernel import jobs, ptrace, robust, segments
from aiopyvm.kernel.process import PROCESS_BYTES, EndReason, Life, Process, Usage
from aiopyvm.kernel.send import child_info, notify, send_signal
from aiopyvm.kernel.thread import THREAD_BYTES, IoContext, RunState, Thread
from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.mem.space import AddressSpace


def check_clone(t: Thread, flags: int) -> None:
    """Raise what stands against a clone from the start: Errno EINVAL, EPERM, EAGAIN."""
    _check_flags(flags)
    _check_process_limit(t)


def clone(
    t: Thread,
    flags: int,
    stack: int = 0,
    *,
    tls: tuple[int, int, int, int] | None = None,
    memory: AddressSpace | None = None,
) -> Thread:
    """Make the thread, or the process with one thread, that clone(2) describes; it starts with EAX = 0.

    `tls` is a descriptor to load: (index, base, limit, access). `memory` is the process's own copy of the address
    space, where it gets one: it is the process's from now on, unless Errno is raised (EAGAIN, ENOMEM).
    """
    kernel = t.kernel
    tid = kernel.new_pid()
    as_thread = bool(flags & abi.CLONE_THREAD)
    size = THREAD_BYTES if as_thread else PROCESS_BYTES + THREAD_BYTES + t.process.texts_bytes
    if not kernel.charge(size):
        kernel.free_task()
        raise Errno(ENOMEM)
    process = t.process if as_thread else _new_process(t, flags, tid, memory)
    process.charged += size
    cpu = t.core.cpu.copy()
    cpu.eax = 0
    cpu.instructions = 0
    if stack:
        cpu.esp = stack
    if tls is not None:
        entry = cpu.tls[tls[0]]
        _, entry.base, entry.limit, entry.access = tls
        segments.refresh(cpu)
    thread = Thread(kernel, process, tid, kernel.make_core(cpu, process.mm.space))
    thread.name, thread.mask, thread.nice = t.name, t.mask, t.nice
    if t.io is not None and (flags & abi.CLONE_IO or t.io.priority):
        thread.io = t.io if flags & abi.CLONE_IO else IoContext(t.io.priority)
    if process is t.process:
        thread.credentials, thread.fs = t.credentials, t.fs
    if not flags & abi.CLONE_VM or flags & abi.CLONE_VFORK:
        thread.alt_sp, thread.alt_size, thread.alt_flags = t.alt_sp, t.alt_size, t.alt_flags
    if not flags & abi.CLONE_VM:
        thread.rseq = t.rseq
    process.threads[tid] = thread
    kernel.threads[tid] = thread
    ptrace.cloned(t, thread, flags)
    return thread


def _check_process_limit(t: Thread) -> None:
    """Raise Errno(EAGAIN) when the user has RLIMIT_NPROC threads already; root may have more."""
    limit, who = t.process.limits[RLIMIT_NPROC][0], t.credentials
    if limit == RLIM_INFINITY or who.uid == 0:
        return
    if sum(thread.credentials.uid == who.uid for thread in t.kernel.threads.values()) >= limit:
        raise Errno(EAGAIN)


def _check_flags(flags: int) -> None:
    if flags & abi.CLONE_THREAD and not flags & abi.CLONE_SIGHAND:
        raise Errno(EINVAL)
    if flags & abi.CLONE_SIGHAND and not flags & abi.CLONE_VM:
        raise Errno(EINVAL)
    if flags & abi.CLONE_NEW and flags & abi.CLONE_FS and flags & abi.CLONE_NEWNS:
        raise Errno(EINVAL)
    if flags & abi.CLONE_NEW:
        raise Errno(EPERM)
    if flags & abi.CLONE_PIDFD and flags & (abi.CLONE_THREAD | abi.CLONE_DETACHED):
        raise Errno(EINVAL)


def _new_process(t: Thread, flags: int, pid: int, memory: AddressSpace | None) -> Process:
    old = t.process
    kernel = t.kernel
    mm = old.mm.share() if memory is None else old.mm.around(memory)
    parent = old.parent if flags & abi.CLONE_PARENT and old.parent is not None else old
    process = Process(
        kernel,
        pid,
        parent,
        old.group,
        old.session,
        mm,
        old.fds.share() if flags & abi.CLONE_FILES else old.fds.fork(),
        t.fs,
        t.credentials.copy(),
        old.actions if flags & abi.CLONE_SIGHAND else old.actions.copy(),
        list(old.limits),
    )
    process.exit_signal = old.exit_signal if flags & abi.CLONE_PARENT else flags & abi.CSIGNAL
    process.vfork_done = not flags & abi.CLONE_VFORK
    process.started_ns = kernel.clock.monotonic_ns()
    process.fs = t.fs.share(process) if flags & abi.CLONE_FS else t.fs.clone(process)
    process.exe, process.arguments, process.environment = old.exe, old.arguments, old.environment
    process.auxv = old.auxv
    process.hold_exe(old.exe_inode, old.exe_file)
    process.tty = old.tty
    process.personality, process.dumpable = old.personality, old.dumpable
    process.oom_score_adj, process.oom_score_adj_min = old.oom_score_adj, old.oom_score_adj_min
    process.no_new_privs = old.no_new_privs
    parent.children[pid] = process
    kernel.processes[pid] = process
    return process


def end_thread(t: Thread, status: int) -> None:
    """exit(2): end one thread; the last one ends the process with `status` (wait(2)'s word)."""
    process = t.process
    if len(process.threads) == 1:
        end_process(process, status, EndReason.EXITED)
        return
    ptrace.thread_ends(t, status)
    _detach(t, wake_joiner=True)
    for other in process.threads.values():  # what `t` was to take is for the others now
        if other.pending_bits():
            notify(other, 0)


def end_other_threads(t: Thread) -> None:
    """End every thread of `t`'s process but `t`, which becomes the main one (execve(2))."""
    process = t.process
    for other in tuple(process.threads.values()):
        if other is not t:
            ptrace.thread_ends(other, 0)
            _detach(other, wake_joiner=False)
    if t.tid != process.pid:
        for table in (process.threads, t.kernel.threads):
            del table[t.tid]
            table[process.pid] = t
        t.tid = process.pid
        t.kernel.free_task()
    process.leader = None


def end_process(process: Process, status: int, reason: EndReason, detail: str = "") -> None:
    """End a process with wait(2)'s `status` word; nothing happens to one that has ended."""
    if process.life is not Life.ALIVE:
        return
    kernel = process.kernel
    process.life = Life.ZOMBIE
    if process.dumping is not None:
        process.dumping.file.release()
        process.dumping = None
    process.exit_status, process.end_reason, process.detail = status, reason, detail
    process.usage.max_pages = max(process.usage.max_pages, process.mm.space.peak_resident_pages)
    main = process.main
    shared_memory = process.mm.users > 1
    ptrace.tracer_ends(process)
    for thread in tuple(process.threads.values()):
        ptrace.thread_ends(thread, status)
        _detach(thread, wake_joiner=shared_memory)
    process.drop_timers()
    process.pending.flush(ALL)
    process.real_timer.cancel()
    leave_vfork(process)
    jobs.leader_ends(process)
    ends_run = process is kernel.init and not kernel.ended
    kernel.ended = kernel.ended or ends_run
    process.hold_exe(None, None)
    process.fds.release()
    kernel.clear_network()
    process.mm.release()
    kernel.leave_ipc(process)
    kernel.budget.charge(-process.charged)
    process.charged = 0
    if ends_run:
        _end_all(kernel, EndReason.RUN_ENDED, "")
    elif not kernel.ended:
        _reparent_children(process)
        _tell_parent(process)
    process.tell_end()
    kernel.on_exit(process)
    if kernel.strace is not None and main is not None and reason in (EndReason.EXITED, EndReason.SIGNALED):
        from aiopyvm.kernel.tracetext import end_text

        kernel.strace(main, end_text(status))


def end_run(kernel: Kernel, reason: EndReason, detail: str = "") -> None:
    """End every process at once with `reason`, as by SIGKILL; the run is over."""
    kernel.ended = True
    _end_all(kernel, reason, detail)


def _end_all(kernel: Kernel, reason: EndReason, detail: str) -> None:
    for process in tuple(kernel.processes.values()):
        end_process(process, SIGKILL, reason, detail)


def leave_vfork(process: Process) -> None:
    """Let the parent of a vfork(2) child go on."""
    if not process.vfork_done:
        process.vfork_done = True
        process.vfork_queue.wake()


def reap(process: Process) -> None:
    """Forget a zombie; its CPU time goes to the parent."""
    process.life = Life.REAPED
    process.tell_end()
    process.kernel.processes.pop(process.pid, None)
    process.kernel.free_task()
    parent = process.parent
    if parent is not None:
        parent.children.pop(process.pid, None)
        parent.child_usage.add(Usage(process.user_ns, process.system_ns, process.usage.max_pages))
        parent.child_usage.add(process.child_usage)


def _detach(t: Thread, *, wake_joiner: bool) -> None:
    """Take a thread out of everything; what it used stays with the process."""
    kernel, process = t.kernel, t.process
    kernel.leave_queues(t)
    t.state = RunState.DEAD
    if t.call is not None and t.call.spare is not None:
        t.call.spare.close()
    if t.call is not None and t.call.charged:
        kernel.budget.charge(-t.call.charged)
    if process.mm.copier is t:
        process.mm.copier = None
    t.call = t.interrupted = None
    t.pending.flush(ALL)
    if t.robust_list:
        robust.release(t)
    kernel.futexes.orphan(t)
    if wake_joiner and t.clear_child_tid:
        try:
            t.memory.store(t.clear_child_tid, 4, 0)
            kernel.futexes.wake(kernel.futexes.key(t, t.clear_child_tid, private=False), 1)
        except MemoryFault:
            pass  # as Linux: the address is the guest's own business (set_tid_address(2))
    process.usage.user_ns += t.core.cpu.instructions
    process.usage.system_ns += t.system_ns
    process.threads.pop(t.tid, None)
    kernel.threads.pop(t.tid, None)
    process.leader = (t if t.tid == process.pid else process.leader) if process.threads else None
    if t.tid != process.pid:  # a process counts until it is waited for
        kernel.free_task()
    if process.life is Life.ALIVE:
        kernel.budget.charge(-THREAD_BYTES)
        process.charged -= THREAD_BYTES


def _reparent_children(process: Process) -> None:
    kernel = process.kernel
    heir = next((p for p in process.ancestors() if p.subreaper and p.life is Life.ALIVE), kernel.init)
    children = tuple(process.children.values())
    whole = [group for group in {child.group: None for child in children} if not jobs.is_orphaned(kernel, group)]
    for child in children:
        child.parent = heir
        if heir is not None:
            heir.children[child.pid] = child
        if child.death_signal:
            send_signal(child, SigInfo(child.death_signal, SI_USER, process.pid))
        if child.life is Life.ZOMBIE:
            _tell_parent(child)
    for group in whole:
        _hang_up_if_orphaned(kernel, group)
    process.children.clear()
    if process.parent is not None and process.parent.group != process.group:
        _hang_up_if_orphaned(kernel, process.group)


def _hang_up_if_orphaned(kernel: Kernel, group: int) -> None:
    """SIGHUP and SIGCONT for a group that became orphaned with a stopped member (exit(3))."""
    members = [p for p in kernel.processes.values() if p.group == group and p.life is Life.ALIVE]
    if any(p.stop_signal for p in members) and jobs.is_orphaned(kernel, group):
        kernel.signal_group(group, SigInfo(SIGHUP, SI_KERNEL))
        kernel.signal_group(group, SigInfo(SIGCONT, SI_KERNEL))


def end_code(status: int) -> int:
    """The CLD_* code of wait(2)'s `status` word of what has ended."""
    if not status & 0x7F:
        return CLD_EXITED
    return CLD_DUMPED if status & CORE_DUMPED else CLD_KILLED


def _tell_parent(process: Process) -> None:
    """Send the exit signal; a parent that ignores SIGCHLD gets no zombie (wait(2), notes)."""
    parent = process.parent
    if parent is None:
        return
    status = process.exit_status or 0
    killed = status & 0x7F
    info = child_info(process, end_code(status), killed or status >> 8)
    action = parent.actions[SIGCHLD]
    unwanted = process.exit_signal == SIGCHLD and (action.handler == SIG_IGN or action.flags & SA_NOCLDWAIT)
    if 1 <= process.exit_signal <= NSIG and not (unwanted and action.handler == SIG_IGN):
        send_signal(parent, info._replace(signo=process.exit_signal))
    if unwanted:
        reap(process)
    parent.child_queue.wake()
