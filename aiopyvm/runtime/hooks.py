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


@dataclass(frozen=True, slots=True)
class CodeHook:
    """Calls `function` before each instruction in [start, end) is executed; at `start` alone when `end` is None."""

    start: int
    function: HookFunction
    end: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryHook:
    """Calls `function` after each instruction that read or wrote (as `access` says) a byte of [start, end)."""

    start: int
    end: int
    function: HookFunction
    access: Literal["r", "w", "rw"] = "rw"


@dataclass(frozen=True, slots=True)
class SyscallHook:
    """Calls `function` before a system call: each one, or those of `name`. An integer that it returns becomes the
    call's result (-errno for an error), and the call is not made; None lets it happen."""

    function: HookFunction
    name: str | None = None


Hook = CodeHook | MemoryHook | SyscallHook
