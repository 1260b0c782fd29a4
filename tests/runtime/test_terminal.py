"""A guest on a terminal of the host: the host's follows the guest's, and comes back whatever ends the run."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import anyio
import pytest

from aiopyvm import PIPE, STDOUT, VM, Limits, Reason
from aiopyvm.abi import termios as abi
from aiopyvm.host.terminal import TerminalDevice
from tests.runtime.machine_code import call, program

both_loops = pytest.mark.both_loops

GET = "mov eax, 54; mov ebx, {fd}; mov ecx, 0x5401; mov edx, 0x800; int 0x80; "
SET = "mov eax, 54; mov ebx, {fd}; mov ecx, 0x5402; mov edx, 0x800; int 0x80; "
RAW = GET + "and dword ptr [0x80c], 0xfffffff5; " + SET  # without ICANON and ECHO
SAY = "mov byte ptr [0x900], 0x72; " + call("write", 1, 0x900, 1)
LISTEN = call("read", 0, 0x900, 1) + call("exit", 7)
ASKER = program(RAW.format(fd=0) + SAY + LISTEN)
SIZE = "mov eax, 54; mov ebx, 0; mov ecx, 0x5413; mov edx, 0x800; int 0x80; " + call("write", 1, 0x800, 4)
RESIZED = program(
    "mov eax, 48; mov ebx, 28; mov ecx, resized; int 0x80; "
    + SIZE
    + "again: mov eax, 29; int 0x80; jmp again; resized: "
    + SIZE
    + call("exit", 3)
)


@dataclass
class Pair:
    """A pseudo-terminal: `screen` is the side of whoever looks at it."""

    screen: int
    line: int

    def echoes(self) -> bool:
        """The terminal edits lines and echoes."""
        return bool(self.attributes()[3] & termios.ICANON) and bool(self.attributes()[3] & termios.ECHO)

    def attributes(self) -> list[Any]:
        return termios.tcgetattr(self.line)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def file(self) -> IO[bytes]:
        return open(os.dup(self.line), "rb", buffering=0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    screen, line = os.openpty()
    before = termios.tcgetattr(line)
    yield Pair(screen, line)
    assert termios.tcgetattr(line) == before, "the terminal was not given back"
    os.close(screen)
    os.close(line)


def test_attributes_are_the_kernels_own_structure(pair: Pair) -> None:
    device = TerminalDevice(pair.line)
    try:
        assert device.attributes() == fcntl.ioctl(pair.line, termios.TCGETS, bytes(36))
        device.make_raw()
        iflag, oflag, _, lflag, _, cc = abi.TERMIOS.unpack(fcntl.ioctl(pair.line, termios.TCGETS, bytes(36)))
        assert not iflag & sum(abi.INPUT_FLAGS[name] for name in ("ICRNL", "INLCR", "IGNCR", "ISTRIP", "IXON"))
        assert not oflag & abi.OUTPUT_FLAGS["OPOST"]
        assert not lflag & sum(abi.LOCAL_FLAGS[name] for name in ("ISIG", "ICANON", "IEXTEN", "ECHO"))
        assert (cc[abi.CHARACTERS["VMIN"]], cc[abi.CHARACTERS["VTIME"]]) == (1, 0)
    finally:
        device.close()


def test_of_two_guests_on_one_terminal_the_last_one_gives_it_back(pair: Pair) -> None:
    one = TerminalDevice(pair.line)
    one.make_raw()
    other = TerminalDevice(pair.line)
    assert other.attributes() == one.attributes()
    other.make_raw()
    one.close()
    other.close()
    assert pair.echoes()


@both_loops
async def test_the_hosts_terminal_passes_everything_on_and_comes_back(pair: Pair) -> None:
    with pair.file() as stdin:
        async with VM().open_bytes(ASKER, stdin=stdin, tty=True) as process:
            assert process.stdout is not None
            await process.stdout.receive_exactly(1)
            assert not pair.echoes()
            os.write(pair.screen, b"x")  # no end of line: the host's terminal edits no more
        assert process.returncode == 7
        assert pair.echoes()
        assert not stdin.closed


@both_loops
async def test_standard_error_is_the_same_terminal(pair: Pair) -> None:
    with pair.file() as stdin:
        code = program(RAW.format(fd=2) + GET.format(fd=0) + call("write", 1, 0x80C, 4) + SAY + LISTEN)
        async with VM().open_bytes(code, stdin=stdin, stderr=PIPE, tty=True) as process:
            assert process.stdout is not None
            flags = int.from_bytes(await process.stdout.receive_exactly(4), "little")
            assert not flags & abi.LOCAL_FLAGS["ECHO"]
            assert not pair.echoes()
            process.kill()
        assert pair.echoes()
        code = program(RAW.format(fd=1) + call("exit"))
        result = await VM().run_bytes(code, stdin=stdin, stderr=STDOUT, tty=True)
        assert result.ok


@both_loops
async def test_it_comes_back_whatever_ends_the_run(pair: Pair) -> None:
    endless = program(RAW.format(fd=0) + "again: jmp again; ")
    with pair.file() as stdin:
        result = await VM(limits=Limits(instructions=10_000)).run_bytes(endless, stdin=stdin, tty=True)
        assert result.reason is Reason.INSTRUCTION_LIMIT
        assert pair.echoes()
        with anyio.move_on_after(0.05):
            await VM().run_bytes(endless, stdin=stdin, tty=True)
        assert pair.echoes()
        with pytest.raises(KeyError):
            async with VM().open_bytes(ASKER, stdin=stdin, tty=True) as process:
                assert process.stdout is not None
                await process.stdout.receive_exactly(1)
                assert not pair.echoes()
                raise KeyError
        assert pair.echoes()
        with anyio.CancelScope() as scope:
            async with VM().open_bytes(ASKER, stdin=stdin, tty=True) as process:
                assert process.stdout is not None
                await process.stdout.receive_exactly(1)
                assert not pair.echoes()
                scope.cancel()
                await anyio.sleep_forever()


@both_loops
async def test_without_a_terminal_of_the_host_settings_are_only_kept(pair: Pair) -> None:
    async with VM().open_bytes(ASKER, stdin=PIPE, tty=True) as process:
        assert await process.ask() == b"r"
        assert pair.echoes()
        process.kill()
    with pair.file() as stdin:
        async with VM().open_bytes(ASKER, stdin=stdin) as process:  # no terminal for the guest
            assert process.stdout is not None
            await process.stdout.receive_exactly(1)
            assert pair.echoes()
            process.kill()


@both_loops
async def test_a_new_size_is_told(pair: Pair) -> None:
    pair.resize(33, 99)
    with pair.file() as stdin:
        async with VM().open_bytes(RESIZED, stdin=stdin, tty=True) as process:
            assert process.stdout is not None
            assert struct.unpack("HH", await process.stdout.receive_exactly(4)) == (33, 99)
            await anyio.sleep(0.01)
            pair.resize(44, 111)
            os.kill(os.getpid(), signal.SIGWINCH)
            with anyio.fail_after(10):
                assert struct.unpack("HH", await process.stdout.receive_exactly(4)) == (44, 111)
        assert process.returncode == 3
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL


@both_loops
async def test_a_terminal_that_hangs_up_tells_the_guest() -> None:
    screen, line = os.openpty()
    with open(line, "rb", buffering=0) as stdin:
        async with VM().open_bytes(ASKER, stdin=stdin, tty=True) as process:
            assert process.stdout is not None
            await process.stdout.receive_exactly(1)
            os.close(screen)
        assert process.returncode == -signal.SIGHUP


# --- as a command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asker(tmp_path: Path) -> Path:
    path = tmp_path / "asker"
    path.write_bytes(ASKER)
    return path


def _as_a_foreground_job() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # what the tests' own shell may ignore
        signal.signal(number, signal.SIG_DFL)


def start(pair: Pair, *argv: object) -> subprocess.Popen[bytes]:
    """Start the command line with the pair as its controlling terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "aiopyvm", "run", *map(str, argv)],
        stdin=pair.line,
        stdout=pair.line,
        stderr=pair.line,
        start_new_session=True,
        preexec_fn=_as_a_foreground_job,
    )


@pytest.mark.parametrize("how", ["exit", "SIGTERM", "SIGHUP", "SIGINT", "timeout"])
def test_the_command_gives_the_terminal_back(pair: Pair, asker: Path, how: str) -> None:
    options = ("--timeout", "3") if how == "timeout" else ()
    with start(pair, *options, "--flat", asker) as process:
        try:
            assert os.read(pair.screen, 1) == b"r"
            assert not pair.echoes()
            if how == "exit":
                os.write(pair.screen, b"x")
            elif how != "timeout":
                process.send_signal(signal.Signals[how])
            statuses = {"exit": 7, "SIGTERM": -15, "SIGHUP": -1, "SIGINT": 130, "timeout": 124}
            assert process.wait(timeout=20) == statuses[how]
        finally:
            process.kill()
    assert pair.echoes()


def test_the_command_tells_a_new_size(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "resized").write_bytes(RESIZED)
    pair.resize(20, 40)
    attributes = termios.tcgetattr(pair.line)
    with start(pair, "--flat", tmp_path / "resized") as process:
        try:
            assert struct.unpack("HH", os.read(pair.screen, 4)) == (20, 40)
            while process.poll() is None:  # the first may come before anybody listens
                pair.resize(21, 41)
                try:
                    process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    pair.resize(20, 40)
            assert process.returncode == 3
        finally:
            process.kill()
    assert termios.tcgetattr(pair.line) == attributes
