"""Where compiled code faults on purpose: the tables that the handler of SIGSEGV reads, and that it stays in its place.

The handler itself is generated code (`trap_ir`). What always holds: a reservation is in a slot before it is protected,
and leaves it when it is accessible again; an object's traps are in the directory as long as its code may run. A handler
that somebody else installs later takes its place, and must not get our faults: `installed` is asked before generated
code runs, and puts ours above it. All of it lives as long as the process.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import importlib
import logging
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiopyvm.engine.native.codearena import PAGE, CodeArena
from aiopyvm.engine.native.traplayout import (
    ENTRIES,
    LEVELS,
    MOST_OPENED,
    MOST_SLOTS,
    TRAP_SIZE,
    Control,
    Previous,
    Slot,
    TableEntry,
)
from aiopyvm.errors import HostRefusedError

_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000
_SANITIZERS: Final = ("__asan_init", "__tsan_init", "__msan_init")
_SIGSEGV: Final = int(signal.SIGSEGV)
_faulthandler_on: Final = faulthandler.is_enabled
_getsignal: Final[Callable[[int], object]] = importlib.import_module("_signal").getsignal  # makes no enumerations
_log: Final = logging.getLogger("aiopyvm")


class _Action(ctypes.Structure):
    """struct sigaction of the C library on x86-64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Watched:
    """A reservation in a slot: a `mem.protection.Watch`."""

    def __init__(self, traps: Traps, number: int) -> None:
        self._traps = traps
        self._number = number
        self._slot: Slot = traps.slots[number]

    @property
    def disturbed(self) -> int:
        """How many pages were opened since `opened` was last asked."""
        return int(self._slot.opened)

    def opened(self) -> Iterable[int] | None:
        """The numbers of those pages; None: all were opened."""
        count = self._slot.opened
        pages = None if count > MOST_OPENED else self._slot.pages[:count]
        self._slot.opened = 0
        return pages

    def end(self) -> None:
        """Faults there are no concern any more. Once or more often."""
        if self._number >= 0:
            self._traps.free(self._number)
            self._number = -1


class Traps:
    """The process's traps: `entries` are the addresses of the handler's. Thread-safe."""

    def __init__(self, arena: CodeArena, entries: Iterable[int]) -> None:
        self._arena = arena
        self._entries = tuple(entries)
        self._lock = threading.RLock()  # a slot may be freed wherever garbage is collected
        self._free = list(range(MOST_SLOTS - 1, -1, -1))
        self._level = 0  # entries that were installed
        self._refused = False
        self._sigaction = ctypes.PyDLL(None).sigaction  # a short call: it keeps the GIL
        self._found = _Action()
        self._ask = ctypes.c_int(signal.SIGSEGV), ctypes.c_void_p(), ctypes.c_void_p(ctypes.addressof(self._found))
        self._python: tuple[object, object] | None = None
        directory = TableEntry * (arena.size // PAGE)
        self._memory = mmap.mmap(
            -1, ctypes.sizeof(directory) + ctypes.sizeof(Slot) * MOST_SLOTS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        self._directory = (ctypes.c_uint64 * (arena.size // PAGE)).from_buffer(self._memory)
        self.slots: ctypes.Array[Slot] = (Slot * MOST_SLOTS).from_buffer(self._memory, ctypes.sizeof(directory))
        control = Control.from_address(arena.data())
        control.directory = ctypes.addressof(self._directory)
        control.code_bytes = arena.size
        control.slots = ctypes.addressof(self.slots)
        control.slot_count = 0
        self._control = control

    def forget_threads(self) -> None:
        """In a child of fork(2): no other thread is left to give the lock back."""
        self._lock = threading.RLock()

    # -- reservations --------------------------------------------------------------------------------------------------

    def watch(self, base: int) -> Watched:
        """Take the faults of the reservation whose guest address 0 is at `base`.

        Raises HostRefusedError where there are too many, or the handler cannot be installed.
        """
        if not self.installed() or signal.SIGSEGV in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            raise HostRefusedError(errno.EPERM, "faults of compiled code cannot be handled here")
        with self._lock:
            if not self._free:
                raise HostRefusedError(errno.ENOMEM, f"{MOST_SLOTS} reservations are protected")
            number = self._free.pop()
            slot = self.slots[number]
            slot.opened = 0
            slot.base = base
            self._control.slot_count = max(self._control.slot_count, number + 1)
        return Watched(self, number)

    def free(self, number: int) -> None:
        """The slot's reservation is accessible again."""
        with self._lock:
            self.slots[number].base = 0
            self._free.append(number)

    # -- code ----------------------------------------------------------------------------------------------------------

    def add(self, code: tuple[int, int], table: tuple[int, int]) -> None:
        """Compiled code has a trap table; both: distance from code_base, bytes."""
        for page in _pages(*code):
            self._directory[page] = table[0] | table[1] // TRAP_SIZE << 32

    def remove(self, code: tuple[int, int]) -> None:
        """Code that was added is about to be freed."""
        for page in _pages(*code):
            self._directory[page] = 0

    # -- the handler ---------------------------------------------------------------------------------------------------

    def installed(self) -> bool:
        """Whether our handler is the first to get SIGSEGV; where it is not, make it so. False: that cannot be."""
        self._sigaction(*self._ask)
        self._python = _pythons_own()
        return self._found.handler in self._entries or self._install()

    def still_installed(self) -> bool:
        """As `installed`, where nothing but Python code has run since: a tenth of its cost."""
        return self._python == (_faulthandler_on(), _getsignal(_SIGSEGV)) or self.installed()

    def _install(self) -> bool:
        """Stand above what is installed now."""
        with self._lock:
            previous = self._control.previous
            handler, flags = self._found.handler or 0, self._found.flags
            known = [n for n in range(self._level) if (previous[n].handler, previous[n].flags) == (handler, flags)]
            level = known[0] if known else self._level
            if self._refused or level == LEVELS:
                self._refused = True
                return False
            previous[level] = Previous(handler, flags)
            self._level = max(self._level, level + 1)
            action = _Action(self._entries[level], flags=_SA_SIGINFO | _SA_ONSTACK)
            failed = self._sigaction(self._ask[0], ctypes.byref(action), None)
            self._sigaction(*self._ask)
            self._refused = bool(failed) or self._found.handler != self._entries[level]
        if self._refused:
            _log.warning("compiled code checks each access: somebody else insists on handling SIGSEGV")
        return not self._refused


def _pythons_own() -> tuple[object, object]:
    """What Python code can do about SIGSEGV without help."""
    return _faulthandler_on(), _getsignal(_SIGSEGV)


def _pages(at: int, size: int) -> range:
    return range(at // PAGE, -(-(at + size) // PAGE))


_first: Final = threading.Lock()


def traps_of(arena: CodeArena, symbols: Mapping[str, int]) -> Traps:
    """The traps of an arena in which the handler's entries are `symbols` (distances from code_base); made once."""
    with _first:
        if arena.traps is None:
            arena.traps = Traps(arena, (arena.base + symbols[name] for name in ENTRIES))
        return arena.traps


def unsupported() -> str | None:
    """Say why faults of compiled code are not to be handled in this process; None: they can be."""
    if os.uname().machine != "x86_64":
        return f"faults are handled on x86-64 only, this is {os.uname().machine}"
    try:
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        glibc = None
    if not glibc:
        return "the C library is not glibc"
    if any(hasattr(ctypes.pythonapi, name) for name in _SANITIZERS):
        return "a sanitizer handles SIGSEGV"
    return None


__all__ = ["Traps", "traps_of", "unsupported"]
