"""/proc: what a walk through it meets, as the native one has it (proc_pid_task(5))."""

from __future__ import annotations

import os

import pytest

from aiopyvm.abi.errno import ENOENT
from aiopyvm.kernel.procfs import ProcFs
from tests.kernel.machine import SCRATCH, Machine


@pytest.mark.parametrize("path", ["/proc/self/task/%d/task", "/proc/self/task/%d/fd", "/proc/self/task/%d/maps"])
def test_a_thread_has_what_its_process_has_but_for_its_threads(path: str) -> None:
    m = Machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    natively = os.path.exists(path % os.getpid())
    assert m.call(m.thread, "access", m.put(path.encode() % m.process.pid + b"\0"), 0) == (0 if natively else -ENOENT)


def test_what_is_committed_is_what_is_mapped_private_and_writable() -> None:
    m = Machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    before = _meminfo(m)["Committed_AS"]
    at = m.call(m.thread, "mmap2", 0, 8 << 20, 3, 0x22, -1, 0)
    assert at is not None
    assert m.call(m.thread, "mmap2", 0, 8 << 20, 1, 0x22, -1, 0) is not None
    assert _meminfo(m)["Committed_AS"] == before + (8 << 10)
    at &= 0xFFFFFFFF
    assert m.call(m.thread, "mprotect", at + (1 << 20), 1 << 20, 1) == 0
    assert m.call(m.thread, "munmap", at + (4 << 20), 2 << 20) == 0
    assert _meminfo(m)["Committed_AS"] == before + (5 << 10)
    m.fork()
    rows = _meminfo(m)
    assert rows["Committed_AS"] == 2 * (before + (5 << 10))
    assert rows["CommitLimit"] == rows["MemTotal"] // 2
    assert m.thread.memory.committed == sum(
        x.end - x.start for x in m.thread.memory.mappings() if x.prot & 2 and not x.shared
    )


def _meminfo(m: Machine) -> dict[str, int]:
    """Kilobytes by name."""
    fd = m.call(m.thread, "open", m.put(b"/proc/meminfo\0"), 0)
    assert fd is not None
    size = m.call(m.thread, "read", fd, SCRATCH, 4096)
    assert m.call(m.thread, "close", fd) == 0
    rows = (row.split() for row in m.thread.memory.read(SCRATCH, size or 0).decode().splitlines())
    return {name.removesuffix(":"): int(value) for name, value, _ in rows}
