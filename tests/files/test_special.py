"""/dev, /proc and terminals, as a shell sees them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aiopyvm import STDOUT, VM
from aiopyvm.abi.errno import EINVAL, ENOSPC, ENXIO, Errno
from aiopyvm.abi.fcntl import O_RDONLY, O_RDWR, SEEK_SET
from aiopyvm.abi.poll import READABLE, WRITABLE
from aiopyvm.abi.stat import S_IFCHR
from aiopyvm.kernel.devices import DeviceFs
from aiopyvm.kernel.file import File
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.vfs import Vfs
from tests.files.fakes import Budget, Clock
from tests.native import busybox_path

AT = 0x10000


@pytest.fixture
def vfs() -> Vfs:
    vfs = Vfs(clock=Clock(), budget=Budget())
    vfs.mount(b"/dev", DeviceFs(vfs.clock, vfs.budget))
    vfs.mount(b"/proc", ProcFs(vfs))
    return vfs


def opened(vfs: Vfs, path: bytes, flags: int = O_RDWR) -> File:
    return vfs.open(vfs.context(), path, flags).hold()


def test_null_zero_full(vfs: Vfs) -> None:
    null, zero, full = (opened(vfs, b"/dev/" + name) for name in (b"null", b"zero", b"full"))
    assert (null.read(9), zero.read(9), full.read(9)) == (b"", bytes(9), bytes(9))
    assert (null.write(b"xyz"), zero.write(b"xyz")) == (3, 3)
    with pytest.raises(Errno) as caught:
        full.write(b"x")
    assert caught.value.number == ENOSPC
    assert null.seek(77, SEEK_SET) == 0
    assert len(zero.read(1 << 30)) == 1 << 20
    assert null.poll() == READABLE | WRITABLE


def test_without_a_process_there_is_no_entropy_no_terminal_and_no_self(vfs: Vfs) -> None:
    for path in (b"/dev/urandom", b"/dev/tty"):
        with pytest.raises(Errno) as caught:
            opened(vfs, path)
        assert caught.value.number == ENXIO
    for path in (b"/dev/stdin", b"/proc/self/exe", b"/proc/1"):
        with pytest.raises(Errno, match="ENOENT"):
            opened(vfs, path, O_RDONLY)


busybox = busybox_path()
needs_busybox = pytest.mark.skipif(busybox is None, reason="no busybox")


def shell(script: str, *, tty: bool = False, stdin: bytes = b"") -> str:
    program = Path(busybox or "").read_bytes()

    async def run() -> str:
        vm = VM(root={"bin/busybox": program}, env={"PATH": "/bin"}, clock="virtual")
        result = await vm.run("/bin/busybox", "sh", "-c", script, tty=tty, stdin=stdin, stderr=STDOUT)
        assert not result.unknown_syscalls
        return result.stdout.decode()

    return anyio.run(run)


@needs_busybox
def test_a_process_sees_itself() -> None:
    script = "readlink /proc/self/exe; cat /proc/self/comm; cd /proc; readlink self/cwd; cat </proc/self/fd/0"
    assert shell(script, stdin=b"in") == "/bin/busybox\ncat\n/proc\nin"


@needs_busybox
def test_standard_streams_by_name() -> None:
    assert shell("echo a >/dev/stdout; echo b >/dev/fd/1; echo c >/proc/self/fd/1; cat /dev/stdin", stdin=b"d") == (
        "a\nb\nc\nd"
    )


@needs_busybox
def test_deleted_files_are_marked() -> None:
    script = "cd /tmp; exec 3>f 4>g; rm f; readlink /proc/self/fd/3; readlink /proc/self/fd/4; echo x >/proc/self/fd/3"
    assert shell(script) == "/tmp/f (deleted)\n/tmp/g\n"


@needs_busybox
def test_a_terminal_has_a_name_and_a_size() -> None:
    script = "tty; stty size; test -t 0 && test -t 1 && echo yes; echo here >/dev/tty; cat /dev/tty"
    assert shell(script, tty=True, stdin=b"in\n") == "/dev/pts/0\r\n24 80\r\nyes\r\nhere\r\nin\r\nin\r\n"
    assert shell("tty; test -t 0 || echo no") == "not a tty\nno\n"


def test_seeking_proc_files(vfs: Vfs) -> None:
    file = opened(vfs, b"/proc/filesystems", O_RDONLY)
    text = file.read(1000)
    assert file.seek(6, SEEK_SET) == 6
    assert file.read(1000) == text[6:]
    with pytest.raises(Errno) as caught:
        file.seek(-1, SEEK_SET)
    assert caught.value.number == EINVAL


def test_what_is_in_dev_is_made_and_charged_when_somebody_looks() -> None:
    clock, budget = Clock(), Budget()
    vfs = Vfs(clock=clock, budget=budget)
    fs = DeviceFs(clock, budget)
    vfs.mount(b"/dev", fs)
    small, born = budget.used, fs.root.stat()
    assert born.nlink == 5
    budget.limit = small + 5000
    with pytest.raises(Errno) as caught:
        vfs.lookup(vfs.context(), b"/dev/null")
    assert caught.value.number == ENOSPC
    assert budget.used == small
    budget.limit = 1 << 30
    clock.now += 10**9
    assert vfs.lookup(vfs.context(), b"/dev/null").kind == S_IFCHR
    assert budget.used > small + 13 * 1024
    now = fs.root.stat()
    assert (now.nlink, now.size, now.mtime, now.ctime) == (born.nlink, born.size, born.mtime, born.ctime)
