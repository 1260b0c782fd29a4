"""What runs wait for, and who could wake them: other runs through pipes, Python, the host, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiopyvm.abi.fcntl import O_ASYNC
from aiopyvm.abi.signal import SIGIO, bit
from aiopyvm.kernel.thread import RunState, Thread

ALL: Final = (1 << 64) - 1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopyvm.runtime.run import Run


def peers(run: Run) -> list[Run]:
    """The runs with which a pipe joins `run`."""
    alive = run.scheduler.runs
    return [
        other
        for channel in run.channels
        for other in channel.readers + channel.writers
        if other is not run and other in alive
    ]


def whom(run: Run, thread: Thread) -> list[Run]:
    """The runs that could end the wait of `thread`, which is of `run`."""
    wait = thread.wait
    found: list[Run] = []
    for channel in run.channels if wait is not None else ():
        for queue, others in (
            (channel.pipe.read_queue, channel.writers),
            (channel.pipe.write_queue, channel.readers),
        ):
            if wait is not None and queue in wait.sources:
                found += [other for other in others if other is not run and other.result is None]
    return found


def stuck(run: Run) -> bool:
    """No thread can run, and nobody but another guest can change that."""
    if run.result is not None or run.ready or run.held or not run.going:
        return False
    if run.kernel.next_deadline() is not None:
        return False
    if any(_has_outside(run, thread) for thread in run.kernel.threads.values()):
        return False
    return not any(_telling(run))


def _telling(run: Run, signals: int = ALL) -> Iterator[str]:
    """Who outside can make a file send one of `signals` (O_ASYNC); "": nobody."""
    for process in run.kernel.processes.values():
        for _, file in process.fds:
            if file.flags & O_ASYNC and file.io_owner is not None and signals & bit(file.io_signal or SIGIO):
                yield from (queue.external for queue in file.queues(0))


def _has_outside(run: Run, thread: Thread) -> bool:
    """Python or the host can end the rest of `thread`."""
    wait = thread.wait
    if wait is None or not wait.queues:
        return thread.state is RunState.RUNNABLE or run.python_may_signal
    return any(queue.external for queue in wait.sources)


def waits_for(run: Run, who: str) -> bool:
    """A thread waits for `who`: "host", a host stream that is being read or written; "python", what Python may do.

    One that waits for the signal of a file (sigtimedwait(2)) waits for who is on its other side.
    """
    waits = [thread.wait for thread in run.kernel.threads.values() if thread.wait is not None]
    if any(queue.external == who for wait in waits for queue in wait.sources):
        return True
    return any(wait.signals and who in _telling(run, wait.signals) for wait in waits)


def waits_at(run: Run, queue: Any) -> bool:
    """A thread waits at `queue`, and none can run."""
    return len(queue) > 0 and not run.ready and not run.inside
