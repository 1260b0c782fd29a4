"""What `aiopyvm run` tells about a run: --profile, --stats, --perf-map."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiopyvm import Process, Result
from aiopyvm.isa.processors import find_processor
from aiopyvm.runtime.machine import get_engine

if TYPE_CHECKING:
    from aiopyvm.runtime.profile import Profiler
    from aiopyvm.runtime.run import Run


class Measure:
    """Watches the run that is about to start, and tells afterwards. It is given as `task_status`.

    Raises OSError where the map for perf cannot be made, or the profile not be written."""

    def __init__(self, arguments: Any) -> None:
        self._arguments = arguments
        self._profiler: Profiler | None = None
        self._run: Run | None = None
        self._named = False  # the handlers are in the map for perf
        if arguments.profile not in (None, "-"):
            _check_writable(arguments.profile)
        if arguments.perf_map:
            from aiopyvm.engine.native import perfmap

            perfmap.enable()

    @property
    def wanted(self) -> bool:
        """Whether there is anything to watch."""
        return self._arguments.profile is not None or bool(self._arguments.stats or self._arguments.perf_map)

    def started(self, process: Process) -> None:
        """The guest is there, and has not executed anything."""
        self._run = process.runs[0]
        if self._arguments.perf_map:
            from aiopyvm.engine.native.perfmap import name_guest_code
            from aiopyvm.runtime.profile import Symbols

            name_guest_code(Symbols(self._run).name)
            self._named = record_handlers()
        if self._arguments.profile is not None:
            from aiopyvm.runtime.profile import Profiler

            self._profiler = Profiler(self._run)

    def tell(self, result: Result) -> None:
        """The run has ended: write the profile, show tables on standard error. Raises OSError."""
        if self._arguments.perf_map and not self._named:
            record_handlers()  # they were loaded meanwhile
        if self._profiler is not None:
            target = self._arguments.profile
            if target != "-":
                import json

                name = str(result.args[0]) if result.args else "guest"
                with open(target, "w") as file:
                    json.dump(self._profiler.speedscope(name), file)
            _show(self._profiler.table())
        if self._arguments.stats:
            assert self._run is not None
            calls = self._run.kernel.calls.total()
            _show(_lines("the run", run_figures(result, calls)))
            engine = get_engine(self._arguments.engine, find_processor(self._arguments.cpu))
            _show(_lines(f"engine {engine.name}", engine.statistics()))


def _check_writable(path: str) -> None:
    """Raise OSError where `path` cannot be written: else that would be known when the run is over."""
    there = os.path.exists(path)
    open(path, "ab").close()
    if not there:
        os.unlink(path)


def run_figures(result: Result, calls: int) -> dict[str, int | float]:
    """What a result says of a run in numbers."""
    seconds = result.wall_time
    return {
        "instructions": result.instructions,
        "wall_time_s": round(seconds, 4),
        "million_instructions_per_second": round(result.instructions / seconds / 1e6, 2) if seconds else 0,
        "system_calls": calls,
        "unknown_system_calls": sum(result.unknown_syscalls.values()),
        "peak_memory_bytes": result.peak_memory,
    }


def record_handlers() -> bool:
    """Put the native engine's handlers into the map for perf, where they are loaded."""
    from aiopyvm.engine.native import perfmap
    from aiopyvm.engine.native.aot import ahead_of_time

    loaded = ahead_of_time().loaded
    if loaded is None or not loaded.symbols:
        return False
    first = min(loaded.symbols, key=loaded.symbols.__getitem__)
    base = loaded.address(first) - loaded.symbols[first]
    perfmap.record_symbols(base, loaded.at + loaded.size, loaded.symbols.items())
    return True


def _lines(title: str, figures: Mapping[str, int | float]) -> Iterable[str]:
    yield f"{title}:"
    for name, value in figures.items():
        if value:
            yield f"  {name.replace('_', ' '):<36} {value:>16,}"


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
