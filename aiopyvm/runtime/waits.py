"""What runs wait for, and who could wake them: other runs through pipes, Python, the host, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiopyvm.abi.fcntl import O_ASYNC
from aiopyvm.kernel.thread import RunState, Thread

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
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
    return not any(_is_told(file) for process in run.kernel.processes.values() for _, file in process.fds)


def _is_told(file: File) -> bool:
    """Somebody outside can make `file` send a signal (O_ASYNC)."""
    told = file.flags & O_ASYNC and file.io_owner is not None
    return bool(told) and any(queue.external for queue in file.queues(0))


def _has_outside(run: Run, thread: Thread) -> bool:
    """Python or the host can end the rest of `thread`."""
    wait = thread.wait
    if wait is None or not wait.queues:
        return thread.state is RunState.RUNNABLE or run.python_may_signal
    return any(queue.external for queue in wait.sources)


def waits_for(run: Run, who: str) -> bool:
    """A thread waits for `who`: "host", a host stream that is being read or written; "python", what Python may do."""
    return any(
        queue.external == who
        for thread in run.kernel.threads.values()
        if thread.wait is not None
        for queue in thread.wait.sources
    )


def waits_at(run: Run, queue: Any) -> bool:
    """A thread waits at `queue`, and none can run."""
    return len(queue) > 0 and not run.ready and not run.inside
