"""Programs: execve(2), execveat(2). Arguments are read, and the program is loaded, in steps (steps.py)."""

from __future__ import annotations

from typing import Final

from aiopyvm.abi.errno import E2BIG, Errno
from aiopyvm.abi.fcntl import AT_FDCWD
from aiopyvm.kernel import exec as program
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.syscalls.spec import I32, CStr, DirFd, Strings, read_string, syscall
from aiopyvm.syscalls.steps import PIECE_COST, again, call_of

ARG_MAX: Final = 2 << 20  # bytes; a quarter of the stack limit, which the loader checks too
MAX_ARG_STRLEN: Final = 32 * 4096
MAX_ARG_STRINGS: Final = 65536  # Linux has no such limit
AT_ONCE: Final = 2048  # strings read in one step


class Vector:
    """A NULL-terminated array of strings, as far as it has been read: `address` is where it goes on, 0 its end."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.room = ARG_MAX  # for strings, terminators and pointers
        self.strings: list[bytes] = []
        self.seen: dict[int, bytes] = {}  # by address: one long string may be there many times

    def read_some(self, t: Thread) -> None:
        """Read at most AT_ONCE strings more. Raises MemoryFault, and Errno(E2BIG) for a long one, too many or much."""
        load, seen, strings = t.memory.load, self.seen, self.strings
        for _ in range(AT_ONCE):
            pointer = load(self.address, 4)
            if not pointer:
                self.address = 0
                break
            text = seen.get(pointer)
            if text is None:
                text = seen[pointer] = read_string(t, pointer, MAX_ARG_STRLEN, E2BIG)
            strings.append(text)
            self.room -= len(text) + 5
            if self.room <= 0 or len(strings) > MAX_ARG_STRINGS:
                raise Errno(E2BIG)
            self.address += 4


@syscall(11, "execve", man="execve(2)")
def execve(t: Thread, path: CStr, argv: Strings, envp: Strings) -> int | Wait:
    """Another program in this process."""
    return execveat(t, AT_FDCWD, path, argv, envp, 0)


@syscall(358, "execveat", man="execveat(2)")
def execveat(t: Thread, dirfd: DirFd, path: CStr, argv: Strings, envp: Strings, flags: I32) -> int | Wait:
    """Like execve, the path relative to a directory, or the file of a descriptor."""
    state = call_of(t).state
    if "vectors" not in state:
        state["vectors"] = Vector(argv), Vector(envp)
    vectors: tuple[Vector, Vector] = state["vectors"]
    for vector in vectors:
        if vector.address:
            vector.read_some(t)
        if vector.address:
            t.moved += PIECE_COST
            return again(t)
    arguments, environ = vectors
    if not program.execve(t, path, arguments.strings, environ.strings, dirfd=dirfd, flags=flags):
        t.moved += PIECE_COST
        return again(t)
    t.moved += 64 * (len(arguments.strings) + len(environ.strings))
    return 0
