"""Long-lived threads of the host that call foreign functions, and the way from such a thread to an event loop.

How it works. All of a process's event loops share one pool. A thread is started when more calls are under way than
there are threads, and then serves one call after another for ever. Where the host refuses a thread, calls wait for
those that are there; where there is none, they are made by the caller. What always holds: when `Call.wait` returns, the
function has returned; `done` is called after that, on the thread that made the call.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic_ns, thread_time_ns
from typing import Any, Final

from aiopyvm.host.clock import under_trio

_EXIT_PATIENCE_S: Final = 5.0


class Call:
    """One call `function(argument)` on a thread of the pool."""

    __slots__ = ("_argument", "_done", "_function", "_pending", "cpu_ns", "error", "wall_ns")

    def __init__(
        self, function: Callable[[int], object], argument: int, done: Callable[[], object] | None = None
    ) -> None:
        self._function = function
        self._argument = argument
        self._done = done
        self._pending = threading.Lock()
        self._pending.acquire()
        self.error: BaseException | None = None  # what the function raised
        self.cpu_ns = 0  # processor time that it took
        self.wall_ns = 0

    @property
    def made(self) -> bool:
        """The function has returned."""
        return not self._pending.locked()

    def wait(self, timeout_s: float = -1) -> bool:
        """Block the calling thread until the function has returned; False when `timeout_s` (negative: none) came
        first."""
        if not self._pending.acquire(timeout=timeout_s):
            return False
        self._pending.release()
        return True

    def make(self, returned: Callable[[Call], object]) -> None:
        """Call the function, then `returned(self)`, then whoever waits and `done`: what a thread of the pool does."""
        started, cpu = monotonic_ns(), thread_time_ns()
        try:
            self._function(self._argument)
        except BaseException as error:
            self.error = error
        self.cpu_ns, self.wall_ns = thread_time_ns() - cpu, monotonic_ns() - started
        returned(self)
        self._pending.release()
        if self._done is not None:
            self._done()


class Workers:
    """A pool of threads; `submit` may be called on any thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: in a child of fork(2) no thread of the pool is left."""
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Call] = SimpleQueue()
        self._under_way: dict[Call, None] = {}
        self._threads = 0

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    def submit(
        self, function: Callable[[int], object], argument: int, done: Callable[[], object] | None = None
    ) -> Call:
        """Have `function(argument)` called on a thread, and `done()` there afterwards (it must not raise).

        Where there can be no thread at all, both have been called on return."""
        call = Call(function, argument, done)
        with self._lock:
            self._under_way[call] = None
            short = len(self._under_way) > self._threads
            self._threads += short
        if short and not self._start():
            call.make(self._returned)
        else:
            self._queue.put(call)
        return call

    def _start(self) -> bool:
        """Start a thread; False when the host refuses it and there is none at all."""
        try:
            threading.Thread(target=self._work, args=(self._queue,), name="aiopyvm worker", daemon=True).start()
        except RuntimeError:  # "can't start new thread"
            with self._lock:
                self._threads -= 1
                return self._threads > 0
        return True

    def _work(self, queue: SimpleQueue[Call]) -> None:
        while True:
            queue.get().make(self._returned)

    def _returned(self, call: Call) -> None:
        with self._lock:
            self._under_way.pop(call, None)

    def drain(self) -> None:
        """Wait until no call is under way, for some seconds at most: before the interpreter takes its memory apart."""
        for call in tuple(self._under_way):
            call.wait(_EXIT_PATIENCE_S)


WORKERS: Final = Workers()
"""The process's pool."""

atexit.register(WORKERS.drain)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WORKERS.forget)


def loop_caller() -> Callable[[Callable[[], Any]], None]:
    """Return a function for other threads: it has a callable called soon by the event loop that runs now.

    Once that loop has ended it does nothing.
    """
    if under_trio():
        import trio

        ended: type[Exception] = trio.RunFinishedError
        schedule: Callable[..., object] = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        import asyncio

        ended = RuntimeError  # "Event loop is closed"
        schedule = asyncio.get_running_loop().call_soon_threadsafe

    def call(function: Callable[[], Any]) -> None:
        try:
            schedule(function)
        except ended:
            pass  # nobody is there any more

    return call


def cores() -> int:
    """Return on how many cores this process may run, at least 1."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:
        return os.cpu_count() or 1
