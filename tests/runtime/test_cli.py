"""The command line, in this process (its streams are descriptors 0, 1 and 2) and as a command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiopyvm.cli import main
from aiopyvm.cli.pipeline import split_pipeline
from tests.conftest import GuestPaths

Run = Callable[..., tuple[int, bytes, str]]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> Iterator[Run]:
    """Run a command line with `stdin` in a file; return status, standard output and what stands on standard error."""
    saved = os.dup(0)

    def command(*argv: object, stdin: bytes = b"") -> tuple[int, bytes, str]:
        source = tmp_path / "stdin"
        source.write_bytes(stdin)
        with source.open("rb") as file:
            os.dup2(file.fileno(), 0)
        status = main([str(arg) for arg in argv])
        out, err = capfdbinary.readouterr()
        return status, out, err.decode()

    yield command
    os.dup2(saved, 0)
    os.close(saved)


def test_run(run: Run, guest: GuestPaths) -> None:
    assert run("run", guest("hello")) == (0, b"Hello, world!\n", "")
    assert run("run", guest("wc"), stdin=b"a b\n") == (0, b"1 2 4\n", "")


def test_options_after_the_program_are_the_programs(run: Run, guest: GuestPaths) -> None:
    assert run("run", guest("sort"), "-rn", stdin=b"1\n3\n2\n") == (0, b"3\n2\n1\n", "")
    assert run("run", "--", guest("head"), "-1", stdin=b"a\nb\n") == (0, b"a\n", "")


def test_the_exit_status_is_the_guests(run: Run, guest: GuestPaths, tmp_path: Path) -> None:
    status, _, _ = run("asm", "mov eax, 1; mov ebx, 42; int 0x80", "-o", tmp_path / "exit.bin")
    assert status == 0
    assert run("run", "--flat", tmp_path / "exit.bin") == (42, b"", "")


def test_what_went_wrong_is_one_line(run: Run, guest: GuestPaths, tmp_path: Path) -> None:
    status, _, err = run("run", guest("crash"), "divide")
    assert (status, err.count("\n")) == (128 + 8, 1)
    assert "SIGFPE" in err
    status, _, err = run("run", "--instructions", "1000", guest("spin"))
    assert (status, err) == (124, "aiopyvm: spin: instruction limit (1000 instructions were executed)\n")
    assert run("run", "--instructions", "1e3", guest("spin"))[::2] == (status, err)
    status, _, err = run("run", "--timeout", "0.05", guest("spin"))
    assert (status, err.count("\n")) == (124, 1)
    status, _, err = run("run", tmp_path / "nothing")
    assert (status, err.count("\n")) == (127, 1)
    assert "no such host file" in err
    status, _, err = run("run", __file__)
    assert (status, err.count("\n")) == (126, 1)
    assert "not an ELF program" in err


def test_root_mount_env_and_cwd(run: Run, guest: GuestPaths, tmp_path: Path) -> None:
    root, data = tmp_path / "root", tmp_path / "data"
    (root / "bin").mkdir(parents=True)
    data.mkdir()
    (data / "file").write_bytes(b"mounted\n")
    for name in ("cat", "args"):
        (root / "bin" / name).write_bytes(guest(name).read_bytes())
        (root / "bin" / name).chmod(0o755)
    assert run("run", "--root", root, "--mount", f"{data}:/data", "--cwd", "/data", "cat", "file") == (
        0,
        b"mounted\n",
        "",
    )
    status, out, _ = run("run", "--root", root, "--env", "NAME=value", "/bin/args", "x")
    assert status == 2  # its argc
    assert b"NAME=value" in out
    assert b"HOME=/" in out
    status, _, err = run("run", "--root", root, str(guest("hello")))
    assert status == 127
    assert "no such guest file; the host has one" in err


def test_strace_and_trace(run: Run, guest: GuestPaths) -> None:
    _, _, err = run("run", "--strace", guest("hello"))
    first, *rest = err.splitlines()
    assert re.fullmatch(r'execve\(".*hello", \[".*"(\.\.\.)?\], 0xff[0-9a-f]{6} /\* 2 vars \*/\) = 0', first)
    assert rest == [
        'write(1, "Hello, world!\\n", 14)         = 14',
        "exit(0)                                 = ?",
        "+++ exited with 0 +++",
    ]
    _, out, err = run("run", "--trace", guest("hello"))
    assert out == b"Hello, world!\n"
    assert err.count("\n") > 100
    assert "xor ebp, ebp" in err.splitlines()[0]


def test_pipe(run: Run, guest: GuestPaths) -> None:
    line = f"{guest('seq')} 100 | {guest('sort')} -rn | {guest('head')} -2"
    assert run("pipe", line) == (0, b"100\n99\n", "")
    status, _, err = run("pipe", f"{guest('seq')} 3 |")
    assert (status, err.count("\n")) == (125, 1)
    assert split_pipeline("a 'b c' | d \"|\" e") == [["a", "b c"], ["d", "|", "e"]]
    quoted = r"""a b\ c \| '' 'x'\''y' "\"|" # z|b"""
    assert split_pipeline(quoted) == [["a", "b c", "|", "", "x'y", '"|', "#", "z"], ["b"]]
    for wrong in ("a > b", "a && b", "| a", "", "a 'b", "a \\"):
        with pytest.raises(ValueError):
            split_pipeline(wrong)


def test_a_pipes_status(run: Run, guest: GuestPaths) -> None:
    cat, false = f"{guest('cat')} /nothing", f"{guest('grep')} nothing"
    line = f"{cat} | {false} | {guest('cat')}"
    status, out, err = run("pipe", line)
    said = [text for text in err.splitlines() if text.startswith("aiopyvm: ")]
    assert (status, out, said) == (0, b"", ["aiopyvm: cat: exit status 1", "aiopyvm: grep: exit status 1"])
    assert run("pipe", "--pipefail", line)[0] == 1
    crashed = f"{guest('crash')} divide | {cat} | {guest('wc')}"
    status, out, err = run("pipe", "--pipefail", crashed)
    assert (status, out) == (1, b"0 0 0\n")  # the last that failed, as in a shell
    assert "aiopyvm: crash: ended by signal 8, SIGFPE" in err
    assert run("pipe", f"{guest('seq')} 3 | {false}")[::2] == (1, "")  # the last one's: its status says it
    full = f"{guest('seq')} 100000 | {guest('head')} -1"
    assert run("pipe", full) == (0, b"1\n", "")
    assert run("pipe", "--pipefail", full) == (128 + 13, b"1\n", "")


def test_asm_and_disasm(run: Run, guest: GuestPaths) -> None:
    assert run("asm", "--hex", "mov eax, 1; int 0x80") == (0, b"b801000000cd80\n", "")
    assert run("asm", "nop; ret") == (0, b"\x90\xc3", "")
    status, out, _ = run("disasm", "b801000000cd80")
    assert status == 0
    assert [line.split("  ")[-1].strip() for line in out.decode().splitlines()] == ["mov eax, 0x1", "int 0x80"]
    status, out, _ = run("disasm", guest("hello"), "--length", "2")
    assert out.startswith(b"080480a0  31 ed")
    status, out, _ = run("disasm", guest("hello"), "--address", "0x080480a2", "--length", "2")
    assert out.split() == [b"080480a2", b"89", b"e0", b"mov", b"eax,", b"esp"]
    status, _, err = run("asm", "frobnicate eax")
    assert (status, err.count("\n")) == (125, 1)
    assert run("disasm", "nothing-like-that")[0] == 127


@pytest.mark.parametrize(
    "argv",
    [
        ["run"],
        ["run", "--memory", "lots", "x"],
        ["run", "--instructions", "-1", "x"],
        ["run", "--instructions", "1.5", "x"],
        ["run", "--instructions", "1e-1", "x"],
        ["run", "--instructions", "1e999", "x"],
        ["pipe", "a", "b"],
        ["run", "--timeout", "nan", "x"],
        ["run", "--mount", "no-colon", "x"],
        ["run", "--env", "novalue", "x"],
        ["frobnicate"],
    ],
)
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--help" in err


def test_a_directory_that_is_not_there_is_no_missing_program(run: Run, guest: GuestPaths) -> None:
    for options in (["--root", "/nonexistent"], ["--mount", "/nonexistent:/x"], ["--cwd", "/nonexistent"]):
        status, _, err = run("run", *options, guest("hello"))
        assert (status, err.count("\n")) == (125, 1)
        assert err.startswith("aiopyvm: /nonexistent: No such file")
    status, _, err = run("run", "/")
    assert (status, err) == (126, "aiopyvm: /: Is a directory\n")
    status, _, err = run("pipe", f"{guest('seq')} 3 | {__file__}")
    assert (status, err.count("\n")) == (126, 1)
    assert f"{__file__}: not an ELF program" in err


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        ("<&-", 125, "aiopyvm: standard input: Bad file descriptor\n"),
        (">&-", 125, "aiopyvm: standard output: Bad file descriptor\n"),
        (">/dev/full", 125, "aiopyvm: standard output: No space left on device\n"),
        ("2>&-", 0, ""),
    ],
)
def test_streams_that_cannot_be_used(guest: GuestPaths, redirection: str, status: int, said: str) -> None:
    command = f"{sys.executable} -m aiopyvm run {guest('cat')} {redirection} {'' if '<' in redirection else '<<< text'}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60, text=True)
    assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_ends_it_and_its_guests(guest: GuestPaths, number: int, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "aiopyvm", "run", guest("spin")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores SIGINT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"spinning\n"
            process.send_signal(number)
            assert process.wait(timeout=20) == status
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["run", "--help"], ["pipe", "--help"], ["disasm", "--help"], ["asm", "--help"]):
        with pytest.raises(SystemExit):
            main(argv)
    text = capsys.readouterr().out
    for word in ("--root", "--mount", "--strace", "exit status", "read-only", "seq 1000"):
        assert word in text
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_as_a_command_in_a_shells_pipeline(guest: GuestPaths) -> None:
    command = f"{sys.executable} -m aiopyvm run {guest('seq')} 100000 | head -2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + 13, b"1\n2\n", b"")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, aiopyvm; print([m for m in ('elftools', 'anyio', 'aiopyvm.runtime.vm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60, text=True)
    assert done.stdout == "[]\n"
