"""A guest on a terminal that Python drives: what it shows is what it shows on a terminal of the host."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

import anyio
import pytest

from aiopyvm import PIPE, VM
from tests.runtime.machine_code import call, program

both_loops = pytest.mark.both_loops

ECHO = call("read", 0, 0x900, 100) + "mov edx, eax; mov eax, 4; mov ebx, 1; mov ecx, 0x900; int 0x80; "
ECHOER = program("again: " + ECHO + "jmp again; ")
PROMPT = b"$ "
ENVIRONMENT = {"PS1": "$ ", "TERM": "dumb", "HOME": "/", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
# What is waited for, and what is typed then.
DIALOGUE = (
    (PROMPT, b"echo hello $((6 * 7))\r"),
    (PROMPT, b"[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && stty -a\r"),
    (PROMPT, b"echo wrnog\x7f\x7f\x7f\x7fong\r"),
    (PROMPT, b"exho\x1b[A\x15echo killed\r"),
    (b"\nkilled\r\n" + PROMPT, b"sh -c 'echo go; exec cat'\r"),  # ^U has shown a prompt before
    (b"go\r\n", b"typed\x7f\x7fed\rtwo words\x17more\r\x04"),
    (PROMPT, b"sh -c 'echo go; exec sleep 100'\r"),
    (b"go\r\n", b"\x1a"),
    (PROMPT, b"jobs\r"),
    (PROMPT, b"bg\r"),
    (PROMPT, b"fg\r"),
    (b"fg\r\nsh -c 'echo go; exec sleep 100'\r\n", b"\x03"),
    (PROMPT, b"echo $?\r"),
    (PROMPT, b"sh -c 'echo go >&2; exec sleep 100' | cat\r"),
    (b"go\r\n", b"\x1c"),
    (PROMPT, b"trap 'echo caught' INT; sleep 0.1; kill -INT $$\r"),
    (b"caught\r\n" + PROMPT, b"read -p 'name? ' name\r"),
    (b"\r\nname? ", b"somebody\r"),
    (PROMPT, b"echo $name; stty -echo; echo go; read secret; stty echo; echo $secret\r"),
    (b"go\r\n", b"hidden\r"),
    (PROMPT, b"(sleep 0.05; kill -STOP $BASHPID; echo on) & wait\r"),
    (PROMPT, b"kill -CONT %1; wait\r"),
    (b"on\r\n", b""),
    (PROMPT, b"cat & sleep 1; jobs\r"),
    (b"Stopped[^\n]*\r\n" + re.escape(PROMPT), b"fg\r"),
    (b"fg\r\ncat\r\n", b"\x03"),
    (PROMPT, b"exit 7\r"),
)


def pattern(wanted: bytes) -> re.Pattern[bytes]:
    return re.compile(wanted if b"[^" in wanted else re.escape(wanted))


def patience(wanted: bytes) -> float:
    """How long to wait (s) until the terminal is the job's: the shell names one before it gives it that."""
    return 0.3 if wanted.startswith(b"fg") else 0


def without_ids(told: bytes) -> bytes:
    return re.sub(rb"(\[\d\] |job \d\[)\d+", rb"\1ID", told)


def natively(root: Path) -> tuple[list[bytes], int]:
    """The dialogue with bash on a pty of the host: what was shown at each step, and the exit status."""
    pid, screen = pty.fork()
    if not pid:
        os.chroot(root)
        os.chdir("/")
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile"], ENVIRONMENT)
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    told: list[bytes] = []
    seen, end = b"", time.monotonic() + 30
    try:
        for wanted, keys in DIALOGUE:
            while (match := pattern(wanted).search(seen)) is None:
                assert select.select([screen], [], [], end - time.monotonic())[0], seen
                seen += os.read(screen, 4096)
            told.append(without_ids(seen[: match.end()]))
            seen = seen[match.end() :]
            time.sleep(patience(wanted))
            os.write(screen, keys)
        return told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(screen)


@pytest.mark.native
@pytest.mark.anyio
async def test_a_shell_on_a_terminal_as_on_the_hosts(debian: Path) -> None:
    if os.geteuid():
        pytest.skip("chroot(2) needs root")
    told = []
    with anyio.fail_after(40):
        async with VM(root=debian, env=ENVIRONMENT).open(
            "/bin/bash", "--norc", "--noprofile", argv0="bash", tty=True
        ) as p:
            for wanted, keys in DIALOGUE:
                told.append(without_ids(await p.expect(pattern(wanted))))
                await anyio.sleep(patience(wanted))
                await p.send(keys)
            status = await p.wait()
    expected, expected_status = await anyio.to_thread.run_sync(natively, debian)
    assert told == expected
    assert status == expected_status == 7


@both_loops
async def test_what_is_typed_is_echoed_edited_and_read() -> None:
    async with VM().open_bytes(ECHOER, tty=True) as process:
        await process.send(b"typo\x7fe\r")
        assert await process.expect(b"\r\n") == b"typo\b \be\r\n"
        assert await process.expect(re.compile(rb"[a-z]+\r\n")) == b"type\r\n"
        await process.send(b"\x03")
        assert await process.expect(b"^C") == b"^C"
        assert await process.wait() == -signal.SIGINT


@both_loops
async def test_keys_for_signals_reach_a_guest_that_computes() -> None:
    async with VM().open_bytes(program("again: jmp again; "), tty=True) as process:
        await anyio.sleep(0.01)
        await process.send(b"\x1c")
        with anyio.fail_after(10):
            assert await process.wait() == -signal.SIGQUIT


@both_loops
async def test_a_new_size_reaches_the_guest() -> None:
    size = "mov eax, 54; mov ebx, 0; mov ecx, 0x5413; mov edx, 0x800; int 0x80; " + call("write", 1, 0x800, 4)
    code = program(
        "mov eax, 48; mov ebx, 28; mov ecx, resized; int 0x80; "
        + size
        + "again: mov eax, 29; int 0x80; jmp again; resized: "
        + size
        + call("exit", 3)
    )
    async with VM().open_bytes(code, tty=True) as process:
        assert process.stdout is not None
        assert struct.unpack("HH", await process.stdout.receive_exactly(4)) == (24, 80)
        process.resize(24, 80)  # no other size: no signal
        process.resize(44, 111)
        assert struct.unpack("HH", await process.stdout.receive_exactly(4)) == (44, 111)
        assert await process.wait() == 3
        with pytest.raises(ValueError, match="0 to 65535"):
            process.resize(-1, 80)
    async with VM().open_bytes(code, stdin=PIPE) as process:
        with pytest.raises(ValueError, match="tty=True"):
            process.resize(1, 1)
        process.kill()


@both_loops
async def test_known_input_is_typed_when_it_is_read() -> None:
    result = await VM().run_bytes(program(ECHO + ECHO + call("exit")), stdin=b"one\ntwo\n", tty=True)
    assert result.stdout == b"one\r\ntwo\r\none\r\ntwo\r\n"


@both_loops
async def test_expecting_more_than_there_is() -> None:
    async with VM().open_bytes(
        program("mov byte ptr [0x900], 0x61; " + call("write", 1, 0x900, 1) + call("exit"))
    ) as p:
        with pytest.raises(anyio.IncompleteRead):
            await p.expect(b"b")
        assert await p.expect(b"a") == b"a"
        with pytest.raises(ValueError, match="at least one byte"):
            await p.expect(re.compile(b"x*"))
        with pytest.raises(ValueError, match="stdin=PIPE"):
            await p.send(b"x")
