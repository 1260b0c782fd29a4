"""Limits that the caller sets, and the accounts that hold a guest to them.

`Limits` is a frozen description. An `Account` is one counted resource; accounts form a chain (a run's account, then its
runtime's), and a charge is taken by all of the chain or by none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

MIB: Final = 1 << 20
SECOND_NS: Final = 1_000_000_000


class _Default(int):
    """A limit that the caller did not name: equal to its number, but told apart when limits are laid over one
    another."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a guest may use at most; None means without bound.

    `instructions` counts the instructions of all the guest's threads. `wall_time` is the host's seconds from start to
    end; `guest_time` is the seconds of processor time that the guest used (on the virtual clock: 1 ns per instruction).
    Running out of any of these, or of `output` (bytes written to standard output and error), ends the run with a typed
    reason. `memory` (bytes: touched pages, kernel objects, and the files that the VM keeps in memory), `open_files` and
    `processes` (threads count) are answered with the errno that Linux gives; what was mapped while there was room, and
    is touched when there is none, ends the run (MEMORY_LIMIT). Files outlive the runs that wrote them: they count
    against the `memory` of every run of their VM, and in a Runtime's sum until the VM is gone.

    Given to a `Runtime`, those that are named bound the sum over its guests, beside each guest's own; given to a run,
    those that are named override the VM's.

    Raises ValueError for a limit that is not a positive number.
    """

    instructions: int | None = None
    wall_time: float | None = None
    guest_time: float | None = None
    memory: int | None = _Default(256 * MIB)
    output: int | None = _Default(64 * MIB)
    open_files: int = _Default(1024)
    processes: int = _Default(256)
    _named: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = set()
        for name in LIMIT_NAMES:
            value = getattr(self, name)
            if isinstance(value, _Default):
                object.__setattr__(self, name, int(value))
                continue
            _check(name, value)
            if value is not None or name in ("memory", "output"):
                named.add(name)
        object.__setattr__(self, "_named", frozenset(named))

    def names(self, name: str) -> bool:
        """The caller gave `name` a value."""
        return name in self._named

    def over(self, base: Limits) -> Limits:
        """Return these limits with those that were not named taken from `base`."""
        values: dict[str, Any] = {name: getattr(self if name in self._named else base, name) for name in LIMIT_NAMES}
        merged = Limits(**values)
        object.__setattr__(merged, "_named", self._named | base._named)
        return merged


def _check(name: str, value: object) -> None:
    if value is None:
        if name in ("open_files", "processes"):
            raise ValueError(f"{name} must be a positive number, not None")
        return
    kinds = (int, float) if name in ("wall_time", "guest_time") else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive {kinds[-1].__name__}, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite (None: no limit), not {value!r}")


LIMIT_NAMES: Final = tuple(entry.name for entry in fields(Limits) if not entry.name.startswith("_"))


class Account:
    """One counted resource; `charge` takes from it and from every account above it, or refuses and takes nothing.

    `used` never passes `limit` and never falls below zero by giving back what was taken. It is a `kernel.ports.Budget`.
    """

    __slots__ = ("limit", "parent", "peak", "refused", "used")

    def __init__(self, limit: int | None = None, parent: Account | None = None) -> None:
        self.limit = limit
        self.parent = parent
        self.used = 0
        self.peak = 0
        self.refused = 0  # charges that were turned down, here or above

    def charge(self, size_bytes: int) -> bool:
        """Take `size_bytes` (negative: give back); False, and nothing taken, when that is over a limit of the chain."""
        if size_bytes < 0:
            account: Account | None = self
            while account is not None:
                account.used += size_bytes
                account = account.parent
            return True
        used = self.used + size_bytes
        if (size_bytes > 0 and self.limit is not None and used > self.limit) or (
            self.parent is not None and not self.parent.charge(size_bytes)
        ):
            self.refused += 1
            return False
        self.used = used
        if used > self.peak:
            self.peak = used
        return True

    def room(self) -> int | None:
        """How much may still be taken at once; None: without bound."""
        found: int | None = None
        account: Account | None = self
        while account is not None:
            if account.limit is not None:
                room = account.limit - account.used
                if found is None or room < found:
                    found = room
            account = account.parent
        return found

    def spend(self, amount: int) -> None:
        """Take `amount` without asking: what has already happened (the caller stayed within `room()`)."""
        account: Account | None = self
        while account is not None:
            account.used += amount
            account = account.parent

    def chain(self) -> Iterator[Account]:
        """This account and those above it."""
        account: Account | None = self
        while account is not None:
            yield account
            account = account.parent

    def close(self) -> None:
        """Give everything back to the accounts above."""
        if self.parent is not None and self.used:
            self.parent.charge(-self.used)
        self.used = 0


class Store(Account):
    """The bytes of the files that a VM keeps in memory: they count against the memory of each of its runs, too."""

    __slots__ = ("runs",)

    def __init__(self, limit: int | None = None, parent: Account | None = None) -> None:
        super().__init__(limit, parent)
        self.runs: list[RunMemory] = []  # those that have not ended

    def charge(self, size_bytes: int) -> bool:
        if size_bytes > 0 and not all(run.has_room(size_bytes) for run in self.runs):
            self.refused += 1
            return False
        return super().charge(size_bytes)


class RunMemory(Account):
    """The memory of one run; what its VM's files take counts against its limit."""

    __slots__ = ("store",)

    def __init__(self, limit: int | None, parent: Account | None, store: Store) -> None:
        super().__init__(limit, parent)
        self.store = store
        store.runs.append(self)

    def has_room(self, size_bytes: int) -> bool:
        """So much more, here or in files, is within the limit."""
        return self.limit is None or self.used + self.store.used + size_bytes <= self.limit

    def room(self) -> int | None:
        found = super().room()
        return found if self.limit is None or found is None else min(found, self.limit - self.used - self.store.used)

    def charge(self, size_bytes: int) -> bool:
        if size_bytes > 0 and self.limit is not None and not self.has_room(size_bytes):
            self.refused += 1
            return False
        return super().charge(size_bytes)

    def close(self) -> None:
        super().close()
        self.store.runs.remove(self)
