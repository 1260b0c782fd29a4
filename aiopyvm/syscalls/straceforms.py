"""What strace shows in forms of its own, call by call: arguments that depend on others, structures that it abbreviates,
and what it adds behind a result. Everything else follows from the annotations (`strace.py`).

`BEFORE` replaces what is shown of arguments as the call begins, `AFTER` arranges all of them when it has ended,
`BEHIND` is what follows the result.
"""

from __future__ import annotations

import stat as modes
import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.abi import clone as clone_abi
from aiopyvm.abi import fcntl, resource
from aiopyvm.abi import poll as poll_abi
from aiopyvm.abi.signal import signal_name
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call
from aiopyvm.mem.layout import PAGE
from aiopyvm.syscalls import stracesockets

Texts = list[str]
After = Callable[[Thread, Call, Texts, int], Texts]

_SHOWN_FDS: Final = 32
_MAX_STRINGS: Final = 1 << 16
_TYPES: Final = {
    modes.S_IFREG: "S_IFREG", modes.S_IFDIR: "S_IFDIR", modes.S_IFCHR: "S_IFCHR", modes.S_IFBLK: "S_IFBLK",
    modes.S_IFIFO: "S_IFIFO", modes.S_IFLNK: "S_IFLNK", modes.S_IFSOCK: "S_IFSOCK",
}  # fmt: skip


def flags_text(names: dict[int, str], value: int, zero: str = "0") -> str:
    """The names of the bits of `value` in the order of `names`, then the rest in hexadecimal."""
    parts = []
    for bits, name in names.items():
        if bits and value & bits == bits:
            parts.append(name)
            value &= ~bits
    if value:
        parts.append(hex(value))
    return "|".join(parts) or zero


# --- files ------------------------------------------------------------------------------------------------------------


_OPEN_FLAGS: Final = {
    0o100: "O_CREAT", 0o200: "O_EXCL", 0o400: "O_NOCTTY", 0o1000: "O_TRUNC", 0o2000: "O_APPEND", 0o4000: "O_NONBLOCK",
    0o4010000: "O_SYNC", 0o20000: "FASYNC", 0o10000: "O_DSYNC", 0o40000: "O_DIRECT", 0o100000: "O_LARGEFILE",
    0o400000: "O_NOFOLLOW", 0o1000000: "O_NOATIME", 0o2000000: "O_CLOEXEC", 0o10000000: "O_PATH",
    0o20200000: "O_TMPFILE", 0o200000: "O_DIRECTORY",
}  # fmt: skip


def _open(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    """The mode counts where the call may make a file."""
    flags, mode = call.args[len(shown) - 2], shown[-1]
    makes = flags & fcntl.O_CREAT or flags & fcntl.O_TMPFILE == fcntl.O_TMPFILE
    return [*shown[:-2], _open_text(flags), *([mode] if makes else [])]


def _open_text(flags: int) -> str:
    access = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}.get(flags & 3, "O_ACCMODE")
    return "|".join([access, *([flags_text(_OPEN_FLAGS, flags & ~3)] if flags & ~3 else [])])


def mode_text(mode: int) -> str:
    """st_mode as strace has it: S_IFREG|0644."""
    kind = _TYPES.get(mode & 0o170000, f"{mode & 0o170000:#o}" if mode & 0o170000 else "")
    bits = f"0{mode & 0o7777:o}".rjust(4, "0")
    special = "".join(
        f"|{name}" for bit, name in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")) if mode & bit
    )
    return f"{kind}{special}|{f'0{mode & 0o777:o}'.rjust(4, '0') if special else bits}"


def _stat64(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    at = 1 if len(shown) < 4 else 2
    address = call.args[at]
    if result < 0 or not address:
        return [*shown[:at], f"{address:#x}" if address else "NULL", *shown[at + 1 :]]
    data = t.memory.read(address, 96)
    (mode,) = struct.unpack_from("<I", data, 16)
    (rdev,) = struct.unpack_from("<Q", data, 32)
    (size,) = struct.unpack_from("<Q", data, 44)
    shown[at] = f"{{st_mode={mode_text(mode)}, {_size_or_device(mode, size, rdev)}, ...}}"
    return shown


def _size_or_device(mode: int, size: int, rdev: int) -> str:
    if modes.S_ISCHR(mode) or modes.S_ISBLK(mode):
        major, minor = rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00
        return f"st_rdev=makedev({major:#x}, {minor:#x})"
    return f"st_size={size}"


_STATX_MASK: Final = {
    0xFFF: "STATX_ALL", 0x7FF: "STATX_BASIC_STATS", 1: "STATX_TYPE", 2: "STATX_MODE", 4: "STATX_NLINK", 8: "STATX_UID",
    0x10: "STATX_GID", 0x20: "STATX_ATIME", 0x40: "STATX_MTIME", 0x80: "STATX_CTIME", 0x100: "STATX_INO",
    0x200: "STATX_SIZE", 0x400: "STATX_BLOCKS", 0x800: "STATX_BTIME", 0x1000: "STATX_MNT_ID",
}  # fmt: skip
_STATX_SYNC: Final = {0: "AT_STATX_SYNC_AS_STAT", 0x2000: "AT_STATX_FORCE_SYNC", 0x4000: "AT_STATX_DONT_SYNC"}
_STATX_FLAGS: Final = {
    0x100: "AT_SYMLINK_NOFOLLOW", 0x400: "AT_SYMLINK_FOLLOW", 0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH"
}  # fmt: skip
_STATX_ATTRIBUTES: Final = {
    4: "STATX_ATTR_COMPRESSED", 0x10: "STATX_ATTR_IMMUTABLE", 0x20: "STATX_ATTR_APPEND", 0x40: "STATX_ATTR_NODUMP",
    0x2000: "STATX_ATTR_MOUNT_ROOT",
}  # fmt: skip


def _statx(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    flags, mask, address = call.args[2:5]
    names = [_STATX_SYNC.get(flags & 0x6000, "0x6000")]
    if flags & ~0x6000:
        names.append(flags_text(_STATX_FLAGS, flags & ~0x6000))
    shown = [*shown[:2], "|".join(names), flags_text(_STATX_MASK, mask), f"{address:#x}"]
    if result == 0:
        data = t.memory.read(address, 256)
        (given,) = struct.unpack_from("<I", data, 0)
        (attributes,) = struct.unpack_from("<Q", data, 8)
        (mode,) = struct.unpack_from("<H", data, 28)
        (size,) = struct.unpack_from("<Q", data, 40)
        shown[4] = (
            f"{{stx_mask={flags_text(_STATX_MASK, given)}, stx_attributes={flags_text(_STATX_ATTRIBUTES, attributes)}, "
            f"stx_mode={mode_text(mode)}, stx_size={size}, ...}}"
        )
    return shown


_FCNTL_BARE: Final = frozenset((fcntl.F_GETFD, fcntl.F_GETFL, fcntl.F_GETOWN, fcntl.F_GETPIPE_SZ))


def _fcntl(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    command, argument = call.args[1], call.args[2]
    if command in _FCNTL_BARE:
        return shown[:2]
    if command == fcntl.F_SETFD:
        return [*shown[:2], "FD_CLOEXEC" if argument == 1 else hex(argument) if argument else "0"]
    if command == fcntl.F_SETFL:
        return [*shown[:2], _open_text(argument)]
    if command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
        return [*shown[:2], str(argument)]
    return shown


def _behind_fcntl(t: Thread, call: Call, result: int) -> str:
    if call.args[1] == fcntl.F_GETFD and result:
        return f"{result:#x} (flags FD_CLOEXEC)"
    if call.args[1] == fcntl.F_GETFL:
        return f"{result:#x} (flags {_open_text(result)})"
    return ""


def _llseek(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    offset = call.args[1] << 32 | call.args[2]
    return [shown[0], str(offset - (1 << 64) if offset >> 63 else offset), *shown[3:]]


def _getdents(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    if result >= 0:
        data, at, count = t.memory.read(call.args[1], result), 0, 0
        length_at = 16 if call.name == "getdents64" else 8
        while at + length_at + 2 <= len(data):
            (length,) = struct.unpack_from("<H", data, at + length_at)
            at += max(length, 1)
            count += 1
        shown[1] = f"{shown[1]} /* {count} entries */"
    return shown


def _getcwd(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    return [shown[0].replace('\\0"', '"'), *shown[1:]]


def _hex_bytes(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    if result >= 0:
        data = t.memory.read(call.args[0], min(result, 32))
        shown[0] = '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"' + ("..." if result > 32 else "")
    return shown


# --- memory, processes ------------------------------------------------------------------------------------------------


def _mmap2(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    offset = call.args[5] * PAGE
    return [*shown[:5], hex(offset) if offset else "0"]


def _limit_text(value: int, infinity: int) -> str:
    if value == infinity:
        return "RLIM_INFINITY"
    return f"{value // 1024}*1024" if value and value % 1024 == 0 else str(value)


def _limits(at: int, size: int) -> After:
    infinity, layout = (1 << 32) - 1 if size == 4 else resource.RLIM_INFINITY, "<II" if size == 4 else "<QQ"

    def arrange(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
        for n in range(at, len(shown)):
            address = call.args[n]
            if address and (result == 0 or shown[n].startswith("{")):
                soft, hard = struct.unpack(layout, t.memory.read(address, 2 * size))
                shown[n] = f"{{rlim_cur={_limit_text(soft, infinity)}, rlim_max={_limit_text(hard, infinity)}}}"
        return shown

    return arrange


def _execve(t: Thread, call: Call) -> dict[int, str]:
    at = 2 if call.name == "execve" else 3
    address, count = call.args[at], 0
    while address and count < _MAX_STRINGS and t.memory.load(address + 4 * count, 4):
        count += 1
    return {at: f"{address:#x} /* {count} var{'s' if count != 1 else ''} */" if address else "NULL"}


def _set_thread_area(t: Thread, call: Call) -> dict[int, str]:
    number, base, limit, flags = struct.unpack("<iIII", t.memory.read(call.args[0], 16))
    bits = (
        ("seg_32bit", 1), ("contents", 3), ("read_exec_only", 1), ("limit_in_pages", 1), ("seg_not_present", 1),
        ("useable", 1),
    )  # fmt: skip
    fields = [f"entry_number={number}", f"base_addr={base:#x}", f"limit={limit:#08x}"]
    for name, mask in bits:
        fields.append(f"{name}={flags & mask}")
        flags >>= mask.bit_length()
    return {0: "{" + ", ".join(fields) + "}"}


def _behind_set_thread_area(t: Thread, call: Call, result: int) -> str:
    return f"0 (entry_number={t.memory.load(call.args[0], 4)})"


def _hex_length(at: int) -> After:
    def arrange(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
        shown[at] = hex(call.args[at])
        return shown

    return arrange


def status_text(status: int) -> str:
    """wait(2)'s status word as strace has it."""
    signo = status & 0x7F
    if status == 0xFFFF:
        return "[{WIFCONTINUED(s)}]"
    if signo == 0x7F:
        return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {signal_name(status >> 8 & 0xFF)}}}]"
    if signo:
        core = " && WCOREDUMP(s)" if status & 0x80 else ""
        return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {signal_name(signo)}{core}}}]"
    return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"


def _wait4(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    if call.args[1] and result > 0:
        shown[1] = status_text(t.memory.load(call.args[1], 4))
    return shown


def _clone(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    flags, stack, parent, tls, child = call.args[:5]
    signo = flags & 0xFF
    names = [flags_text(clone_abi.NAMES, flags & ~0xFF, "")] if flags & ~0xFF else []
    names += [signal_name(signo)] if signo else []
    texts = [f"child_stack={stack:#x}" if stack else "child_stack=NULL", f"flags={'|'.join(names) or '0'}"]
    if flags & clone_abi.CLONE_PARENT_SETTID:
        texts.append(f"parent_tid={_tid(t, parent, result)}")
    if flags & clone_abi.CLONE_SETTLS:
        texts.append(f"tls={tls:#x}")
    if flags & (clone_abi.CLONE_CHILD_SETTID | clone_abi.CLONE_CHILD_CLEARTID):
        texts.append(f"child_tidptr={child:#x}")
    return texts


def _tid(t: Thread, address: int, result: int) -> str:
    return f"[{t.memory.load(address, 4)}]" if result > 0 else hex(address)


# --- waiting ----------------------------------------------------------------------------------------------------------

_POLL_NAMES: Final = {
    getattr(poll_abi, name): name
    for name in ("POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLNVAL", "POLLRDNORM", "POLLRDBAND")
    if hasattr(poll_abi, name)
}


def _poll_rows(t: Thread, call: Call) -> list[tuple[int, int, int]]:
    address, count = call.args[0], min(call.args[1], _SHOWN_FDS)
    return list(struct.iter_unpack("<ihh", t.memory.read(address, 8 * count))) if address and count else []


def _poll(t: Thread, call: Call) -> dict[int, str]:
    rows = [f"{{fd={fd}, events={flags_text(_POLL_NAMES, events & 0xFFFF)}}}" for fd, events, _ in _poll_rows(t, call)]
    more = ", ..." if call.args[1] > _SHOWN_FDS else ""
    return {0: f"[{', '.join(rows)}{more}]" if call.args[0] else "NULL"}


def _behind_poll(t: Thread, call: Call, result: int) -> str:
    if not result:
        return "0 (Timeout)"
    ready = [
        f"{{fd={fd}, revents={flags_text(_POLL_NAMES, got & 0xFFFF)}}}" for fd, _, got in _poll_rows(t, call) if got
    ]
    return f"{result} ([{', '.join(ready)}])"


BEFORE: Final[dict[str, Callable[[Thread, Call], dict[int, str]]]] = {
    "execve": _execve, "execveat": _execve, "poll": _poll, "ppoll": _poll, "ppoll_time64": _poll,
    "set_thread_area": _set_thread_area, **stracesockets.BEFORE,
}  # fmt: skip
AFTER: Final[dict[str, After]] = {
    "open": _open, "openat": _open, "stat64": _stat64, "lstat64": _stat64, "fstat64": _stat64, "fstatat64": _stat64,
    "statx": _statx, "fcntl": _fcntl, "fcntl64": _fcntl, "_llseek": _llseek, "getdents": _getdents,
    "getdents64": _getdents, "getcwd": _getcwd, "getrandom": _hex_bytes, "mmap2": _mmap2, "ugetrlimit": _limits(1, 4),
    "getrlimit": _limits(1, 4), "setrlimit": _limits(1, 4), "prlimit64": _limits(2, 8), "rseq": _hex_length(1),
    "wait4": _wait4, "waitpid": _wait4, "clone": _clone, **stracesockets.AFTER,
}  # fmt: skip
BEHIND: Final[dict[str, Callable[[Thread, Call, int], str]]] = {
    "fcntl": _behind_fcntl, "fcntl64": _behind_fcntl, "poll": _behind_poll, "ppoll": _behind_poll,
    "ppoll_time64": _behind_poll, "set_thread_area": _behind_set_thread_area,
}  # fmt: skip
