"""An engine for tests of flights: the Python engine, with "generated code" that only sleeps.

`launch` executes the instructions, but shows the count of before; `enter`, on a worker, sleeps as long as they are
to take; `land` shows the count and tells why they ended. So any program flies, whatever it does.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import pytest

from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.runtime import flights, machine

_usleep = ctypes.CDLL(None).usleep


class FlyingEngine:
    """A `Launcher`; `us` is how long a thousand instructions take."""

    name = "flying"

    def __init__(self, us: int = 20) -> None:
        self._python = PythonEngine()
        self._us = us
        self._pending: dict[int, tuple[Exit, int]] = {}
        self._lock = threading.Lock()
        self.inside = 0
        self.flights = 0
        self.most = 0  # how many flights there were at once
        self.threads: set[int] = set()
        self.meeting: threading.Barrier | None = None  # where the first flights wait for one another

    def statistics(self) -> dict[str, int]:
        """As the Python engine's."""
        return self._python.statistics()

    def run(self, core: Core, budget: int, patience: int = 0, on_call: Callable[[], int] | None = None) -> Exit:
        """As `Launcher.run`; gives up its turn in the middle now and then, and has system calls handled in passing."""
        shortened = bool(patience) and budget > 3000
        exit_ = self._python.run(core, budget // 2 if shortened else budget)
        while exit_.reason is ExitReason.SYSCALL and on_call is not None:
            budget = on_call()
            if budget <= 0:
                return Exit(ExitReason.PAUSE)
            shortened = False
            exit_ = self._python.run(core, budget)
        return Exit(ExitReason.PAUSE) if shortened and exit_.reason is ExitReason.BUDGET else exit_

    def launch(self, core: Core, budget: int) -> int:
        """Execute, and say for how long to sleep."""
        cpu = core.cpu
        if cpu.mode or core.breakpoints:
            return 0
        before: int = cpu.instructions
        exit_ = self._python.run(core, budget)
        done = cpu.instructions - before
        cpu.instructions = before
        assert id(core) not in self._pending
        self._pending[id(core)] = exit_, done
        self.flights += 1
        return 1 + int(done) * self._us // 1000

    @property
    def enter(self) -> Callable[[int], object]:
        """Sleep so many microseconds."""
        return self._enter

    def _enter(self, us: int) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(threading.get_ident())
        if self.meeting is not None:
            self.meeting.wait(30)
            self.meeting = None
        _usleep(us)
        with self._lock:
            self.inside -= 1

    def land(self, core: Core) -> Exit:
        """What `launch` has found out."""
        exit_, done = self._pending.pop(id(core))
        core.cpu.instructions += done
        return exit_

    @property
    def idle(self) -> bool:
        """Nothing flies, and all has landed."""
        return not self.inside and not self._pending


def fly(patch: pytest.MonkeyPatch, us: int = 20) -> FlyingEngine:
    """Have every guest of the Python engine fly from its first thousand instructions on."""
    engine = FlyingEngine(us)
    patch.delenv(machine.ENGINE_VARIABLE, raising=False)
    patch.setitem(machine._engines, "python", engine)
    patch.setitem(machine._engines, "auto", engine)
    patch.setattr(flights, "WORTH_NS", 1)
    patch.setattr(flights, "FIRST_REACH", 1000)
    patch.setattr(flights, "MOST_REACH", 5000)
    return engine
