"""Programs: execve(2), execveat(2). Arguments are read, and the program is loaded, in steps (steps.py)."""

from __future__ import annotations

from typing import Final

from aiopyvm.abi.errno import E2BIG, ENOMEM, Errno
from aiopyvm.abi.fcntl import AT_FDCWD
from aiopyvm.abi.resource import RLIMIT_STACK
from aiopyvm.kernel import exec as program
from aiopyvm.kernel.fsleases import LeaseBroken
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call, Wait
from aiopyvm.loader.stack import most_texts
from aiopyvm.loader.texts import Texts
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.spec import I32, CStr, DirFd, Strings, read_string, syscall
from aiopyvm.syscalls.steps import PIECE_COST, again, call_of

MAX_ARG_STRLEN: Final = 32 * 4096
AT_ONCE: Final = 2048  # strings read in one step


class Vector:
    """A NULL-terminated array of strings, as far as it has been read: `address` is where it goes on, 0 its end."""

    def __init__(self, address: int, most: int) -> None:
        self.address = address
        self.most = most  # bytes of strings, terminators and pointers, of 8 bytes each
        self.texts = Texts()

    def read_some(self, t: Thread) -> None:
        """Read at most AT_ONCE strings more. Raises MemoryFault, and Errno: E2BIG, ENOMEM."""
        load, texts = t.memory.load, self.texts
        before = texts.size
        for _ in range(AT_ONCE):
            pointer = load(self.address, 4)
            if not pointer:
                self.address = 0
                break
            texts.append(read_string(t, pointer, MAX_ARG_STRLEN, E2BIG))
            if len(texts.data) + 8 * len(texts) > self.most:
                raise Errno(E2BIG)
            self.address += 4
        if not t.kernel.charge(texts.size - before):
            raise Errno(ENOMEM)
        call_of(t).charged += texts.size - before


@syscall(11, "execve", man="execve(2)")
def execve(t: Thread, path: CStr, argv: Strings, envp: Strings) -> int | Wait:
    """Another program in this process."""
    return execveat(t, AT_FDCWD, path, argv, envp, 0)


@syscall(358, "execveat", man="execveat(2)")
def execveat(t: Thread, dirfd: DirFd, path: CStr, argv: Strings, envp: Strings, flags: I32) -> int | Wait:
    """Like execve, the path relative to a directory, or the file of a descriptor."""
    call = call_of(t)
    if "vectors" not in call.state:
        most = most_texts(t.process.limits[RLIMIT_STACK][0])
        call.state["vectors"] = Vector(argv, most), Vector(envp, most)
    try:
        done = _go_on(t, dirfd, path, call.state["vectors"], flags)
    except LeaseBroken as broken:
        return broken.wait()
    except (Errno, MemoryFault):
        _forget(t, call)
        raise
    if not done:
        t.moved += PIECE_COST
        return again(t)
    _forget(t, call)
    return 0


def _go_on(t: Thread, dirfd: int, path: bytes, vectors: tuple[Vector, Vector], flags: int) -> bool:
    """Make a step; True where the other program is about to begin. Raises Errno and MemoryFault."""
    for vector in vectors:
        if vector.address:
            vector.read_some(t)
        if vector.address:
            return False
    arguments, environ = (vector.texts for vector in vectors)
    if not program.execve(t, path, arguments, environ, dirfd=dirfd, flags=flags):
        return False
    t.moved += 64 * (len(arguments) + len(environ))
    return True


def _forget(t: Thread, call: Call) -> None:
    """Give back what the strings cost."""
    t.kernel.budget.charge(-call.charged)
    call.charged = 0
    call.state.pop("vectors", None)
