"""What a process knows of its memory beside the pages: the break, and how many processes share it (vfork, CLONE_VM)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.kernel.fs import Inode
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.mem.space import AddressSpace


MOST_FILES: Final = 1024  # remembered, where no more are shown; of twice as many the others have no number in the maps


class Mm:
    """An address space with its program break (brk(2)). `users` processes refer to it; the last one closes it.

    While `copier` forks it, piece by piece, nobody else changes its mappings (Linux's mmap_lock).
    """

    __slots__ = ("barriers", "brk", "brk_start", "copier", "files", "space", "stack_top", "users", "vdso")

    def __init__(
        self,
        space: AddressSpace,
        brk_start: int = 0,
        stack_top: int = 0,
        vdso: int = 0,
        files: Mapping[str, Inode] | None = None,
    ) -> None:
        self.space = space
        self.users = 1
        self.brk_start = brk_start
        self.brk = brk_start
        self.stack_top = stack_top
        self.vdso = vdso  # where the vdso is, once that is mapped
        self.barriers = False  # it has registered for private barriers (membarrier(2))
        self.copier: Thread | None = None
        self.files = dict(files or {})  # by the names of the mappings that show them, and some that did

    def shows(self, name: str, inode: Inode) -> None:
        """A mapping called `name` shows `inode`."""
        if len(self.files) >= MOST_FILES and name not in self.files:
            names = {mapping.name for mapping in self.space.mappings()}
            self.files = {known: file for known, file in self.files.items() if known in names}
        if len(self.files) < 2 * MOST_FILES:
            self.files[name] = inode

    def share(self) -> Mm:
        """Count one more process; returns itself."""
        self.users += 1
        return self

    def release(self) -> None:
        """Drop one process; the last one gives the memory back."""
        self.users -= 1
        if self.users == 0:
            self.space.close()

    def around(self, copy: AddressSpace) -> Mm:
        """Return the same around a forked address space."""
        other = Mm(copy, self.brk_start, self.stack_top, files=self.files)
        other.brk = self.brk
        if self.vdso and copy.is_mapped(self.vdso, 1):  # not if it came while the copy was made
            other.vdso = self.vdso
        return other
