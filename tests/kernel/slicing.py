"""What the cases of `slices.py` are made of: kernels with room, large and fragmented things, calls cut into slices."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiopyvm.abi.fcntl import O_CREAT, O_RDWR
from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.kernel.devices import DeviceFs
from aiopyvm.kernel.fs import Directory
from aiopyvm.kernel.memfs import MemFile
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.thread import RunState, Thread
from tests.kernel.machine import CODE, NUMBERS, Machine, in_steps

BIG = 0x40000000  # where cases map memory
MB = 1 << 20
PAGE = 4096

Case = Callable[[], Iterator["Slices"]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter a case: a generator of the calls whose slices count."""
    CASES[function.__name__] = function
    return function


class Slices:
    """One call, slice by slice: `costs` are their seconds of processor time, `result` its EAX, signed."""

    def __init__(self, m: Machine, name: str, *args: int, t: Thread | None = None) -> None:
        self.costs: list[float] = []
        self.m = m
        t = t or m.thread
        cpu = t.core.cpu
        cpu.eax = NUMBERS[name]
        cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp = [a & 0xFFFFFFFF for a in args] + [0] * (6 - len(args))
        cpu.eip = CODE + 2
        with self._slice():
            m.kernel.trap(t, Exit(ExitReason.SYSCALL))
        while in_steps(t):
            with self._slice():
                m.kernel.expire(m.clock.now)
                m.kernel.resume(t)
        eax: int = cpu.eax
        self.result = (eax ^ 0x80000000) - 0x80000000 if t.state is RunState.RUNNABLE else None

    @contextmanager
    def _slice(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.costs.append(time.process_time() - began)


def machine(**options: int) -> Machine:
    """A kernel with room, /proc and /dev, root's."""
    m = Machine(**{"memory_limit": 512 * MB, "budget": 1 << 30, "process_limit": 1024, "uid": 0, **options})  # type: ignore[arg-type]
    vfs = m.kernel.vfs
    for name, fs in ((b"/dev", DeviceFs(vfs.clock, vfs.budget)), (b"/proc", ProcFs(vfs))):
        vfs.mount(name, fs)
    return m


def touch(m: Machine, size: int, at: int = BIG) -> None:
    """Map `size` bytes and touch every page."""
    m.thread.memory.map(at, size, 3)
    for page in range(at, at + size, MB):
        m.thread.memory.write(page, b"x" * MB)


def fragment(m: Machine, count: int, *, touched: bool = False) -> int:
    """Make `count` mappings of a page each, alternately readable and writable; the bytes that they take."""
    for n in range(count):
        m.thread.memory.map(BIG + n * PAGE, PAGE, 3 if n & 1 else 1)
        if touched and n & 1:
            m.thread.memory.store(BIG + n * PAGE, 4, n)
    return count * PAGE


def make_file(m: Machine, path: bytes, content: bytes) -> int:
    """Make a file with `content`; a descriptor."""
    fd = m.call(m.thread, "open", m.put(path + b"\0"), O_CREAT | O_RDWR, 0o777)
    assert fd is not None
    inode = m.process.fds.get(fd).inode
    assert isinstance(inode, MemFile)
    for at in range(0, len(content), MB):
        inode.write_at(at, content[at : at + MB])
    return fd


def fill_directory(m: Machine, path: bytes, count: int) -> int:
    """Make a directory with `count` files; a descriptor."""
    assert m.call(m.thread, "mkdir", m.put(path + b"\0"), 0o777) == 0
    fd = m.call(m.thread, "open", m.put(path + b"\0"), 0)
    assert fd is not None
    directory = m.process.fds.get(fd).inode
    assert isinstance(directory, Directory)
    for n in range(count):
        directory.make(b"file%06d" % n, 0o100644, 0, 0)
    return fd


def elf(segments: list[tuple[int, int, int]], size: int = 0) -> bytes:
    """A static program whose PT_LOADs (address, bytes in memory, PF_*) all show its first page."""
    count = len(segments)
    entry = segments[0][0]
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, entry, 52, 0, 0, 52, 32, count, 0, 0, 0)
    rows = b"".join(struct.pack("<8I", 1, 0, at, at, PAGE, n, flags, PAGE) for at, n, flags in segments)
    return (header + rows).ljust(max(PAGE, size), b"\0")
