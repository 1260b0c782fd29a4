"""A guest thread: a CPU of its own, a signal mask, and at most one system call in progress. Plain data.

Run states. RUNNABLE: may run instructions, once `attention` is false and no `call` is in progress (`Kernel.resume`
sees to both). PARKED: a call waits for `wait`. STOPPED: a stop signal; SIGCONT or SIGKILL ends it. TRACED:
stopped for its tracer (ptrace.py). DEAD: for good.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from aiopyvm.kernel.signals import Pending
from aiopyvm.kernel.wait import Cause

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Core
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Credentials, Process
    from aiopyvm.kernel.ptrace import Trace
    from aiopyvm.kernel.rseq import Area
    from aiopyvm.kernel.timer import Timer
    from aiopyvm.kernel.wait import Call, Wait
    from aiopyvm.mem.space import AddressSpace

THREAD_BYTES: Final = 4096  # of the budget, for a thread's own records


class RunState(enum.Enum):
    """What a thread does now; see the module's docstring."""

    RUNNABLE = "R"
    PARKED = "S"
    STOPPED = "T"
    TRACED = "t"
    DEAD = "X"


# An enumeration looks its members up at each use, and who steps threads asks for these at each step.
RUNNABLE: Final = RunState.RUNNABLE
PARKED: Final = RunState.PARKED
DEAD: Final = RunState.DEAD


class IoContext:
    """What threads that were made with CLONE_IO share: `priority` as ioprio_set(2) has it, 0: what goes with `nice`."""

    __slots__ = ("priority",)

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority


class Thread:
    """One thread of a process. `memory` is `core.memory`; `process.mm.space` too."""

    __slots__ = (
        "__weakref__",
        "alt_flags",
        "alt_size",
        "alt_sp",
        "attention",
        "call",
        "clear_child_tid",
        "core",
        "credentials",
        "error_code",
        "fault_address",
        "fs",
        "interrupted",
        "io",
        "kernel",
        "mask",
        "memory",
        "moved",
        "name",
        "nice",
        "pending",
        "process",
        "robust_list",
        "rseq",
        "started_ns",
        "state",
        "system_ns",
        "tid",
        "timer",
        "trace",
        "trap_number",
        "usual_read",
        "usual_write",
        "wait",
        "yields",
    )

    def __init__(self, kernel: Kernel, process: Process, tid: int, core: Core) -> None:
        self.kernel = kernel
        self.process = process
        self.tid = tid
        self.core = core
        self.credentials = process.credentials  # its ids, and its place in the file system with them: `take_ids`
        self.fs = process.fs
        self.nice = 0
        self.io: IoContext | None = None
        self.started_ns = kernel.clock.monotonic_ns()
        self.memory: AddressSpace = core.memory
        self.state = RUNNABLE
        self.name = b""  # at most 15 bytes (prctl(2), PR_SET_NAME)
        self.call: Call | None = None  # the system call in progress
        self.wait: Wait | None = None  # what it waits for, while PARKED
        self.usual_read: Wait | None = None  # what it waited for last in a read(2) that another finished, as it is
        self.usual_write: Wait | None = None  # and in a write(2): for the next one like it (syscalls/atonce.py)
        self.interrupted: Wait | None = None  # what it waited for, when a signal came between
        self.timer: Timer | None = None  # of wait.deadline
        self.yields = False  # it has asked that others of its machine come first (sched_yield(2))
        self.attention = False  # a signal may be deliverable, or a call has changed more than EAX: look before going on
        self.trace: Trace | None = None  # where somebody traces it
        self.mask = 0  # blocked signals
        self.pending = Pending(kernel.queue_room)
        self.alt_sp = 0
        self.alt_size = 0
        self.alt_flags = 0
        self.clear_child_tid = 0
        self.robust_list = 0
        self.rseq: Area | None = None  # rseq(2)
        self.trap_number = 0  # of the last fault, with its error code and CR2: signal frames show them
        self.error_code = 0
        self.fault_address = 0
        self.moved = 0  # bytes that the present call moved so far; handlers add to it, dispatch charges for it
        self.system_ns = 0  # virtual time spent in system calls

    def __repr__(self) -> str:
        return f"<thread {self.tid} of {self.process!r}: {self.state.name}>"

    def take_ids(self) -> Credentials:
        """Return its ids, to be changed: no other thread has the same object (credentials(7), "C library/kernel
        differences"). The process's are those of its leader."""
        process = self.process
        if len(process.threads) > 1:
            self.credentials, self.fs = self.credentials.copy(), self.fs.share(process)
            if self.tid == process.pid:
                process.credentials, process.fs = self.credentials, self.fs
        return self.credentials

    def pending_bits(self) -> int:
        """The pending signals that the mask lets through."""
        return (self.pending.bits | self.process.pending.bits) & ~self.mask

    def set_mask(self, mask: int) -> None:
        """Set the signal mask (never SIGKILL and SIGSTOP); what it lets through comes before the next instruction."""
        self.mask = mask & ~0x40100
        if self.pending_bits():
            self.attention = True

    def put_mask_for_call(self, mask: int) -> None:
        """Set `mask` for the length of the present call (ppoll(2), sigsuspend(2)); its end puts the old one back."""
        call = self.call
        if call is not None and call.saved_mask is None:
            call.saved_mask = self.mask
            self.set_mask(mask)

    def timer_expired(self, now: int) -> None:
        """The deadline of `wait` passed."""
        if self.state is PARKED:
            self.kernel.unpark(self, Cause.TIMEOUT)

    @property
    def cpu_ns(self) -> int:
        """CPU time so far, user and system (ns; kernel/process.py)."""
        return int(self.core.cpu.instructions) + self.system_ns

    @property
    def waits_for(self) -> str:
        """What the thread waits for, in words: for people, and for a deadlock's detail."""
        if self.state is RunState.STOPPED:
            return "stopped by a signal"
        if self.state is RunState.TRACED:
            return "stopped for its tracer"
        if self.wait is None:
            return self.state.name.lower()
        reason = self.wait.words or ", ".join(queue.name for queue in self.wait.queues if queue.name) or "a signal"
        return f"{self.call.name}: {reason}" if self.call else reason

    @property
    def waits_outside(self) -> bool:
        """Whether something other than a guest can end the wait: a deadline, the host, or Python."""
        wait = self.wait
        return wait is not None and (wait.deadline is not None or any(queue.external for queue in wait.sources))
