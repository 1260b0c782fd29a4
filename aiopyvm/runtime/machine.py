"""Putting a guest machine together: its file system, its kernel, its engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiopyvm.abi.errno import Errno
from aiopyvm.engine.protocol import Core
from aiopyvm.errors import EngineUnavailableError
from aiopyvm.host.clock import VIRTUAL_EPOCH_NS, RealClock
from aiopyvm.host.entropy import HostEntropy, SeededEntropy
from aiopyvm.isa.processors import DEFAULT
from aiopyvm.kernel.kernel import Kernel
from aiopyvm.kernel.vfs import Vfs
from aiopyvm.runtime.limits import Account, RunMemory
from aiopyvm.runtime.program import guest_error, refusal
from aiopyvm.runtime.user import Ids, look_up

if TYPE_CHECKING:
    from aiopyvm.engine.protocol import Engine
    from aiopyvm.isa.cpuid import Processor
    from aiopyvm.isa.state import CpuState
    from aiopyvm.kernel.clockpage import ClockPage
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.kernel import SystemCalls
    from aiopyvm.kernel.ports import Budget, Clock
    from aiopyvm.mem.space import AddressSpace
    from aiopyvm.runtime.hostdir import HostDir
    from aiopyvm.runtime.limits import Limits, Store
    from aiopyvm.runtime.roots import OciRoot, TarRoot
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.runtime import Runtime

    Dir = Mapping[Any, Any] | HostDir | TarRoot | OciRoot | str | os.PathLike[str]

Seed = int | str | bytes

ENGINES = ("auto", "native", "python", "evaluator")
ENGINE_VARIABLE = "AIOPYVM_ENGINE"  # what "auto" means, where it is set

_engines: dict[str, Engine] = {}  # by name, and by name and processor where that is not the default
_syscalls: list[SystemCalls] = []


def check_engine(name: str) -> None:
    """Raise ValueError for what is no engine."""
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {name!r}")


def get_engine(name: str, processor: Processor = DEFAULT) -> Engine:
    """Return the process's engine of that name for machines with a processor; all of them share it.

    "auto" is what the environment variable AIOPYVM_ENGINE says, else "native" where that can run, else "python": then
    one line in the log "aiopyvm" tells why. Raises ValueError for a name that is none, EngineUnavailableError for
    "native" where it cannot run.
    """
    check_engine(name)
    if name == "auto":
        name = os.environ.get(ENGINE_VARIABLE) or "auto"
        if name not in ENGINES:
            raise ValueError(f"{ENGINE_VARIABLE} must be one of {', '.join(ENGINES)}, not {name!r}")
    key = name if processor is DEFAULT else f"{name} {processor.name}"
    engine = _engines.get(key)
    if engine is None:
        engine = _engines[key] = _best_engine(processor) if name == "auto" else _make_engine(name, processor)
    return engine


def _best_engine(processor: Processor) -> Engine:
    try:
        return get_engine("native", processor)
    except EngineUnavailableError as refused:
        logging.getLogger("aiopyvm").info("guests run on the Python engine: %s", refused)
        return get_engine("python", processor)


def _make_engine(name: str, processor: Processor) -> Engine:
    if name == "native":
        from aiopyvm.engine.native.loading import native_engine

        return native_engine(processor.allowed)
    from aiopyvm.engine.python import PythonEngine

    return PythonEngine("evaluator" if name == "evaluator" else "auto", allowed=processor.allowed)


def system_calls() -> SystemCalls:
    """Return the system-call table at work."""
    if not _syscalls:
        from aiopyvm.syscalls.dispatch import Dispatcher

        _syscalls.append(Dispatcher())
    return _syscalls[0]


class FileClock:
    """The clock of a VM's files: that of the run that is at work, else the host's or the virtual epoch."""

    __slots__ = ("source", "virtual")

    def __init__(self, virtual: bool) -> None:
        self.virtual = virtual
        self.source: Clock | None = None

    def monotonic_ns(self) -> int:
        """As `realtime_ns`."""
        return self.realtime_ns()

    def realtime_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        if self.source is not None:
            return self.source.realtime_ns()
        return VIRTUAL_EPOCH_NS if self.virtual else RealClock().realtime_ns()


def build_vfs(root: Dir | None, mounts: Mapping[Any, Dir], clock: Clock, budget: Budget, user: Ids) -> Vfs:
    """Return the file system of a guest machine, and of `user`.

    Raises TypeError and ValueError for trees that are none, and for a user who is not in /etc/passwd; OSError for host
    directories that cannot be opened.
    """
    from aiopyvm.runtime.trees import attach, root_file_system

    if user.name:
        user = look_up(user.name, build_vfs(root, mounts, clock, budget, Ids(0, 0)))
    uid, gid = user.uid or 0, user.gid or 0
    try:
        vfs = Vfs(clock=clock, budget=budget, root=root_file_system(root, clock, budget), uid=uid, gid=gid)
        attach(vfs, root, mounts)
    except Errno as error:
        raise refusal(error, "the guest's file system") from None
    return vfs


def open_null(vfs: Vfs) -> Callable[[int], File]:
    """Return what opens the null device with given open(2) flags."""

    def opener(flags: int) -> File:
        try:
            return vfs.open(vfs.administrator(), b"/dev/null", flags)
        except Errno as error:
            raise guest_error(error, "/dev/null") from None

    return opener


def make_entropy(seed: Seed | None, stream: int) -> HostEntropy | SeededEntropy:
    """Return the random bytes for one run."""
    return HostEntropy() if seed is None else SeededEntropy(seed, stream)


def make_kernel(
    run: Run,
    vfs: Vfs,
    entropy: HostEntropy | SeededEntropy,
    limits: Limits,
    store: Store,
    shared: Runtime | None,
    portable_math: bool,
    randomize: bool,
    processor: Processor,
    hostname: bytes,
) -> Kernel:
    """Return the kernel for one run; what it takes is taken from `shared`, too, and given back when the run ends."""
    budget = RunMemory(limits.memory, shared.memory if shared else None, store)
    tasks = Account(None, shared.tasks if shared else None)
    files = Account(None, shared.open_files if shared else None)
    run.on_close += [account.close for account in (budget, tasks, files)]
    clock = run.clock
    breakpoints = run.breakpoints
    hosts = None if run.ordered or not isinstance(clock, RealClock) or not clock.is_hosts else clock
    counter_zero = hosts.start_ns if hosts is not None else None

    def make_core(cpu: CpuState, memory: AddressSpace) -> Core:
        cpu.portable_math = portable_math
        return Core(
            cpu,
            memory,
            clock.monotonic_ns,
            entropy.bytes,
            breakpoints,
            processor=processor,
            counter_zero=counter_zero,
        )

    kernel = Kernel(
        vfs=vfs,
        clock=clock,
        entropy=entropy,
        budget=budget,
        syscalls=system_calls(),
        make_core=make_core,
        processor=processor,
        hostname=hostname,
        uid=vfs.uid,
        gid=vfs.gid,
        memory_limit=limits.memory if limits.memory is not None else 0xFFFFE000,
        process_limit=limits.processes,
        open_files=limits.open_files,
        tasks=tasks,
        files=files,
        randomize=randomize,
    )
    kernel.rest = run.wait_for_landing
    if hosts is not None and run.launcher is not None and "tsc" in processor.features:
        kernel.clock_page = _clock_page(hosts)
    return kernel


def _clock_page(clock: RealClock) -> ClockPage:
    """The page by which programs tell the time of `clock` themselves.

    In generated code that is faster than a system call; on the Python engine it would be slower.
    """
    from aiopyvm.kernel.clockpage import ClockPage

    page = ClockPage(clock.ahead_ns())
    clock.follow(lambda: page.show(clock.ahead_ns()))
    return page
