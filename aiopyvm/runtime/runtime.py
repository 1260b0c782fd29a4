"""`Runtime`: what several guests have in common, and the event loop's scheduler that steps all of them."""

from __future__ import annotations

import weakref
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.lowlevel

from aiopyvm.host.clock import loop_clock
from aiopyvm.host.threads import cores
from aiopyvm.isa.processors import find_processor
from aiopyvm.runtime.limits import LIMIT_NAMES, SECOND_NS, Account, Limits
from aiopyvm.runtime.machine import check_engine
from aiopyvm.runtime.result import Reason
from aiopyvm.runtime.scheduler import Scheduler

if TYPE_CHECKING:
    from aiopyvm.runtime.process import Process
    from aiopyvm.runtime.run import Run
    from aiopyvm.runtime.vm import VM

_scheduler: anyio.lowlevel.RunVar[Scheduler] = anyio.lowlevel.RunVar("aiopyvm scheduler")
_enclosing: ContextVar[Runtime | None] = ContextVar("aiopyvm runtime", default=None)


def current_scheduler() -> Scheduler:
    """Return the running event loop's scheduler; it is made at first use."""
    try:
        return _scheduler.get()
    except LookupError:
        scheduler = Scheduler(loop_clock())
        _scheduler.set(scheduler)
        return scheduler


def check_quantum(quantum: object) -> None:
    """Raise ValueError for what is no number of instructions."""
    if quantum is not None and (isinstance(quantum, bool) or not isinstance(quantum, int) or quantum < 1):
        raise ValueError(f"quantum is a number of instructions, at least 1, not {quantum!r}")


class Runtime:
    """Engine, quantum and limits that several guests share; as an async context manager, it also waits for them.

    Of `limits`, those that are named bound the sum over all guests, beside each guest's own; `wall_time` counts
    from the start of the first guest in an event loop. At the sum of `open_files` (open file descriptions that
    guests made) a guest gets ENFILE, at that of `processes` EAGAIN, and starting one more guest is
    HostRefusedError. `workers` is how many threads of the host execute guests' instructions beside the event loop's
    own, at most: None is one for each core, 0 none; an engine that holds the GIL uses none. Results do not depend
    on it. `engine`, `cpu`, `quantum` and `portable_math` are the default of its VMs. Leaving the block waits until
    all guests have ended; with an exception it kills them first. Raises TypeError, ValueError for arguments that are
    none.
    """

    def __init__(
        self,
        *,
        engine: str = "auto",
        workers: int | None = None,
        cpu: str = "default",
        quantum: int | None = None,
        limits: Limits | None = None,
        portable_math: bool = False,
    ) -> None:
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
            raise ValueError(f"workers is a number of threads, or None, not {workers!r}")
        check_engine(engine)
        find_processor(cpu)
        check_quantum(quantum)
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits is a Limits, not {limits!r}")
        if not isinstance(portable_math, bool):
            raise TypeError(f"portable_math is a bool, not {portable_math!r}")
        self.workers = workers
        self.engine = engine
        self.cpu = cpu
        self.quantum = quantum
        self.limits = limits
        self.portable_math = portable_math
        named = {name: getattr(limits, name) for name in LIMIT_NAMES if limits is not None and limits.names(name)}
        self.named_limits: dict[str, Any] = named
        self.memory = Account(named.get("memory"))
        self.instructions = Account(named.get("instructions"))
        self.output = Account(named.get("output"))
        self.tasks = Account(named.get("processes"))
        self.open_files = Account(named.get("open_files"))
        seconds = named.get("guest_time")
        self.guest_time = Account(None if seconds is None else round(seconds * SECOND_NS))
        self._begun: weakref.WeakKeyDictionary[Scheduler, int] = weakref.WeakKeyDictionary()
        self._processes: dict[Run, Process] = {}
        self._started = 0
        self._empty: anyio.Event | None = None
        self._token: Token[Runtime | None] | None = None

    def vm(self, **options: Any) -> VM:
        """Return a `VM` whose guests belong to this runtime; options as in `VM`. Raises what `VM` raises."""
        from aiopyvm.runtime.vm import VM

        options.setdefault("engine", self.engine)
        options.setdefault("cpu", self.cpu)
        options.setdefault("quantum", self.quantum)
        options.setdefault("portable_math", self.portable_math)
        return VM(runtime=self, **options)

    def processes(self) -> list[Process]:
        """Return the guests that have not ended, in order of their start."""
        return list(self._processes.values())

    def kill_all(self) -> None:
        """End all guests at once; their reason is KILLED."""
        for run in tuple(self._processes):
            run.end(Reason.KILLED, "Runtime.kill_all()")

    def statistics(self) -> dict[str, int]:
        """Return counters: guests running and started, their threads (zombies too), files that they have open,
        instructions, output bytes, memory in bytes, ns of guest time."""
        return {
            "running": len(self._processes),
            "started": self._started,
            "processes": self.tasks.used,
            "open_files": self.open_files.used,
            "instructions": self.instructions.used,
            "output": self.output.used,
            "memory": self.memory.used,
            "guest_time_ns": self.guest_time.used,
        }

    def wall(self, scheduler: Scheduler) -> tuple[int, float] | None:
        """When the wall time of all guests ends, on the clock of `scheduler`, where one of them is about to start, and
        how many seconds it is; None: never."""
        seconds: float | None = self.named_limits.get("wall_time")
        if seconds is None:
            return None
        return self._begun.setdefault(scheduler, scheduler.now_ns()) + round(seconds * SECOND_NS), seconds

    def add(self, run: Run, process: Process) -> None:
        """Take in a guest that is about to run; it leaves by itself when it ends."""
        run.crew = run.scheduler.crew(self, cores() if self.workers is None else self.workers)
        self._processes[run] = process
        self._started += 1
        run.when_done(lambda: self._remove(run))

    def _remove(self, run: Run) -> None:
        self._processes.pop(run, None)
        if not self._processes and self._empty is not None:
            self._empty.set()

    async def __aenter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("this Runtime is entered already")
        self._token = _enclosing.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _enclosing.reset(self._token)
        self._token = None
        if error is not None:
            self._end_all(f"{type(error).__name__} left the Runtime's block")
            return
        try:
            while self._processes:
                self._empty = anyio.Event()
                await self._empty.wait()
        except BaseException as failure:
            self._end_all(f"{type(failure).__name__} while the Runtime's block waited")
            raise
        finally:
            self._empty = None

    def _end_all(self, detail: str) -> None:
        for run in tuple(self._processes):
            run.end(Reason.CANCELLED, detail)


IMPLICIT: Final = Runtime()
"""The runtime of guests that were given none and run in no Runtime's block."""


def current_runtime() -> Runtime:
    """Return the enclosing `Runtime`, else the implicit one."""
    return _enclosing.get() or IMPLICIT
