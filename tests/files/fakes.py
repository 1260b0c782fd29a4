"""A clock and a budget for file systems without a machine, and the three kinds of tree that must behave alike."""

from __future__ import annotations

import os
from pathlib import Path

from aiopyvm.host.files import open_host_tree
from aiopyvm.kernel.fs import FileSystem
from aiopyvm.kernel.fscontext import FsContext
from aiopyvm.kernel.hostfs import HostFs
from aiopyvm.kernel.overlay import OverlayFs
from aiopyvm.kernel.vfs import Vfs


class Clock:
    """Time that moves by one microsecond at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * 10**9

    def monotonic_ns(self) -> int:
        return self.now

    def realtime_ns(self) -> int:
        self.now += 1000
        return self.now


class Budget:
    """Counts; refuses beyond `limit`."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.limit = limit
        self.used = 0

    def charge(self, size_bytes: int) -> bool:
        if self.used + size_bytes > self.limit:
            return False
        self.used += size_bytes
        assert self.used >= 0, "more was given back than taken"
        return True


def make_vfs(kind: str, directory: Path, budget: Budget | None = None) -> Vfs:
    """Return a tree: "memory", or the host's `directory` as "rw", "ro" or "cow". The guest's user is the host's."""
    clock = Clock()
    budget = budget or Budget()
    root: FileSystem | None = None
    if kind != "memory":
        lower = HostFs(open_host_tree(directory, writable=kind == "rw"))
        root = OverlayFs(lower, clock, budget) if kind == "cow" else lower
    return Vfs(clock=clock, budget=budget, root=root, uid=os.geteuid(), gid=os.getegid())


def user(vfs: Vfs, umask: int = 0o022) -> FsContext:
    """Return a context for the guest's user."""
    return vfs.context(umask=umask)
