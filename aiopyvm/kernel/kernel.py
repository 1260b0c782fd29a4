"""The guest kernel of one run: its processes, and the few doors by which a runtime drives them.

A runtime makes a `Kernel`, sets `on_runnable` and `on_exit`, and calls `spawn` for the first process. Then, for each
thread that `on_runnable` names (one it has not seen is new), as long as `thread.state` is RUNNABLE:

    cost = kernel.resume(thread)          # finishes a call, delivers signals: at the start of each slice
    if thread.state is RUNNABLE:
        exit = engine.run(thread.core, budget)
        if exit.reason in (SYSCALL, FAULT):
            cost += kernel.trap(thread, exit)   # afterwards the thread may run on, be PARKED, STOPPED or DEAD

`trap` and `resume` return virtual instructions. When nothing is runnable: sleep until `next_deadline()` or until a
host end wakes a queue; then `expire(now)`. The run is over when `ended` is true: the first process has ended, and
took all others along. `terminate(reason)` ends a run from outside at any time.

What always holds. Nothing here waits, does I/O or reads a clock but `clock` and `entropy` (ports.py). A thread is in
a wait queue exactly while it is PARKED. No guest can make any of this raise; a bug of ours in a handler is
`Process.failure` and ends that process alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from aiopyvm.abi.errno import EAGAIN, Errno
from aiopyvm.abi.fcntl import LEASE_BREAK_SECONDS
from aiopyvm.abi.signal import SI_USER, SIGKILL, SigInfo, bit
from aiopyvm.isa.cpuid import Processor
from aiopyvm.isa.processors import MAX
from aiopyvm.kernel import delivery, lifecycle, send, trap
from aiopyvm.kernel import exec as program
from aiopyvm.kernel.futex import FutexTable
from aiopyvm.kernel.mqueue import MessageQueues
from aiopyvm.kernel.process import EndReason, Life, Process
from aiopyvm.kernel.signals import QueueRoom
from aiopyvm.kernel.sysv import IpcSpace
from aiopyvm.kernel.thread import PARKED, RUNNABLE, RunState, Thread
from aiopyvm.kernel.timer import Timers
from aiopyvm.kernel.wait import Cause, Wait, WaitQueue
from aiopyvm.mem.backing import HeldImages
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Core, Exit
    from aiopyvm.errors import InternalError
    from aiopyvm.isa.state import CpuState
    from aiopyvm.kernel.clockpage import ClockPage
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.net import NetHost
    from aiopyvm.kernel.ports import Budget, Clock, Entropy
    from aiopyvm.kernel.tty import Tty
    from aiopyvm.kernel.vfs import Vfs
    from aiopyvm.mem.budget import MemoryBudget

PID_MAX: Final = 32768


class SystemCalls(Protocol):
    """The system-call table, as the kernel drives it (syscalls/dispatch.py)."""

    def enter(self, thread: Thread) -> int:
        """Begin the call that EAX names; return its cost."""
        ...

    def enter_now(self, thread: Thread) -> int:
        """As `enter`, of a thread whose tracer has seen the call."""
        ...

    def proceed(self, thread: Thread) -> int:
        """Continue `thread.call`; return its cost."""
        ...

    def finish(self, thread: Thread, result: int) -> None:
        """End `thread.call`, which waits and has changed nothing, with `result`."""
        ...

    def waits_again(self, thread: Thread, wait: Wait) -> None:
        """`thread` has made the call of `wait` again, in the registers' state; it is counted, and paid for."""
        ...

    def interrupt(self, thread: Thread, *, handler: bool, restart: bool) -> None:
        """End `thread.call`, which waits for `thread.interrupted`: a handler (with SA_RESTART?) is to run, or none."""
        ...


class Kernel:
    """One guest machine's kernel during one run; see the module's docstring.

    `processor` is what programs are told of theirs. Memory is charged to `budget`; `tasks` counts threads and zombies,
    `files` the open file descriptions that guests made, each for a limit that other machines may share. `limits_hit`
    counts refusals by a limit ("memory", "processes", "open_files"); `unknown_syscalls` and `calls` count by number.
    """

    def __init__(
        self,
        *,
        vfs: Vfs,
        clock: Clock,
        entropy: Entropy,
        budget: MemoryBudget,
        syscalls: SystemCalls,
        make_core: Callable[[CpuState, AddressSpace], Core],
        processor: Processor = MAX,
        hostname: bytes = b"aiopyvm",
        uid: int = 1000,
        gid: int = 1000,
        memory_limit: int = 256 << 20,
        process_limit: int = 1024,
        open_files: int = 1024,
        tasks: Budget | None = None,
        files: Budget | None = None,
        randomize: bool = False,
    ) -> None:
        self.vfs = vfs
        self.clock = clock
        self.entropy = entropy
        self.budget = budget
        self.images = HeldImages(budget)
        self.syscalls = syscalls
        self.make_core = make_core
        self.processor = processor
        self.hostname = hostname
        self.domainname = b"(none)"
        self.uid = uid
        self.gid = gid
        self.memory_limit = memory_limit
        self.process_limit = process_limit
        self.open_files = open_files
        self.tasks: Budget = tasks or Unlimited()
        self.files: Budget = files or Unlimited()
        self.randomize = randomize
        self.lease_break_seconds = LEASE_BREAK_SECONDS
        self.processes: dict[int, Process] = {}  # zombies too
        self.threads: dict[int, Thread] = {}
        self.init: Process | None = None
        self.terminals: dict[int, Tty] = {}
        self.ended = False
        self.timers = Timers()
        self.queue_room = QueueRoom()
        self.futexes = FutexTable()
        self.calls: Counter[int] = Counter()
        self.unknown_syscalls: Counter[int] = Counter()
        self.limits_hit: Counter[str] = Counter()
        self.on_runnable: Callable[[Thread], None] = lambda thread: None
        self.on_exit: Callable[[Process], None] = lambda process: None
        self.strace: Callable[[Thread, str], None] | None = None
        self.clock_page: ClockPage | None = None  # where programs may tell the time themselves (set by the runtime)
        self.hands_over = True  # a write may finish a read that waits, at no cost to the reader (set by the runtime)
        self._ipc: IpcSpace | None = None
        self._mqueues: MessageQueues | None = None
        self.current: Thread | None = None  # whose system call is being handled
        self.away = False  # another thread of the host executes a guest of it (set by the runtime): memory is not ours
        self.rest: Callable[[], None] | None = None  # blocks until that is over (set by the runtime)
        self._boot_id = b""
        self._last_pid = 0
        self._net: NetHost | None = None
        self._reachable = False

    @property
    def net(self) -> NetHost:
        """Its sockets' names and addresses; made when a guest makes its first socket."""
        if self._net is None:
            from aiopyvm.kernel.net import NetHost

            self._net = NetHost(self.clock)
            self._net.inet.reachable = self._reachable
        return self._net

    @property
    def boot_id(self) -> bytes:
        """16 random bytes, drawn when they are first asked for."""
        self._boot_id = self._boot_id or self.entropy.bytes(16)
        return self._boot_id

    @property
    def ipc(self) -> IpcSpace:
        """The System V objects, made when first needed."""
        if self._ipc is None:
            self._ipc = IpcSpace(self.budget)
        return self._ipc

    @property
    def mqueues(self) -> MessageQueues:
        """The POSIX message queues, made when first needed."""
        if self._mqueues is None:
            self._mqueues = MessageQueues(self.budget)
        return self._mqueues

    def leave_ipc(self, process: Process) -> None:
        """A process has ended: give back what it has on semaphores; at the end of the run forget all objects."""
        if self._mqueues is not None:
            self._mqueues.left(process)
            if self.ended:
                self._mqueues.clear()
        if self._ipc is not None:
            self._ipc.left(process)
            if self.ended:
                self._ipc.clear()

    def clear_network(self) -> None:
        """A process has ended: close the sockets that only messages on their way hold."""
        if self._net is not None:
            self._net.clear()

    def set_reachable(self, reachable: bool) -> None:
        """Say whether somebody outside of the machine may connect to guests that listen (set by the runtime)."""
        self._reachable = reachable
        if self._net is not None:
            self._net.inet.set_reachable(reachable)

    # --- the runtime's doors ----------------------------------------------------------------------------------------

    def spawn(
        self,
        argv: Sequence[bytes],
        *,
        program_bytes: bytes | None = None,
        flat: tuple[int, int] | None = None,
        environ: Sequence[bytes] = (),
        files: Sequence[File] = (),
        cwd: bytes = b"/",
        path: bytes | None = None,
    ) -> Process:
        """Start the first process: `argv` as given, `files` become descriptors 0, 1, 2...

        The program is `program_bytes` (an ELF file's content; with `flat=(load_at, entry)` a flat binary), else the
        file at the guest path `path` (argv[0] when None), `#!` scripts included. Raises LoadError for what cannot be
        loaded, Errno for a guest path, cwd or arguments that do not work (E2BIG), HostRefusedError when memory is
        refused.
        """
        return program.spawn(self, argv, program_bytes, flat, environ, files, cwd, path)

    def trap(self, thread: Thread, exit: Exit) -> int:
        """Handle one engine exit (system call or fault; others: nothing), signals included; return its cost."""
        cost = self.syscalls.enter(thread) if exit.reason == trap.SYSCALL else trap.trap(thread, exit)
        if thread.attention and thread.state is RUNNABLE:
            cost += delivery.resume(thread)
        return cost

    def resume(self, thread: Thread) -> int:
        """Do what comes before the next instruction of `thread`: finish its call, deliver signals; return the cost."""
        return delivery.resume(thread)

    def next_deadline(self) -> int | None:
        """The monotonic time (ns) at which `expire` has something to do; None: never."""
        return self.timers.next_deadline()

    def expire(self, now: int) -> int:
        """Fire the timers that are due at `now` (ns, monotonic); return how many."""
        return self.timers.expire(now)

    def terminate(self, reason: EndReason, detail: str = "") -> None:
        """End every process at once, as SIGKILL does, with `reason`."""
        lifecycle.end_run(self, reason, detail)

    def parked(self) -> list[tuple[Thread, str]]:
        """Return every thread that cannot run, with what it waits for: a deadlock's detail."""
        stuck = (PARKED, RunState.STOPPED, RunState.TRACED)
        return [(thread, thread.waits_for) for thread in self.threads.values() if thread.state in stuck]

    # --- waiting ----------------------------------------------------------------------------------------------------

    def park(self, thread: Thread, wait: Wait) -> None:
        """Let `thread` wait."""
        thread.wait = wait
        thread.state = PARKED
        for queue in wait.queues:
            queue.threads[thread] = None
        if wait.deadline is not None:
            thread.timer = self.timers.add(wait.deadline, thread)

    def wake(self, thread: Thread, queue: WaitQueue) -> None:
        """End the wait of `thread` (if it is parked), because of `queue`."""
        if thread.state is PARKED and thread.call is not None:
            thread.call.queue = queue
            self.unpark(thread, Cause.WOKEN)

    def take_over(self, thread: Thread) -> bool:
        """Finish the call of `thread`, should it wait to write, and be able to write all now; False where it does not,
        or cannot, or it is stopped."""
        wait = thread.wait
        if wait is None or (source := wait.source) is None or not self.serves(thread):
            return False
        file, address, n = source
        try:
            if not file.refs or file.push(thread.memory, address, n) < n:
                return False
        except (Errno, MemoryFault):
            return False
        self.finish(thread, wait, n)
        return True

    def serves(self, thread: Thread) -> bool:
        """Others may finish the calls of `thread`."""
        return self.hands_over and not self.away and self.strace is None and not thread.process.stop_signal

    def finish(self, thread: Thread, wait: Wait, result: int) -> None:
        """End the wait and the call of `thread`: it has neither a deadline nor anything to do."""
        self.end_wait(thread, wait, result)
        self.on_runnable(thread)

    def end_wait(self, thread: Thread, wait: Wait, result: int) -> None:
        """As `finish`, and tell nobody."""
        self.syscalls.finish(thread, result)
        thread.wait = None
        for queue in wait.queues:
            del queue.threads[thread]
        thread.state = RUNNABLE

    def unpark(self, thread: Thread, cause: Cause) -> None:
        """End the wait of a parked thread; it is RUNNABLE, or STOPPED while its process is."""
        self.leave_queues(thread)
        if thread.call is not None:
            thread.call.woken = cause
        if thread.process.stop_signal and not thread.pending_bits() & bit(SIGKILL):
            thread.state = RunState.STOPPED
        else:
            thread.state = RUNNABLE
            self.on_runnable(thread)

    def leave_queues(self, thread: Thread) -> None:
        """Take `thread` out of all queues and its timer."""
        wait = thread.wait
        if wait is not None:
            thread.wait = None
            for queue in wait.queues:
                queue.threads.pop(thread, None)
        if thread.timer is not None:
            thread.timer.cancel()
            thread.timer = None

    def make_runnable(self, thread: Thread) -> None:
        """Let `thread` run on."""
        thread.state = RUNNABLE
        self.on_runnable(thread)

    # --- signals ----------------------------------------------------------------------------------------------------

    def send_signal(self, target: Process | Thread, signal: SigInfo | int) -> bool:
        """Send a signal to a process or to one thread; permissions are the caller's business (kill(2)).

        A mere number is sent as from the target itself. False when its information did not fit into the queue.
        """
        if isinstance(signal, int):
            process = target if isinstance(target, Process) else target.process
            signal = SigInfo(signal, SI_USER, process.pid, process.credentials.uid)
        return send.send_signal(target, signal)

    def signal_group(self, group: int, info: SigInfo) -> int:
        """Send a signal to every process of a process group; return to how many."""
        members = [p for p in self.processes.values() if p.group == group and p.life is Life.ALIVE]
        for process in members:
            send.send_signal(process, info)
        return len(members)

    # --- tables -----------------------------------------------------------------------------------------------------

    def new_pid(self) -> int:
        """Return an unused process, group, session and thread id, and count one more task; `free_task` takes that
        back. Raises Errno(EAGAIN) at the process limit."""
        most = max(len(self.threads), len(self.processes))
        if most >= self.process_limit or not self.tasks.charge(1):
            self.limits_hit["processes"] += 1
            raise Errno(EAGAIN)
        taken = {p.group for p in self.processes.values()} | {p.session for p in self.processes.values()}
        while True:
            self._last_pid = self._last_pid + 1 if self._last_pid < PID_MAX - 1 else 300
            pid = self._last_pid
            if pid not in self.processes and pid not in self.threads and pid not in taken:
                return pid

    def free_task(self) -> None:
        """A thread has ended (a zombie: was waited for), or was not made after all."""
        self.tasks.charge(-1)

    def take_file(self, file: File) -> None:
        """Charge and count a file that a guest has opened, for as long as it is open. Raises Errno(ENFILE)."""
        limit = "memory"
        try:
            file.charge(self.budget, file.cost)
            limit = "open_files"
            file.count(self.files)
        except Errno:
            self.limits_hit[limit] += 1
            raise

    def new_space(self) -> AddressSpace:
        """An empty address space of this machine. Raises AddressSpaceFull, HostRefusedError."""
        space = AddressSpace(self.budget)
        if self.rest is not None:
            space.rest = self.rest
        return space

    def charge(self, size_bytes: int) -> bool:
        """Take from the budget; a refusal is counted."""
        if self.budget.charge(size_bytes):
            return True
        self.limits_hit["memory"] += 1
        return False

    def find_process(self, pid: int) -> Process | None:
        """Return the process (a zombie too) of that id."""
        return self.processes.get(pid)

    def fail(self, thread: Thread, error: InternalError) -> None:
        """A bug of ours showed in `thread`'s call: end its process, and only that; `Process.failure` carries it."""
        process = thread.process
        process.failure = error
        lifecycle.end_process(process, SIGKILL, EndReason.INTERNAL_ERROR, str(error))
