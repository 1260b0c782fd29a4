"""Figures and how they are shown."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.errors import EngineUnavailableError

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what was measured, by whom, how much, in which unit, and what it is compared with."""

    what: str
    who: str
    value: float
    unit: str
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def show(title: str, rows: list[Row]) -> None:
    """Print the rows as a table."""
    print(f"\n{title}")
    for row in rows:
        print(f"  {row.what:24} {row.who:16} {row.value:12,.3f} {row.unit:14} {row.note}".rstrip(), flush=True)


def best(runs: int, function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the shortest time in seconds of `runs` calls."""
    shortest = float("inf")
    for _ in range(runs):
        before = clock()
        function()
        shortest = min(shortest, clock() - before)
    return shortest


def processor_time(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Run a command, its output thrown away, and return the seconds of processor time that it took.

    Raises CalledProcessError where its status is not 0.
    """
    return _timed(command, subprocess.DEVNULL, subprocess.DEVNULL, environment)


def output_and_time(command: Sequence[str], stdin: bytes) -> tuple[bytes, float]:
    """Run a command and return what it printed, and its processor time. Raises CalledProcessError."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(stdin)
        source.seek(0)
        taken = _timed(command, source, sink)
        sink.seek(0)
        return sink.read(), taken


def _timed(
    command: Sequence[str],
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> float:
    with subprocess.Popen(command, stdin=stdin, stdout=stdout, env=environment) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return usage.ru_utime + usage.ru_stime


@cache
def engines() -> tuple[str, ...]:
    """The engines that are measured beside each other. Waits until the native one has its code; else says why not."""
    try:
        ahead_of_time().wait(300)
    except EngineUnavailableError as refused:
        print(f"  no native engine: {refused}")
        return ("python",)
    return ("python", "native")


@cache
def peers() -> dict[str, list[str]]:
    """Who else runs i386 programs here, and the beginning of its command: "native" is the host."""
    found: dict[str, list[str]] = {}
    try:
        if subprocess.run([GUESTS / "hello"], capture_output=True, check=False).returncode == 0:
            found["native"] = []
    except OSError:
        pass
    if qemu := shutil.which("qemu-i386") or shutil.which("qemu-i386-static"):
        found["qemu-i386"] = [qemu]
    return found
