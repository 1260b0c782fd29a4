"""What a process does with signals: actions, and the set that waits to be delivered.

A standard signal (1..31) is pending at most once; real-time signals queue. `bits` always tells which are pending.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.abi import signal as abi
from aiopyvm.abi.signal import SI_USER, KernelSigaction, SigInfo

MAX_QUEUED: Final = 1024  # real-time signals that wait in one kernel: RLIMIT_SIGPENDING, which counts by user
DEFAULT_ACTION: Final = KernelSigaction(abi.SIG_DFL, 0, 0, 0)


class QueueRoom:
    """How many real-time signals wait in one kernel."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class Pending:
    """Signals that were sent and not yet delivered, to one thread or to one process."""

    __slots__ = ("_queue", "_room", "bits")

    def __init__(self, room: QueueRoom) -> None:
        self._room = room
        self.bits = 0
        self._queue: list[SigInfo] = []

    def add(self, info: SigInfo) -> bool:
        """Add a signal; False when its information did not fit into the queue (kill(2)'s is pending still)."""
        bit = abi.bit(info.signo)
        if self.bits & bit and info.signo < abi.SIGRTMIN and info.timer is None:
            return True
        if _is_counted(info):
            if self._room.used >= MAX_QUEUED:
                self.bits |= bit if info.code == SI_USER else 0
                return False
            self._room.used += 1
        self.bits |= bit
        self._queue.append(info)
        return True

    def take(self, wanted: int) -> SigInfo | None:
        """Remove and return the next signal of the set `wanted`: synchronous ones, then lowest number, then oldest."""
        there = self.bits & wanted
        if not there:
            return None
        there = there & abi.SYNCHRONOUS or there
        signo = (there & -there).bit_length()
        matches = [n for n, info in enumerate(self._queue) if info.signo == signo]
        if len(matches) <= 1:
            self.bits &= ~abi.bit(signo)
        if not matches:
            return SigInfo(signo)
        info = self._queue.pop(matches[0])
        self._room.used -= _is_counted(info)
        return info if info.timer is None else info.timer.delivered(info)

    def holds(self, info: SigInfo) -> bool:
        """Tell whether this very signal waits."""
        return any(waiting is info for waiting in self._queue)

    def waiting(self) -> list[SigInfo]:
        """The signals that wait, the oldest first."""
        return list(self._queue)

    def flush(self, signals: int) -> None:
        """Forget all pending signals of the set `signals`."""
        if self.bits & signals:
            self.bits &= ~signals
            kept = [info for info in self._queue if not signals & abi.bit(info.signo)]
            gone = [info for info in self._queue if signals & abi.bit(info.signo)]
            self._room.used -= sum(_is_counted(info) for info in gone)
            self._queue = kept
            for info in gone:
                if info.timer is not None:
                    info.timer.dropped(info)


def _is_counted(info: SigInfo) -> bool:
    """Whether it takes of the room for queued signals; a timer has room of its own."""
    return info.signo >= abi.SIGRTMIN and info.timer is None


class Actions:
    """The signal actions of a process; threads and CLONE_SIGHAND processes share one."""

    __slots__ = ("_actions",)

    def __init__(self) -> None:
        self._actions: dict[int, KernelSigaction] = {}

    def __getitem__(self, signo: int) -> KernelSigaction:
        return self._actions.get(signo, DEFAULT_ACTION)

    def __setitem__(self, signo: int, action: KernelSigaction) -> None:
        self._actions[signo] = action

    def copy(self) -> Actions:
        """Return an independent copy (fork)."""
        other = Actions()
        other._actions = dict(self._actions)
        return other

    def after_exec(self) -> Actions:
        """Return what execve(2) leaves: caught signals get the default action, ignored ones stay ignored."""
        other = Actions()
        other._actions = {
            signo: KernelSigaction(abi.SIG_IGN, 0, 0, 0)
            for signo, action in self._actions.items()
            if action.handler == abi.SIG_IGN
        }
        return other

    def sets(self) -> tuple[int, int]:
        """Return the set of signals that SIG_IGN ignores, and of those that have a handler."""
        ignored = caught = 0
        for signo, action in self._actions.items():
            if action.handler == abi.SIG_IGN:
                ignored |= abi.bit(signo)
            elif action.handler != abi.SIG_DFL:
                caught |= abi.bit(signo)
        return ignored, caught

    def ignores(self, signo: int) -> bool:
        """Tell whether `signo` would be discarded: SIG_IGN, or SIG_DFL where that ignores."""
        handler = self[signo].handler
        return handler == abi.SIG_IGN or (handler == abi.SIG_DFL and bool(abi.IGNORED_BY_DEFAULT & abi.bit(signo)))
