"""Where a guest's instructions go: sampled by instruction counts, by function, for speedscope and as a table.

How it works. `Profiler.advance` takes the place of the run's, and lets it go no further than to the next sample; there
the instructions since the last one are the function's in which the guest is now. The distance between samples varies
(so that no loop keeps step with it) and grows with the run, so that a short run is looked at closely and a long one has
some thousands of samples. What always holds: the guest does what it would do without, and two profiles of one run with
a seed are the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.runtime import guest as guests
from aiopyvm.runtime.debugger import symbols_of

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.runtime.guest import Guest
    from aiopyvm.runtime.run import Run

FIRST_DISTANCE: Final = 64  # instructions between two samples, in the mean
SHARE: Final = 1024  # later: the part of what was executed so far
BLOCK: Final = 64  # bytes of code that count as one function where there are no symbols
_LOCAL: Final = (".L", "$")  # labels that assemblers make, within functions
_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_Frame = tuple[str, str]  # program, function


class Symbols:
    """The functions of the program that `run` was started with."""

    def __init__(self, run: Run) -> None:
        symbols = sorted((address, name) for name, address in symbols_of(run).items() if not name.startswith(_LOCAL))
        self._addresses = [address for address, _ in symbols]
        self._names = [name for _, name in symbols]

    def name(self, address: int) -> str:
        """The function that begins at `address`, or at the last place before it; "" where there is none."""
        at = bisect_right(self._addresses, address)
        return self._names[at - 1] if at else ""


class Profiler:
    """Samples one run, from when it is made to the end of the run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._advance = guests.advance if run.instruments is None else run.advance
        self._until = FIRST_DISTANCE
        self._since = 0
        self._random = 1
        self._exe = run.process.exe
        self._symbols = Symbols(run)
        self._threads: dict[tuple[int, int], tuple[list[_Frame], list[int]]] = {}
        self.samples = 0
        self._last: list[int] = []  # the weights to which the last sample went
        run.advance = self.advance
        run.when_done(self._end)

    def advance(self, guest: Guest, left: int) -> int:
        """As `guest.advance`, as far as the next sample."""
        before = self._run.executed_instructions
        cost = self._advance(guest, min(left, self._until))
        done = self._run.executed_instructions - before
        self._since += done
        self._until -= done
        if self._until <= 0:
            self._sample(guest.thread)
        return cost

    def _sample(self, thread: Thread) -> None:
        """All since the last sample was done by `thread`, and where it is now."""
        frames, weights = self._threads.setdefault((thread.process.pid, thread.tid), ([], []))
        frame = self._frame(thread)
        if frames and frames[-1] == frame:
            weights[-1] += self._since
        else:
            frames.append(frame)
            weights.append(self._since)
        self.samples += 1
        self._since = 0
        self._last = weights
        mean = FIRST_DISTANCE + self._run.executed_instructions // SHARE
        self._random = self._random * 1103515245 + 12345 & 0x7FFFFFFF
        self._until = max(1, mean // 2 + (self._random >> 8) % mean)

    def _end(self) -> None:
        """The run has ended: what came after the last sample is where that was."""
        if self._last:
            self._last[-1] += self._since
            self._since = 0

    def _frame(self, thread: Thread) -> _Frame:
        """Program and function that the thread is about to execute; an address where no symbol tells the function."""
        eip: int = thread.core.cpu.eip
        mapping = thread.memory.find_mapping(eip)
        program = mapping.name if mapping is not None and mapping.name else "(no file)"
        if thread.process.exe == self._exe and program == self._exe.decode(errors="surrogateescape"):
            name = self._symbols.name(eip)
            if name:
                return program, name
        return program, f"{eip & -BLOCK:#010x}"

    # --- what is found ------------------------------------------------------------------------------------------------

    def functions(self) -> list[tuple[_Frame, int]]:
        """(program, function) and instructions, most first."""
        totals: Counter[_Frame] = Counter()
        for frames, weights in self._threads.values():
            for frame, weight in zip(frames, weights, strict=True):
                totals[frame] += weight
        return sorted(totals.items(), key=lambda entry: (-entry[1], entry[0]))

    def speedscope(self, name: str) -> dict[str, Any]:
        """The profile in speedscope's file format: one per thread, by instructions, in the order of execution."""
        index: dict[_Frame | str, int] = {}
        shared: list[dict[str, str]] = []
        profiles = []
        for (pid, tid), (frames, weights) in self._threads.items():
            samples = []
            for program, function in frames:
                for key, text in ((program, program), ((program, function), function)):
                    if key not in index:
                        index[key] = len(shared)
                        shared.append({"name": text, "file": program})
                samples.append([index[program], index[program, function]])
            profiles.append(
                {
                    "type": "sampled",
                    "name": f"process {pid}" + (f", thread {tid}" if tid != pid else ""),
                    "unit": "none",
                    "startValue": 0,
                    "endValue": sum(weights),
                    "samples": samples,
                    "weights": weights,
                }
            )
        return {
            "$schema": _SCHEMA,
            "name": f"{name}: instructions",
            "exporter": "aiopyvm",
            "activeProfileIndex": 0,
            "shared": {"frames": shared},
            "profiles": profiles,
        }

    def table(self, most: int = 20) -> Iterator[str]:
        """The functions that executed most, line by line."""
        found = self.functions()
        total = sum(weight for _, weight in found)
        if not total:
            yield "too few instructions for a profile"
            return
        yield f"{total:,} instructions in {self.samples:,} samples"
        for (program, function), weight in found[:most]:
            yield f"{weight / total:7.1%} {weight:>15,}  {function}  ({program})"
        if len(found) > most:
            rest = sum(weight for _, weight in found[most:])
            yield f"{rest / total:7.1%} {rest:>15,}  {len(found) - most} more"
