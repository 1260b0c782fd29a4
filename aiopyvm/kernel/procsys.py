"""/proc/sys: what the kernel is set to (proc_sys(5)), as far as it is so here. What is not in SETTINGS cannot be set:
as if mounted read-only, as containers have it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import ipc
from aiopyvm.abi.errno import EINVAL, ENOENT, Errno
from aiopyvm.abi.inet import FIRST_PORT, LAST_PORT
from aiopyvm.abi.resource import NGROUPS_MAX
from aiopyvm.abi.socket import BUFFER_SIZE, MAX_DATAGRAMS, SOMAXCONN
from aiopyvm.abi.utsname import RELEASE, SYSNAME, VERSION
from aiopyvm.kernel import coredump, inotify, mqueue, pipe, pty
from aiopyvm.kernel.fs import Inode
from aiopyvm.kernel.kernel import PID_MAX
from aiopyvm.kernel.procfs import ProcDirectory, ProcFile, ProcFs, ProcText
from aiopyvm.kernel.procinfo import Text
from aiopyvm.mem.layout import PAGE
from aiopyvm.mem.mappings import MAX_MAPPINGS

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.kernel import Kernel
    from aiopyvm.kernel.process import Process

Value = int | bytes | Callable[["Kernel"], int | bytes]
LAST_CAPABILITY: Final = 40  # CAP_CHECKPOINT_RESTORE
NO_ID16: Final = 65534  # what an id above 65535 looks like to the 16-bit calls
POOL_BITS: Final = 256


def _uuid(data: bytes) -> bytes:
    """Random bytes as a UUID of version 4."""
    digits = bytes((*data[:6], data[6] & 0x0F | 0x40, data[7], data[8] & 0x3F | 0x80, *data[9:])).hex().encode()
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


VALUES: Final[dict[bytes, Value]] = {
    b"fs/dir-notify-enable": 1,
    b"fs/file-max": lambda kernel: kernel.open_files,
    b"fs/inotify/max_queued_events": inotify.MAX_QUEUED,
    b"fs/lease-break-time": lambda kernel: kernel.lease_break_seconds,
    b"fs/leases-enable": 1,
    b"fs/mqueue/msg_default": mqueue.MAX_MESSAGES,
    b"fs/mqueue/msg_max": mqueue.MAX_MESSAGES,
    b"fs/mqueue/msgsize_default": mqueue.MAX_SIZE,
    b"fs/mqueue/msgsize_max": mqueue.MAX_SIZE,
    b"fs/nr_open": lambda kernel: kernel.open_files,
    b"fs/overflowgid": NO_ID16,
    b"fs/overflowuid": NO_ID16,
    b"fs/pipe-max-size": pipe.MAX_CAPACITY,
    b"kernel/cap_last_cap": LAST_CAPABILITY,
    b"kernel/core_pattern": coredump.NAME,
    b"kernel/core_uses_pid": 0,
    b"kernel/domainname": lambda kernel: kernel.domainname,
    b"kernel/hostname": lambda kernel: kernel.hostname,
    b"kernel/msgmax": ipc.MSGMAX,
    b"kernel/msgmnb": ipc.MSGMNB,
    b"kernel/msgmni": ipc.MSGMNI,
    b"kernel/ngroups_max": NGROUPS_MAX,
    b"kernel/osrelease": RELEASE,
    b"kernel/ostype": SYSNAME,
    b"kernel/overflowgid": NO_ID16,
    b"kernel/overflowuid": NO_ID16,
    b"kernel/pid_max": PID_MAX,
    b"kernel/pty/max": pty.MAX_PTYS,
    b"kernel/random/boot_id": lambda kernel: _uuid(kernel.boot_id),
    b"kernel/random/entropy_avail": POOL_BITS,
    b"kernel/random/poolsize": POOL_BITS,
    b"kernel/random/uuid": lambda kernel: _uuid(kernel.entropy.bytes(16)),
    b"kernel/randomize_va_space": lambda kernel: 2 * kernel.randomize,
    b"kernel/sem": b"%d\t%d\t%d\t%d" % (ipc.SEMMSL, ipc.SEMMNI * ipc.SEMMSL, ipc.SEMOPM, ipc.SEMMNI),
    b"kernel/shmall": lambda kernel: kernel.memory_limit // PAGE,
    b"kernel/shmmax": lambda kernel: kernel.memory_limit,
    b"kernel/shmmni": ipc.SHMMNI,
    b"kernel/threads-max": lambda kernel: kernel.process_limit,
    b"kernel/version": VERSION,
    b"net/core/rmem_default": BUFFER_SIZE,
    b"net/core/rmem_max": BUFFER_SIZE,
    b"net/core/somaxconn": SOMAXCONN,
    b"net/core/wmem_default": BUFFER_SIZE,
    b"net/core/wmem_max": BUFFER_SIZE,
    b"net/ipv4/ip_local_port_range": b"%d\t%d" % (FIRST_PORT, LAST_PORT),
    b"net/unix/max_dgram_qlen": MAX_DATAGRAMS,
    b"vm/max_map_count": MAX_MAPPINGS,
    b"vm/overcommit_memory": 0,
    b"vm/overcommit_ratio": 50,
}
_FIXED: Final = frozenset(
    b"kernel/" + name
    for name in b"cap_last_cap ngroups_max osrelease ostype version".split()
    + [b"random/" + name for name in b"boot_id entropy_avail poolsize uuid".split()]
)  # what Linux too lets nobody set


SETTINGS: Final = {b"fs/lease-break-time": "lease_break_seconds"}  # what root may set: ints of the kernel
_INT: Final = re.compile(rb"(-?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(?=[ \t\n]|$)")
_INT_BYTES: Final = 20


class SysText(ProcText):
    """One value."""

    def __init__(self, fs: ProcFs, number: int, value: Value, path: bytes) -> None:
        super().__init__(fs, number, None, Text(_content(value), 0o444 if path in _FIXED else 0o644))
        self.setting = SETTINGS.get(path)
        self.always_writable = self.setting is not None

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return SysFile(flags, self, ctx)


class SysFile(ProcFile):
    """An open value."""

    def __init__(self, flags: int, inode: SysText, ctx: FsContext) -> None:
        super().__init__(flags, inode, ctx)
        self._setting = inode.setting

    def write(self, data: bytes) -> int:
        """As `pwrite` at the position."""
        n = self.pwrite(data, self.offset)
        self.offset += n
        return n

    def pwrite(self, data: bytes, offset: int) -> int:
        """Set the value to an integer (proc_dointvec), whatever follows it; nothing but at the beginning.

        Raises Errno(EINVAL).
        """
        process = self._ctx.process
        if self._setting is None or process is None:
            raise Errno(EINVAL)
        if offset or not data:
            return len(data)
        text = bytes(data[: PAGE - 1]).lstrip()
        match = _INT.match(text)
        if match is None or match.end() > _INT_BYTES:
            raise Errno(EINVAL)
        sign, digits = match.groups()
        base = 16 if digits[:2].lower() == b"0x" else 8 if digits[:1] == b"0" else 10
        value = int(sign + digits, base)
        if not -(1 << 31) <= value < 1 << 31:
            raise Errno(EINVAL)
        setattr(process.kernel, self._setting, value)
        return len(data)

    def truncate(self, size: int) -> None:
        """Nothing: it has no size."""


class SysDirectory(ProcDirectory):
    """/proc/sys, and each directory in it: `place` is its path there with a slash behind, b"" for /proc/sys."""

    def __init__(self, number: int, parent: ProcDirectory, name: bytes = b"sys", place: bytes = b"") -> None:
        super().__init__(parent.fs, number, None, parent, name)
        self._place = place

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return a directory or a value. Raises Errno(ENOENT)."""
        path = self._place + name
        number = _entries(self._place).get(name)
        if number is None:
            raise Errno(ENOENT)
        value = VALUES.get(path)
        if value is None:
            return SysDirectory(number, self, name, path + b"/")
        return SysText(self.fs, number, value, path)

    def names(self, ctx: FsContext) -> Iterator[tuple[int, int, bytes]]:
        """Directories and values."""
        for name, number in _entries(self._place).items():
            yield number, 8 if self._place + name in VALUES else 4, name


@cache
def _entries(place: bytes) -> dict[bytes, int]:
    """The names in a directory, each with an inode number."""
    names: dict[bytes, int] = {}
    for n, path in enumerate(VALUES):
        if path.startswith(place):
            name, slash, _ = path[len(place) :].partition(b"/")
            names.setdefault(name, 200 + n + (100 * (1 + place.count(b"/")) if slash else 0))
    return names


def _content(value: Value) -> Callable[[FsContext, Process | None], bytes]:
    def content(ctx: FsContext, _: Process | None) -> bytes:
        if ctx.process is None:
            raise Errno(ENOENT)
        shown = value(ctx.process.kernel) if callable(value) else value
        return (shown if isinstance(shown, bytes) else b"%d" % shown) + b"\n"

    return content
