"""Debian's own tracer on a program in the machine: what it tells is what it tells on the host."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from aiopyvm import VM

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
COMMANDS = (
    ("strace", "-e", "trace=write,exit_group,execve", "/bin/echo", "hello"),
    ("strace", "-c", "-o", "/dev/null", "/bin/true"),
    ("strace", "-e", "trace=kill,exit_group", "/bin/sh", "-c", "trap 'exit 3' USR1; kill -USR1 $$"),
    ("strace", "-f", "-qq", "-e", "trace=exit_group", "-e", "signal=none", "/bin/sh", "-c", "(exit 4); exit 5"),
    ("strace", "-e", "trace=none", "-e", "signal=none", "/bin/sh", "-c", "kill -SEGV $$"),
    ("strace", "/bin/no-such-program"),
)


def told(stderr: bytes) -> list[bytes]:
    """The lines without process and user ids, and without that of execve(2), which shows an address."""
    lines = [
        line for line in stderr.splitlines() if not line.startswith(b'execve("/bin/echo') and b"/dev/null" not in line
    ]
    return [re.sub(rb"(pid|si_[pu]id=|kill\() *\d+", rb"\1 ID", b" ".join(line.split())) for line in lines]


def natively(root: Path, command: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    """What the host answers."""
    argv = ["/usr/sbin/chroot", os.fspath(root), *command]
    return subprocess.run(argv, env=ENVIRONMENT, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
async def test_strace_tells_what_it_tells_on_the_host(debian: Path, command: tuple[str, ...]) -> None:
    if os.geteuid():
        pytest.skip("chroot(2) needs root")
    if not (debian / "usr/bin/strace").exists():
        pytest.skip("the root has no strace")
    expected = natively(debian, command)
    result = await VM(root=debian, env=ENVIRONMENT).run(*command)
    assert not result.unknown_syscalls
    assert result.returncode == expected.returncode
    assert result.stdout == expected.stdout
    assert told(result.stderr or b"") == told(expected.stderr)
