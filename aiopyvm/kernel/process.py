"""A guest process: what its threads share, and what remains of it until somebody waits for it. Plain data.

Time. A process's user CPU time is its instruction count, one nanosecond each, and its system time the virtual cost of
its system calls: the same on every host and in every run (docs/quirks.md).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.resource import RLIM_INFINITY, RLIMIT_CPU, default_limits
from aiopyvm.abi.signal import SIGCHLD, SIGPROF, SIGVTALRM
from aiopyvm.kernel.signals import Actions, Pending
from aiopyvm.kernel.timer import CpuTimer, RealTimer
from aiopyvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from aiopyvm.errors import InternalError
    from aiopyvm.kernel.coredump import Dump
    from aiopyvm.kernel.fdtable import FdTable
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.mm import Mm
    from aiopyvm.kernel.posixtimer import PosixTimer
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.timer import Timer
    from aiopyvm.kernel.tty import Tty
    from aiopyvm.mem.space import AddressSpace

TIMER_BYTES: Final = 512  # of the budget, for each timer of timer_create(2)
PROCESS_BYTES: Final = 8192  # of the budget, for a process's own records


class EndReason(enum.Enum):
    """Why a process ended. The last four are verdicts from outside the guest; `exit_status` is then SIGKILL's."""

    EXITED = "exited"
    SIGNALED = "signaled"
    MEMORY_LIMIT = "memory limit"
    RUN_ENDED = "the first process of the run ended"
    TERMINATED = "terminated by the runtime"
    INTERNAL_ERROR = "internal error"


class Life(enum.Enum):
    """ALIVE until the last thread ends; ZOMBIE until the parent has waited; then REAPED."""

    ALIVE = "alive"
    ZOMBIE = "zombie"
    REAPED = "reaped"


class Credentials:
    """User and group ids (credentials(7)): real, effective, saved, and of the file system; supplementary groups."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = self.euid = self.suid = self.fsuid = uid
        self.gid = self.egid = self.sgid = self.fsgid = gid
        self.groups: tuple[int, ...] = ()

    def copy(self) -> Credentials:
        """Return an independent copy, for a child (fork(2))."""
        made = Credentials(self.uid, self.gid)
        made.__dict__.update(self.__dict__)
        return made


class Fault(NamedTuple):
    """The last exception that a guest did not survive: its vector, error code, EIP and, for #PF, address and access.

    `code`: for #UD, bytes from EIP on, as far as they are on one page.
    """

    vector: int
    error_code: int
    eip: int
    address: int = 0
    access: str = ""
    code: bytes = b""


class Usage:
    """CPU time of what is gone: ended threads, or waited-for children (ns), and the largest resident set (pages)."""

    def __init__(self, user_ns: int = 0, system_ns: int = 0, max_pages: int = 0) -> None:
        self.user_ns = user_ns
        self.system_ns = system_ns
        self.max_pages = max_pages

    def add(self, other: Usage) -> None:
        """Add another's times; keep the larger resident set."""
        self.user_ns += other.user_ns
        self.system_ns += other.system_ns
        self.max_pages = max(self.max_pages, other.max_pages)


class Process:
    """One process. Its main thread's tid is `pid`; `group` and `session` are the ids of their leaders."""

    life: Life = Life.ALIVE
    exit_status: int | None = None  # wait(2)'s status word
    end_reason: EndReason | None = None
    detail: str = ""
    failure: InternalError | None = None
    fault: Fault | None = None
    exit_signal: int = SIGCHLD  # what the parent gets; 0: nothing
    stop_signal: int = 0  # while stopped
    stop_unreported: bool = False  # for wait(2) with WUNTRACED
    continued_unreported: bool = False  # for WCONTINUED
    dumping: Dump | None = None  # its core, at its end
    leader: Thread | None = None  # the first thread, where it has ended before others
    has_execed: bool = False
    exe: bytes = b""  # the program's path
    exe_inode: Inode | None = None  # and the program itself
    exe_file: File | None = None  # held where the program is a file without a name
    arguments: bytes = b""  # argv and the environment as the program got them, each string with its NUL (proc(5))
    environment: bytes = b""
    auxv: bytes = b""  # getauxval(3)
    personality: int = 0
    dumpable: int = 1
    oom_score_adj: int = 0  # proc(5): what memory's want would choose by; the second is how low its user may set it
    oom_score_adj_min: int = 0
    death_signal: int = 0
    no_new_privs: int = 0
    subreaper: int = 0
    started_ns: int = 0
    next_timer: int = 0
    charged: int = 0  # bytes of the budget that the kernel's own records of this process hold
    vfork_done: bool = True
    signal_queue: WaitQueue | None = None  # woken by each signal sent, once somebody waits for one (signalfd(2))
    exit_queue: WaitQueue | None = None  # woken when it ends and when it is waited for (pidfd_open(2))
    tty: Tty | None = None  # the controlling terminal
    old_foreground: int = 0  # of a leader whose terminal was hung up: the group that was in the foreground
    metered: bool = False  # a timer or a limit is on its CPU time, which is looked at before each slice

    def __init__(
        self,
        kernel: Kernel,
        pid: int,
        parent: Process | None,
        group: int,
        session: int,
        mm: Mm,
        fds: FdTable,
        fs: FsContext,
        credentials: Credentials,
        actions: Actions | None = None,
        limits: list[tuple[int, int]] | None = None,
    ) -> None:
        self.kernel = kernel
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.mm = mm
        self.fds = fds
        self.fs = fs
        self.credentials = credentials
        self.actions = actions if actions is not None else Actions()
        self.limits = limits if limits is not None else default_limits()  # by RLIMIT_* number: (soft, hard)
        self.threads: dict[int, Thread] = {}
        self.tracees: dict[int, Thread] = {}  # what it traces, by thread id (ptrace.py)
        self.tracee_ends: dict[int, int] = {}  # wait(2)'s status words of such that ended and are not its children
        self.children: dict[int, Process] = {}
        self.usage = Usage()
        self.child_usage = Usage()
        self.child_queue = WaitQueue("a child to change state")
        self.vfork_queue = WaitQueue("a vfork child to exec or exit")
        self.pending = Pending(kernel.queue_room)
        self.timers: dict[int, PosixTimer] = {}  # timer_create(2)
        self.real_timer = RealTimer(self)
        self.virtual_timer = CpuTimer(SIGVTALRM)
        self.profile_timer = CpuTimer(SIGPROF)
        self.cpu_timers: list[Timer] = []  # of timer_create(2), by its CPU time or that of a thread
        self.meter()

    def drop_timers(self) -> None:
        """Forget all timers of timer_create(2)."""
        timers, self.timers = self.timers, {}
        for timer in timers.values():
            timer.cancel()
            self.kernel.budget.charge(-TIMER_BYTES)

    def tell_end(self) -> None:
        """Wake who waits for its end through a descriptor."""
        if self.exit_queue is not None:
            self.exit_queue.wake()

    def meter(self) -> None:
        """A timer or a limit on CPU time may have been set."""
        limited = self.limits[RLIMIT_CPU][0] != RLIM_INFINITY
        armed = self.virtual_timer.armed or self.profile_timer.armed
        self.metered = limited or armed or bool(self.cpu_timers)

    @property
    def cpu_ns(self) -> int:
        """CPU time so far, ns."""
        return self.user_ns + self.system_ns

    def __repr__(self) -> str:
        return f"<process {self.pid} {self.name.decode(errors='replace')!r}>"

    @property
    def memory(self) -> AddressSpace:
        """The address space."""
        return self.mm.space

    @property
    def main(self) -> Thread | None:
        """The thread whose tid is the pid, while it lives; else any other."""
        return self.threads.get(self.pid) or next(iter(self.threads.values()), None)

    @property
    def name(self) -> bytes:
        """The command name, at most 15 bytes."""
        main = self.main
        return main.name if main is not None else self.exe.rpartition(b"/")[2][:15]

    @property
    def user_ns(self) -> int:
        """User CPU time so far, ns."""
        return self.usage.user_ns + sum(int(t.core.cpu.instructions) for t in self.threads.values())

    @property
    def system_ns(self) -> int:
        """System CPU time so far, ns."""
        return self.usage.system_ns + sum(t.system_ns for t in self.threads.values())

    @property
    def returncode(self) -> int | None:
        """The end as subprocess counts it: exit status, -n for signal n; None while it lives."""
        status = self.exit_status
        if status is None:
            return None
        return -(status & 0x7F) if status & 0x7F else status >> 8

    def hold_exe(self, inode: Inode | None, file: File | None) -> None:
        """Make `inode` the program; `file` (if any) is kept open as long as it is."""
        if inode is not None:
            inode.executed += 1
        if self.exe_inode is not None:
            self.exe_inode.executed -= 1
        held, self.exe_inode = self.exe_file, inode
        self.exe_file = file.hold() if file is not None else None
        if held is not None:
            held.release()

    @property
    def texts_bytes(self) -> int:
        """Bytes of its arguments and environment."""
        return len(self.arguments) + len(self.environment)

    def ancestors(self) -> Iterator[Process]:
        """Iterate over the parent, its parent and so on."""
        parent = self.parent
        while parent is not None:
            yield parent
            parent = parent.parent
