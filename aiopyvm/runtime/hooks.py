"""Hooks: functions of the caller's that a guest's run calls at an address, at a memory access, or at a system call.

A hook may be a plain function or an async one; an async one rests its machine, and nobody else's, until it has
answered. What a hook raises ends the guest and goes to whoever runs it. Hooks are given as the option `hooks=[...]`;
each slows down what it looks at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.runtime.proxies import Memory, Registers


@dataclass(frozen=True, slots=True)
class Event:
    """What a hook is told: where, and the machine as it is then. Registers and memory may be changed.

    `address` is the instruction's or, for a memory hook, the access's. `size` and `access` ("r" or "w") are a memory
    hook's, `name`, `number` and `args` (six words) a system-call hook's; there, `args` are as in the registers.
    """

    kind: Literal["code", "memory", "syscall"]
    thread: Thread
    address: int
    size: int = 0
    access: str = ""
    number: int = 0
    name: str = ""
    args: tuple[int, ...] = ()

    @property
    def registers(self) -> Registers:
        """The thread's registers."""
        from aiopyvm.runtime.proxies import Registers

        return Registers(self.thread.core.cpu)

    @property
    def memory(self) -> Memory:
        """The thread's memory."""
        from aiopyvm.runtime.proxies import Memory

        return Memory(self.thread)

    @property
    def pid(self) -> int:
        """The guest process's id in its machine."""
        return self.thread.process.pid


HookFunction = Callable[[Event], "Awaitable[Any] | Any"]


def _check_range(start: object, end: object) -> None:
    for address in (start, end):
        if not isinstance(address, int):
            raise TypeError(f"an address is a number, not {address!r}")
        if not 0 <= address <= 1 << 32:
            raise ValueError(f"an address has 32 bits, not {address:#x}")
    if not start < end:  # type: ignore[operator]  # both are int, as seen
        raise ValueError(f"nothing is in [{start:#x}, {end:#x})")


def _check_function(function: object) -> None:
    if not callable(function):
        raise TypeError(f"a hook's function can be called, {function!r} cannot")


@dataclass(frozen=True, slots=True)
class CodeHook:
    """Calls `function` before each instruction in [start, end) is executed; at `start` alone when `end` is None.

    Raises TypeError, ValueError for arguments that are none, as the other hooks do.
    """

    start: int
    function: HookFunction
    end: int | None = None

    def __post_init__(self) -> None:
        _check_range(self.start, self.start + 1 if self.end is None else self.end)
        _check_function(self.function)


@dataclass(frozen=True, slots=True)
class MemoryHook:
    """Calls `function` after each instruction that read or wrote (as `access` says) a byte of [start, end)."""

    start: int
    end: int
    function: HookFunction
    access: Literal["r", "w", "rw"] = "rw"

    def __post_init__(self) -> None:
        _check_range(self.start, self.end)
        _check_function(self.function)
        if self.access not in ("r", "w", "rw"):
            raise ValueError(f'access is "r", "w" or "rw", not {self.access!r}')


@dataclass(frozen=True, slots=True)
class SyscallHook:
    """Calls `function` before a system call: each one, or those of `name`. An integer that it returns becomes the
    call's result (-errno for an error), and the call is not made; None lets it happen."""

    function: HookFunction
    name: str | None = None

    def __post_init__(self) -> None:
        _check_function(self.function)
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"a system call's name is str, not {self.name!r}")


Hook = CodeHook | MemoryHook | SyscallHook
