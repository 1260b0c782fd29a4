"""Counting a guest's output, and keeping it for the result."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from aiopyvm.runtime.result import Reason

if TYPE_CHECKING:
    from aiopyvm.runtime.run import Run


class Meter:
    """Counts what a run writes to one standard stream, and keeps the last `keep` bytes of it (a `hoststream.Meter`).

    `keep` is None where all is kept: there is a limit on output then, or the caller asked for it; 0 keeps nothing.
    """

    __slots__ = ("_chunks", "_kept", "_run", "keep")

    def __init__(self, run: Run, keep: int | None) -> None:
        self._run = run
        self.keep = keep
        self._chunks: deque[bytes] = deque()
        self._kept = 0

    def allow(self, n: int) -> int:
        """How many of `n` bytes may be written; less means that the run is about to end."""
        room = self._run.output.room()
        if room is None or room >= n:
            return n
        self._run.condemn(Reason.OUTPUT_LIMIT, f"more than {self._run.output_limit} bytes of output", "output")
        return max(0, room)

    def wrote(self, data: bytes) -> None:
        """`data` was written."""
        self._run.output.spend(len(data))
        if self.keep == 0:
            return
        self._chunks.append(data)
        self._kept += len(data)
        while self.keep is not None and self._kept - len(self._chunks[0]) >= self.keep:
            self._kept -= len(self._chunks.popleft())

    def value(self) -> bytes | None:
        """What is kept; None where nothing is to be."""
        return None if self.keep == 0 else b"".join(self._chunks)
