"""/proc: what a walk through it meets, as the native one has it (proc_pid_task(5))."""

from __future__ import annotations

import os

import pytest

from aiopyvm.abi.errno import ENOENT
from aiopyvm.kernel.procfs import ProcFs
from tests.kernel.machine import Machine


@pytest.mark.parametrize("path", ["/proc/self/task/%d/task", "/proc/self/task/%d/fd", "/proc/self/task/%d/maps"])
def test_a_thread_has_what_its_process_has_but_for_its_threads(path: str) -> None:
    m = Machine()
    m.kernel.vfs.mount(b"/proc", ProcFs(m.kernel.vfs))
    natively = os.path.exists(path % os.getpid())
    assert m.call(m.thread, "access", m.put(path.encode() % m.process.pid + b"\0"), 0) == (0 if natively else -ENOENT)
