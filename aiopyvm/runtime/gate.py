"""The gate through which guests start: so that a thousand that start at once do not hold up the event loop.

Making a guest takes about a millisecond and happens at once. The gate lets as many through between two turns of the
driver as fit into START_NS; the others wait in line, and each turn lets the next ones through.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import Final

import anyio

START_NS: Final = 2_000_000


class Gate:
    """`await gate.wait()`, then `with gate.passing(): ...` what takes time."""

    __slots__ = ("_credit", "_line", "_needed")

    def __init__(self, needed: Callable[[], None]) -> None:
        self._credit = START_NS
        self._line: OrderedDict[anyio.Event, None] = OrderedDict()
        self._needed = needed  # called when somebody waits for the next `refill`

    def __len__(self) -> int:
        return len(self._line)

    async def wait(self) -> None:
        """Return when it is one's turn."""
        if self._credit > 0 and not self._line:
            return
        event = anyio.Event()
        self._line[event] = None
        self._needed()
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self._let_next()
            raise
        finally:
            self._line.pop(event, None)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around what was waited for."""
        before = monotonic_ns()
        try:
            yield
        finally:
            self._credit -= monotonic_ns() - before
            if self._credit > 0:
                self._let_next()

    def refill(self) -> None:
        """The event loop has had its turn."""
        self._credit = START_NS
        if self._line:
            self._let_next()

    def _let_next(self) -> None:
        for event in self._line:
            if not event.is_set():
                event.set()
                return
