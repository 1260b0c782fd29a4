"""Waiting, as plain data: wait queues, what a thread waits for, and the record of a call in progress.

A system call never waits (rule 4 of the architecture). A handler that cannot finish returns a `Wait`; the kernel
parks the thread on the queues it names and, when one of them wakes it, the deadline passes or a signal comes, calls
the handler again with the same arguments and the same `Call` record. The record is where a handler keeps how far it
got.

A signal: the handler is continued once more with `woken` = SIGNAL. What it finishes now is its result; if it returns
a `Wait` still, the call ends with `done` where that is not 0 (a partial count), else as the Wait's `restart` says
once a signal handler is to run. When no handler runs (a stop and its continuation) the call simply goes on, unless
`restart` is EINTR.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiopyvm.mem.faults import MemoryFault

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.mem.space import AddressSpace


class Restart(enum.Enum):
    """What a signal does to a blocked call (signal(7), "Interruption of system calls and library functions")."""

    SYS = "ERESTARTSYS"  # again if the handler has SA_RESTART, else EINTR
    NOHAND = "ERESTARTNOHAND"  # again if no handler ran, else EINTR
    NOINTR = "ERESTARTNOINTR"  # always again
    BLOCK = "ERESTART_RESTARTBLOCK"  # restart_syscall continues the rest of a time; EINTR if a handler ran
    EINTR = "EINTR"  # never again


class Wait:
    """What a thread waits for: any of `queues`, or the monotonic clock reaching `deadline` (ns; None: never).

    `reason` is for people: what it waits for, as `Process` introspection and a DEADLOCK's detail show it. `signals`
    is a set of blocked signals that end the wait too (sigtimedwait(2)); `uninterruptible` lets SIGKILL alone
    interrupt it (vfork(2)).
    """

    room: tuple[int, int] | None = None  # see FileWait
    source: tuple[File, int, int] | None = None
    file: File | None = None
    call: Call | None = None
    registers: tuple[int, ...] = ()
    direct: tuple[str, tuple[Any, ...]] | None = None

    def __init__(
        self,
        queues: tuple[WaitQueue, ...] = (),
        deadline: int | None = None,
        restart: Restart = Restart.SYS,
        reason: str = "",
        signals: int = 0,
        uninterruptible: bool = False,
    ) -> None:
        self.queues = queues
        self.deadline = deadline
        self.restart = restart
        self.reason = reason
        self.signals = signals
        self.uninterruptible = uninterruptible

    @property
    def words(self) -> str:
        """What is waited for, in words."""
        return self.reason

    @property
    def sources(self) -> Iterator[WaitQueue]:
        """The queues, and those that wake them in turn (epoll(7))."""
        return (source for queue in self.queues for source in queue.sources())


class FileWait(Wait):
    """What a thread waits for that cannot read or write `file` yet: the events of poll(2) that `queues` are woken for.

    `room` tells that the call does nothing more than to read up to so many bytes to an address, (address, bytes): who
    has them may finish it (`WaitQueue.hand_over`). `source` tells that it does nothing more than to write all that is
    in memory there, (file, address, bytes): who makes room may finish it (`WaitQueue.take_over`). `call` is the call
    that was made for it and `registers` what it was made of, where that was not to its handler yet; `direct` are name
    and arguments of the call that it stands for, where it is a socketcall(2).
    """

    deadline = None
    restart = Restart.SYS
    signals = 0
    uninterruptible = False

    def __init__(
        self,
        file: File,
        events: int,
        reason: str,
        room: tuple[int, int] | None = None,
        source: tuple[File, int, int] | None = None,
    ) -> None:
        self.file = file
        self.queues = file.queues(events)
        self.reason = reason
        self.room = room
        self.source = source

    @property
    def words(self) -> str:
        """What is waited for, and the file's name."""
        name = self.file.name.decode(errors="replace") if self.file is not None else ""
        return f"{self.reason} {name}" if name else self.reason


class Cause(enum.Enum):
    """What ended a wait, told to the continued handler in `Call.woken`."""

    WOKEN = "woken"
    TIMEOUT = "timeout"
    SIGNAL = "signal"


class Call:
    """One system call in progress: plain data, kept on its thread from entry to return.

    Handlers own `done` (what the call returns if a signal ends it and it is not 0: usually bytes moved so far),
    `files` (the open files that it works with, by descriptor, which may be closed or used anew meanwhile), `deadline`
    (absolute, ns, monotonic), `saved_mask` (the signal mask that sigsuspend, ppoll and the like put back; the kernel
    puts it back when the call ends) and `state` (whatever plain data else they need). The kernel sets `woken` before it
    continues a call (None at first) and `queue` (the queue that woke it). `spare` is an address space that fork(2) or
    execve(2) is building: it is closed should the thread end before. `charged` are bytes of the budget that `state`
    holds: they are given back then.
    """

    done: int = 0
    files: dict[int, File] | None = None
    deadline: int | None = None
    saved_mask: int | None = None
    woken: Cause | None = None
    queue: WaitQueue | None = None
    values: tuple[Any, ...] | None = None  # the decoded arguments, made once
    spare: AddressSpace | None = None
    charged: int = 0
    _state: dict[str, Any] | None = None

    def __init__(self, number: int, args: tuple[int, ...], name: str = "") -> None:
        self.number = number
        self.args = args
        self.name = name

    @property
    def state(self) -> dict[str, Any]:
        """Empty at first."""
        state = self._state
        if state is None:
            state = self._state = {}
        return state


class WaitQueue:
    """Threads that wait for one condition, in the order in which they came.

    `external` names who beside other guests can wake it ("host", "python"); empty when only guests can.
    """

    __slots__ = ("external", "listeners", "name", "threads")

    def __init__(self, name: str = "", external: str = "") -> None:
        self.name = name
        self.external = external
        self.threads: dict[Thread, None] = {}  # the kernel's
        # Called at each wake, without arguments: host ends (streams, pumps), and epoll's watches (kernel/epoll.py).
        # Those that are `exclusive` are not called after one of them has answered True.
        self.listeners: dict[Any, None] = {}

    def __len__(self) -> int:
        return len(self.threads)

    def __iter__(self) -> Iterator[Thread]:
        return iter(tuple(self.threads))

    def sources(self) -> Iterator[WaitQueue]:
        """This queue and those whose wakes reach it."""
        yield self

    def add(self, thread: Thread) -> None:
        """Append `thread`; nothing happens when it is there already."""
        self.threads[thread] = None

    def discard(self, thread: Thread) -> None:
        """Remove `thread` if it is there."""
        self.threads.pop(thread, None)

    def wake(self, limit: int | None = None) -> int:
        """Wake at most `limit` threads (None: all) in order of arrival; return how many."""
        threads, listeners = self.threads, self.listeners
        woken = list(threads)[:limit] if threads else ()
        for thread in woken:
            thread.kernel.wake(thread, self)
        if len(listeners) == 1:
            (listener,) = listeners
            listener()
        elif listeners:
            served = False
            for listener in tuple(listeners):
                if not (served and getattr(listener, "exclusive", False)):
                    served = listener() is True or served
        return len(woken)

    def hand_over(self, data: bytes | memoryview, whole: bool = False) -> int:
        """Finish the read(2) for which the only one that waits here waits, with the first bytes of `data` (`whole`:
        with all of them); return how many, 0 where there is no such one, or it is stopped, or its memory cannot take
        them now."""
        if len(self.threads) != 1 or self.listeners:
            return 0
        (thread,) = self.threads
        wait, kernel = thread.wait, thread.kernel
        if wait is None or (place := wait.room) is None or not kernel.serves(thread):
            return 0
        address, room = place
        n = len(data)
        if n > room:
            if whole:
                return 0
            n, data = room, data[:room]
        try:
            thread.memory.write(address, data)
        except MemoryFault:
            return 0  # the call finds out again
        kernel.finish(thread, wait, n)
        return n

    def take_over(self) -> bool:
        """Finish the write(2) for whose room the only one that waits here waits; False where there is no such one."""
        if len(self.threads) != 1 or self.listeners:
            return False
        (thread,) = self.threads
        return thread.kernel.take_over(thread)
