"""Who steps the guests: one task at a time per event loop, out of those that exist because somebody runs a guest.

How it works. Every `run_*` call and every open block is a `Host` that can lend a task. One host leads: its task works
in short turns and goes through the event loop between them; when nothing is runnable it sleeps until a deadline or
until somebody wakes it. A host that leaves hands the lead to another one, synchronously. Where no guest runs there is
no leader and so no task.

What always holds: at most one task is inside `lead`; while a guest is alive, some host leads or has been asked to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.lowlevel

from aiopyvm.host.clock import under_trio

if TYPE_CHECKING:
    from aiopyvm.runtime.block import Block

TURN_NS: Final = 1_500_000  # guests run this long between two passes of the event loop
ASYNCIO_PASSES: Final = 3  # the task of a timer that is due comes in the second pass, and behind us


class Work(Protocol):
    """What a driver drives: the scheduler."""

    def turn(self, until_ns: int) -> bool:
        """Run guests until `until_ns` (time.monotonic_ns) or nothing is runnable; True: call again soon."""
        ...

    def sleep_s(self) -> float | None:
        """Seconds until the next deadline; None: only a wake-up can bring work."""
        ...

    def alive(self) -> bool:
        """There are guests that have not ended."""
        ...


class Host(Protocol):
    """Something that can lend its task to the driver."""

    def promote(self) -> None:
        """Have a task call `Driver.lead(self, ...)` soon."""
        ...


class Driver:
    """Steps `work` from the leading host's task."""

    __slots__ = ("_hosts", "_leader", "_sleep", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work
        self._hosts: dict[Host, None] = {}
        self._leader: Host | None = None
        self._sleep: anyio.Event | None = None

    @property
    def leader(self) -> Host | None:
        """The host that steps the guests, or has been asked to."""
        return self._leader

    def wake(self) -> None:
        """Something has become runnable, or a deadline nearer."""
        if self._sleep is not None:
            self._sleep.set()
        elif self._leader is None:
            self._elect()

    def join(self, host: Host) -> None:
        """Add a host; it leads when nobody does and there is work."""
        self._hosts[host] = None
        if self._leader is None:
            self._elect()

    def leave(self, host: Host) -> None:
        """Remove a host; another takes over when it was leading."""
        self._hosts.pop(host, None)
        if self._leader is host:
            self._leader = None
            if self._sleep is not None:
                self._sleep.set()
                self._sleep = None
            self._elect()

    def leads(self, host: Host) -> bool:
        """`host` is the leader, or has been asked to be."""
        return self._leader is host

    def _elect(self) -> None:
        if self._hosts and self._work.alive():
            self._leader = next(iter(self._hosts))
            self._leader.promote()

    async def lead(self, host: Host, until: Callable[[], bool]) -> None:
        """Step the guests until `until()`, the host has left or nothing is alive. Passes the lead on, also when
        cancelled."""
        passes = 1 if under_trio() else ASYNCIO_PASSES
        try:
            while self._leader is host and not until() and self._work.alive():
                if self._work.turn(time.monotonic_ns() + TURN_NS):
                    for _ in range(passes):
                        await anyio.lowlevel.checkpoint()
                elif self._leader is host and not until():
                    await self._nap()
        finally:
            if self._leader is host:
                self._leader = None
                self._hosts.pop(host, None)
                self._elect()
                self._hosts[host] = None

    async def _nap(self) -> None:
        timeout = self._work.sleep_s()
        if timeout is not None and timeout <= 0:
            await anyio.lowlevel.checkpoint()
            return
        event = self._sleep = anyio.Event()
        try:
            if timeout is None:
                await event.wait()
            else:
                with anyio.move_on_after(timeout):
                    await event.wait()
        finally:
            if self._sleep is event:
                self._sleep = None


class WaitingTask:
    """The host that is a task waiting for its own run: `await WaitingTask(driver).wait(until)`."""

    __slots__ = ("_driver", "_event")

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._event = anyio.Event()

    def promote(self) -> None:
        """Wake the task, which then leads."""
        self._event.set()

    def notify(self) -> None:
        """`until()` may have become true."""
        self._event.set()

    async def wait(self, until: Callable[[], bool]) -> None:
        """Return when `until()` is true; `notify` says when to look. Leads meanwhile if it is this host's turn."""
        self._driver.join(self)
        try:
            while not until():
                if self._driver.leads(self):
                    await self._driver.lead(self, until)
                else:
                    self._event = anyio.Event()
                    await self._event.wait()
        finally:
            self._driver.leave(self)


class BlockTask:
    """The host that is an open block: it starts a task of the block when it is asked to lead."""

    __slots__ = ("_block", "_driver")

    def __init__(self, driver: Driver, block: Block) -> None:
        self._driver = driver
        self._block = block

    def join(self) -> None:
        """Lend tasks from now on."""
        self._driver.join(self)

    def leave(self) -> None:
        """Lend no more; a leading task of the block ends."""
        self._driver.leave(self)

    def promote(self) -> None:
        """Start the leading task."""
        self._block.start(self._lead, name="aiopyvm driver")

    async def _lead(self) -> None:
        # A cancelled body may still wait for its guests, in a shielded scope: what ends this task is `leave`.
        with anyio.CancelScope(shield=True):
            await self._driver.lead(self, lambda: self._block.closing)
