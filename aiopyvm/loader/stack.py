"""The first stack of a program: strings, auxiliary vector, envp, argv, argc, exactly where Linux puts them.

From the top: 8 zero bytes, the program's path, the environment's and the arguments' strings, "i686" or
its like, 16 random bytes,
the auxiliary vector, envp, argv, argc; ESP is a multiple of 16 (fs/exec.c, fs/binfmt_elf.c `create_elf_tables`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from aiopyvm.abi.errno import E2BIG, ENOMEM, Errno
from aiopyvm.isa.cpuid import Processor
from aiopyvm.isa.processors import MAX
from aiopyvm.loader.image import Loaded
from aiopyvm.loader.placement import FIXED, Placement
from aiopyvm.loader.texts import Texts
from aiopyvm.loader.vdso import VSYSCALL
from aiopyvm.mem.faults import AddressSpaceFull, MemoryFault
from aiopyvm.mem.layout import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE, TASK_SIZE, page_up
from aiopyvm.mem.space import AddressSpace

STACK_TOP: Final = TASK_SIZE
_MAX_STRING: Final = 32 * PAGE  # MAX_ARG_STRLEN, with its NUL
_ARG_MAX: Final = 131072
_STACK_LIMIT: Final = 8 << 20  # _STK_LIM
_FIRST_SIZE: Final = 0x21000  # what Linux maps of the stack at first: 128 KiB and a page
_CLOCKS_PER_SECOND: Final = 100
_PHDR_SIZE: Final = 32

# elf.h, in the order in which Linux writes them
AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 0, 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_EXECFN, AT_SYSINFO, AT_SYSINFO_EHDR = 23, 25, 26, 31, 32, 33


class Identity(NamedTuple):
    """Who the program runs as, for the auxiliary vector."""

    uid: int = 0
    euid: int = 0
    gid: int = 0
    egid: int = 0


_ROOT: Final = Identity()


class FirstStack(NamedTuple):
    """Where things are: `esp` at the start; the arguments' and the environment's strings (for /proc/self)."""

    esp: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    auxv: bytes


def build_stack(
    space: AddressSpace,
    loaded: Loaded,
    argv: Texts | Sequence[bytes],
    envp: Texts | Sequence[bytes],
    *,
    execfn: bytes,
    random: bytes,
    identity: Identity = _ROOT,
    processor: Processor = MAX,
    stack_limit: int = _STACK_LIMIT,
    placement: Placement = FIXED,
) -> FirstStack:
    """Map the stack and write its first content. `random` are 16 bytes; `stack_limit` is RLIMIT_STACK in bytes.

    An empty argv becomes one empty argument, as on Linux. Raises Errno: E2BIG when a string or all of them are too long
    (execve(2), "Limits on size of arguments and environment"), ENOMEM when the memory budget refuses.
    """
    argv = _texts(argv if len(argv) else [b""])
    envp = _texts(envp)
    check_size(argv, envp, execfn, stack_limit)
    end = STACK_TOP - placement.stack
    execfn_at = env_end = end - 8 - len(execfn) - 1
    env_start = arg_end = execfn_at - len(envp.data)
    arg_start = env_start - len(argv.data)
    platform = processor.platform + b"\0"
    platform_at = (arg_start & -16) - placement.in_stack - len(platform)
    random_at = platform_at - len(random)
    auxv = _auxv(loaded, identity, processor.hwcap, random_at, execfn_at, platform_at)
    count, none = len(argv).to_bytes(4, "little"), bytes(4)
    table = b"".join((count, argv.addresses(arg_start), none, envp.addresses(env_start), none, auxv))
    esp = (random_at - len(table)) & -16
    content = b"".join((
        table.ljust(random_at - esp, b"\0"),
        random,
        platform.ljust(arg_start - platform_at, b"\0"),
        argv.data,
        envp.data,
        execfn,
        bytes(1 + 8),
    ))  # fmt: skip
    _write(space, end, esp, content, loaded.stack_prot)
    return FirstStack(esp, arg_start, arg_end, env_start, env_end, auxv)


def check_size(argv: Texts, envp: Texts, execfn: bytes, stack_limit: int = _STACK_LIMIT) -> None:
    """Raise Errno(E2BIG) where Linux does: a string over 128 KiB, or all of them over a quarter of the stack limit."""
    if max(argv.longest, envp.longest, len(execfn)) >= _MAX_STRING:
        raise Errno(E2BIG)
    pointers = 8 * (max(len(argv), 1) + len(envp))
    if pointers + len(argv.data) + len(envp.data) + len(execfn) + 1 > most_texts(stack_limit):
        raise Errno(E2BIG)


def most_texts(stack_limit: int) -> int:
    """How many bytes strings and the pointers to them may have, of 8 bytes each."""
    return max(min(_STACK_LIMIT // 4 * 3, stack_limit // 4), _ARG_MAX)


def _texts(given: Texts | Sequence[bytes]) -> Texts:
    return given if isinstance(given, Texts) else Texts(given)


def _auxv(loaded: Loaded, who: Identity, hwcap: int, random_at: int, execfn_at: int, platform_at: int) -> bytes:
    entries = (
        *(((AT_SYSINFO, loaded.vdso + VSYSCALL), (AT_SYSINFO_EHDR, loaded.vdso)) if loaded.vdso else ()),
        (AT_HWCAP, hwcap),
        (AT_PAGESZ, PAGE),
        (AT_CLKTCK, _CLOCKS_PER_SECOND),
        (AT_PHDR, loaded.phdr),
        (AT_PHENT, _PHDR_SIZE),
        (AT_PHNUM, loaded.phnum),
        (AT_BASE, loaded.base),
        (AT_FLAGS, 0),
        (AT_ENTRY, loaded.entry),
        (AT_UID, who.uid),
        (AT_EUID, who.euid),
        (AT_GID, who.gid),
        (AT_EGID, who.egid),
        (AT_SECURE, int(who.uid != who.euid or who.gid != who.egid)),
        (AT_RANDOM, random_at),
        (AT_HWCAP2, 0),
        (AT_EXECFN, execfn_at),
        (AT_PLATFORM, platform_at),
        (AT_NULL, 0),
    )
    return struct.pack(f"<{2 * len(entries)}I", *[word & 0xFFFFFFFF for entry in entries for word in entry])


def _write(space: AddressSpace, end: int, esp: int, content: bytes, prot: int) -> None:
    size = max(_FIRST_SIZE, page_up(end - esp) + PAGE)
    prot = PROT_READ | PROT_WRITE | (prot & PROT_EXEC)
    try:
        space.map(end - size, size, prot, grows_down=True, name="[stack]")
        space.write(esp, content)
    except (AddressSpaceFull, MemoryFault):
        raise Errno(ENOMEM) from None
