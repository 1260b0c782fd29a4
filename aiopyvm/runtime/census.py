"""Who is there inside a running guest: processes, threads, what they wait for, open files (ps(1), lsof(8))."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from aiopyvm.kernel.process import Life
from aiopyvm.kernel.procfd import file_path
from aiopyvm.mem.layout import PAGE

if TYPE_CHECKING:
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Process
    from aiopyvm.kernel.thread import Thread


class GuestThread(NamedTuple):
    """A thread of a guest process. `waits_for`: in words, the system call and what can end it; "" where it runs."""

    tid: int
    name: str
    state: str  # "running", "sleeping", "stopped"
    waits_for: str


class GuestProcess(NamedTuple):
    """A process inside a guest machine, at one moment."""

    pid: int
    parent: int  # 0: it was started by Python
    group: int
    session: int
    uid: int
    name: str
    arguments: tuple[str, ...]
    state: str  # "running", "sleeping", "stopped", "zombie"
    threads: tuple[GuestThread, ...]
    files: dict[int, str]  # by descriptor: a path, or what /proc/PID/fd shows in its place
    memory: int  # bytes that are resident
    cpu_time: float  # seconds, user and system, of the guest's own count (docs/quirks.md)


def census(kernel: Kernel) -> list[GuestProcess]:
    """All processes of a machine, by pid."""
    return [_process(kernel.processes[pid]) for pid in sorted(kernel.processes)]


def _process(p: Process) -> GuestProcess:
    threads = tuple(map(_thread, p.threads.values()))
    alive = p.life is Life.ALIVE
    state = "zombie" if not alive else "stopped" if p.stop_signal else _state(threads)
    return GuestProcess(
        pid=p.pid,
        parent=p.parent.pid if p.parent is not None else 0,
        group=p.group,
        session=p.session,
        uid=p.credentials.uid,
        name=os.fsdecode(p.name),
        arguments=tuple(map(os.fsdecode, p.arguments.split(b"\0")[:-1])),
        state=state,
        threads=threads,
        files=dict(_files(p)) if alive else {},
        memory=p.mm.space.resident_pages * PAGE if alive else 0,
        cpu_time=(p.user_ns + p.system_ns) / 1e9,
    )


def _state(threads: tuple[GuestThread, ...]) -> str:
    return "running" if any(thread.state == "running" for thread in threads) else "sleeping"


def _thread(t: Thread) -> GuestThread:
    state = {"R": "running", "T": "stopped"}.get(t.state.value, "sleeping")
    return GuestThread(t.tid, os.fsdecode(t.name), state, "" if state == "running" else t.waits_for)


def _files(p: Process) -> Iterator[tuple[int, str]]:
    for fd, file in p.fds:
        yield fd, os.fsdecode(file_path(file, p.fs))
